"""`MutationEngine`: the one door through which changes become mutations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_evolution.dna.engine import BUILT_IN_CATEGORIES, MutationEngine
from bedrock_evolution.dna.genes import choice, flag, integer, number
from bedrock_evolution.dna.genome import SystemDNA
from bedrock_evolution.errors import InvalidMutation
from tests.dna.strategies import QUICK, dnas, values_for

ENGINE = MutationEngine(categories=["tone of voice"])


@pytest.fixture
def dna() -> SystemDNA:
    return SystemDNA.declare(
        "router",
        {
            "threshold": number(0.35, low=0.0, high=1.0),
            "retries": integer(2, low=0, high=5),
            "mode": choice("fast", options=["fast", "exact"]),
            "safe": flag(True, locked=True),
        },
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"speed": 1}, ["unknown gene 'speed'", "threshold"], id="unknown"),
        pytest.param({"safe": False}, ["gene 'safe' is locked", "owner"], id="locked"),
        pytest.param({"threshold": 3}, ["gene 'threshold'", "3 is out of bounds", "from 0 to 1"], id="out of bounds"),
        pytest.param({"mode": "slow"}, ["gene 'mode'", "'slow'", "'fast', 'exact'"], id="no option"),
        pytest.param({"retries": 2, "mode": "fast"}, ["changes nothing"], id="no-op"),
        pytest.param({}, ["changes nothing"], id="empty"),
    ],
)
def test_a_wish_that_cannot_be_granted_is_refused_by_name(
    dna: SystemDNA, changes: dict[str, Any], said: list[str]
) -> None:
    with pytest.raises(InvalidMutation) as refused:
        ENGINE.propose(dna, changes)
    assert all(words in str(refused.value) for words in said)


def test_an_integer_too_large_for_a_float_is_refused_by_name(dna: SystemDNA) -> None:
    with pytest.raises(InvalidMutation, match="gene 'threshold'"):
        ENGINE.propose(dna, {"threshold": 10**400})


def test_changes_that_change_nothing_are_left_out(dna: SystemDNA) -> None:
    made = ENGINE.propose(dna, {"retries": 2, "threshold": 0.5})
    assert made.changes == {"threshold": 0.5}
    assert made.id == ENGINE.propose(dna, {"threshold": 0.5}).id


def test_equal_wishes_in_another_spelling_are_the_same_mutation(dna: SystemDNA) -> None:
    one = ENGINE.propose(dna, {"threshold": 1, "retries": 3})
    other = ENGINE.propose(dna, {"retries": 3.0, "threshold": 1.0})
    assert one.id == other.id


@pytest.mark.parametrize("category", [*BUILT_IN_CATEGORIES, "tone of voice"])
def test_built_in_and_own_categories_are_known(dna: SystemDNA, category: str) -> None:
    assert ENGINE.propose(dna, {"retries": 3}, category=category).category == category


def test_an_unknown_category_is_refused_with_those_there_are(dna: SystemDNA) -> None:
    with pytest.raises(InvalidMutation, match="unknown category 'magic'") as refused:
        ENGINE.propose(dna, {"retries": 3}, category="magic")
    assert "tone of voice" in refused.value.hint


def test_a_proposal_is_applied_to_its_parent(dna: SystemDNA) -> None:
    made = ENGINE.propose(dna, {"retries": 3}, rationale="fewer failures", predicted_gain=0.1, origin="advisor")
    after = ENGINE.apply(dna, made, fitness=0.7)
    assert (after.values["retries"], after.fitness, after.parent) == (3, 0.7, dna.checksum)
    assert (made.rationale, made.predicted_gain, made.origin) == ("fewer failures", 0.1, "advisor")


@QUICK
@given(st.data())
def test_whatever_is_proposed_can_be_applied_and_changes_what_it_says(data: st.DataObject) -> None:
    dna = data.draw(dnas())
    names = data.draw(st.lists(st.sampled_from(list(dna.genes)), min_size=1, unique=True))
    wishes = {name: data.draw(values_for(dna.genes[name])) for name in names}
    try:
        made = ENGINE.propose(dna, wishes)
    except InvalidMutation:
        return
    after = ENGINE.apply(dna, made)
    assert {name for name in dna.values if dna.values[name] != after.values[name]} == set(made.changes)
    assert not any(dna.genes[name].locked for name in made.changes)
    assert set(made.changes) <= set(wishes)
