"""The ledger: no cap is ever passed, and every reservation ends as what it really cost."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedrock_evolution.bedrock.ledger import Hold, Ledger, Spend
from bedrock_evolution.bedrock.prices import Tokens
from bedrock_evolution.clock import CountedIds, FixedClock, RandomIds
from bedrock_evolution.dna.database import Database
from bedrock_evolution.errors import BudgetExhausted, ExitCode
from bedrock_evolution.settings import MICRO, Budget

APP = "router"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENCE_S = 60.0


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOON)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evolution.db"


def opened(path: Path, clock: FixedClock, *, app: str = APP, **caps: float) -> Ledger:
    return Ledger(Database(path), app=app, budget=Budget(**caps), clock=clock, ids=RandomIds(clock))


def reserve(ledger: Ledger, usd: float, *, run: str = "run-1", agent: str = "advisor") -> Hold:
    return ledger.reserve(run_id=run, agent=agent, model="model", micro_usd=round(usd * MICRO))


# -- holding and settling


def test_a_hold_counts_until_it_is_settled_at_what_was_used(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock, daily_usd=1.0)
    hold = reserve(ledger, 0.8)
    assert ledger.day_spend() == Spend(800_000, 1, 0, 0, 0)
    ledger.settle(hold, tokens=Tokens(100, 20, cache_read=10), micro_usd=123)
    assert ledger.day_spend() == ledger.run_spend("run-1") == Spend(123, 1, 0, 100, 20)


def test_a_voided_hold_costs_nothing_and_is_a_failed_call(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock, daily_usd=1.0)
    ledger.void(reserve(ledger, 1.0), error="ThrottlingException")
    assert ledger.day_spend() == Spend(0, 1, 1, 0, 0)
    assert reserve(ledger, 1.0)


def test_a_kept_hold_counts_as_spent(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock, daily_usd=1.0)
    ledger.keep(reserve(ledger, 0.7), error="the answer was lost")
    assert ledger.day_spend() == Spend(700_000, 1, 1, 0, 0)
    with pytest.raises(BudgetExhausted):
        reserve(ledger, 0.4)


def test_a_call_that_cost_more_than_held_is_settled_at_its_cost(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock, daily_usd=1.0)
    ledger.settle(reserve(ledger, 0.1), tokens=Tokens(1, 1), micro_usd=1_500_000)
    assert ledger.day_spend().micro_usd == 1_500_000
    with pytest.raises(BudgetExhausted):
        reserve(ledger, 0.0)


def test_a_hold_is_closed_once(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock)
    hold = reserve(ledger, 0.5)
    ledger.settle(hold, tokens=Tokens(10, 1), micro_usd=7)
    ledger.void(hold, error="late")
    ledger.keep(hold, error="later")
    ledger.settle(hold, tokens=Tokens(99, 99), micro_usd=99)
    assert ledger.day_spend() == Spend(7, 1, 0, 10, 1)


def test_a_hold_left_by_a_process_that_died_still_counts(path: Path, clock: FixedClock) -> None:
    reserve(opened(path, clock, daily_usd=1.0), 0.9)
    with pytest.raises(BudgetExhausted, match="are spent or held"):
        reserve(opened(path, clock, daily_usd=1.0), 0.2)


# -- caps


def test_a_cap_can_be_used_to_the_last_micro_dollar(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock, daily_usd=0.3)
    for _ in range(3):
        reserve(ledger, 0.1)
    with pytest.raises(BudgetExhausted):
        ledger.reserve(run_id="run-1", agent="advisor", model="model", micro_usd=1)
    assert ledger.day_spend().micro_usd == 300_000


def test_a_refusal_says_which_cap_and_how_much_and_sets_nothing_aside(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock, daily_usd=5.0, run_usd=1.0)
    reserve(ledger, 0.75)
    before = ledger.day_spend()
    with pytest.raises(BudgetExhausted) as error:
        reserve(ledger, 0.5, agent="healer")
    said = (
        "the run budget of $1.00 does not allow this call of healer: $0.7500 are spent or held and it may cost $0.5000"
    )
    assert said in error.value.message
    assert "Raise the budget" in error.value.hint
    assert error.value.exit_code == ExitCode.STOPPED_BY_BUDGET
    assert ledger.day_spend() == before


def test_the_cap_of_a_run_is_not_shared_and_the_cap_of_a_day_is(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock, daily_usd=1.5, run_usd=1.0)
    reserve(ledger, 1.0, run="run-1")
    reserve(ledger, 0.5, run="run-2")
    with pytest.raises(BudgetExhausted, match="daily budget"):
        reserve(ledger, 0.1, run="run-2")


def test_applications_on_one_file_have_budgets_of_their_own(path: Path, clock: FixedClock) -> None:
    reserve(opened(path, clock, daily_usd=1.0), 1.0)
    other = opened(path, clock, app="other", daily_usd=1.0)
    assert reserve(other, 1.0)
    assert other.day_spend().micro_usd == MICRO


def test_without_caps_everything_is_admitted_and_counted(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock)
    reserve(ledger, 10_000.0)
    assert ledger.day_spend().micro_usd == 10_000 * MICRO


def test_a_cap_of_nothing_admits_nothing(path: Path, clock: FixedClock) -> None:
    with pytest.raises(BudgetExhausted):
        opened(path, clock, daily_usd=0.0).reserve(run_id="r", agent="advisor", model="model", micro_usd=1)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 400_000), st.sampled_from(["settle", "void", "keep", "hold"]), st.floats(0, 1), st.booleans()
        ),
        max_size=25,
    )
)
def test_no_sequence_of_calls_passes_a_cap(tmp_path_factory: pytest.TempPathFactory, calls: list[Any]) -> None:
    clock = FixedClock(NOON)
    ledger = Ledger(
        Database(tmp_path_factory.mktemp("ledger") / "evolution.db"),
        app=APP,
        budget=Budget(daily_usd=1.0, run_usd=0.7),
        clock=clock,
        ids=CountedIds(),
    )
    spent = {"a": 0, "b": 0}
    for micro_usd, end, share, first in calls:
        run = "a" if first else "b"
        allowed = spent[run] + micro_usd <= 700_000 and sum(spent.values()) + micro_usd <= MICRO
        try:
            hold = ledger.reserve(run_id=run, agent="advisor", model="model", micro_usd=micro_usd)
        except BudgetExhausted:
            assert not allowed
            continue
        assert allowed
        used = {"settle": round(micro_usd * share), "void": 0, "keep": micro_usd, "hold": micro_usd}[end]
        if end == "settle":
            ledger.settle(hold, tokens=Tokens(1, 1), micro_usd=used)
        elif end == "void":
            ledger.void(hold, error="refused")
        elif end == "keep":
            ledger.keep(hold, error="lost")
        spent[run] += used
        assert ledger.run_spend(run).micro_usd == spent[run]
        assert ledger.day_spend().micro_usd == sum(spent.values()) <= MICRO


# -- days


def test_a_new_utc_day_has_a_new_budget_and_the_run_keeps_its_own(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock, daily_usd=1.0, run_usd=1.5)
    clock.moment = datetime(2026, 3, 1, 23, 59, 59, 999_999, tzinfo=UTC)
    reserve(ledger, 1.0)
    with pytest.raises(BudgetExhausted, match="daily budget"):
        reserve(ledger, 0.5)
    clock.moment += timedelta(microseconds=1)
    assert ledger.day_spend() == Spend(0, 0, 0, 0, 0)
    reserve(ledger, 0.5)
    with pytest.raises(BudgetExhausted, match="run budget"):
        reserve(ledger, 0.1)
    assert ledger.run_spend("run-1").micro_usd == 1_500_000


def test_a_call_belongs_to_the_day_it_was_reserved_on(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock, daily_usd=1.0)
    hold = reserve(ledger, 1.0)
    clock.moment += timedelta(days=1)
    ledger.settle(hold, tokens=Tokens(1, 1), micro_usd=900_000)
    assert ledger.day_spend().micro_usd == 0
    assert [(day, spend.micro_usd) for day, _, _, spend in ledger.breakdown()] == [("2026-03-01", 900_000)]


def test_the_day_is_that_of_utc_whatever_the_zone_of_the_clock(path: Path) -> None:
    evening = FixedClock(datetime(2026, 3, 1, 23, tzinfo=timezone(timedelta(hours=-5))))
    ledger = opened(path, evening)
    reserve(ledger, 1.0)
    assert ledger.breakdown()[0][0] == "2026-03-02"


def test_the_breakdown_is_by_day_agent_and_model(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock)
    reserve(ledger, 0.1)
    ledger.settle(reserve(ledger, 0.3), tokens=Tokens(10, 5), micro_usd=200_000)
    ledger.void(reserve(ledger, 0.3, agent="healer"), error="refused")
    clock.moment += timedelta(days=1)
    reserve(ledger, 0.2, agent="decision")
    assert ledger.breakdown() == [
        ("2026-03-02", "decision", "model", Spend(200_000, 1, 0, 0, 0)),
        ("2026-03-01", "advisor", "model", Spend(300_000, 2, 0, 10, 5)),
        ("2026-03-01", "healer", "model", Spend(0, 1, 1, 0, 0)),
    ]


# -- concurrency


@pytest.mark.parametrize("shared", [True, False], ids=["one connection", "own connections"])
def test_a_budget_is_never_overshot_by_concurrent_reservations(path: Path, clock: FixedClock, shared: bool) -> None:
    threads, tries = 5, 12
    common = opened(path, clock, daily_usd=0.025)
    start, lock, admitted = threading.Barrier(threads), threading.Lock(), 0

    def spend() -> None:
        nonlocal admitted
        ledger = common if shared else opened(path, clock, daily_usd=0.025)
        start.wait(PATIENCE_S)
        for _ in range(tries):
            try:
                reserve(ledger, 0.001)
            except BudgetExhausted:
                continue
            with lock:
                admitted += 1

    running = [threading.Thread(target=spend, daemon=True) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(PATIENCE_S)
    assert admitted == 25
    assert common.day_spend() == Spend(25_000, 25, 0, 0, 0)


SPENDER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from bedrock_evolution.bedrock.ledger import Ledger
from bedrock_evolution.clock import FixedClock, RandomIds
from bedrock_evolution.dna.database import Database
from bedrock_evolution.errors import BudgetExhausted
from bedrock_evolution.settings import Budget
clock = FixedClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
budget = Budget(daily_usd=0.025)
ledger = Ledger(Database(Path(sys.argv[1])), app="router", budget=budget, clock=clock, ids=RandomIds())
print("ready", flush=True)
input()
admitted = 0
for _ in range(20):
    try:
        ledger.reserve(run_id=sys.argv[2], agent="advisor", model="model", micro_usd=1000)
        admitted += 1
    except BudgetExhausted:
        pass
print(admitted)
"""


def test_a_budget_is_never_overshot_by_concurrent_processes(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock, daily_usd=0.025)
    spenders = [
        subprocess.Popen(
            [sys.executable, "-c", SPENDER, str(path), f"run-{n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    for spender in spenders:
        assert spender.stdout
        assert spender.stdout.readline() == "ready\n"
    for spender in spenders:
        assert spender.stdin
        spender.stdin.write("\n")
        spender.stdin.flush()
    admitted = [int(spender.communicate(timeout=PATIENCE_S)[0]) for spender in spenders]
    assert sum(admitted) == 25
    assert ledger.day_spend().micro_usd == 25_000
