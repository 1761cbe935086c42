"""What the audit chain costs: to append an event with its signed head, and to verify a long record.

Prints one JSON object. Every transaction waits for the disk (`synchronous=FULL`), as it does in use.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bedrock_evolution.dna.anchor import HeadAnchor
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.events import EventDraft, EvolutionEvent
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from bedrock_evolution.governance.audit import verify

APP = "bench"
_BLOCK = 50
"""Appended events and bare transactions take turns by so many, so that other work on the machine meets both."""
_WARM = 500
"""Events before the first that is timed: a new write-ahead log grows, which the disk takes longer for."""


def event(number: int) -> EventDraft:
    """Draft an event such as a decision leaves, about 1 KB."""
    scores = [(number * step % 1000) / 999 for step in range(1, 11)]
    return EventDraft(
        app=APP,
        kind="decided",
        key=f"run-20260301-120000-9f3c1a0b7e/{number}/decided",
        at=datetime(2026, 3, 1, 12, 0, number % 60, tzinfo=UTC),
        actor="decision-engine",
        why="the gain is credible on the validation cases, and the change can be taken back",
        run_id="run-20260301-120000-9f3c1a0b7e",
        generation=number,
        mutation_id=f"m-{number:016x}",
        model="anthropic.claude-sonnet-4-5-20250929-v1:0",
        input_tokens=1800,
        output_tokens=240,
        cost_micro_usd=9000,
        data={
            "inputs": {"live": "1f" * 32, "candidate": "e0" * 32, "scores": scores, "cases": len(scores)},
            "reasoning": "The prompt names the refund window now, which three of the failed cases asked for.",
            "confidence": 0.82,
            "outcome": {"verdict": "approve", "risk": "low", "by": "rule", "gain": scores[0] / 10},
        },
    )


def opened(path: Path) -> tuple[Database, SQLiteDNAStore]:
    """Open a store with its anchor."""
    database = Database(path)
    return database, SQLiteDNAStore(database, HeadAnchor.beside(database))


def median_us(times: list[float]) -> float:
    """Return the median of some seconds, in microseconds."""
    return 1e6 * statistics.median(times)


def timed(work: Callable[[], object], into: list[float]) -> None:
    """Note the seconds that some work takes."""
    began = time.perf_counter()
    work()
    into.append(time.perf_counter() - began)


def appending(path: Path, events: int) -> dict[str, float]:
    """Measure what it takes to append and sign an event, a bare transaction of one row, and the parts in between."""
    database, store = opened(path)
    for number in range(_WARM):
        store.append(event(number))
    with database.transaction("tables") as connection:
        connection.execute("CREATE TABLE scratch (number INTEGER)")

    def bare() -> None:
        with database.transaction("tables") as connection:
            connection.execute("INSERT INTO scratch VALUES (1)")

    append_s: list[float] = []
    bare_s: list[float] = []
    seal_s: list[float] = []
    sign_s: list[float] = []
    for begin in range(_WARM, _WARM + events, _BLOCK):
        for number in range(begin, begin + _BLOCK):
            draft = event(number)
            timed(lambda draft=draft: store.append(draft), append_s)  # type: ignore[misc]  # the default binds it
        for _ in range(_BLOCK):
            timed(bare, bare_s)
    assert store.anchor is not None
    head = store.recent(APP, ["decided"], limit=1)[0]
    for _ in range(events):
        timed(lambda: EvolutionEvent.sealed(draft, seq=1, previous=head.previous), seal_s)
        timed(lambda: store.anchor and store.anchor.sign(APP, head.seq, head.hash), sign_s)
    return {
        "append_us": median_us(append_s),
        "append_p95_us": 1e6 * statistics.quantiles(append_s, n=20)[-1],
        "disk_us": median_us(bare_s),
        "seal_us": median_us(seal_s),
        "sign_us": median_us(sign_s),
        "event_bytes": float(len(head.document())),
    }


def verifying(path: Path, events: int, rounds: int) -> dict[str, float]:
    """Measure how fast a record is verified whose every event has its line in the anchor."""
    database, store = opened(path)
    for begin in range(0, events, 1000):
        with database.transaction("tables"):
            for number in range(begin, begin + 1000):
                store.append(event(number))
    times: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        report = verify(store, APP)
        times.append(time.perf_counter() - began)
        if not (report.intact and report.checked == report.signed == events):
            raise SystemExit(f"the record is not intact: {report}")
    # Other work on the machine only ever takes time.
    return {
        "events": events,
        "events_per_s": events / min(times),
        "median_events_per_s": events / statistics.median(times),
    }


def measure(folder: Path, *, events: int, appended: int, rounds: int = 7) -> dict[str, Any]:
    """Measure in an empty folder.

    Args:
        folder: Where the files are made.
        events: Length of the record that is verified.
        appended: Events that are timed.
        rounds: How often the record is verified; the fastest counts.
    """
    return {
        "append": appending(folder / "append.db", appended),
        "verify": verifying(folder / "verify.db", events, rounds),
    }


def main() -> None:
    """Measure in a temporary folder and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--appended", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), events=options.events, appended=options.appended)))


if __name__ == "__main__":
    main()
