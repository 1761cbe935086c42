"""Cases: split by their content, so that what is sealed stays sealed."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from bedrock_evolution.errors import InvalidCases, UsageError
from bedrock_evolution.fitness.cases import MIN_VALIDATION, PARTS, Cases, split_cases

QUICK = settings(max_examples=50, deadline=None)
MANY = [{"text": f"message {n}"} for n in range(600)]


def placed(cases: Cases) -> dict[str, set[str]]:
    return {part: {repr(case) for case in cases.part(part)} for part in PARTS}


@QUICK
@given(st.integers(40, 400), st.integers(0, 200), st.randoms(use_true_random=False))
def test_adding_cases_never_moves_one(size: int, more: int, shuffled: random.Random) -> None:
    before = placed(split_cases(MANY[:size]))
    extended = MANY[: size + more]
    shuffled.shuffle(extended)
    after = placed(split_cases(extended))
    assert all(before[part] <= after[part] for part in PARTS)


@QUICK
@given(st.sets(st.integers(), min_size=20, max_size=120))
def test_every_case_is_in_exactly_one_part(given_cases: set[int]) -> None:
    cases = split_cases(sorted(given_cases))
    everything = [case for part in PARTS for case in cases.part(part)]
    assert sorted(everything) == sorted(given_cases)
    assert not cases.single


@QUICK
@given(st.lists(st.sampled_from(MANY[:60]), min_size=30, max_size=150))
def test_equal_cases_stay_together(given_cases: list[Any]) -> None:
    try:
        parts = placed(split_cases(given_cases))
    except InvalidCases:
        return
    assert not parts["train"] & parts["validation"]
    assert not parts["test"] & (parts["train"] | parts["validation"])


@pytest.mark.parametrize("size", [200, 600])
def test_the_parts_are_about_40_40_and_20_percent(size: int) -> None:
    sizes = split_cases(MANY[:size]).sizes
    assert sizes["train"] / size == pytest.approx(0.4, abs=0.12)
    assert sizes["validation"] / size == pytest.approx(0.4, abs=0.12)
    assert sizes["test"] / size == pytest.approx(0.2, abs=0.12)


@pytest.mark.parametrize("size", [15, 20, 39])
def test_few_cases_are_split_by_rank_so_that_no_part_is_empty_by_chance(size: int) -> None:
    for start in range(20):
        sizes = split_cases(MANY[start : start + size]).sizes
        assert sizes == {
            "train": round(size * 0.4),
            "validation": round(size * 0.8) - round(size * 0.4),
            "test": size - round(size * 0.8),
        }


def test_the_order_inside_a_part_is_the_order_given() -> None:
    cases = split_cases(range(100))
    assert all(list(cases.part(part)) == sorted(cases.part(part)) for part in PARTS)


def test_a_generator_is_a_list_of_cases() -> None:
    assert split_cases(n for n in range(50)) == split_cases(list(range(50)))


def test_a_single_case_is_one_objective_in_every_part() -> None:
    cases = split_cases([{"only": 1}])
    assert cases.single
    assert cases.sizes == {"train": 1, "validation": 1, "test": 1}


def test_the_fingerprint_tells_whether_the_cases_are_the_same() -> None:
    assert split_cases(MANY[:50]).fingerprint == split_cases([dict(case) for case in MANY[:50]]).fingerprint
    assert split_cases(MANY[:50]).fingerprint != split_cases(MANY[:51]).fingerprint


@dataclass
class Ticket:
    text: str


class Message(BaseModel):
    text: str


@pytest.mark.parametrize("kind", [Ticket, Message], ids=["dataclass", "pydantic"])
def test_objects_are_split_like_the_json_they_write(kind: Callable[..., Any]) -> None:
    plain, objects = split_cases(MANY[:50]), split_cases([kind(**case) for case in MANY[:50]])
    assert objects.fingerprint == plain.fingerprint
    assert [case.text for case in objects.test] == [case["text"] for case in plain.test]


SETS = """
from bedrock_evolution.fitness.cases import split_cases
print(split_cases([{"words": {f"word {n}", "and", "more"}} for n in range(50)]).fingerprint)
"""


def test_cases_with_sets_are_split_alike_in_every_process_or_refused() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", SETS], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=False
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


# -- refusals


def refused(given_cases: Any) -> InvalidCases:
    with pytest.raises(InvalidCases) as error:
        split_cases(given_cases)
    assert error.value.hint
    assert isinstance(error.value, UsageError)
    return error.value


def test_no_cases_are_refused() -> None:
    assert "there are no cases" in refused([]).message


@pytest.mark.parametrize("count", [2, 5, 10, 13])
def test_too_few_cases_are_refused_with_the_sizes(count: int) -> None:
    message = refused(range(count)).message
    assert f"{count} cases are too few to split" in message
    assert "validation" in message


def test_cases_that_are_all_equal_are_refused() -> None:
    error = refused([{"same": 1}] * 50)
    assert "the 50 cases are all equal" in error.message
    assert "range(100)" in error.hint


@pytest.mark.parametrize(
    "wrong",
    [object(), float("nan"), {"f": print}, b"\xff\xfe", {"deep": [1, {"x": float("inf")}]}],
    ids=["object", "nan", "function", "bytes", "infinity inside"],
)
def test_a_case_that_json_cannot_hold_is_named_by_its_index(wrong: Any) -> None:
    error = refused([*range(20), wrong])
    assert "case 20 cannot be written as JSON" in error.message


# -- three lists


def lists(**other: Any) -> dict[str, Any]:
    return {"train": range(10), "validation": range(10, 20), "test": range(20, 25)} | other


def test_three_lists_are_taken_as_they_are() -> None:
    cases = split_cases(lists())
    assert (cases.train, cases.validation, cases.test) == (tuple(range(10)), tuple(range(10, 20)), tuple(range(20, 25)))


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_sealed_case_that_is_also_elsewhere_is_refused(part: str) -> None:
    error = refused(lists(**{part: [*range(30, 40), 20, 21]}))
    assert "2 test cases are also in train or validation" in error.message


def test_parts_must_be_named_exactly() -> None:
    assert "['test', 'train']" in refused({"train": range(9), "test": range(9, 12)}).message
    assert refused(lists(extra=[]))


@pytest.mark.parametrize(("part", "least"), [("train", 2), ("validation", MIN_VALIDATION), ("test", 2)])
def test_each_list_needs_its_least(part: str, least: int) -> None:
    enough = lists(**{part: range(100, 100 + least)})
    assert split_cases(enough).sizes[part] == least  # type: ignore[index]
    message = refused(lists(**{part: range(100, 100 + least - 1)})).message
    assert f"{part} needs at least {least}" in message
