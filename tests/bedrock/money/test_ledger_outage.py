"""When the table of the ledger cannot be reached: no model is called, the run goes on, and no money is lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bedrock_evolution.agents.healer import SelfHealer
from bedrock_evolution.bedrock.gateway import ModelTask
from bedrock_evolution.bedrock.money.dynamo_ledger import DynamoLedger
from bedrock_evolution.bedrock.protocol import STAND_IN
from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.aws.calls import Clients
from bedrock_evolution.errors import BudgetExhausted
from bedrock_evolution.settings import Budget
from tests.bedrock.money.places import TablePlace, shared_clients
from tests.support.books import ask
from tests.support.cloud import REGIONS, session
from tests.support.converse import ConverseRequest, Message
from tests.support.faulty_proxy import FaultyProxy
from tests.support.moto_server import moto_server
from tests.support.stage import HAIKU, INCIDENT, Stage, always, answering, staged

pytestmark = pytest.mark.slow

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
REST = timedelta(minutes=5)
OK = Message([{"text": "ok"}], input_tokens=100, output_tokens=10)


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    with moto_server() as server:
        yield server.url


@pytest.fixture
def proxy(emulator: str) -> Iterator[FaultyProxy]:
    with FaultyProxy(emulator) as proxy:
        yield proxy


@pytest.fixture
def place(emulator: str) -> TablePlace:
    return TablePlace(emulator, shared_clients(emulator))


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOON)


@pytest.fixture
def stage(tmp_path: Path, proxy: FaultyProxy, place: TablePlace, clock: FixedClock) -> Iterator[Stage]:
    """A gateway whose ledger is in DynamoDB."""
    wire = Clients(session, {REGIONS[0]: proxy.url}, clock=FixedClock(NOON))
    with staged(tmp_path, clock=clock) as stage:
        stage.gateway.ledger = stage.ledger = place.opened(clock, clients=wire, daily_usd=1.0)
        stage.answer(always(OK))
        yield stage


def answered_by(stage: Stage, *, run: str = "run-1") -> str:
    [message] = ask(stage, run=run).result
    return str(message.response_metadata.get("model_name"))


def statuses(place: TablePlace) -> list[str]:
    return [call["status"] for call in place.calls()]


def test_calls_through_the_gateway_are_on_record_in_the_table(stage: Stage, place: TablePlace) -> None:
    assert answered_by(stage) == HAIKU
    [call] = place.calls()
    assert (call["status"], call["agent"], call["model"], call["region"]) == ("settled", "healer", HAIKU, "us-east-1")
    assert (call["input_tokens"], call["output_tokens"], call["cost_micro_usd"]) == (100, 10, 150)
    stage.ledger.budget = Budget(daily_usd=0.0)
    with pytest.raises(BudgetExhausted):
        ask(stage)
    assert len(stage.requests) == 1


def test_without_the_ledger_no_model_is_called_and_the_stand_in_answers(
    stage: Stage, place: TablePlace, proxy: FaultyProxy, clock: FixedClock, caplog: pytest.LogCaptureFixture
) -> None:
    def healed_by() -> str:
        healer = SelfHealer(stage.gateway, attempts=1)
        return healer.plan(INCIDENT, allowed=("retry", "stop"), task=ModelTask("healer", "run-1")).reply.model

    stage.answer(answering())
    proxy.down("dynamodb")
    for _ in range(3):
        assert healed_by() == STAND_IN
    assert stage.requests == []
    assert (
        caplog.messages.count(
            "agent=<healer> failed_attempts=<0> reason=<the ledger cannot be reached> | the stand-in answers"
        )
        == 3
    )
    proxy.up()
    clock.moment += REST
    assert healed_by() == HAIKU
    assert set(statuses(place)) == {"settled"}


def test_an_answer_is_used_though_the_ledger_cannot_be_told_of_it(
    stage: Stage, place: TablePlace, proxy: FaultyProxy, clock: FixedClock, caplog: pytest.LogCaptureFixture
) -> None:
    def respond(request: ConverseRequest) -> Message:
        proxy.down("dynamodb")
        return OK

    stage.answer(respond)
    assert answered_by(stage) == HAIKU
    assert "its hold stays" in caplog.text
    [call] = place.calls()
    assert (call["status"], call["held_micro_usd"]) == ("held", call["reserved_micro_usd"])

    stage.answer(always(OK))
    proxy.up()
    clock.moment += REST
    assert answered_by(stage, run="run-2") == HAIKU
    assert statuses(place) == ["settled", "settled"]
    assert place.balances() == place.added_up()


def test_what_died_with_its_process_counts_as_spent_in_the_end(
    stage: Stage, place: TablePlace, proxy: FaultyProxy, clock: FixedClock
) -> None:
    def respond(request: ConverseRequest) -> Message:
        proxy.down("dynamodb")
        return OK

    stage.answer(respond)
    ask(stage)
    [held] = place.calls()
    clock.moment += timedelta(hours=1)
    another: DynamoLedger = place.opened(clock)
    another.void(another.reserve(run_id="run-2", agent="healer", model=HAIKU, micro_usd=1), error="to look around")
    [expired, _] = place.calls()
    assert (expired["status"], expired["cost_micro_usd"]) == ("expired", held["reserved_micro_usd"])
