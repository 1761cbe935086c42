"""What a call is for: complexity is read off the text alone, and names the family that outcomes are learned by."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_evolution.bedrock.routing.task import (
    BANDS,
    MUCH_DATA_TOKENS,
    TaskContext,
    band_of,
    complexity_in,
    complexity_of,
    family_name,
    nearest_families,
    role_of,
)

QUESTION = "What is two and two?"
PUZZLE = (
    "Toula bought 3 dozen donuts at $68 per dozen, 2 dozen cupcakes at $80 per dozen, and 6 dozen cheesecakes at $55"
    " per dozen. If she pays 20% less for every dozen after the fifth, how much does she pay?"
)
BRIEF = PUZZLE + "\n" + "\n".join(f'{{"case": {n}, "expected": "refund", "got": "invoice {n}"}},' for n in range(200))
CODE = "def score(x):\n    if x != 3:\n        return x + 1\n    import math\n    return math.floor(x)\n"
PROSE = "If you have time, return the book to the class library, where it is due; import duties are not charged."

contexts = st.builds(
    lambda role, complexity: TaskContext(
        family_name(role, band_of(complexity)), "reasoning", complexity, input_tokens=100, output_tokens=100
    ),
    st.sampled_from(["advisor", "decision"]),
    st.floats(0, 1),
)


# -- complexity


def test_harder_tasks_are_more_complex():
    nothing, question, puzzle, brief = (complexity_of(text) for text in ("", QUESTION, PUZZLE, BRIEF))
    assert nothing == 0.0
    assert 0.1 < question < 0.2
    assert 0.3 < puzzle < 0.4
    assert 0.7 < brief < 0.9


@given(st.text())
def test_complexity_lies_between_0_and_1_and_is_the_same_again(text):
    assert 0.0 <= complexity_of(text) == complexity_of(text) <= 1.0


@given(st.text(), st.text())
def test_more_text_is_never_less_complex(text, more):
    assert complexity_of(f"{text}\n{more}") >= complexity_of(text)


@pytest.mark.parametrize(
    ("plain", "richer"),
    [
        ("go go go go", "go stop wait turn"),
        ("take it leave it", "take it, if not: leave it?"),
        ("one two three", "one.\ntwo.\nthree.\n"),
        ("add them up", "add them up: 3 + 4 - 5"),
        ("score of x y", "score(x) -> y"),
    ],
    ids=["vocabulary", "clauses", "structure", "numbers", "code"],
)
def test_every_feature_counts(plain, richer):
    assert complexity_of(richer) > complexity_of(plain)


def test_complexity_is_equal_in_a_process_with_another_hash_seed():
    imported = "import sys; from bedrock_evolution.bedrock.routing.task import complexity_of"
    program = f"{imported}; print(complexity_of(sys.stdin.read()))"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=BRIEF,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert float(done.stdout) == complexity_of(BRIEF)


@pytest.mark.parametrize("unit", ["def ", "a", "1,", "x(", "[", " ", "if", "= "])
def test_a_huge_text_takes_no_time_to_speak_of(unit):
    text = unit * (1_000_000 // len(unit))
    # Another process may take the machine meanwhile; its own processor time tells.
    began = time.process_time()
    assert 0 <= complexity_of(text) <= 1
    assert time.process_time() - began < 2.0


# -- families


@given(st.floats(0, 1))
def test_every_complexity_lies_in_the_band_its_family_tells(complexity):
    band = band_of(complexity)
    assert 0 <= band < BANDS
    assert abs(complexity_in(family_name("advisor", band)) - complexity) <= 0.5 / BANDS + 1e-12


@given(contexts)
def test_the_nearest_families_weigh_1_and_lie_around_the_complexity(context):
    near = nearest_families(context)
    assert math.isclose(sum(weight for _, weight in near), 1)
    assert all(0 <= weight <= 1 and role_of(family) == context.role for family, weight in near)
    assert dict(near)[context.family] >= 0.5
    middle = sum(weight * complexity_in(family) for family, weight in near)
    assert math.isclose(middle, min(max(context.complexity, 0.5 / BANDS), 1 - 0.5 / BANDS), abs_tol=1e-9)


def test_a_family_without_a_band_stands_for_itself():
    context = TaskContext("history", "reasoning", 0.9, input_tokens=1, output_tokens=1)
    assert context.role == "history"
    assert nearest_families(context) == [("history", 1.0)]
    assert complexity_in("history") == 0.5


# -- an agent's task


def test_the_family_is_the_role_and_the_band_of_its_text():
    simple = TaskContext.of("advisor", QUESTION, input_tokens=10, output_tokens=20)
    hard = TaskContext.of("advisor", BRIEF, input_tokens=10, output_tokens=20)
    assert simple.family == f"advisor/{band_of(complexity_of(QUESTION))}" != hard.family
    assert simple.role == hard.role == "advisor"
    assert (hard.input_tokens, hard.output_tokens) == (10, 20)
    assert hard == TaskContext.of("advisor", BRIEF, input_tokens=10, output_tokens=20)


@pytest.mark.parametrize(
    ("role", "text", "input_tokens", "kind"),
    [
        ("advisor", PROSE, 100, "creative"),
        ("decision", PROSE, 100, "reasoning"),
        ("healer", BRIEF, 100, "reasoning"),
        ("advisor", CODE, 100, "code"),
        # A code gene comes as a JSON string.
        ("decision", CODE.replace("\n", "\\n"), 100, "code"),
        ("advisor", CODE, MUCH_DATA_TOKENS + 1, "data"),
        ("somebody else", QUESTION, 100, "reasoning"),
    ],
)
def test_the_kind_of_work_follows_from_role_and_content(role, text, input_tokens, kind):
    assert TaskContext.of(role, text, input_tokens=input_tokens, output_tokens=100).kind == kind


def test_roles_differ_in_what_matters():
    of = {
        role: TaskContext.of(role, QUESTION, input_tokens=1, output_tokens=1)
        for role in ("advisor", "decision", "healer", "cost_governor")
    }
    assert max(of, key=lambda role: of[role].accuracy) == "decision"
    assert max(of, key=lambda role: of[role].cost_sensitivity) == "cost_governor"
    assert [role for role, context in of.items() if context.latency_limit_s is not None] == ["healer"]
