"""Claim: no number of threads, tasks or processes overshoots a cap, and no death among them loses or frees money."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.bedrock.models.prices import Tokens
from bedrock_evolution.bedrock.money.sqlite_ledger import HOLD_TTL_S, SQLiteLedger
from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.errors import BudgetExhausted
from bedrock_evolution.settings import MICRO
from tests.bedrock.money.ledger_driver import AMOUNT, CLOCK
from tests.support.books import added_up, balances, opened

ROOT = Path(__file__).parents[3]
PATIENCE_S = 300.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evolution.db"


def driven(work: str, path: Path, *numbers: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bedrock.money.ledger_driver", work, str(path), *map(str, numbers)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert isinstance(told, dict)
    return told


@pytest.mark.parametrize(
    ("processes", "reservations"), [(6, 20), pytest.param(32, 100, marks=pytest.mark.slow)], ids=["6x20", "32x100"]
)
def test_a_cap_is_never_passed_by_processes_that_race_for_it(path: Path, processes: int, reservations: int) -> None:
    cap = processes * reservations * AMOUNT // 4 + AMOUNT // 2
    told = driven("race", path, processes, reservations, cap)
    assert told["ended"] == [0] * processes
    assert told["admitted"] + told["refused"] == processes * reservations
    # At every moment that the watcher looked, and at the end.
    assert told["samples"] > 0
    assert told["highest"] <= cap
    assert told["drifted"] == 0
    assert told["adds_up"]
    # As much was admitted as fits.
    assert told["refused"] > 0
    assert told["held"] == 0
    assert cap - AMOUNT < told["spent"] <= cap


def test_processes_that_are_killed_leave_sound_books_and_no_money_free(path: Path) -> None:
    processes, cap = 8, MICRO
    told = driven("crash", path, processes, cap)
    assert told["killed"] == processes
    assert told["adds_up"]
    assert told["open"] >= processes // 2
    assert told["held"] == told["open"] * AMOUNT
    before = told["spent"]

    later = FixedClock(CLOCK.moment + timedelta(seconds=HOLD_TTL_S))
    survivor = opened(path, later, daily_usd=cap / MICRO)
    rest = cap - before - told["held"]
    hold = survivor.reserve(run_id="run-1", agent="advisor", model="model", micro_usd=rest)
    with pytest.raises(BudgetExhausted):
        survivor.reserve(run_id="run-1", agent="advisor", model="model", micro_usd=1)
    survivor.settle(hold, tokens=Tokens(0, 0), micro_usd=0)
    day = survivor.day_spend()
    assert day.micro_usd == before + told["held"]
    assert day.unconfirmed_micro_usd >= told["held"]
    assert day.held_micro_usd == 0
    assert balances(Database(path)) == added_up(Database(path))


def reserved(ledger: SQLiteLedger) -> bool:
    try:
        ledger.reserve(run_id="run-1", agent="advisor", model="model", micro_usd=AMOUNT)
    except BudgetExhausted:
        return False
    return True


@pytest.mark.parametrize("shared", [True, False], ids=["one connection", "own connections"])
def test_a_cap_is_never_passed_by_threads(path: Path, shared: bool) -> None:
    threads, tries = 5, 12
    common = opened(path, CLOCK, daily_usd=0.025)
    start, lock, admitted = threading.Barrier(threads), threading.Lock(), 0

    def spend() -> None:
        nonlocal admitted
        ledger = common if shared else opened(path, CLOCK, daily_usd=0.025)
        start.wait(PATIENCE_S)
        for _ in range(tries):
            if reserved(ledger):
                with lock:
                    admitted += 1

    running = [threading.Thread(target=spend, daemon=True) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(PATIENCE_S)
    assert admitted == 25
    assert common.day_spend().micro_usd == common.day_spend().held_micro_usd == 25_000


async def test_a_cap_is_never_passed_by_tasks_of_an_event_loop(path: Path) -> None:
    ledger = opened(path, CLOCK, daily_usd=0.025)
    admitted = await asyncio.gather(*(asyncio.to_thread(reserved, ledger) for _ in range(60)))
    assert sum(admitted) == 25
    assert ledger.day_spend().micro_usd == 25_000


def test_many_threads_under_one_key_hold_once(path: Path) -> None:
    ledger = opened(path, CLOCK, daily_usd=0.025)
    holds = []
    threads = [
        threading.Thread(
            target=lambda: holds.append(
                ledger.reserve(run_id="run-1", agent="advisor", model="model", micro_usd=AMOUNT, key="run-1/1")
            )
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(holds) == 8
    assert len(set(holds)) == 1
    assert ledger.day_spend().micro_usd == AMOUNT


def test_many_threads_that_close_one_call_close_it_once(path: Path) -> None:
    ledger = opened(path, CLOCK, daily_usd=1.0)
    hold = ledger.reserve(run_id="run-1", agent="advisor", model="model", micro_usd=AMOUNT)
    ends = [
        lambda: ledger.settle(hold, tokens=Tokens(10, 1), micro_usd=700),
        lambda: ledger.void(hold, error="refused"),
        lambda: ledger.keep(hold, error="lost"),
    ]
    threads = [threading.Thread(target=end) for end in ends * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert (ledger.day_spend().micro_usd, ledger.day_spend().calls, ledger.day_spend().failed_calls) == (700, 1, 0)
    assert balances(Database(path)) == added_up(Database(path))
