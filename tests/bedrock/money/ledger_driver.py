"""Lets many processes at one ledger: they race for one cap, or die in the middle of a call. Tells what came of it.

A process of its own, because it forks: it imports once, stays single-threaded, and every spender is a child.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bedrock_evolution.bedrock.models.prices import Tokens
from bedrock_evolution.bedrock.money.ledger import Ledger
from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.errors import BudgetExhausted
from bedrock_evolution.settings import MICRO
from tests.support.books import APP, added_up, balances, opened
from tests.support.forked import in_child

AMOUNT = 1000
"""Micro-dollars held for every call."""
CLOCK = FixedClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
DAILY = (APP, "daily", "2026-03-01")
_FORK = multiprocessing.get_context("fork")


def ledger_at(path: Path, cap: int) -> Ledger:
    return opened(path, CLOCK, daily_usd=cap / MICRO)


def try_to_spend(ledger: Ledger, run: str, chance: random.Random, *, in_full: bool) -> bool:
    """Make one call; return whether it was admitted."""
    try:
        hold = ledger.reserve(run_id=run, agent="advisor", model="model", micro_usd=AMOUNT)
    except BudgetExhausted:
        return False
    end = chance.random()
    if in_full:
        ledger.settle(hold, tokens=Tokens(1, 1), micro_usd=AMOUNT) if end < 0.5 else ledger.keep(hold, error="lost")
    elif end < 0.5:
        ledger.settle(hold, tokens=Tokens(1, 1), micro_usd=chance.randrange(AMOUNT))
    else:
        ledger.void(hold, error="refused")
    return True


def race(path: Path, processes: int, reservations: int, cap: int) -> dict[str, Any]:
    """Let all spend a little of what they hold at first, then all of it, and watch the balance meanwhile."""
    ledger_at(path, cap)
    half_time = _FORK.Barrier(processes)
    admitted, refused = _FORK.Value("q", 0), _FORK.Value("q", 0)

    def spend(number: int) -> None:
        ledger, chance = ledger_at(path, cap), random.Random(number)
        for attempt in range(reservations):
            if attempt == reservations // 2:
                half_time.wait()
            done = try_to_spend(ledger, f"run-{number}", chance, in_full=attempt >= reservations // 2)
            counter = admitted if done else refused
            with counter.get_lock():
                counter.value += 1

    over = _FORK.Event()
    told, tell = _FORK.Pipe(duplex=False)
    watcher = in_child(lambda: tell.send(watched(path, over.is_set)))
    spenders = [in_child(lambda number=number: spend(number)) for number in range(processes)]
    ended = [os.waitpid(child, 0)[1] for child in spenders]
    over.set()
    samples, highest, drifted = told.recv()
    os.waitpid(watcher, 0)
    return {
        "ended": ended,
        "admitted": admitted.value,
        "refused": refused.value,
        "samples": samples,
        "highest": highest,
        "drifted": drifted,
        **books(path),
    }


def watched(path: Path, over: Callable[[], bool]) -> tuple[int, int, int]:
    """Look at the books until it is over; return how often, the most that was taken, and how often they were wrong."""
    database = Database(path)
    samples = highest = drifted = 0
    while not over():
        database.rows("BEGIN")
        stored, summed = balances(database), added_up(database)
        database.rows("COMMIT")
        samples += 1
        drifted += stored != summed
        highest = max(highest, sum(stored.get(DAILY, (0, 0))[:2]))
    return samples, highest, drifted


def crash(path: Path, processes: int, cap: int) -> dict[str, Any]:
    """Kill every spender: some between reserving and settling, some wherever they are."""
    ledger_at(path, cap)

    def spend(number: int) -> None:
        ledger, chance = ledger_at(path, cap), random.Random(number)
        for _ in range(number):
            try_to_spend(ledger, f"run-{number}", chance, in_full=False)
        if number % 2:
            ledger.reserve(run_id=f"run-{number}", agent="advisor", model="model", micro_usd=AMOUNT)
            os.kill(os.getpid(), signal.SIGKILL)
        while True:
            try_to_spend(ledger, f"run-{number}", chance, in_full=False)

    spenders = [in_child(lambda number=number: spend(number)) for number in range(processes)]
    busy = [child for number, child in enumerate(spenders) if not number % 2]
    chance = random.Random(1)
    for child in busy:
        time.sleep(0.1 * chance.random())
        os.kill(child, signal.SIGKILL)
    ended = [os.waitpid(child, 0)[1] for child in spenders]
    return {"killed": sum(map(os.WIFSIGNALED, ended)), **books(path)}


def books(path: Path) -> dict[str, Any]:
    database = Database(path)
    open_holds = database.rows("SELECT count(*) FROM calls WHERE status = 'held'")[0][0]
    spent, held = balances(database)[DAILY][:2]
    return {"spent": spent, "held": held, "open": open_holds, "adds_up": balances(database) == added_up(database)}


def main() -> None:
    work, path, *numbers = sys.argv[1:]
    print(json.dumps({"race": race, "crash": crash}[work](Path(path), *map(int, numbers))))


if __name__ == "__main__":
    main()
