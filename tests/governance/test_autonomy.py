"""Autonomy: risk is measured by code, and configuration says who decides."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_evolution.dna.genes import choice, code, flag, integer, number, text
from bedrock_evolution.dna.genome import SystemDNA
from bedrock_evolution.dna.mutation import Mutation
from bedrock_evolution.governance.autonomy import AutonomyController, Risk
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


def mutation(dna: SystemDNA = DNA, **changes: Any) -> Mutation:
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return Mutation(parent=dna.checksum, changes=named, category="intelligence upgrade")


def risk(evidence: dict[str, Any] = SURE, **changes: Any) -> float:
    return CONTROLLER.risk(DNA, mutation(**changes), evidence).value


@QUICK
@given(st.data(), st.floats(0.0, 1.0))
def test_risk_is_between_none_and_all_and_made_of_its_parts(data: st.DataObject, confidence: float) -> None:
    dna = data.draw(dnas())
    names = data.draw(st.lists(st.sampled_from(list(dna.genes)), min_size=1, unique=True))
    changes = {name: data.draw(accepted(dna.genes[name])) for name in names}
    made = Mutation(parent=dna.checksum, changes=changes, category="c")
    found = CONTROLLER.risk(dna, made, {"confidence": confidence})
    assert 0.0 <= found.value <= 1.0
    assert set(found.parts) == {"kind", "size", "reach", "doubt"}
    assert all(0.0 <= part <= 1.0 for part in found.parts.values())
    assert found == CONTROLLER.risk(dna, made, {"confidence": confidence})


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
    found = CONTROLLER.risk(DNA, smallest, SURE)
    assert found.value >= 0.9
    assert CONTROLLER.path(smallest, found) == "person"


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
    assert CONTROLLER.path(mutation(threshold=0.6), Risk(value, {})) == path


@pytest.mark.parametrize(
    ("policy", "path"),
    [
        (Autonomy(engine_above=0.0, ask_above=1.0), "engine"),
        (Autonomy(engine_above=1.0, ask_above=1.0), "rule"),
        (Autonomy(ask_above=0.0), "person"),
    ],
)
def test_an_application_sets_its_own_limits(policy: Autonomy, path: str) -> None:
    assert AutonomyController(policy).path(mutation(threshold=0.6), Risk(0.5, {})) == path


@pytest.mark.parametrize(
    ("patterns", "changes", "named"),
    [
        (("prompt.legal",), {"prompt__legal": "x"}, ["prompt.legal"]),
        (("prompt.*",), {"prompt__legal": "x", "prompt": "y"}, ["prompt.legal"]),
        (("prompt*",), {"prompt__legal": "x", "prompt": "y"}, ["prompt.legal", "prompt"]),
        (("*",), {"threshold": 0.6}, ["threshold"]),
        (("Prompt",), {"prompt": "x"}, []),
        ((), {"threshold": 0.6}, []),
    ],
)
def test_named_genes_always_need_a_person(patterns: tuple[str, ...], changes: dict[str, Any], named: list[str]) -> None:
    controller = AutonomyController(Autonomy(always_ask=patterns))
    made = mutation(**changes)
    assert controller.named(made) == named
    assert (controller.path(made, Risk(0.0, {})) == "person") == bool(named)


def test_a_gene_named_with_brackets_needs_a_person_when_it_is_named() -> None:
    controller = AutonomyController(Autonomy(always_ask=("queue[0]",)))
    made = Mutation(parent="p", changes={"queue[0]": "x"}, category="c")
    assert controller.named(made) == ["queue[0]"]


def test_risk_can_be_recorded() -> None:
    found = CONTROLLER.risk(DNA, mutation(threshold=0.6), SURE)
    assert found.as_json() == {"value": found.value, "parts": dict(found.parts)}
