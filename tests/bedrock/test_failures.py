"""docs/failures.md, row by row: each error of the table, for each agent, over HTTP; and the traps others fell into."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, ParamValidationError
from langchain_aws import ChatBedrockConverse

from bedrock_evolution.bedrock.classification import CALL_FAILURES, classify
from bedrock_evolution.bedrock.failures import FailureKind, Target
from bedrock_evolution.clock import SystemClock
from tests.support.bill import billed_micro_usd
from tests.support.converse import ConverseRequest, Cut, Failure, Hang, Late, Message, Raw, Reply
from tests.support.failing import (
    EAST,
    UNREACHABLE,
    WEST,
    WIRE,
    Attempt,
    Row,
    answered_first_by,
    attempts_of,
    forgive,
    table,
    unreachable,
)
from tests.support.model import tool_use
from tests.support.roles import ROLES, Role
from tests.support.stage import EVIDENCE, HAIKU, SONNET, Answer, Stage, advisor_desk, answering, heard, staged

READ_TIMEOUT_S = 1.0
SHORT_CHARS = 400
OTHER = {SONNET: HAIKU, HAIKU: SONNET}


@pytest.fixture(scope="module")
def open_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("failures")
    with staged(folder, regions=(EAST, WEST), models=(SONNET, HAIKU), read_timeout_s=READ_TIMEOUT_S) as stage:
        yield stage


@pytest.fixture
def stage(open_stage: Stage) -> Stage:
    open_stage.answer(answering())
    forgive(open_stage)
    return open_stage


def first_call(stage: Stage) -> list[ConverseRequest]:
    """Return the requests of the agent's first model call: nobody has answered anything in them."""
    return [request for request in stage.requests if len(request.messages) == 1]


def brief_of(request: ConverseRequest) -> str:
    return str(request.messages[0]["content"][0]["text"])


def second_target(row: Row, first: Attempt, brief: str) -> tuple[str, str]:
    """Return the model and region that the remedy of a row sends the second attempt to."""
    if row.remedy.startswith("backoff, then the same model again"):
        return first.model, first.region
    if row.remedy.startswith("the next region at once"):
        return first.model, WEST
    if row.remedy.startswith("the next model at once"):
        return OTHER[first.model], EAST
    assert row.remedy.startswith("half of the prompt"), row
    return (first.model, EAST) if len(brief) > SHORT_CHARS else (OTHER[first.model], EAST)


def test_the_table_names_at_least_twenty_errors_and_each_has_its_fixture() -> None:
    assert len(table()) >= 20
    assert set(table()) == {*WIRE, UNREACHABLE}


@pytest.mark.parametrize("error", WIRE)
def test_the_fixture_has_the_status_of_the_table(error: str) -> None:
    reply = WIRE[error]
    status = reply.status if isinstance(reply, Failure) else 200 if isinstance(reply, Cut) else None
    assert table()[error].http == (str(status) if status else "–")


@pytest.mark.parametrize("error", table())
def test_each_error_is_classified_as_in_the_table(stage: Stage, error: str) -> None:
    stage.answer(answering(*filter(None, [WIRE.get(error)])))
    with unreachable(stage, EAST) if error == UNREACHABLE else nullcontext(), pytest.raises(CALL_FAILURES) as raised:
        stage.gateway.model(Target(HAIKU, EAST)).invoke("hello")
    assert isinstance(raised.value, Exception)
    failure = classify(raised.value)
    assert failure.kind == table()[error].kind
    assert failure.may_be_billed == (table()[error].money == "kept")
    assert failure.code


@pytest.mark.parametrize("role", ROLES.values(), ids=ROLES)
@pytest.mark.parametrize("error", table())
def test_a_first_attempt_that_fails_is_healed_as_the_table_says(stage: Stage, error: str, role: Role) -> None:
    row = table()[error]
    stage.answer(answering(*filter(None, [WIRE.get(error)]), *role.script))
    before = stage.ledger.day_spend()
    billed_before = len(stage.endpoint.answered)

    with unreachable(stage, EAST, calls=1) if error == UNREACHABLE else nullcontext():
        answer = role.ask(stage)

    assert role.valid(answer)
    rows, requests = attempts_of(stage), first_call(stage)
    failed = rows[0]
    # The number of attempts, and who answered.
    assert len(requests) == row.attempts - (error == UNREACHABLE)
    assert answered_first_by(stage) == row.answered_by
    assert [attempt.status for attempt in rows[1:]] == ["settled"] * (len(rows) - 1 or 1)
    # The way through models and regions, in the books and on the wire.
    assert (failed.model, failed.region) == (stage.settings.pinned_model(role.agent), EAST)
    if row.answered_by == "model":
        target = second_target(row, failed, brief_of(requests[0]))
        assert (rows[1].model, rows[1].region) == target
        if len(requests) > 1:
            first, second = requests
            assert second.body["system"] == first.body["system"]
            shorter = row.kind == "overflow" and target == (failed.model, failed.region)
            assert (len(brief_of(second)) < len(brief_of(first))) if shorter else second.body == first.body
    else:
        # The next model call tells what rests meanwhile.
        assert (rows[1].model, rows[1].region) == (failed.model, WEST if "rests" in row.remedy else EAST)
    sent = [(request.model_id, request.region) for request in stage.requests]
    assert sent == [(attempt.model, attempt.region) for attempt in rows[error == UNREACHABLE :]]
    # The money, to the micro-dollar.
    assert failed.reserved > 0
    assert (failed.status, failed.cost) == {"given back": ("void", 0), "kept": ("lost", failed.reserved)}[row.money]
    after = stage.ledger.day_spend()
    assert after.unconfirmed_micro_usd - before.unconfirmed_micro_usd == failed.cost
    billed = billed_micro_usd(stage.endpoint.answered[billed_before:])
    assert after.micro_usd - before.micro_usd == failed.cost + billed
    assert after.held_micro_usd == 0


# -- traps that others fell into


def test_an_overflow_in_a_long_conversation_sends_half_of_it_with_its_brief_and_its_newest_turn(stage: Stage) -> None:
    # strands-agents #1912: an overflow that nobody recognised.
    reads: list[Answer] = [("read_evidence", {"trials": number, "failures": 5}) for number in range(1, 4)]
    overflow = Failure("ValidationException", "prompt is too long: 210000 tokens > 200000 maximum")
    stage.answer(answering(*reads, overflow, *ROLES["advisor"].script[1:]))
    desk = advisor_desk()
    desk.evidence = lambda trials, failures: EVIDENCE | {"feedback": [{"source": "x", "text": "word " * 4000}] * trials}

    reply = stage.advise(desk)

    assert reply.model == SONNET
    assert [attempt.status for attempt in attempts_of(stage)] == ["settled"] * 3 + ["void"] + ["settled"] * 2
    long, short = stage.requests[3:5]
    assert (short.model_id, short.region) == (long.model_id, long.region)
    assert short.body["system"] == long.body["system"]
    assert short.messages[0] == long.messages[0]
    assert short.messages[-2]["content"][0]["toolUse"]["input"] == {"trials": 3, "failures": 5}
    assert heard(short).startswith(heard(long)[:10_000])
    assert len(json.dumps(short.messages)) <= 0.55 * len(json.dumps(long.messages))


def test_a_caller_that_waits_no_longer_neither_benches_the_model_nor_loses_count_of_the_money(tmp_path: Path) -> None:
    # litellm #41323: one caller's short timeout benched the model for everyone.
    late = Late(Message([tool_use("late", "read_incident", {})], input_tokens=1000, output_tokens=50), seconds=3.0)
    healer = ROLES["healer"]
    with staged(tmp_path, clock=SystemClock(), regions=(EAST,), models=(HAIKU,), takeover_s=0.5) as stage:
        stage.answer(answering(Failure("ThrottlingException"), late, *healer.script))

        began = time.monotonic()
        assert healer.valid(healer.ask(stage))
        assert time.monotonic() - began < late.seconds
        assert [attempt.status for attempt in attempts_of(stage)] == ["void", "held"]
        assert stage.gateway.healing.admits(Target(HAIKU, EAST))

        # Another caller is answered while that answer is still out.
        assert healer.valid(healer.ask(stage))
        assert [attempt.status for attempt in attempts_of(stage)] == ["void", "held", "settled", "settled"]

        wait_until(lambda: attempts_of(stage)[1].status == "settled")
        assert attempts_of(stage)[1].cost == 1000 + 50 * 5
        assert stage.ledger.day_spend().micro_usd == billed_micro_usd(stage.endpoint.answered)
        assert stage.database.rows("SELECT * FROM breakers") == []


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, FailureKind.DENIED),
        (404, FailureKind.NOT_FOUND),
        (408, FailureKind.BUSY),
        (424, FailureKind.BUSY),
        (429, FailureKind.THROTTLED),
    ],
)
def test_a_refusal_without_a_code_is_known_by_its_status(stage: Stage, status: int, kind: FailureKind) -> None:
    # As a proxy or a load balancer on the way answers.
    stage.answer(answering(Raw(b"<html>Go away</html>", status)))
    with pytest.raises(ClientError) as raised:
        stage.gateway.model(Target(HAIKU, EAST)).invoke("hello")
    assert classify(raised.value).kind == kind


def test_what_the_client_itself_refuses_to_send_is_invalid_and_costs_nothing(stage: Stage) -> None:
    session = stage.gateway._session
    assert session is not None
    nameless = {"toolUse": {"toolUseId": "call_1", "name": "", "input": {}}}
    with pytest.raises(ParamValidationError) as raised:
        session.client(EAST).converse(modelId=HAIKU, messages=[{"role": "assistant", "content": [nameless]}])
    assert stage.requests == []
    failure = classify(raised.value)
    assert (failure.kind, failure.may_be_billed) == (FailureKind.INVALID, False)


def test_a_retry_prints_nothing(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    # `run --json` prints one object.
    stage.answer(answering(Failure("ThrottlingException"), *ROLES["healer"].script))
    ROLES["healer"].ask(stage)
    assert len(stage.requests) > len(ROLES["healer"].script)
    assert capsys.readouterr().out == ""


IN_STREAM = {
    "ThrottlingException": FailureKind.THROTTLED,
    "InternalServerException": FailureKind.BUSY,
    "ServiceUnavailableException": FailureKind.BUSY,
    "ModelStreamErrorException": FailureKind.BUSY,
    "ValidationException": FailureKind.INVALID,
}


def streamed_failure(stage: Stage, reply: Reply) -> Exception:
    """Return what the real client raises while it reads a stream."""
    stage.answer(lambda request: reply)
    session = stage.gateway._session
    assert session is not None
    client = session.client(EAST)
    model = ChatBedrockConverse(model=HAIKU, client=client, bedrock_client=client, max_tokens=100)
    with pytest.raises(CALL_FAILURES) as raised:
        list(model.stream("hello"))
    assert isinstance(raised.value, Exception)
    return raised.value


@pytest.mark.parametrize("code", IN_STREAM)
def test_an_error_in_mid_stream_is_known_by_its_code_and_may_be_billed(stage: Stage, code: str) -> None:
    failure = classify(streamed_failure(stage, Failure(code, mid_stream_after=2)))
    assert (failure.kind, failure.may_be_billed) == (IN_STREAM[code], True)
    assert failure.code == code[0].lower() + code[1:]


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Too many tokens, please wait before trying again.", FailureKind.THROTTLED),
        ("prompt is too long: 210000 tokens > 200000 maximum", FailureKind.OVERFLOW),
    ],
)
def test_a_validation_error_in_mid_stream_is_told_by_what_it_says(
    stage: Stage, message: str, kind: FailureKind
) -> None:
    failure = classify(streamed_failure(stage, Failure("ValidationException", message, mid_stream_after=2)))
    assert (failure.kind, failure.may_be_billed) == (kind, True)


def test_a_stream_that_ends_without_its_end_is_lost(stage: Stage) -> None:
    failure = classify(streamed_failure(stage, Cut(Message([{"text": "a long answer " * 9}]), after=3)))
    assert (failure.kind, failure.may_be_billed) == (FailureKind.LOST, True)


def test_a_stream_that_falls_silent_is_timed_out(stage: Stage) -> None:
    # langchain-aws #502, #685, #819: silence in mid-stream, until the read timeout.
    failure = classify(streamed_failure(stage, Hang(seconds=30, mid_stream_after=2)))
    assert (failure.kind, failure.may_be_billed) == (FailureKind.TIMED_OUT, True)
