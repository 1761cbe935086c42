"""Conflicts around a candidate: found where there are some, and nowhere else."""

from typing import Any

import pytest

from bedrock_evolution.agents.conflicts import conflicts, direction


def mutation(name: str, **changes: Any) -> dict[str, Any]:
    return {"mutation_id": name, "changes": {gene: {"from": 0, "to": value} for gene, value in changes.items()}}


def remark(number: int, text: str) -> dict[str, Any]:
    return {"number": number, "text": text}


CANDIDATE = mutation("m-1", depth=2, words="new")


def test_mutations_that_touch_the_same_gene_with_other_values_are_in_conflict() -> None:
    others = [mutation("m-2", depth=3), mutation("m-3", depth=2), mutation("m-4", speed=1), mutation("m-5", depth=4)]
    assert conflicts(CANDIDATE, others, [], head_moved=False) == [
        {"id": "c1", "kind": "same gene", "between": ["m-1", "m-2", "m-5"], "about": "depth"}
    ]


def test_contradictory_feedback_about_a_gene_of_the_candidate_is_a_conflict() -> None:
    remarks = [
        remark(4, "Please raise the depth."),
        remark(7, "The depth is too high!"),
        remark(8, "speed must be higher"),
        remark(9, "speed must be lower"),
    ]
    assert conflicts(CANDIDATE, [], remarks, head_moved=False) == [
        {"id": "c1", "kind": "feedback", "between": ["remark 4", "remark 7"], "about": "depth"}
    ]


def test_a_live_dna_that_moved_is_a_conflict() -> None:
    assert conflicts(CANDIDATE, [], [], head_moved=True) == [
        {"id": "c1", "kind": "concurrent change", "between": ["m-1", "live"], "about": "the live DNA"}
    ]


def test_conflicts_are_numbered() -> None:
    found = conflicts(CANDIDATE, [mutation("m-2", depth=1, words="other")], [], head_moved=True)
    assert [(conflict["id"], conflict["about"]) for conflict in found] == [
        ("c1", "depth"),
        ("c2", "words"),
        ("c3", "the live DNA"),
    ]


def test_where_all_agree_there_is_no_conflict() -> None:
    remarks = [remark(1, "raise the depth"), remark(2, "more depth"), remark(3, "the depth is fine")]
    assert conflicts(CANDIDATE, [mutation("m-2", depth=2)], remarks, head_moved=False) == []


@pytest.mark.parametrize(
    ("gene", "text", "way"),
    [
        ("depth", "Increase depth", "higher"),
        ("depth", "the DEPTH is too low", "higher"),
        ("depth", "do not lower the depth", "higher"),
        ("depth", "don\u2019t raise the depth", "lower"),
        ("depth", "reduce the depth, please", "lower"),
        ("depth", "raise it", ""),
        ("depth", "in-depth answers should be longer than shorter ones", ""),
        ("depth", "depth: higher or lower, who knows", ""),
        ("depth", "depths should be higher", ""),
        ("queue.billing", "queue billing is too short", "higher"),
        ("max_tokens", "Max tokens must be smaller", "lower"),
        ("a+b(", "make a+b( higher", "higher"),
    ],
)
def test_the_direction_a_remark_asks_for(gene: str, text: str, way: str) -> None:
    assert direction(gene, text) == way
