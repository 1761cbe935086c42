"""When every attempt fails: how soon the stand-in answers, and how soon the models do again."""

import itertools
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.clock import FixedClock, SystemClock
from tests.support.converse import ConverseRequest, Failure, Hang, Reply
from tests.support.failing import EAST, UNREACHABLE, WEST, WIRE, attempts_of, forgive, table, unreachable
from tests.support.roles import ROLES, Role
from tests.support.stage import HAIKU, SONNET, Stage, answering, staged

READ_TIMEOUT_S = 1.0
TAKEN_OVER_S = 5.0
FAILURES_IN_A_ROW = 10
REST_S = 30
TWO_BY_TWO: Mapping[str, Any] = {"regions": (EAST, WEST), "models": (SONNET, HAIKU), "read_timeout_s": READ_TIMEOUT_S}


@dataclass
class Outage:
    """A service that gives an agent nothing but one error.

    Args:
        stage: On the machine's clock.
        role: The agent.
        reply: The error; None where the service cannot be reached.
    """

    stage: Stage
    role: Role
    reply: Reply | None

    def seconds(self) -> float:
        """Let the agent work; return the seconds from the first failure to its answer."""
        failed: list[float] = []

        def respond(request: ConverseRequest) -> Reply:
            assert self.reply is not None
            failed.append(time.monotonic() + (READ_TIMEOUT_S if isinstance(self.reply, Hang) else 0.0))
            return self.reply

        self.stage.answer(respond)
        began = time.monotonic()
        assert self.role.valid(self.role.ask(self.stage))
        answered = time.monotonic()
        assert {attempt.status for attempt in attempts_of(self.stage)} <= {"void", "lost", "held"}
        return answered - (failed[0] if failed else began)


@pytest.mark.slow
def test_where_every_attempt_fails_each_agent_has_an_answer_within_five_seconds(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    roles = itertools.cycle(ROLES.values())
    with ExitStack() as stages:
        outages = {}
        for error in table():
            stage = stages.enter_context(staged(tmp_path_factory.mktemp("outage"), clock=SystemClock(), **TWO_BY_TWO))
            if error == UNREACHABLE:
                stages.enter_context(unreachable(stage, EAST, WEST))
            outages[error] = Outage(stage, next(roles), WIRE.get(error))
        # Few at a time: they share a processor, and time is what is measured.
        with ThreadPoolExecutor(3) as pool:
            seconds = dict(zip(outages, pool.map(Outage.seconds, outages.values()), strict=True))
        # What took too long for want of a processor does not when it is alone.
        late = [error for error, took in seconds.items() if took >= TAKEN_OVER_S]
        for error in late:
            forgive(outages[error].stage)
        assert {error: again for error in late if (again := outages[error].seconds()) >= TAKEN_OVER_S} == {}


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 3, 1, tzinfo=UTC))


def test_it_takes_no_longer_by_the_injected_clock(tmp_path: Path, clock: FixedClock) -> None:
    roles = itertools.cycle(ROLES.values())
    with staged(tmp_path, clock=clock, **TWO_BY_TWO) as stage:
        for reply in WIRE.values():
            if isinstance(reply, Hang) and reply.seconds:
                continue  # silence passes by no clock of ours
            forgive(stage)
            stage.answer(lambda request, reply=reply: reply)
            role, began = next(roles), clock.moment
            assert role.valid(role.ask(stage))
            assert clock.moment - began < timedelta(seconds=TAKEN_OVER_S)
            assert stage.requests


def test_an_outage_costs_time_in_its_first_calls_only_and_after_it_the_model_answers_again(
    tmp_path: Path, clock: FixedClock
) -> None:
    role = ROLES["healer"]
    with staged(tmp_path, clock=clock, **TWO_BY_TWO) as stage:
        stage.answer(lambda request: Failure("ServiceUnavailableException"))
        began, tasks = clock.moment, 0
        while len(stage.requests) < 4 * FAILURES_IN_A_ROW:
            assert role.valid(role.ask(stage))
            tasks += 1
        assert tasks <= 4
        assert clock.moment - began < timedelta(seconds=TAKEN_OVER_S * tasks)

        # Each model in each region failed until its breaker opened; from now on nothing is sent or waited for.
        began, real_s = clock.moment, time.monotonic()
        for _ in range(5):
            assert role.valid(role.ask(stage))
        assert len(stage.requests) == 4 * FAILURES_IN_A_ROW
        assert clock.moment == began
        assert time.monotonic() - real_s < 5 * 1.0

        stage.answer(answering(*role.script))
        clock.moment += timedelta(seconds=REST_S + 1)
        assert role.valid(role.ask(stage))
        assert [call[0] for call in stage.calls()] == ["settled"] * len(role.script)


def test_a_region_that_cannot_be_reached_is_tried_three_times_and_again_after_its_rest(
    tmp_path: Path, clock: FixedClock
) -> None:
    role = ROLES["healer"]
    with staged(tmp_path, clock=clock, **TWO_BY_TWO) as stage:
        stage.answer(answering(*role.script * 9))
        with unreachable(stage, EAST):
            for _ in range(5):
                assert role.valid(role.ask(stage))
            refused = [attempt for attempt in attempts_of(stage) if attempt.status == "void"]
            assert [attempt.region for attempt in refused] == [EAST] * 3
            assert {request.region for request in stage.requests} == {WEST}
        clock.moment += timedelta(seconds=REST_S + 1)
        role.ask(stage)
        assert [request.region for request in stage.requests[-2:]] == [EAST, EAST]
