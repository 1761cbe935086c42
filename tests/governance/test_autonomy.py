"""Autonomy: risk is measured by code, and configuration says who decides."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_evolution.dna.genes import choice, code, flag, integer, number, text
from bedrock_evolution.dna.genome import SystemDNA
from bedrock_evolution.dna.mutation import Mutation
from bedrock_evolution.governance.autonomy import WEIGHTS, AutonomyController, Policy, Risk
from bedrock_evolution.settings import Autonomy
from tests.dna.strategies import QUICK, accepted, dnas

DNA = SystemDNA.declare(
    "router",
    {
        "threshold": number(0.5, low=0.0, high=1.0),
        "retries": integer(2, low=0, high=10),
        "mode": choice("fast", options=["fast", "exact"]),
        "safe": flag(True),
        "prompt": text("Answer in one short and friendly sentence."),
        "prompt.legal": text("Nothing here is advice."),
        "rule": code("x = 1"),
    },
)
CONTROLLER = AutonomyController(Autonomy())
SURE = {"confidence": 1.0}
NEVER_UNDONE: Mapping[str, int] = MappingProxyType({})
SHARES = st.floats(0.0, 1.0)
PATHS = ["rule", "engine", "person", "never"]
"""From laxest to strictest."""


def mutation(dna: SystemDNA = DNA, **changes: Any) -> Mutation:
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return Mutation(parent=dna.checksum, changes=named, category="intelligence upgrade")


def risk(evidence: dict[str, Any] = SURE, rollbacks: Mapping[str, int] = NEVER_UNDONE, **changes: Any) -> float:
    return CONTROLLER.risk(DNA, mutation(**changes), evidence, rollbacks=rollbacks).value


@QUICK
@given(st.data(), SHARES)
def test_risk_is_between_none_and_all_and_made_of_its_parts(data: st.DataObject, confidence: float) -> None:
    dna = data.draw(dnas())
    names = data.draw(st.lists(st.sampled_from(list(dna.genes)), min_size=1, unique=True))
    rollbacks = data.draw(st.dictionaries(st.sampled_from(list(dna.genes)), st.integers(1, 300)))
    changes = {name: data.draw(accepted(dna.genes[name])) for name in names}
    made = Mutation(parent=dna.checksum, changes=changes, category="c")
    found = CONTROLLER.risk(dna, made, {"confidence": confidence}, rollbacks=rollbacks)
    assert 0.0 <= found.value <= 1.0
    assert found.parts.keys() == WEIGHTS.keys()
    assert all(0.0 <= part <= 1.0 for part in found.parts.values())
    if not any(dna.genes[name].kind == "code" for name in names):
        weighed = sum(WEIGHTS[name] * part for name, part in found.parts.items())
        assert found.value == pytest.approx(weighed, abs=2e-6)
    assert found == CONTROLLER.risk(dna, made, {"confidence": confidence}, rollbacks=rollbacks)


def test_the_weights_of_the_parts_sum_to_one() -> None:
    assert set(WEIGHTS) == {"kind", "size", "reach", "history", "doubt"}
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)
    assert min(WEIGHTS.values()) > 0


def test_a_gene_whose_changes_were_undone_is_riskier_each_time() -> None:
    risks = [risk(rollbacks={"threshold": times}, threshold=0.6) for times in range(5)]
    assert risks == sorted(set(risks))
    assert risk(rollbacks={"retries": 9}, threshold=0.6) == risks[0]


def test_the_worst_gene_makes_the_history() -> None:
    def history(**rollbacks: int) -> float:
        made = mutation(threshold=0.6, retries=3)
        return CONTROLLER.risk(DNA, made, SURE, rollbacks=rollbacks).parts["history"]

    assert history() == 0.0
    assert history(threshold=1) == 0.5
    assert history(threshold=1, retries=2) == 0.75
    assert history(threshold=1, retries=2) == history(retries=2)


def test_a_larger_step_is_riskier() -> None:
    steps = [risk(threshold=value) for value in (0.5, 0.6, 0.8, 1.0)]
    assert steps == sorted(set(steps))
    words = [
        risk(prompt="Answer in one short and polite sentence."),
        risk(prompt="Answer politely, in a few words and with a smile."),
        risk(prompt="Refuse."),
    ]
    assert words == sorted(set(words))


def test_more_genes_are_riskier() -> None:
    assert risk(threshold=0.6) < risk(threshold=0.6, retries=3)


def test_doubt_is_risk_and_no_evidence_is_all_doubt() -> None:
    assert risk({"confidence": 0.99}, threshold=0.6) < risk({"confidence": 0.2}, threshold=0.6)
    assert risk({}, threshold=0.6) == risk({"confidence": 0.0}, threshold=0.6)


def test_a_number_is_less_risky_than_a_switch_and_code_is_the_riskiest() -> None:
    whole = [risk(threshold=0.0), risk(safe=False), risk(prompt="x"), risk(rule="x = 2")]
    assert whole == sorted(whole)


def test_changed_code_is_never_decided_without_a_person() -> None:
    smallest = mutation(rule="x = 1  ")
    found = CONTROLLER.risk(DNA, smallest, SURE, rollbacks=NEVER_UNDONE)
    assert found.value >= 0.9
    assert CONTROLLER.path(smallest, found, overconfidence=0.0) == "person"
    assert CONTROLLER.reason(smallest, found) == "risk 0.90 needs a person"


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (0.0, "rule"),
        (0.349, "rule"),
        (0.35, "engine"),
        (0.849, "engine"),
        (0.85, "person"),
        (1.0, "person"),
    ],
)
def test_the_limits_say_who_decides(value: float, path: str) -> None:
    assert CONTROLLER.path(mutation(threshold=0.6), Risk(value, {}), overconfidence=0.0) == path


@pytest.mark.parametrize(
    ("policy", "path"),
    [
        (Autonomy(engine_above=0.0, ask_above=1.0), "engine"),
        (Autonomy(engine_above=1.0, ask_above=1.0), "rule"),
        (Autonomy(engine_above=0.0, ask_above=0.0), "person"),
    ],
)
def test_an_application_sets_its_own_limits(policy: Autonomy, path: str) -> None:
    assert AutonomyController(policy).path(mutation(threshold=0.6), Risk(0.5, {}), overconfidence=0.0) == path


PATTERNS = [
    (("prompt.legal",), {"prompt__legal": "x"}, ("prompt.legal", ("prompt.legal",))),
    (("prompt.*",), {"prompt__legal": "x", "prompt": "y"}, ("prompt.*", ("prompt.legal",))),
    (("prompt*",), {"prompt__legal": "x", "prompt": "y"}, ("prompt*", ("prompt.legal", "prompt"))),
    (("*",), {"threshold": 0.6}, ("*", ("threshold",))),
    (("retries", "*"), {"threshold": 0.6}, ("*", ("threshold",))),
    (("category:intelligence upgrade",), {"threshold": 0.6}, ("category:intelligence upgrade",) * 2),
    (("category:storage optimisation",), {"threshold": 0.6}, None),
    (("intelligence upgrade",), {"threshold": 0.6}, None),
    (("Prompt",), {"prompt": "x"}, None),
    ((), {"threshold": 0.6}, None),
]


@pytest.mark.parametrize(("patterns", "changes", "hit"), PATTERNS)
@pytest.mark.parametrize(("rule", "path"), [("always_ask", "person"), ("never", "never")])
def test_a_policy_names_the_pattern_that_hits_and_decides_whatever_the_risk(
    rule: str, path: str, patterns: tuple[str, ...], changes: dict[str, Any], hit: tuple[str, Any] | None
) -> None:
    controller = AutonomyController(Autonomy.model_validate({rule: patterns}))
    made = mutation(**changes)
    found = controller.policy(made)
    assert controller.path(made, Risk(0.0, {}), overconfidence=0.0) == (path if hit else "rule")
    if hit is None:
        assert found is None
        return
    pattern, hits = hit
    assert found == Policy(rule, pattern, hits if isinstance(hits, tuple) else (hits,))  # type: ignore[arg-type]
    told = controller.reason(made, Risk(0.0, {}))
    assert repr(pattern) in told
    assert ("asks for a person" in told) == (rule == "always_ask")


def test_never_comes_before_always_ask() -> None:
    controller = AutonomyController(Autonomy(always_ask=("*",), never=("prompt.*",)))
    assert controller.path(mutation(prompt__legal="x"), Risk(0.0, {}), overconfidence=0.0) == "never"
    assert controller.path(mutation(prompt="x"), Risk(0.0, {}), overconfidence=0.0) == "person"


def test_a_gene_named_with_brackets_is_found_by_its_name() -> None:
    controller = AutonomyController(Autonomy(always_ask=("queue[0]",)))
    found = controller.policy(Mutation(parent="p", changes={"queue[0]": "x"}, category="c"))
    assert found is not None
    assert found.hits == ("queue[0]",)


LIMITS = st.tuples(SHARES, SHARES, SHARES).map(
    lambda drawn: Autonomy(
        engine_above=min(drawn[0], drawn[1]), ask_above=max(drawn[0], drawn[1]), min_confidence=drawn[2]
    )
)


@given(LIMITS, SHARES, SHARES, SHARES)
def test_learning_can_only_make_autonomy_stricter(
    limits: Autonomy, value: float, overconfidence: float, more: float
) -> None:
    controller, made = AutonomyController(limits), mutation(threshold=0.6)
    low, high = sorted([overconfidence, more])
    paths = [PATHS.index(controller.path(made, Risk(value, {}), overconfidence=found)) for found in (0.0, low, high)]
    assert paths == sorted(paths)
    sure = [controller.min_confidence(found) for found in (0.0, low, high)]
    assert sure == sorted(sure)
    assert sure[0] == limits.min_confidence
    assert all(found <= max(0.99, limits.min_confidence) for found in sure)


@given(LIMITS, SHARES, SHARES, SHARES)
def test_more_risk_is_never_decided_more_freely(
    limits: Autonomy, value: float, more: float, overconfidence: float
) -> None:
    controller, made = AutonomyController(limits), mutation(threshold=0.6)
    paths = [
        PATHS.index(controller.path(made, Risk(risk, {}), overconfidence=overconfidence))
        for risk in sorted([value, more])
    ]
    assert paths == sorted(paths)


def test_overconfidence_raises_the_bar() -> None:
    made = mutation(threshold=0.6)
    assert CONTROLLER.path(made, Risk(0.3, {}), overconfidence=0.2) == "engine"
    assert CONTROLLER.path(made, Risk(0.8, {}), overconfidence=0.2) == "person"
    assert CONTROLLER.min_confidence(0.2) == pytest.approx(0.8)
    assert CONTROLLER.min_confidence(0.9) == 0.99


def test_risk_can_be_recorded() -> None:
    found = CONTROLLER.risk(DNA, mutation(threshold=0.6), SURE, rollbacks=NEVER_UNDONE)
    assert found.as_json() == {"value": found.value, "parts": dict(found.parts)}
