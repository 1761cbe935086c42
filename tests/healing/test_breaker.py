"""The circuit breaker on a real file: it opens, rests, lets one probe through, and everybody knows."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bedrock_evolution.bedrock.failures import Target
from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.healing.breaker import CircuitBreaker

TARGET, OTHER = Target("claude", "us-east-1"), Target("claude", "us-west-2")
LIMIT = 3


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 3, 1, tzinfo=UTC))


@pytest.fixture
def breaker(tmp_path: Path, clock: FixedClock) -> CircuitBreaker:
    return CircuitBreaker(Database(tmp_path / "b.db"), clock)


def fail(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        breaker.failed(TARGET, "ServiceUnavailableException", limit=LIMIT)


def test_it_opens_after_so_many_failures_in_a_row_and_for_that_target_only(breaker: CircuitBreaker) -> None:
    fail(breaker, LIMIT - 1)
    assert breaker.admits(TARGET)
    fail(breaker, 1)
    assert not breaker.admits(TARGET)
    assert breaker.admits(OTHER)
    [(target, _, error)] = breaker.resting()
    assert (target, error) == (TARGET, "ServiceUnavailableException")


def test_a_success_in_between_begins_the_count_anew(breaker: CircuitBreaker) -> None:
    fail(breaker, LIMIT - 1)
    breaker.succeeded(TARGET)
    fail(breaker, LIMIT - 1)
    assert breaker.admits(TARGET)


def test_after_its_rest_one_caller_probes_and_a_success_closes_it(breaker: CircuitBreaker, clock: FixedClock) -> None:
    fail(breaker, LIMIT)
    clock.moment += timedelta(seconds=31)
    assert [breaker.admits(TARGET) for _ in range(3)] == [True, False, False]
    breaker.succeeded(TARGET)
    assert [breaker.admits(TARGET) for _ in range(3)] == [True, True, True]


def test_a_probe_whose_process_died_does_not_keep_it_open_for_ever(breaker: CircuitBreaker, clock: FixedClock) -> None:
    fail(breaker, LIMIT)
    clock.moment += timedelta(seconds=31)
    assert breaker.admits(TARGET)
    clock.moment += timedelta(seconds=31)
    assert breaker.admits(TARGET)


def test_it_rests_longer_after_each_failed_probe_up_to_ten_minutes(breaker: CircuitBreaker, clock: FixedClock) -> None:
    fail(breaker, LIMIT)
    rests = []
    for _ in range(7):
        [(_, until, _)] = breaker.resting()
        rests.append((until - clock.moment).total_seconds())
        clock.moment = until
        assert breaker.admits(TARGET)
        fail(breaker, 1)
    assert rests == [30, 60, 120, 240, 480, 600, 600]


def test_another_process_on_the_same_store_knows(tmp_path: Path, breaker: CircuitBreaker, clock: FixedClock) -> None:
    fail(breaker, LIMIT)
    assert not CircuitBreaker(Database(tmp_path / "b.db"), clock).admits(TARGET)


def test_nothing_is_written_while_all_is_well(tmp_path: Path, breaker: CircuitBreaker) -> None:
    other = Database(tmp_path / "b.db")
    [(before,)] = other.rows("PRAGMA data_version")
    for _ in range(5):
        assert breaker.admits(TARGET)
        breaker.succeeded(TARGET)
    assert other.rows("PRAGMA data_version") == [(before,)]
