"""What the ledger costs a model call: to reserve and to settle, with few and with many calls on record, and in a crowd.

Prints one JSON object. Every transaction waits for the disk (`synchronous=FULL`), as it does in use.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bedrock_evolution.bedrock.models.prices import Tokens
from bedrock_evolution.bedrock.money.sqlite_ledger import SQLiteLedger
from bedrock_evolution.clock import RandomIds, SystemClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.settings import Budget

FEW = 10
PROCESSES = 8
_BLOCK = 50
"""Calls timed on one file before the other one has its turn, so that other work on the machine meets both."""
_BATCH = 1000
_BUDGET = Budget(
    call_usd=1.0, run_usd=1e6, daily_usd=1e6, monthly_usd=1e6, agent_daily_usd={"advisor": 1e6}, max_evaluations=1
)


def opened(path: Path) -> tuple[Database, SQLiteLedger]:
    """Open a ledger on a file, with every kind of cap set."""
    database, clock = Database(path), SystemClock()
    return database, SQLiteLedger(database, app="bench", budget=_BUDGET, clock=clock, ids=RandomIds(clock))


def call(ledger: SQLiteLedger) -> None:
    """Do what the ledger does for one model call."""
    hold = ledger.reserve(
        run_id="run-1", agent="advisor", model="model", micro_usd=1000, region="us-east-1", task="a/7"
    )
    ledger.settle(hold, tokens=Tokens(1000, 100), micro_usd=900, latency_ms=800)


def filled(path: Path, calls: int) -> tuple[Database, SQLiteLedger]:
    """Open a ledger that has so many calls on record."""
    database, ledger = opened(path)
    for begin in range(0, calls, _BATCH):
        with database.transaction("tables"):
            for _ in range(begin, min(begin + _BATCH, calls)):
                call(ledger)
    return database, ledger


def timed(ledger: SQLiteLedger, calls: int) -> list[float]:
    """Return the milliseconds of each of some calls."""
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        call(ledger)
        times.append(1000 * (time.perf_counter() - began))
    return times


def disk_ms(database: Database, transactions: int) -> float:
    """Return the milliseconds that two transactions take which write one row each."""
    with database.transaction("tables") as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS scratch (number INTEGER)")
    times = []
    for number in range(2 * transactions):
        began = time.perf_counter()
        with database.transaction("tables") as connection:
            connection.execute("INSERT INTO scratch VALUES (?)", [number])
        times.append(1000 * (time.perf_counter() - began))
    return 2 * statistics.median(times)


def crowd(path: Path, calls: int) -> dict[str, float]:
    """Let several processes make calls at once on one file."""
    fork = multiprocessing.get_context("fork")
    start, found = fork.Barrier(PROCESSES), fork.SimpleQueue()

    def work() -> None:
        _, ledger = opened(path)
        start.wait()
        began = time.monotonic()
        times = timed(ledger, calls)
        found.put((began, time.monotonic(), times))

    opened(path)[0].close()
    workers = [fork.Process(target=work) for _ in range(PROCESSES)]
    for worker in workers:
        worker.start()
    results = [found.get() for _ in workers]
    for worker in workers:
        worker.join()
    wall_s = max(end for _, end, _ in results) - min(begin for begin, _, _ in results)
    times = [ms for _, _, its in results for ms in its]
    return {"median_ms": statistics.median(times), "calls_per_s": len(times) / wall_s, "longest_ms": max(times)}


def measure(folder: Path, *, many: int, calls: int) -> dict[str, Any]:
    """Measure in an empty folder.

    Args:
        folder: Where the files are made.
        many: Calls on record in the larger one.
        calls: Calls timed on each file.
    """
    few_database, few = filled(folder / "few.db", FEW)
    _, much = filled(folder / "many.db", many)
    few_ms: list[float] = []
    many_ms: list[float] = []
    for _ in range(calls // _BLOCK):
        few_ms += timed(few, _BLOCK)
        many_ms += timed(much, _BLOCK)
    return {
        "few": FEW,
        "many": many,
        "calls": len(few_ms),
        "few_ms": statistics.median(few_ms),
        "many_ms": statistics.median(many_ms),
        "many_over_few": statistics.median(many_ms) / statistics.median(few_ms),
        "p95_ms": statistics.quantiles(many_ms, n=20)[-1],
        "disk_ms": disk_ms(few_database, calls),
        "processes": PROCESSES,
        "crowd": crowd(folder / "crowd.db", calls // PROCESSES),
    }


def main() -> None:
    """Measure in a temporary folder and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--calls", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), many=options.many, calls=options.calls)))


if __name__ == "__main__":
    main()
