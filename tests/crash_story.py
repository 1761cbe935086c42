"""The story that is killed at every commit point: a garden whose run asks a person, fails once and is healed.

Two generations are asked about. The first goes live, does worse and is rolled back, which begins safe mode, so the
second question becomes void; a person lifts safe mode, and the third generation looks for the cause and goes live.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bedrock_evolution import Evolution, choice, number
from bedrock_evolution.clock import CountedIds, FixedClock
from bedrock_evolution.settings import Autonomy, Safety, Settings

Told = dict[str, list[Any]]

GENERATIONS = 3
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CASES = {"train": list(range(8)), "validation": list(range(8, 24)), "test": list(range(24, 28))}
GENES = {
    "water": number(0.1, low=0.0, high=1.0),
    "light": number(0.9, low=0.0, high=1.0),
    "soil": choice("sand", options=["sand", "clay", "loam"]),
}
BEFORE = [0.5 + 0.01 * (n % 7) for n in range(30)]
WORSE = [0.1 + 0.01 * (n % 7) for n in range(60)]
AFTER = [0.5 + 0.01 * (n % 7) for n in range(10)]

TABLES = {
    "events": "SELECT seq, kind, key, hash, document FROM events ORDER BY seq",
    "dna": "SELECT generation, checksum, parent, mutation, document FROM dna ORDER BY 1",
    "runs": "SELECT run_id, status, started_at, request, summary FROM runs ORDER BY 1",
    "trials": "SELECT run_id, generation, slot, genes, status, fitness, document FROM trials ORDER BY 1, 2, 3",
    "evaluations": "SELECT genes, part, case_index, sample, value, detail, attempts FROM evaluations"
    " ORDER BY 1, 2, 3, 4",
    "approvals": "SELECT * FROM approvals ORDER BY approval_id",
    "feedback": "SELECT * FROM feedback ORDER BY number",
    "outcomes": "SELECT number, genes, value, at FROM outcomes ORDER BY 1",
    "model_calls": "SELECT run_id, step, number, document FROM model_calls ORDER BY 1, 2, 3",
}
"""What a killed run and one that was never killed must both leave behind, to the last byte."""


class Shift(Executor):
    """Works at once, but goes on strike in the trials of generation 2 until that is on record as an incident.

    Whether it strikes is read from the store, so that a process which died changes nothing about it.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._max_workers = 1

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self._strikes():
            raise RuntimeError("on strike")
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done

    def _strikes(self) -> bool:
        connection = sqlite3.connect(self._store)
        try:
            [advised, incidents] = connection.execute(
                "SELECT sum(kind = 'advised'), sum(kind = 'incident') FROM events"
            ).fetchone()
        finally:
            connection.close()
        return bool(advised == 2 and not incidents)


def grow(genes: Mapping[str, Any], cases: list[int]) -> list[float]:
    """Score plots: best with some water, little light, and loam."""
    plan = (genes["water"] - 0.6) ** 2 + (genes["light"] - 0.3) ** 2
    return [0.6 - plan + 0.1 * (genes["soil"] == "loam") + 0.001 * (plot % 5) for plot in cases]


def garden(folder: Path) -> Evolution:
    store = folder / "garden.db"
    settings = Settings(
        model="local",
        store=f"sqlite:///{store}",
        candidates=3,
        autonomy=Autonomy(always_ask=("*",)),
        safety=Safety(max_rollbacks=1),
    )
    return Evolution(
        "garden",
        GENES,
        evaluate_all=grow,
        cases=CASES,
        executor=Shift(store),
        settings=settings,
        clock=FixedClock(NOON),
        ids=CountedIds(),
    )


# -- its story


def tend(app: Evolution) -> None:
    """Go on with the garden until its run is done: start or resume it, and do what people do while it waits."""
    for _ in range(10):
        known = app._services.journal.runs()
        if not known:
            app.run(GENERATIONS, seed=5, progress=False)
            continue
        if known[0].status == "done":
            # Its process may have died between the report and the graph's last checkpoint. Whoever resumes it then
            # brings the graph to its end, without another report.
            if app._runner.graph.get_state({"configurable": {"thread_id": known[0].run_id}}).next:
                app.resume(known[0].run_id, progress=False)
            return
        if known[0].status == "waiting":
            _while_it_waits(app)
        app.resume(known[0].run_id, progress=False)
    raise AssertionError("the run does not end")


def _while_it_waits(app: Evolution) -> None:
    for approval in app._services.approvals.listed("garden", pending_only=True):
        if approval.generation == 1:
            if not app._services.feedback.listed("garden", limit=1):
                app.feedback("The plants by the window look burnt.", source="ann")
            _hand_in(app, BEFORE, expected=0)
            app.answer(approval.approval_id, "approve", by="ann", why="looks right")
        elif approval.generation == 2:
            # The genes that went live meanwhile do worse, and are rolled back; the question is about other genes then.
            live = app._services.snapshot(1).values
            _hand_in(app, WORSE, expected=len(BEFORE), genes=live)
            # Whatever comes next makes up for a process that died between outcomes and what follows from them.
            _hand_in(app, AFTER, expected=len(BEFORE) + len(WORSE))
            if app.safe_mode():
                app.lift_safe_mode(by="ann", why="it was the heat")
        else:
            app.answer(approval.approval_id, "approve", by="bob")


def _hand_in(app: Evolution, values: Sequence[float], *, expected: int, genes: Mapping[str, Any] | None = None) -> None:
    """Record outcomes of the genes as they were declared, or others, unless they are stored; in one batch."""
    live = app._live
    [[stored]] = app._database.rows("SELECT count(*) FROM outcomes")
    if stored != expected:
        return
    # The thread that stores them takes what there is, so it is kept from taking a part.
    with live._changed:
        for value in values:
            app.record_outcome(value, genes=genes or app._services.snapshot(0).values)
    app.flush_outcomes()


# -- what it leaves behind


def told(app: Evolution) -> Told:
    app._services.begin()  # as the next run would: what a process died before signing is signed
    report = app.audit()
    seen: Told = {name: [list(row) for row in app._database.rows(query)] for name, query in TABLES.items()}
    seen["audit"] = [list(report.problems), report.checked, report.head, report.signed, report.unsigned]
    [[run_id, *_]] = seen["runs"]
    state = app._runner.graph.get_state({"configurable": {"thread_id": run_id}})
    seen["state"] = [list(state.next), json.loads(json.dumps(state.values))]
    return json.loads(json.dumps(seen))


def differences(one: Told, other: Told) -> dict[str, str]:
    """Return the first difference of each table."""
    found = {}
    for name, rows in one.items():
        if rows != other[name]:
            pairs = zip([*rows, None], [*other[name], None], strict=False)
            first = next(((mine, its) for mine, its in pairs if mine != its), (len(rows), len(other[name])))
            found[name] = f"{first[0]}\nbut killed\n{first[1]}"
    return found
