"""What is done about each kind of failure, and which failures count against whom."""

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bedrock_evolution.bedrock.failures import Failure, FailureKind, Step, Target
from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.healing.breaker import CircuitBreaker
from bedrock_evolution.healing.strategies import CloudHealingStrategies

EAST, WEST = Target("claude", "us-east-1"), Target("claude", "us-west-2")
NOVA_EAST = Target("nova", "us-east-1")


def failure(kind: FailureKind) -> Failure:
    return Failure(kind, kind.name, may_be_billed=False)


@pytest.fixture
def strategies(tmp_path: Path) -> CloudHealingStrategies:
    clock = FixedClock(datetime(2026, 3, 1, tzinfo=UTC))
    return CloudHealingStrategies(CircuitBreaker(Database(tmp_path / "b.db"), clock), random.Random(1))


FIRST_STEPS = {
    FailureKind.THROTTLED: Step.AGAIN,
    FailureKind.BUSY: Step.AGAIN,
    FailureKind.UNREACHABLE: Step.NEXT,
    FailureKind.TIMED_OUT: Step.NEXT,
    FailureKind.LOST: Step.NEXT,
    FailureKind.OVERFLOW: Step.SHRINK,
    FailureKind.QUOTA: Step.NEXT_MODEL,
    FailureKind.DENIED: Step.STAND_IN,
    FailureKind.NOT_FOUND: Step.STAND_IN,
    FailureKind.INVALID: Step.STAND_IN,
}


@pytest.mark.parametrize("kind", FailureKind)
def test_every_kind_has_its_remedy(strategies: CloudHealingStrategies, kind: FailureKind) -> None:
    assert strategies.remedy([(EAST, failure(kind))]).step is FIRST_STEPS[kind]


def test_a_target_that_fails_again_is_left_without_waiting(strategies: CloudHealingStrategies) -> None:
    throttled = failure(FailureKind.THROTTLED)
    remedy = strategies.remedy([(EAST, throttled), (EAST, throttled)])
    assert (remedy.step, remedy.wait_s) == (Step.NEXT, 0.0)


def test_backoff_is_drawn_between_nothing_and_a_bound_that_doubles_up_to_a_second(
    strategies: CloudHealingStrategies,
) -> None:
    throttled = (EAST, failure(FailureKind.THROTTLED))
    for attempt, bound in ((3, 0.4), (4, 0.8), (5, 1.0), (20, 1.0)):
        waits = [strategies.remedy([throttled] * attempt).wait_s for _ in range(300)]
        assert 0 <= min(waits) < 0.1 * bound
        assert 0.9 * bound < max(waits) <= bound


@pytest.mark.parametrize("kind", [FailureKind.DENIED, FailureKind.NOT_FOUND, FailureKind.QUOTA])
def test_what_will_not_pass_rests_at_once(strategies: CloudHealingStrategies, kind: FailureKind) -> None:
    strategies.failed(EAST, failure(kind))
    assert not strategies.admits(EAST)
    assert strategies.admits(WEST)
    assert strategies.admits(NOVA_EAST)


def test_a_region_that_cannot_be_reached_rests_for_every_model(strategies: CloudHealingStrategies) -> None:
    for target in (EAST, NOVA_EAST, EAST):
        assert strategies.admits(EAST)
        strategies.failed(target, failure(FailureKind.UNREACHABLE))
    assert not strategies.admits(EAST)
    assert not strategies.admits(NOVA_EAST)
    assert strategies.admits(WEST)


@pytest.mark.parametrize("kind", [FailureKind.OVERFLOW, FailureKind.INVALID])
def test_a_request_at_fault_says_nothing_about_the_model(strategies: CloudHealingStrategies, kind: FailureKind) -> None:
    for _ in range(50):
        strategies.failed(EAST, failure(kind))
    assert strategies.admits(EAST)
