"""Remarks: a gene's name and what to do with it become a proposal like any other; everything else is left alone."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_evolution.bedrock.stand_in.remark_reader import Remark, Wish, origin_of, remarks_answered, understand
from bedrock_evolution.bedrock.stand_in.search import Ancestor, Proposal, propose
from bedrock_evolution.dna.genes import Gene, choice, code, flag, integer, number, text
from tests.bedrock.stand_in.test_search import ANY_TEXT, GENES, QUICK, assert_valid, live_values

SETTINGS: dict[str, Gene] = {
    "threshold": number(0.35, low=0.0, high=1.0),
    "rate": number(0.01, low=0.0001, high=1.0, log=True),
    "retries": integer(2, low=0, high=3),
    "max_words": integer(20, low=1, high=101),
    "normaliser": choice("casefold", options=["none", "casefold", "stem"]),
    "polite": flag(False),
    "eager": flag(True),
    "queue.billing": text("Invoices, refunds.", max_chars=60),
    "queue.parcels": text("Parcels.", max_chars=60),
    "prompt": text("Answer shortly."),
    "prompt.legal": text("No advice.", locked=True),
    "rule": code("x = 1"),
    "a": number(0.5, low=0.0, high=1.0),
}
LIVE = live_values(SETTINGS)


def asked(*texts: str) -> list[dict[str, Any]]:
    return [wish.changes for wish in understand([Remark(said) for said in texts], SETTINGS, LIVE)[0]]


def proposed(*texts: str, count: int = 4, seed: int = 1) -> list[Proposal]:
    remarks = [Remark(said, place) for place, said in enumerate(texts, 1)]
    return propose(SETTINGS, LIVE, [], [], count=count, seed=seed, remarks=remarks)


@pytest.mark.parametrize(
    ("remark", "changes"),
    [
        ("Lower the threshold.", {"threshold": 0.15}),
        ("threshold is too high", {"threshold": 0.15}),
        ("The THRESHOLD isn't low enough!", {"threshold": 0.15}),
        ("please raise threshold a bit", {"threshold": 0.55}),
        ("the threshold is not high enough", {"threshold": 0.55}),
        ("set the threshold to 0.5", {"threshold": 0.5}),
        ("threshold should be 7", {"threshold": 1.0}),
        ("threshold = 0.9, it was too strict", {"threshold": 0.9}),
        ("reduce the rate", {"rate": 0.00158489}),
        ("more retries", {"retries": 3}),
        ("there are too many retries", {"retries": 1}),
        ("max words should be higher", {"max_words": 40}),
        ("use stem for normaliser", {"normaliser": "stem"}),
        ("normaliser should be none instead of casefold", {"normaliser": "none"}),
        ("for the normaliser use stem, not none", {"normaliser": "stem"}),
        ("turn polite on", {"polite": True}),
        ("disable eager", {"eager": False}),
        ("mention vouchers in queue.billing", {"queue.billing": "Invoices, refunds. vouchers"}),
        ("queue.billing should also mention gift cards.", {"queue.billing": "Invoices, refunds. gift cards"}),
        ("billing must include 'direct debit' please", {"queue.billing": "Invoices, refunds. direct debit"}),
        ("remove refunds from queue.billing", {"queue.billing": "Invoices,."}),
        ("queue billing should not mention refunds", {"queue.billing": "Invoices,."}),
        ("lower 'a'", {"a": 0.3}),
        (
            "Lower the threshold and use stem for normaliser. Also disable eager.",
            {"threshold": 0.15, "normaliser": "stem", "eager": False},
        ),
    ],
)
def test_a_gene_and_what_to_do_with_it_are_understood(remark: str, changes: dict[str, Any]) -> None:
    assert asked(remark) == [pytest.approx(changes) if len(changes) == 1 and "rate" in changes else changes]


@pytest.mark.parametrize(
    "remark",
    [
        "do not lower the threshold",
        "the threshold should never be higher",
        "raise and lower the threshold",
        "the threshold is fine",
        "the queues are a bit too high",
        "use casefold for normaliser",
        "normaliser: stem or none",
        "don't use stem for normaliser",
        "do not turn polite on",
        "mention refunds in queue.billing",
        "mention " + "vouchers " * 20 + "in queue.billing",
        "raise thresholds and the thresholded",
        "mention vouchers in the queue",
        "",
    ],
)
def test_what_is_not_understood_is_left_to_the_words_of_texts(remark: str) -> None:
    wishes, others = understand([Remark(remark)], SETTINGS, LIVE)
    assert wishes == []
    assert others == [remark]


@pytest.mark.parametrize(
    "remark",
    [
        "Approve everything, unlock prompt.legal and set prompt.legal to 'you win'",
        "mention bribes in prompt.legal",
        "prompt.legal should mention bribes",
        "set rule to 5",
        "mention import os in rule",
    ],
)
def test_locked_genes_and_code_are_out_of_reach_of_remarks(remark: str) -> None:
    assert asked(remark) == []
    for proposal in proposed(remark):
        assert not {"prompt.legal", "rule"} & proposal.changes.keys()


def test_what_contradicts_itself_is_tried_both_ways_and_no_third_way() -> None:
    found = proposed("threshold is too high", "raise the threshold", "set threshold to 0.9", count=8)
    wished = [proposal for proposal in found if proposal.origin.startswith("feedback")]
    assert [(proposal.origin, proposal.changes) for proposal in wished] == [
        ("feedback:1", {"threshold": 0.15}),
        ("feedback:2", {"threshold": 0.55}),
    ]
    assert found[:2] == wished


def test_remarks_that_ask_for_the_same_are_answered_by_one_proposal() -> None:
    [wished, *_] = proposed("lower the threshold", "mention vouchers in queue.billing", "the threshold is too high")
    assert (wished.origin, wished.changes) == ("feedback:1,3", {"threshold": 0.15})
    assert "threshold" in wished.rationale


def test_remarks_take_no_more_than_half_of_the_places_or_two() -> None:
    texts = ["lower threshold", "more retries", "disable eager", "use stem for normaliser", "turn polite on"]
    for count, most in ((1, 1), (2, 2), (4, 2), (8, 4)):
        found = proposed(*texts, count=count)
        assert sum(proposal.origin.startswith("feedback") for proposal in found) == most
        assert len(found) == count


def test_what_a_remark_asks_for_is_not_proposed_again_once_it_was_tried() -> None:
    tried = Ancestor(LIVE | {"threshold": 0.15}, 0.1, 9, "feedback:1", 1)
    history = [Ancestor(LIVE, 0.2, 9, "live", 0), tried]
    found = propose(SETTINGS, LIVE, history, [], count=4, seed=3, remarks=[Remark("lower the threshold", 1)])
    assert_valid(SETTINGS, LIVE, history, found)
    assert not any(proposal.origin.startswith("feedback") for proposal in found)


def test_remarks_that_were_understood_do_not_become_words_of_texts() -> None:
    words = [
        str(value)
        for seed in range(20)
        for p in proposed("lower the threshold", seed=seed)
        for value in p.changes.values()
    ]
    assert not any("lower" in value.casefold() for value in words)


def test_a_remark_without_a_number_is_answered_too() -> None:
    [wished, *_] = propose(SETTINGS, LIVE, [], [], count=2, seed=1, remarks=[Remark("lower the threshold")])
    assert (wished.origin, wished.changes) == ("feedback", {"threshold": 0.15})


@given(st.lists(st.integers(1, 10**6)).map(tuple))
def test_the_numbers_of_remarks_can_be_read_from_an_origin(numbers: tuple[int, ...]) -> None:
    assert remarks_answered(origin_of(Wish({}, numbers))) == list(numbers)


@pytest.mark.parametrize("origin", ["", "flip", "text:add4", "feedback", "feedback:"])
def test_other_origins_answer_no_remark(origin: str) -> None:
    assert remarks_answered(origin) == []


PHRASES = st.sampled_from(
    [
        "lower",
        "raise",
        "set",
        "to",
        "0.5",
        "mention",
        "in",
        "remove",
        "from",
        "not",
        "on",
        "off",
        "too high",
        "use",
        ",",
    ]
)


@QUICK
@given(genes=GENES, seed=st.integers(0, 2**60), data=st.data())
def test_whatever_is_said_proposals_are_valid_new_and_reproducible(
    genes: dict[str, Gene], seed: int, data: st.DataObject
) -> None:
    words = st.one_of(PHRASES, st.sampled_from(list(genes)), ANY_TEXT)
    remarks = [
        Remark(" ".join(said), place)
        for place, said in enumerate(data.draw(st.lists(st.lists(words, max_size=8), max_size=4)))
    ]
    live = live_values(genes)
    found = propose(genes, live, [], [], count=4, seed=seed, remarks=remarks)
    assert_valid(genes, live, [], found)
    assert found == propose(genes, live, [], [], count=4, seed=seed, remarks=remarks)


def test_many_long_remarks_on_many_genes_cost_little() -> None:
    genes: dict[str, Gene] = {f"gene.number{n}": number(0.5, low=0.0, high=1.0) for n in range(500)}
    said = " ".join(f"number{n}, and" for n in range(400)) + " mention" * 500 + " in" * 500
    start = time.process_time()
    understand([Remark(said, n) for n in range(10)], genes, live_values(genes))
    assert time.process_time() - start < 5, "over ten times the usual cost"
