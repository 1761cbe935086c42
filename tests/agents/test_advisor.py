"""The advisor: what a model may say to it, and what it does with an answer that cannot be used."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bedrock_evolution.agents.advisor import Advice
from bedrock_evolution.bedrock.stand_in import STAND_IN
from bedrock_evolution.dna.canonical import canonical_json
from tests.support.converse import Failure
from tests.support.model import Call, tool_use
from tests.support.stage import (
    DNA,
    EVIDENCE,
    HAIKU,
    SONNET,
    Answer,
    Message,
    Stage,
    advisor_desk,
    always,
    answering,
    heard,
    staged,
)

DENIED = Failure("AccessDeniedException")

READ: Call = ("read_evidence", {"trials": 5, "failures": 5})


def propose(changes: Any, **more: Any) -> Call:
    return "propose_mutations", {"proposals": [{"changes": changes, **more}]}


def advice(*order: Any, confidence: Any = 0.7) -> Call:
    return "Advice", {"analysis": {"confidence": confidence}, "strategy": {"execution_order": list(order)}}


GOOD = propose({"words": "blue elephants"}, rationale="Customers say so.")


def test_it_reads_proposes_and_explains(stage: Stage) -> None:
    stage.answer(answering(READ, GOOD, advice("p1")))
    desk = advisor_desk()

    reply = stage.advise(desk)

    assert reply.model == SONNET
    assert reply.answer.strategy.ordered() == ["p1"]
    [mutation] = desk.accepted.values()
    assert mutation.changes == {"words": "blue elephants"}
    assert mutation.parent == DNA.checksum
    assert mutation.origin == "model"
    assert len(stage.requests) == 3
    assert "blue elephants dance" in heard(stage.requests[1])


def test_it_gets_the_tools_of_its_role_the_limit_and_nothing_that_approves_or_applies(stage: Stage) -> None:
    stage.advise(advisor_desk())
    for request in stage.requests:
        assert request.tools == ["read_evidence", "propose_mutations", "Advice"]
        assert request.body["toolConfig"]["toolChoice"] == {"any": {}}
        assert request.body["inferenceConfig"] == {"maxTokens": stage.settings.max_tokens}
        assert not request.stream


def test_the_desk_and_its_runtime_are_no_arguments_of_a_tool(stage: Stage) -> None:
    stage.advise(advisor_desk())
    for spec in stage.requests[0].tool_specs:
        assert "runtime" not in spec["inputSchema"]["json"]["properties"]


MALFORMED: dict[str, tuple[list[Answer], str]] = {
    "prose and no call": (["Let me think about it."], "the tool Advice was not called"),
    "nothing at all": ([[]], "the tool Advice was not called"),
    "blank prose": (["  \n"], "the tool Advice was not called"),
    "cut short": (
        [Message([{"text": "I would"}], stop_reason="max_tokens")],
        "the tool Advice was not called",
    ),
    "malformed tool use": ([Message([], stop_reason="malformed_tool_use")], "the tool Advice was not called"),
    "a tool of another role": ([("read_spend", {})], "read_spend is not a valid tool"),
    "a tool nobody has": ([("apply", {"id": "p1"})], "apply is not a valid tool"),
    "arguments missing": ([("propose_mutations", {})], "proposals: Field required"),
    "arguments as text": ([("propose_mutations", {"proposals": "[]"})], "Input should be a valid list"),
    "a count that is no number": ([("read_evidence", {"trials": "all", "failures": 1})], "valid integer"),
    "changes that are a list": ([propose(["words"])], "Input should be a valid dictionary"),
    "a probability above one": ([propose({"words": "x"}, probability=7)], "less than or equal to 1"),
    "an unknown gene": ([propose({"word": "x"})], "unknown gene 'word'. The genes are: words, threshold"),
    "a locked gene": ([propose({"frozen": 2})], "gene 'frozen' is locked"),
    "a locked gene beside a good change": ([propose({"words": "x", "frozen": 2})], "gene 'frozen' is locked"),
    "a value out of bounds": ([propose({"threshold": 1.01})], "1.01 is out of bounds. Give a number from 0 to 1"),
    "a number as text": ([propose({"threshold": "0.5"})], "'0.5' is not a finite number"),
    "an infinite number": ([propose({"threshold": float("inf")})], "inf is not a finite number"),
    "a text too long": ([propose({"words": "x" * 101})], "the text is 101 characters long"),
    "an empty text": ([propose({"words": ""})], "the text is empty. Give text of 1 to 100 characters"),
    "no option": ([propose({"mode": "baroque"})], "'baroque' is not an option. Give one of 'plain', 'fancy'"),
    "a flag as a number": ([propose({"eager": 1})], "1 is not a flag"),
    "a fraction for a whole number": ([propose({"depth": 1.5})], "1.5 is not a whole number"),
    "lone surrogates": ([propose({"words": "\ud800"})], "lone surrogates"),
    "remarks as words": ([propose({"words": "x"}, feedback="the second")], "Input should be a valid list"),
    "no change": ([propose({"words": "old words"})], "the mutation changes nothing"),
    "empty changes": ([propose({})], "the mutation changes nothing"),
    "an unknown category": ([propose({"words": "x"}, category="conquest")], "unknown category 'conquest'"),
    "no proposals": ([("propose_mutations", {"proposals": []}), advice()], "no proposal was accepted"),
    "advice before anything": ([advice()], "no proposal was accepted, so there is nothing to trial"),
    "unknown ids": ([GOOD, advice("p1", "p9")], "proposals that were not accepted: ['p9']"),
    "advice without analysis": ([GOOD, ("Advice", {"strategy": {}})], "analysis\n  Field required"),
    "advice of wrong types": ([GOOD, ("Advice", {"analysis": "fine", "strategy": []})], "dictionary"),
    "confidence above one": ([GOOD, advice("p1", confidence=70)], "less than or equal to 1"),
    "advice twice at once": ([GOOD, [advice("p1"), advice("p1")]], "multiple structured responses"),
}


@pytest.mark.parametrize(("answers", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_answer_is_told_why_and_can_be_mended(stage: Stage, answers: list[Answer], reason: str) -> None:
    stage.answer(answering(*answers))
    desk = advisor_desk()

    reply = stage.advise(desk)

    assert reason.casefold() in heard(stage.requests[len(answers)]).casefold()
    assert reply.model == SONNET
    assert reply.answer.strategy.ordered()
    assert set(reply.answer.strategy.ordered()) <= set(desk.accepted)
    assert {status for status, *_ in stage.calls()} == {"settled"}


@pytest.mark.parametrize("answer", ["No.", advice("p1"), [READ, advice()]], ids=["prose", "unknown id", "nothing new"])
def test_a_model_that_never_gives_a_usable_answer_has_its_attempts_and_then_the_stand_in_answers(
    stage: Stage, answer: Answer
) -> None:
    stage.answer(always(answer))
    desk = advisor_desk()

    reply = stage.advise(desk)

    assert reply.model == STAND_IN
    assert desk.accepted
    assert set(reply.answer.strategy.ordered()) == set(desk.accepted)
    assert desk.conversation.local


@pytest.mark.parametrize("answer", ["No.", advice("p1")], ids=["prose", "unknown id"])
def test_the_attempts_of_a_model_are_those_of_the_settings(stage: Stage, answer: Answer) -> None:
    stage.answer(always(answer))
    stage.advise(advisor_desk())
    assert len(stage.requests) == stage.settings.model_attempts


@pytest.mark.parametrize(
    "answer",
    [("Advice", {"strategy": 1}), ("propose_mutations", {"proposals": "x"}), ("apply", {})],
    ids=["advice of wrong types", "arguments as text", "unknown tool"],
)
def test_ill_formed_calls_use_up_attempts_too(stage: Stage, answer: Answer) -> None:
    stage.answer(always(answer))
    assert stage.advise(advisor_desk()).model == STAND_IN
    assert len(stage.requests) <= 2 * stage.settings.model_attempts


def test_a_model_that_only_ever_proposes_rubbish_is_left_to_itself_after_bounded_calls(stage: Stage) -> None:
    stage.answer(always(propose({"frozen": 2})))
    desk = advisor_desk()
    assert stage.advise(desk).model == STAND_IN
    assert len(stage.requests) <= 12 * stage.settings.model_attempts
    assert all("frozen" not in mutation.changes for mutation in desk.accepted.values())


def test_more_candidates_than_wanted_and_repeated_ones_are_rejected(stage: Stage) -> None:
    proposals = [{"changes": {"depth": depth}} for depth in (2, 2, 3, 4)]
    stage.answer(answering(("propose_mutations", {"proposals": proposals}), advice("p1", "p2")))
    desk = advisor_desk(candidates=2)

    stage.advise(desk)

    assert [mutation.changes for mutation in desk.accepted.values()] == [{"depth": 2}, {"depth": 3}]
    said = heard(stage.requests[1])
    assert "was accepted already" in said
    assert "has its 2 candidates already" in said


def test_what_the_desk_refuses_is_rejected_with_the_reason(stage: Stage) -> None:
    proposals = [{"changes": {"depth": 2}}, {"changes": {"words": "blue elephants"}}]
    stage.answer(answering(("propose_mutations", {"proposals": proposals}), advice("p1")))
    desk = advisor_desk()
    desk.refusal = lambda mutation: "policy forbids it: depth" if "depth" in mutation.changes else ""
    stage.advise(desk)
    assert [mutation.changes for mutation in desk.accepted.values()] == [{"words": "blue elephants"}]
    assert "policy forbids it: depth" in heard(stage.requests[1])


def test_a_proposal_names_the_remarks_it_answers_of_those_that_were_read(stage: Stage) -> None:
    remarks = [{"number": number, "source": "people", "text": "Deeper, please."} for number in (4, 7)]
    proposals = [
        {"changes": {"depth": 2}, "feedback": [7, 4, 4, 99, -1]},
        {"changes": {"depth": 3}, "feedback": [10**30]},
        {"changes": {"depth": 4}},
    ]
    stage.answer(answering(READ, ("propose_mutations", {"proposals": proposals}), advice("p1")))
    desk = advisor_desk(candidates=3)
    desk.evidence = lambda trials, failures: EVIDENCE | {"feedback": remarks}
    stage.advise(desk)
    assert desk.answered == {"p1": (4, 7), "p2": (), "p3": ()}


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Let threads take turns as often as possible, so that a race shows."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def test_proposals_made_by_parallel_calls_are_accepted_in_the_order_of_the_calls(
    stage: Stage, eager_threads: None
) -> None:
    for _ in range(5):
        stage.answer(answering([propose({"depth": depth}) for depth in range(2, 8)], advice("p1", "p2", "p3")))
        desk = advisor_desk(candidates=3)
        stage.advise(desk)
        assert [mutation.changes["depth"] for mutation in desk.accepted.values()] == [2, 3, 4]


# A model that refused rests for a while, so the stages of these tests are their own.


def test_the_stand_in_takes_over_in_the_middle_of_a_conversation_and_gives_it_back(tmp_path: Path) -> None:
    with staged(tmp_path) as stage:
        stage.answer(answering(READ, DENIED))
        desk = advisor_desk()

        reply = stage.advise(desk)

        # It read what the model had read and proposed in its place; then the next model explained.
        assert [request.model_id for request in stage.requests] == [SONNET, SONNET, HAIKU]
        assert [status for status, *_ in stage.calls()] == ["settled", "void", "settled"]
        blocks = stage.requests[2].messages[-2]["content"]
        assert [block["toolUse"]["name"] for block in blocks if "toolUse" in block] == ["propose_mutations"]
        assert reply.model == HAIKU
        assert set(reply.answer.strategy.ordered()) == set(desk.accepted) != set()
        assert all(mutation.origin.startswith(STAND_IN) for mutation in desk.accepted.values())


def test_what_the_stand_in_proposed_or_answered_is_never_called_a_models(tmp_path: Path) -> None:
    with staged(tmp_path) as stage:
        stage.answer(always(DENIED))
        desk = advisor_desk()
        reply = stage.advise(desk)
        assert reply.model == STAND_IN
        assert all(mutation.origin.startswith(STAND_IN) for mutation in desk.accepted.values())


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(propose({"threshold": 10**400}), id="an integer that no float holds"),
        pytest.param(propose({"\ud800": 1}), id="a lone surrogate as a gene's name"),
        pytest.param(("propose_mutations", None), id="no arguments at all"),
    ],
)
def test_arguments_at_the_edge_of_json_crash_nothing(stage: Stage, answer: Answer) -> None:
    stage.answer(answering(answer))
    assert stage.advise(advisor_desk()).answer.strategy.ordered()


def test_arguments_that_are_no_object_are_told_to_the_model_and_paid_for(stage: Stage) -> None:
    answer = Message([tool_use("t1", "propose_mutations", "threshold=0.5")], input_tokens=1000, output_tokens=10)
    stage.answer(answering(answer))
    stage.advise(advisor_desk())
    assert "no JSON object" in heard(stage.requests[1])
    assert {status for status, *_ in stage.calls()} == {"settled"}
    assert stage.calls()[0][3] == 1000 * 3 + 10 * 15


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(list(DNA.genes)) | st.text(max_size=8)
CHANGES = st.dictionaries(NAMES, JSON | st.sampled_from([0, 1, 0.5, 2, True, "fancy", "words"]), max_size=3) | JSON
PROPOSAL = st.fixed_dictionaries(
    {"changes": CHANGES},
    optional={
        "category": JSON,
        "rationale": JSON,
        "predicted_gain": JSON,
        "probability": JSON,
        "origin": JSON,
        "feedback": JSON,
    },
)
ANYTHING = JSON.filter(lambda value: value is not None)  # null is not sent, see the edge cases above
CALLS = (
    st.tuples(st.sampled_from(["read_evidence", "propose_mutations", "Advice", "apply", "read_spend"]), ANYTHING)
    | st.tuples(
        st.just("propose_mutations"),
        st.fixed_dictionaries({"proposals": st.lists(PROPOSAL, max_size=3) | JSON}),
    )
    | st.tuples(
        st.just("Advice"),
        st.fixed_dictionaries(
            {"analysis": JSON | st.just({"confidence": 0.5}), "strategy": JSON | st.dictionaries(st.text(), JSON)}
        ),
    )
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(CALLS | st.text() | st.lists(CALLS, max_size=3), max_size=4))
def test_no_json_value_crashes_the_advisor_or_changes_a_locked_gene(stage: Stage, turns: list[Answer]) -> None:
    stage.answer(answering(*turns))
    desk = advisor_desk()

    reply = stage.advise(desk)

    assert isinstance(reply.answer, Advice)
    assert desk.accepted
    assert len(desk.accepted) <= desk.candidates
    for mutation in desk.accepted.values():
        after = DNA.apply(mutation)
        assert after.values["frozen"] == DNA.values["frozen"]
        canonical_json(dict(mutation.changes))  # what is accepted can be stored
