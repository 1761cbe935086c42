"""The ledger: no cap is ever passed, every reservation ends as what it really cost, and who should know is told."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.bedrock.models.prices import Tokens
from bedrock_evolution.bedrock.money.ledger import HOLD_TTL_S, Alarm, Group, Hold, Ledger, Pressure, Spend
from bedrock_evolution.bedrock.money.sqlite_ledger import SQLiteLedger
from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.aws.calls import Clients
from bedrock_evolution.dna.database import Database
from bedrock_evolution.errors import BudgetExhausted, ExitCode, StoreError, UsageError
from bedrock_evolution.settings import MICRO, Budget
from tests.bedrock.money.places import FilePlace, Place, TablePlace, shared_clients
from tests.support.books import opened
from tests.support.moto_server import moto_server

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOTHING = Spend(0, 0, 0, 0, 0)
FAILED = Spend(0, 1, 1, 0, 0)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOON)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evolution.db"


@pytest.fixture(scope="module")
def emulator() -> Iterator[tuple[str, Clients]]:
    with moto_server() as server:
        yield server.url, shared_clients(server.url)


@pytest.fixture(params=["file", pytest.param("table", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, path: Path) -> Place:
    """Every claim is made of the ledger in a file and of the one in DynamoDB."""
    return FilePlace(path) if request.param == "file" else TablePlace(*request.getfixturevalue("emulator"))


def reserve(ledger: Ledger, usd: float, *, run: str = "run-1", agent: str = "advisor", **more: Any) -> Hold:
    return ledger.reserve(run_id=run, agent=agent, model="model", micro_usd=round(usd * MICRO), **more)


def held(usd: float, *, calls: int = 1) -> Spend:
    return Spend(round(usd * MICRO), calls, 0, 0, 0, held_micro_usd=round(usd * MICRO))


def unconfirmed(usd: float) -> Spend:
    return replace(FAILED, micro_usd=round(usd * MICRO), unconfirmed_micro_usd=round(usd * MICRO))


# -- holding and settling


def test_a_hold_counts_until_it_is_settled_at_what_was_used(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock, daily_usd=1.0)
    hold = reserve(ledger, 0.8)
    assert ledger.day_spend() == held(0.8)
    ledger.settle(hold, tokens=Tokens(100, 20, cache_read=10, cache_write=3), micro_usd=123)
    spent = Spend(123, 1, 0, 100, 20, cache_read_tokens=10, cache_write_tokens=3)
    assert ledger.day_spend() == ledger.run_spend("run-1") == ledger.month_spend() == spent


def test_a_voided_hold_costs_nothing_and_is_a_failed_call(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock, daily_usd=1.0)
    ledger.void(reserve(ledger, 1.0), error="ThrottlingException")
    assert ledger.day_spend() == FAILED
    assert reserve(ledger, 1.0)


def test_a_kept_hold_counts_as_spent_and_is_shown_as_unconfirmed(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock, daily_usd=1.0)
    ledger.keep(reserve(ledger, 0.7), error="the answer was lost")
    assert ledger.day_spend() == unconfirmed(0.7)
    with pytest.raises(BudgetExhausted):
        reserve(ledger, 0.4)


def test_what_was_said_of_a_call_is_on_record(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock)
    hold = ledger.reserve(
        run_id="run-1",
        agent="advisor",
        model="global.nova",
        micro_usd=900,
        region="eu-west-1",
        task="advisor/7",
        reason="Ranked 1 of 4.",
        key="run-1/3/advisor/0",
    )
    ledger.settle(hold, tokens=Tokens(100, 20, cache_read=10, cache_write=3), micro_usd=123, latency_ms=840)
    [row] = place.calls()
    assert row == {
        "call_id": hold.call_id,
        "app": "router",
        "run_id": "run-1",
        "agent": "advisor",
        "model": "global.nova",
        "region": "eu-west-1",
        "task": "advisor/7",
        "reason": "Ranked 1 of 4.",
        "key": "run-1/3/advisor/0",
        "at": "2026-03-01T12:00:00.000000+00:00",
        "day": "2026-03-01",
        "month": "2026-03",
        "expires_at": "2026-03-01T13:00:00.000000+00:00",
        "status": "settled",
        "reserved_micro_usd": 900,
        "held_micro_usd": 0,
        "cost_micro_usd": 123,
        "input_tokens": 100,
        "output_tokens": 20,
        "cache_read_tokens": 10,
        "cache_write_tokens": 3,
        "latency_ms": 840,
        "error": "",
    }


@pytest.mark.parametrize("micro_usd", [-1, -MICRO])
def test_money_cannot_be_negative(place: Place, clock: FixedClock, micro_usd: int) -> None:
    ledger = place.opened(clock)
    hold = reserve(ledger, 0.5)
    with pytest.raises(UsageError, match="a call cannot cost -"):
        ledger.reserve(run_id="run-1", agent="advisor", model="model", micro_usd=micro_usd)
    with pytest.raises(UsageError, match="a call cannot cost -"):
        ledger.settle(hold, tokens=Tokens(1, 1), micro_usd=micro_usd)
    assert ledger.day_spend() == held(0.5)


# -- closing a call twice, or late


CLOSE = {
    "settle": lambda ledger, hold: ledger.settle(hold, tokens=Tokens(10, 1), micro_usd=7),
    "void": lambda ledger, hold: ledger.void(hold, error="refused"),
    "keep": lambda ledger, hold: ledger.keep(hold, error="lost"),
}
SETTLED = Spend(7, 1, 0, 10, 1)


@pytest.mark.parametrize(
    ("first", "then", "after"),
    [
        ("settle", "settle", SETTLED),
        ("settle", "void", SETTLED),
        ("settle", "keep", SETTLED),
        ("void", "void", FAILED),
        ("void", "keep", FAILED),
        ("keep", "keep", unconfirmed(0.5)),
        ("keep", "settle", SETTLED),
        ("keep", "void", FAILED),
        ("void", "settle", SETTLED),
    ],
)
def test_closing_a_call_again_changes_it_only_to_something_surer(
    place: Place, clock: FixedClock, first: str, then: str, after: Spend
) -> None:
    ledger = place.opened(clock)
    hold = reserve(ledger, 0.5)
    CLOSE[first](ledger, hold)
    CLOSE[then](ledger, hold)
    assert ledger.day_spend() == ledger.run_spend("run-1") == ledger.month_spend() == after
    assert ledger.spend_by("run") == [Group(("run-1",), after)]
    assert place.balances() == place.added_up()


def test_a_second_settlement_changes_nothing_whatever_it_says(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock)
    hold = reserve(ledger, 0.5)
    ledger.settle(hold, tokens=Tokens(10, 1), micro_usd=7)
    ledger.settle(hold, tokens=Tokens(99, 99), micro_usd=99 * MICRO)
    assert ledger.day_spend() == SETTLED
    assert ledger.alarms() == []


def test_a_hold_of_another_ledger_is_refused(place: Place, clock: FixedClock) -> None:
    stranger = reserve(place.elsewhere().opened(clock), 0.5)
    neighbour = reserve(place.opened(clock, app="other"), 0.5)
    ledger = place.opened(clock)
    for hold in (stranger, neighbour):
        with pytest.raises(UsageError, match=f"the ledger of 'router' holds no call '{re.escape(hold.call_id)}'"):
            ledger.settle(hold, tokens=Tokens(1, 1), micro_usd=1)


# -- usage above the hold


def test_a_call_that_cost_more_than_held_is_recorded_in_full_and_raises_an_alarm(
    place: Place, clock: FixedClock, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = place.opened(clock, daily_usd=1.0)
    hold = reserve(ledger, 0.1)
    with caplog.at_level(logging.WARNING):
        ledger.settle(hold, tokens=Tokens(1, 1), micro_usd=1_500_000)
    assert ledger.day_spend().micro_usd == 1_500_000
    over, exhausted, measures = ledger.alarms()
    assert over == Alarm(
        at="2026-03-01T12:00:00.000000+00:00",
        kind="over_hold",
        scope="call",
        period=hold.call_id,
        cap_micro_usd=100_000,
        micro_usd=1_500_000,
        message="a call of advisor to model cost $1.5000, more than the $0.1000 that were held for it.",
    )
    assert (exhausted.kind, exhausted.scope, measures.kind, measures.scope) == (
        "exhausted",
        "daily",
        "measures",
        "daily",
    )
    assert "alarm=<over_hold> scope=<call>" in caplog.text
    assert "cap_micro_usd=<100000> micro_usd=<1500000> | a call of advisor to model cost" in caplog.text
    with pytest.raises(BudgetExhausted):
        reserve(ledger, 0.0)


def test_a_call_that_cost_what_was_held_raises_none(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock)
    ledger.settle(reserve(ledger, 0.1), tokens=Tokens(1, 1), micro_usd=100_000)
    assert ledger.alarms() == []


def test_a_late_answer_above_its_hold_raises_an_alarm_too(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock)
    hold = reserve(ledger, 0.1)
    ledger.keep(hold, error="ReadTimeoutError")
    ledger.settle(hold, tokens=Tokens(1, 1), micro_usd=100_001)
    assert [(alarm.kind, alarm.micro_usd) for alarm in ledger.alarms()] == [("over_hold", 100_001)]


# -- holds of processes that died


def test_a_hold_left_open_counts_and_is_closed_as_spent_when_its_time_is_over(place: Place, clock: FixedClock) -> None:
    reserve(place.opened(clock, daily_usd=1.0), 0.9)
    ledger = place.opened(clock, daily_usd=1.0)
    clock.moment += timedelta(seconds=HOLD_TTL_S) - timedelta(microseconds=1)
    with pytest.raises(BudgetExhausted, match="are spent or held"):
        reserve(ledger, 0.2)
    assert ledger.day_spend() == held(0.9)
    clock.moment += timedelta(microseconds=1)
    with pytest.raises(BudgetExhausted, match="are spent or held"):
        reserve(ledger, 0.2)
    assert ledger.day_spend() == unconfirmed(0.9)
    assert [group.names for group in ledger.spend_by("error")] == [("expired",)]


def test_an_expired_hold_is_told_and_names_whose_it_was(
    place: Place, clock: FixedClock, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = place.opened(clock, hold_ttl_s=60)
    hold = reserve(ledger, 0.9, agent="healer")
    clock.moment += timedelta(minutes=1)
    reserve(ledger, 0.0)
    told = f"call=<{hold.call_id}> agent=<healer> run=<run-1> micro_usd=<900000> | the hold expired"
    assert told in caplog.text


@pytest.mark.parametrize("late", ["settle", "void"])
def test_a_call_that_ends_after_its_hold_expired_is_booked_as_what_it_was(
    place: Place, clock: FixedClock, late: str
) -> None:
    ledger = place.opened(clock, hold_ttl_s=60)
    hold = reserve(ledger, 0.5)
    clock.moment += timedelta(minutes=2)
    reserve(ledger, 0.0, run="run-2")
    assert ledger.run_spend("run-1") == unconfirmed(0.5)
    CLOSE[late](ledger, hold)
    assert ledger.run_spend("run-1") == {"settle": SETTLED, "void": FAILED}[late]


def test_a_hold_expires_as_it_was_made_to_whoever_finds_it(place: Place, clock: FixedClock) -> None:
    patient, hasty = place.opened(clock, hold_ttl_s=600), place.opened(clock, hold_ttl_s=1)
    reserve(patient, 0.5)
    clock.moment += timedelta(minutes=5)
    reserve(hasty, 0.0)
    assert hasty.day_spend().unconfirmed_micro_usd == 0
    clock.moment += timedelta(minutes=5)
    reserve(hasty, 0.0)
    assert hasty.day_spend().unconfirmed_micro_usd == 500_000


def test_the_holds_of_other_applications_are_left_alone(place: Place, clock: FixedClock) -> None:
    other = place.opened(clock, app="other", hold_ttl_s=1)
    reserve(other, 0.5)
    clock.moment += timedelta(minutes=5)
    reserve(place.opened(clock), 0.5)
    assert other.day_spend() == held(0.5)


# -- idempotency keys


def test_reserving_again_under_an_equal_key_returns_the_same_hold(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock, daily_usd=0.5)
    first = reserve(ledger, 0.5, key="run-1/1")
    assert reserve(ledger, 0.5, key="run-1/1") == first
    assert reserve(place.opened(clock, daily_usd=0.5), 0.5, key="run-1/1") == first
    assert ledger.day_spend() == held(0.5)


def test_holds_without_a_key_are_never_the_same(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock)
    assert reserve(ledger, 0.1) != reserve(ledger, 0.1)
    assert reserve(ledger, 0.1, key="a") != reserve(ledger, 0.1, key="b")


def test_another_amount_under_the_same_key_is_an_error(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock)
    reserve(ledger, 0.5, key="run-1/1")
    with pytest.raises(UsageError, match=r"'run-1/1' names a call reserved at \$0.5000, not at \$0.4000"):
        reserve(ledger, 0.4, key="run-1/1")
    assert ledger.day_spend() == held(0.5)


@pytest.mark.parametrize(
    ("close", "status"), [("settle", "settled"), ("void", "void"), ("keep", "lost"), (None, "expired")]
)
def test_a_key_whose_call_is_closed_admits_no_second_call(
    place: Place, clock: FixedClock, close: str | None, status: str
) -> None:
    ledger = place.opened(clock, hold_ttl_s=60)
    hold = reserve(ledger, 0.5, key="run-1/1")
    if close:
        CLOSE[close](ledger, hold)
    else:
        clock.moment += timedelta(minutes=1)
    with pytest.raises(UsageError, match=rf"'run-1/1' names a call that is closed \({status}\)") as error:
        reserve(ledger, 0.5, key="run-1/1")
    assert error.value.hint == "Give each attempt a key of its own."


def test_a_refused_reservation_does_not_use_its_key_up(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock, daily_usd=0.1)
    with pytest.raises(BudgetExhausted):
        reserve(ledger, 0.5, key="run-1/1")
    ledger.budget = Budget(daily_usd=1.0)
    assert reserve(ledger, 0.5, key="run-1/1")


def test_applications_have_keys_of_their_own(place: Place, clock: FixedClock) -> None:
    assert reserve(place.opened(clock), 0.5, key="1") != reserve(place.opened(clock, app="other"), 0.5, key="1")


# -- caps


def test_a_cap_can_be_used_to_the_last_micro_dollar(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock, daily_usd=0.3)
    for _ in range(3):
        reserve(ledger, 0.1)
    with pytest.raises(BudgetExhausted):
        ledger.reserve(run_id="run-1", agent="advisor", model="model", micro_usd=1)
    assert ledger.day_spend().micro_usd == 300_000


@pytest.mark.parametrize(
    ("caps", "said", "hint"),
    [
        (
            {"call_usd": 0.4},
            "the call budget of $0.40 does not allow this call of healer: it may cost $0.5000.",
            "Raise the budget of a call, or lower max_tokens.",
        ),
        (
            {"run_usd": 1.0},
            "the run budget of $1.00 does not allow this call of healer: $0.7500 are spent or held",
            "Raise the budget, then resume the run.",
        ),
        (
            {"daily_usd": 1.0},
            "the daily budget of $1.00 does not allow this call of healer: $0.7500 are spent or held",
            "Raise the budget or wait for the next day, then resume the run.",
        ),
        (
            {"agent_daily_usd": {"healer": 0.7}},
            "the daily healer budget of $0.70 does not allow this call of healer: $0.2500 are spent or held",
            "Raise the budget or wait for the next day, then resume the run.",
        ),
        (
            {"monthly_usd": 1.0},
            "the monthly budget of $1.00 does not allow this call of healer: $0.7500 are spent or held",
            "Raise the budget or wait for the next month, then resume the run.",
        ),
    ],
    ids=["call", "run", "day", "agent", "month"],
)
def test_a_refusal_says_which_cap_and_how_much_and_sets_nothing_aside(
    place: Place, clock: FixedClock, caps: dict[str, Any], said: str, hint: str
) -> None:
    ledger = place.opened(clock, **{"run_usd": 5.0, "daily_usd": 5.0, "monthly_usd": 5.0, **caps})
    for agent in ("advisor", "advisor", "healer"):
        reserve(ledger, 0.25, agent=agent)
    before = place.balances()
    with pytest.raises(BudgetExhausted) as error:
        reserve(ledger, 0.5, agent="healer")
    assert error.value.message.startswith(said)
    assert error.value.hint == hint
    assert error.value.exit_code == ExitCode.STOPPED_BY_BUDGET
    assert place.balances() == before


def test_of_several_caps_the_narrowest_is_named_and_all_raise_their_alarm(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock, daily_usd=0.1, monthly_usd=0.1, run_usd=5)
    with pytest.raises(BudgetExhausted, match="the daily budget"):
        reserve(ledger, 0.5)
    assert {(alarm.kind, alarm.scope) for alarm in ledger.alarms()} == {
        ("exhausted", "daily"),
        ("exhausted", "monthly"),
    }
    assert place.balances() == {}


def test_a_call_may_cost_all_of_its_cap(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock, call_usd=0.5)
    assert reserve(ledger, 0.5)
    with pytest.raises(BudgetExhausted):
        ledger.reserve(run_id="run-1", agent="advisor", model="model", micro_usd=500_001)


def test_the_cap_of_a_run_is_not_shared_and_the_cap_of_a_day_is(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock, daily_usd=1.5, run_usd=1.0)
    reserve(ledger, 1.0, run="run-1")
    reserve(ledger, 0.5, run="run-2")
    with pytest.raises(BudgetExhausted, match="daily budget"):
        reserve(ledger, 0.1, run="run-2")


def test_the_cap_of_an_agent_binds_no_other(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock, agent_daily_usd={"advisor": 0.3, "decision": 1.0})
    reserve(ledger, 0.3, agent="advisor")
    with pytest.raises(BudgetExhausted, match="daily advisor budget"):
        reserve(ledger, 0.1, agent="advisor")
    reserve(ledger, 1.0, agent="decision")
    reserve(ledger, 5.0, agent="healer")


def test_applications_on_one_file_have_budgets_of_their_own(place: Place, clock: FixedClock) -> None:
    reserve(place.opened(clock, daily_usd=1.0), 1.0)
    other = place.opened(clock, app="other", daily_usd=1.0)
    assert reserve(other, 1.0)
    assert other.day_spend().micro_usd == MICRO
    assert other.alarms() != []
    assert len(other.alarms()) == len(place.opened(clock).alarms())


def test_without_caps_everything_is_admitted_and_counted(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock)
    reserve(ledger, 10_000.0)
    assert ledger.day_spend().micro_usd == 10_000 * MICRO
    assert ledger.alarms() == []


def test_a_cap_of_nothing_admits_nothing(place: Place, clock: FixedClock) -> None:
    with pytest.raises(BudgetExhausted):
        place.opened(clock, daily_usd=0.0).reserve(run_id="r", agent="advisor", model="model", micro_usd=1)


def test_what_was_spent_before_there_was_a_cap_counts(place: Place, clock: FixedClock) -> None:
    reserve(place.opened(clock), 0.8)
    with pytest.raises(BudgetExhausted):
        reserve(place.opened(clock, daily_usd=1.0), 0.3)


@pytest.mark.parametrize("raised", [{"daily_usd": 2.0}, {}], ids=["raised", "taken away"])
def test_a_raised_budget_takes_effect_on_the_books_as_they_are(
    place: Place, clock: FixedClock, raised: dict[str, Any]
) -> None:
    ledger = place.opened(clock, daily_usd=1.0)
    reserve(ledger, 0.9)
    with pytest.raises(BudgetExhausted):
        reserve(ledger, 0.6)
    assert reserve(place.opened(clock, **raised), 0.6)
    ledger.budget = Budget(**raised)
    assert reserve(ledger, 0.5)


# -- alarms


def alarms(ledger: Ledger) -> list[tuple[str, str, str, int]]:
    return [(alarm.kind, alarm.scope, alarm.period, alarm.micro_usd) for alarm in reversed(ledger.alarms())]


def test_measures_are_called_for_at_80_percent_and_the_end_is_told_at_100(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock, daily_usd=1.0)
    ledger.settle(
        ledger.reserve(run_id="r", agent="a", model="m", micro_usd=799_999), tokens=Tokens(1, 1), micro_usd=799_999
    )
    assert alarms(ledger) == []
    ledger.reserve(run_id="r", agent="a", model="m", micro_usd=1)
    assert alarms(ledger) == [("measures", "daily", "2026-03-01", 800_000)]
    assert ledger.alarms()[0].message == "$0.8000 of the daily budget of $1.0000 are spent or held."
    ledger.reserve(run_id="r", agent="a", model="m", micro_usd=200_000)
    assert alarms(ledger)[1:] == [("exhausted", "daily", "2026-03-01", MICRO)]


def test_a_refused_reservation_is_told_however_much_is_left(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock, daily_usd=1.0, call_usd=1.5)
    with pytest.raises(BudgetExhausted):
        reserve(ledger, 1.2)
    with pytest.raises(BudgetExhausted):
        reserve(ledger, 1.6)
    assert alarms(ledger) == [("exhausted", "daily", "2026-03-01", 0), ("exhausted", "call", "2026-03-01", 1_600_000)]


def test_a_cap_raises_one_alarm_of_a_kind_in_a_period(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock, daily_usd=1.0, monthly_usd=100.0)
    for _ in range(2):
        for usd in (0.9, 0.05, 0.05, 0.2, 0.2):
            try:
                reserve(ledger, usd)
            except BudgetExhausted:
                continue
        clock.moment += timedelta(days=1)
    assert [(kind, scope, period) for kind, scope, period, _ in alarms(ledger)] == [
        (kind, "daily", day) for day in ("2026-03-01", "2026-03-02") for kind in ("measures", "exhausted")
    ]


def test_a_raised_cap_raises_its_own_alarm_when_it_is_reached(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock, daily_usd=1.0)
    reserve(ledger, 0.9)
    ledger.budget = Budget(daily_usd=2.0)
    reserve(ledger, 0.6)
    assert alarms(ledger) == [("measures", "daily", "2026-03-01", 900_000)]
    reserve(ledger, 0.1)
    assert [(alarm.cap_micro_usd, alarm.micro_usd) for alarm in ledger.alarms()] == [
        (2_000_000, 1_600_000),
        (1_000_000, 900_000),
    ]


def test_an_alarm_is_raised_and_logged_once_with_what_it_is_about(
    place: Place, clock: FixedClock, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = place.opened(clock, run_usd=1.0)
    for usd in (0.3, 0.3, 0.3, 0.05):
        reserve(ledger, usd)
        clock.moment += timedelta(minutes=1)
    [told] = caplog.messages
    assert told == (
        "alarm=<measures> scope=<run> period=<run-1> cap_micro_usd=<1000000> micro_usd=<900000>"
        " | $0.9000 of the run budget of $1.0000 are spent or held."
    )
    [alarm] = ledger.alarms()
    assert (alarm.at, alarm.micro_usd) == ("2026-03-01T12:02:00.000000+00:00", 900_000)


def test_what_only_shrinks_calls_for_nothing(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock)
    first, second = reserve(ledger, 0.5), reserve(ledger, 0.45)
    ledger.budget = Budget(daily_usd=1.0)
    ledger.settle(first, tokens=Tokens(1, 1), micro_usd=480_000)
    ledger.keep(second, error="lost")
    assert alarms(ledger) == []


# -- pressure


def test_pressure_is_that_of_the_cap_closest_to_its_limit(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock)
    reserve(ledger, 0.1, run="run-0", agent="healer")
    reserve(ledger, 0.3)
    assert ledger.pressure("run-1") == Pressure(0.0, "no", 0)
    for caps, expected in (
        ({"daily_usd": 1.0}, Pressure(0.4, "daily", 2, 600_000)),
        ({"daily_usd": 1.0, "run_usd": 0.6}, Pressure(0.5, "run", 1, 300_000)),
        ({"daily_usd": 1.0, "monthly_usd": 0.5}, Pressure(0.8, "monthly", 2, 100_000)),
        (
            {"daily_usd": 1.0, "agent_daily_usd": {"advisor": 3.0, "healer": 0.1}},
            Pressure(1.0, "daily healer", 1, 600_000),
        ),
        ({"call_usd": 0.0001}, Pressure(0.0, "no", 0, 100)),
        ({"daily_usd": 0.0}, Pressure(1.0, "daily", 2, 0)),
        ({"daily_usd": 0.1}, Pressure(4.0, "daily", 2, 0)),
    ):
        ledger.budget = Budget(**caps)
        assert ledger.pressure("run-1") == expected
    ledger.budget = Budget(run_usd=1.0)
    assert ledger.pressure("run-2") == Pressure(0.0, "no", 0, 1_000_000)


# -- days and months


def test_a_new_utc_day_has_a_new_budget_and_the_run_keeps_its_own(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock, daily_usd=1.0, run_usd=1.5)
    clock.moment = datetime(2026, 3, 1, 23, 59, 59, 999_999, tzinfo=UTC)
    reserve(ledger, 1.0)
    with pytest.raises(BudgetExhausted, match="daily budget"):
        reserve(ledger, 0.5)
    clock.moment += timedelta(microseconds=1)
    assert ledger.day_spend() == NOTHING
    reserve(ledger, 0.5)
    with pytest.raises(BudgetExhausted, match="run budget"):
        reserve(ledger, 0.1)
    assert ledger.run_spend("run-1").micro_usd == 1_500_000


def test_a_new_utc_month_has_a_new_budget(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock, monthly_usd=1.0)
    clock.moment = datetime(2026, 3, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    reserve(ledger, 0.9)
    with pytest.raises(BudgetExhausted, match="monthly budget"):
        reserve(ledger, 0.2)
    clock.moment += timedelta(microseconds=1)
    assert ledger.month_spend() == NOTHING
    assert reserve(ledger, 0.2)


@pytest.mark.parametrize("end", ["settle", "void", "keep", "expire"])
def test_a_call_ends_in_the_periods_it_was_reserved_in(place: Place, clock: FixedClock, end: str) -> None:
    ledger = place.opened(clock, daily_usd=1.0, monthly_usd=1.0)
    clock.moment = datetime(2026, 3, 31, 23, 59, tzinfo=UTC)
    hold = reserve(ledger, 1.0)
    clock.moment += timedelta(hours=2)
    if end == "expire":
        reserve(ledger, 0.0)
    else:
        CLOSE[end](ledger, hold)
    assert ledger.day_spend().micro_usd == ledger.month_spend().micro_usd == 0
    after = {"settle": SETTLED, "void": FAILED}.get(end, unconfirmed(1.0))
    assert Group(("2026-03-31",), after) in ledger.spend_by("day")
    assert Group(("2026-03",), after) in ledger.spend_by("month")
    assert place.balances() == place.added_up()


def test_the_day_is_that_of_utc_whatever_the_zone_of_the_clock(place: Place) -> None:
    evening = FixedClock(datetime(2026, 3, 31, 23, tzinfo=timezone(timedelta(hours=-5))))
    ledger = place.opened(evening)
    reserve(ledger, 1.0)
    assert ledger.spend_by("day")[0].names == ("2026-04-01",)
    assert ledger.month_spend() == held(1.0)


# -- reading


def test_spend_is_told_by_day_agent_and_model(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock)
    ledger.keep(reserve(ledger, 0.1), error="lost")
    ledger.settle(reserve(ledger, 0.3), tokens=Tokens(10, 5), micro_usd=200_000)
    ledger.void(reserve(ledger, 0.3, agent="healer"), error="refused")
    clock.moment += timedelta(days=1)
    reserve(ledger, 0.2, agent="decision")
    assert [(*group.names, group.spend) for group in ledger.spend_by("day", "agent", "model")] == [
        ("2026-03-02", "decision", "model", held(0.2)),
        ("2026-03-01", "advisor", "model", Spend(300_000, 2, 1, 10, 5, unconfirmed_micro_usd=100_000)),
        ("2026-03-01", "healer", "model", FAILED),
    ]


def test_spend_is_grouped_by_what_is_asked_the_dearest_first(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock)
    for usd, agent, region, task in (
        (0.1, "healer", "us-east-1", "healer/2"),
        (0.3, "advisor", "eu-west-1", "advisor/7"),
    ):
        reserve(ledger, usd, agent=agent, region=region, task=task, run=f"run-{agent}")
    for dimension, names in (
        ("agent", ("advisor", "healer")),
        ("region", ("eu-west-1", "us-east-1")),
        ("task", ("advisor/7", "healer/2")),
        ("run", ("run-advisor", "run-healer")),
    ):
        assert ledger.spend_by(dimension) == [Group((names[0],), held(0.3)), Group((names[1],), held(0.1))]
    assert ledger.spend_by("model", "error") == [Group(("model", ""), held(0.4, calls=2))]


def test_spend_is_grouped_from_a_day_on(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock)
    for _ in range(3):
        reserve(ledger, 0.1)
        clock.moment += timedelta(days=1)
    assert [group.names for group in ledger.spend_by("day", since="2026-03-02")] == [("2026-03-03",), ("2026-03-02",)]


def test_paces_are_those_of_whole_blocks_of_time_since_the_first_call(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock)
    assert ledger.paces(block_s=3600, blocks=24) == []
    for minutes, usd in ((0, 0.1), (50, 0.2), (20, 0.4), (130, 0.8)):  # at 0:00, 0:50, 1:10 and 3:20
        clock.moment += timedelta(minutes=minutes)
        ledger.settle(reserve(ledger, 1.0), tokens=Tokens(1, 1), micro_usd=round(usd * MICRO))
    # Back from 3:20: until 2:20, until 1:20, until 0:20; what is before that is no whole hour.
    assert ledger.paces(block_s=3600, blocks=24) == [800_000, 0, 600_000]
    assert ledger.paces(block_s=3600, blocks=2) == [800_000, 0]
    assert ledger.paces(block_s=86_400, blocks=28) == []


def test_a_file_of_an_early_version_is_refused_and_left_as_it_is(path: Path, clock: FixedClock) -> None:
    database = Database(path)
    with database.transaction("tables") as connection:
        connection.execute("CREATE TABLE calls (call_id TEXT PRIMARY KEY, app TEXT, day TEXT, cost_micro_usd INTEGER)")
    before = database.rows("SELECT * FROM sqlite_master")
    with pytest.raises(StoreError, match=r"keeps model calls without run_id, agent, .* an early version wrote it"):
        opened(path, clock)
    assert database.rows("SELECT * FROM sqlite_master") == before


def test_nothing_the_ledger_does_for_a_call_reads_all_calls(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock, run_usd=9, daily_usd=9, monthly_usd=9, agent_daily_usd={"advisor": 9})
    connection = ledger._database._connection
    statements: list[str] = []
    reserve(ledger, 0.1)
    clock.moment += timedelta(hours=2)
    connection.set_trace_callback(statements.append)
    ledger.settle(reserve(ledger, 0.1, key="1"), tokens=Tokens(1, 1), micro_usd=1_000_000)
    ledger.keep(reserve(ledger, 0.1), error="lost")
    with pytest.raises(BudgetExhausted):
        reserve(ledger, 9.0)
    ledger.pressure("run-1"), ledger.run_spend("run-1"), ledger.day_spend(), ledger.month_spend()
    connection.set_trace_callback(None)
    work = [sql for sql in statements if sql.startswith(("SELECT", "INSERT", "UPDATE", "DELETE"))]
    assert len(work) > 40
    plans = {row[3] for sql in work for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")} - {"SCAN CONSTANT ROW"}
    # Single rows of each table by their keys, and open calls by their age: nothing that grows with the calls on record.
    assert plans == {
        "SEARCH accounts USING PRIMARY KEY (app=? AND scope=? AND period=?)",
        "SEARCH calls USING INDEX sqlite_autoindex_calls_1 (call_id=?)",
        "SEARCH calls USING INDEX keyed_calls (app=? AND key=?)",
        "SEARCH calls USING INDEX open_calls (app=? AND expires_at<?)",
    }


def test_the_sqlite_ledger_is_a_ledger(path: Path, clock: FixedClock) -> None:
    ledger: Ledger = opened(path, clock)
    assert isinstance(ledger, SQLiteLedger)


def test_what_a_run_gave_up_counts_as_spent_until_its_answer_comes_after_all(place: Place, clock: FixedClock) -> None:
    ledger = place.opened(clock)
    mine, others = reserve(ledger, 0.3, run="run-1"), reserve(ledger, 0.2, run="run-2")
    ledger.give_up("run-1")
    assert ledger.run_spend("run-1").unconfirmed_micro_usd == 300_000
    assert ledger.run_spend("run-2") == held(0.2)
    ledger.settle(mine, tokens=Tokens(10, 5), micro_usd=70)
    assert (ledger.run_spend("run-1").micro_usd, ledger.run_spend("run-1").unconfirmed_micro_usd) == (70, 0)
    ledger.void(others, error="refused")
    assert place.balances() == place.added_up()
