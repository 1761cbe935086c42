"""Answers on record: what is kept of them, and that they are given again to the same requests and to no others."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from bedrock_evolution.agents.advisor import Advice, EvolutionAdvisor
from bedrock_evolution.agents.agent import Reply
from bedrock_evolution.agents.cost_governor import CostGovernor
from bedrock_evolution.agents.decision import BedrockDecisionEngine
from bedrock_evolution.agents.healer import SelfHealer
from bedrock_evolution.bedrock.gateway import Gateway, ModelTask
from bedrock_evolution.bedrock.money.ledger import Pressure
from bedrock_evolution.bedrock.plain_messages import plain, request_hash
from bedrock_evolution.bedrock.recorded import RecordedCall, RecordedCalls
from bedrock_evolution.bedrock.recorded_gateway import RecordedGateway
from bedrock_evolution.bedrock.stand_in import STAND_IN
from bedrock_evolution.dna.database import Database
from bedrock_evolution.errors import IntegrityError, ReplayDiverged
from bedrock_evolution.tools.desk import AdvisorDesk
from tests.support.converse import Failure, Message
from tests.support.model import Call, tool_use
from tests.support.stage import (
    CANDIDATE,
    EVIDENCE,
    INCIDENT,
    SONNET,
    Answer,
    Stage,
    advisor_desk,
    always,
    answering,
    staged,
)

READ: Call = ("read_evidence", {"trials": 5, "failures": 5})
GOOD: Call = ("propose_mutations", {"proposals": [{"changes": {"words": "blue elephants"}}]})
ADVICE: Call = ("Advice", {"analysis": {"confidence": 0.7}, "strategy": {"execution_order": ["p1"]}})
NO_OBJECT = Message([tool_use("t1", "read_evidence", "all of it")], input_tokens=1000, output_tokens=10)
STEP = "1/advisor"


@pytest.fixture(scope="module")
def open_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("recorded")) as stage:
        yield stage


@pytest.fixture
def stage(open_stage: Stage) -> Stage:
    open_stage.answer(answering())
    return open_stage


def desk_for(evidence: dict[str, Any] = EVIDENCE) -> AdvisorDesk:
    desk = advisor_desk()
    desk.task = ModelTask("advisor", "run-1", step=STEP)
    desk.evidence = lambda trials, failures: evidence
    return desk


def advise(gateway: Gateway, desk: AdvisorDesk, *, seed: int = 7) -> Reply[Advice]:
    return EvolutionAdvisor(gateway, attempts=3).advise(desk, generation=1, seed=seed, trend=[0.5])


def recorded(stage: Stage, *answers: Answer) -> tuple[Reply[Advice], AdvisorDesk, RecordedCalls]:
    """Let the advisor work, and keep what was said."""
    stage.answer(answering(*answers))
    desk = desk_for()
    reply = advise(stage.gateway, desk)
    calls = RecordedCalls(stage.database)
    calls.save("run-1", STEP, reply.calls)
    stage.answer(always(Failure("ValidationException", "nobody should ask")))
    return reply, desk, calls


SCRIPTS: dict[str, tuple[Answer, ...]] = {
    "well behaved": (READ, GOOD, ADVICE),
    "prose first": ("Let me think.", READ, GOOD, ADVICE),
    "an answer that cannot be read": (NO_OBJECT, READ, GOOD, ADVICE),
    "no usable answer, so the stand-in's": ("No.", "No.", "No."),
    "ill-formed calls": (("apply", {}), ("apply", {}), ("apply", {})),
    "a lone surrogate": (["broken \ud83d prose", READ], GOOD, ADVICE),
    "a number that no float holds": (
        READ,
        ("propose_mutations", {"proposals": [{"changes": {"words": "x"}, "predicted_gain": float("inf")}]}),
        GOOD,
        ADVICE,
    ),
    "two calls at once": ([READ, GOOD], ADVICE),
}


@pytest.mark.parametrize("answers", SCRIPTS.values(), ids=SCRIPTS)
def test_what_is_on_record_is_given_again_and_nobody_is_asked(stage: Stage, answers: tuple[Answer, ...]) -> None:
    reply, desk, calls = recorded(stage, *answers)
    spent = stage.ledger.run_spend("run-1").micro_usd

    desk_again = desk_for()
    again = advise(RecordedGateway(calls.read), desk_again)

    assert again.answer == reply.answer
    assert again.model == reply.model
    assert again.calls == reply.calls
    assert again.cost_micro_usd == reply.cost_micro_usd
    assert [message.content for message in again.messages] == [message.content for message in reply.messages]
    assert desk_again.accepted == desk.accepted
    assert stage.requests == []
    assert stage.ledger.run_spend("run-1").micro_usd == spent


def test_the_stand_ins_answers_are_given_again_too(tmp_path: Path) -> None:
    with staged(tmp_path) as stage:
        stage.answer(always(Failure("AccessDeniedException")))
        desk = desk_for()
        reply = advise(stage.gateway, desk)
        assert reply.model == STAND_IN
        assert (reply.cost_micro_usd, reply.input_tokens, reply.output_tokens) == (0, 0, 0)
        again = advise(RecordedGateway(lambda run, step: reply.calls), desk_again := desk_for())
    assert again.answer == reply.answer
    assert desk_again.accepted == desk.accepted


def test_a_takeover_in_the_middle_of_a_conversation_is_given_again(tmp_path: Path) -> None:
    with staged(tmp_path) as stage:
        stage.answer(answering(READ, Failure("AccessDeniedException")))
        reply = advise(stage.gateway, desk_for())
        assert {call.model for call in reply.calls} > {STAND_IN}
        again = advise(RecordedGateway(lambda run, step: reply.calls), desk_for())
    assert again.answer == reply.answer
    assert again.model == reply.model


def test_the_other_agents_answer_again(stage: Stage) -> None:
    def ask(gateway: Gateway) -> list[Reply[Any] | None]:
        task = ModelTask("healer", "run-1")
        healing = SelfHealer(gateway, attempts=3).plan(INCIDENT, allowed=("retry", "stop"), task=task)
        return [
            BedrockDecisionEngine(gateway, attempts=3).decide(CANDIDATE, task=ModelTask("decision", "run-1")),
            healing.reply,
            CostGovernor(gateway, attempts=3).govern(Pressure(0.85, "run", 3), task=ModelTask("cost_governor", "r"))[1],
        ]

    replies = [reply for reply in ask(stage.gateway) if reply]
    left = [reply.calls for reply in (replies[1], replies[0], replies[2])]
    again = [reply for reply in ask(RecordedGateway(lambda run, step: left.pop(0))) if reply]
    assert [reply.answer for reply in again] == [reply.answer for reply in replies]
    assert len(again) == 3


def test_what_an_answer_cost_is_what_the_ledger_settled_for_it(stage: Stage) -> None:
    reply, _, calls = recorded(stage, NO_OBJECT, READ, GOOD, ADVICE)
    assert [call.malformed != "" for call in reply.calls] == [True, False, False, False]
    assert reply.calls[0].cost_micro_usd == 1000 * 3 + 10 * 15
    assert reply.calls[0].model == SONNET
    # The responder of `recorded` counts from its own first request, so the last four calls are these.
    rows = stage.database.rows(
        "SELECT cost_micro_usd, input_tokens, output_tokens FROM calls ORDER BY rowid DESC LIMIT 4"
    )
    assert reply.cost_micro_usd == sum(cost for cost, _, _ in rows) > 0
    assert reply.input_tokens == sum(tokens for _, tokens, _ in rows)
    assert reply.output_tokens == sum(tokens for *_, tokens in rows)
    assert calls.read("run-1", STEP) == reply.calls


def test_another_brief_diverges_at_the_first_call(stage: Stage) -> None:
    reply, _, calls = recorded(stage, READ, GOOD, ADVICE)
    with pytest.raises(ReplayDiverged, match="model call 1 of step '1/advisor' asks for something else") as raised:
        advise(RecordedGateway(calls.read), desk_for(), seed=8)
    error = raised.value
    assert (error.step, error.number) == (STEP, 1)
    assert error.expected == reply.calls[0].request != error.found


def test_another_tool_result_diverges_at_the_call_that_tells_it(stage: Stage) -> None:
    reply, _, calls = recorded(stage, READ, GOOD, ADVICE)
    with pytest.raises(ReplayDiverged) as raised:
        advise(RecordedGateway(calls.read), desk_for(EVIDENCE | {"live_fitness": 0.6}))
    assert raised.value.number == 2
    assert raised.value.expected == reply.calls[1].request


@pytest.mark.parametrize("kept", [0, 2], ids=["nothing", "its beginning"])
def test_a_record_that_ends_early_diverges(stage: Stage, kept: int) -> None:
    reply, _, calls = recorded(stage, READ, GOOD, ADVICE)
    calls.save("run-1", STEP, reply.calls[:kept])
    with pytest.raises(ReplayDiverged, match="is not on record") as raised:
        advise(RecordedGateway(calls.read), desk_for())
    assert raised.value.number == kept + 1
    assert raised.value.expected is None


class TestForks:
    def test_the_fallback_answers_from_the_first_request_that_differs(self, stage: Stage) -> None:
        _, _, calls = recorded(stage, READ, GOOD, ADVICE)
        # The calls on record have the ids of a first and a second answer.
        stage.answer(
            answering(*(Message([tool_use(f"fork_{number}", *call)]) for number, call in enumerate((GOOD, ADVICE))))
        )
        gateway = RecordedGateway(calls.read, fallback=stage.gateway)
        assert not gateway.local

        desk = desk_for(EVIDENCE | {"live_fitness": 0.6})
        reply = advise(gateway, desk)

        assert len(stage.requests) == 2
        assert len(reply.calls) == 3
        assert reply.calls[0] == calls.read("run-1", STEP)[0]
        assert gateway.diverged
        assert [mutation.changes for mutation in desk.accepted.values()] == [{"words": "blue elephants"}]

    def test_all_later_calls_are_the_fallbacks(self, stage: Stage) -> None:
        _, _, calls = recorded(stage, READ, GOOD, ADVICE)
        gateway = RecordedGateway(calls.read, fallback=stage.gateway)
        stage.answer(answering(READ, GOOD, ADVICE))
        advise(gateway, desk_for(), seed=8)
        assert len(stage.requests) == 3
        stage.answer(answering(READ, GOOD, ADVICE))
        advise(gateway, desk_for())
        assert len(stage.requests) == 3

    def test_what_is_the_same_is_not_asked_again(self, stage: Stage) -> None:
        reply, _, calls = recorded(stage, READ, GOOD, ADVICE)
        again = advise(gateway := RecordedGateway(calls.read, fallback=stage.gateway), desk_for())
        assert again.answer == reply.answer
        assert stage.requests == []
        assert not gateway.diverged

    def test_what_the_stand_in_began_it_finishes(self, tmp_path: Path) -> None:
        with staged(tmp_path) as stage:
            desk = desk_for()
            desk.task = ModelTask("advisor", "run-1", step=STEP, local_only=True)
            calls = advise(stage.gateway, desk).calls
            gateway = RecordedGateway(lambda run, step: calls, fallback=stage.gateway)
            reply = advise(gateway, desk_for(EVIDENCE | {"live_fitness": 0.6}))
            assert gateway.diverged
            assert reply.model == STAND_IN
            assert stage.requests == []


class TestRecordedCalls:
    CALL = RecordedCall(SONNET, False, "00", {"content": "hello \ud83d"}, "", 12, 3, 4)

    @pytest.fixture
    def database(self, tmp_path: Path) -> Iterator[Database]:
        database = Database(tmp_path / "calls.db")
        yield database
        database.close()

    def test_a_step_that_runs_again_replaces_what_it_left(self, database: Database) -> None:
        calls = RecordedCalls(database)
        other = RecordedCall(STAND_IN, True, "01", None, "no name")
        calls.save("r", "1/advisor", [self.CALL] * 3)
        calls.save("r", "1/decision", [other])
        calls.save("r", "1/advisor", [other, self.CALL])
        assert calls.read("r", "1/advisor") == [other, self.CALL]
        assert calls.read("r", "1/decision") == [other]
        assert calls.read("s", "1/advisor") == []

    def test_it_joins_an_outer_transaction(self, database: Database) -> None:
        calls = RecordedCalls(database)

        def interrupted() -> None:
            with database.transaction("advice.record"):
                calls.save("r", "1/advisor", [self.CALL])
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert calls.read("r", "1/advisor") == []

    def test_a_document_holds_no_empty_field(self) -> None:
        assert json.loads(RecordedCall("m", False, "00", {"content": ""}).document) == {
            "model": "m",
            "request": "00",
            "response": {"content": ""},
        }

    @pytest.mark.parametrize("place", range(0, 60, 3))
    def test_a_changed_byte_is_found(self, database: Database, place: int) -> None:
        calls = RecordedCalls(database)
        calls.save("r", "1/advisor", [self.CALL])
        document = bytearray(self.CALL.document.encode())
        document[place] ^= 1
        with database.transaction("tables") as connection:
            connection.execute("UPDATE model_calls SET document = ?", [document.decode()])
        try:
            [read] = calls.read("r", "1/advisor")
        except IntegrityError:
            return
        assert read.digest != self.CALL.digest

    @pytest.mark.parametrize("document", ["", "[]", "{}", '{"model": "m", "request": "00"}', '{"model":"m","x":1}'])
    def test_what_is_no_record_is_refused(self, document: str) -> None:
        with pytest.raises(IntegrityError, match="record of a model call"):
            RecordedCall.read(document)


def test_a_request_is_the_same_whatever_ids_langchain_draws() -> None:
    def asked(text: str, *, status: str = "success", call: str = "t1") -> str:
        return request_hash(
            [SystemMessage("Be good.")],
            [
                HumanMessage("hello"),
                AIMessage("", tool_calls=[{"name": "look", "args": {"a": 1}, "id": call}], id=str(object())),
                ToolMessage(text, tool_call_id=call, name="look", status=status),
            ],
        )

    assert asked("seen") == asked("seen")
    assert len({asked("seen"), asked("Seen"), asked("seen", status="error"), asked("seen", call="t2")}) == 4


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
CONTENT = st.text() | st.lists(st.text() | st.dictionaries(st.text(), JSON, max_size=3), max_size=3)


@given(content=CONTENT, args=st.dictionaries(st.text(), JSON, max_size=3), cost=st.integers(0, 10**12))
def test_any_answer_survives_the_record(content: Any, args: dict[str, Any], cost: int) -> None:
    message = AIMessage(
        content=content,
        tool_calls=[{"name": "look", "args": args, "id": "t1"}],
        response_metadata={"model_name": "m", "ResponseMetadata": {"HTTPHeaders": {"date": "now"}}},
        usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
        id="lc_run--random",
    )
    call = RecordedCall("m", False, "00", plain(message), "", cost)
    read = RecordedCall.read(call.document)
    assert read == call
    assert read.digest == call.digest
    assert "random" not in call.document
    assert "HTTPHeaders" not in call.document
    # It is asked about in the same words afterwards, bytes as text included.
    assert request_hash([], [read.message()]) == request_hash([], [message])
    assert read.message().response_metadata == {"model_name": "m"}
    assert read.message().usage_metadata == message.usage_metadata
