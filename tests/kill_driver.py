"""Runs the garden again and again, kills it with SIGKILL at given points, resumes it, and tells what came of it.

A process of its own, because it forks: it imports once, stays single-threaded, and every run is a child.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from langgraph.checkpoint.sqlite import SqliteSaver

from bedrock_evolution.dna.database import Database
from tests.garden import garden, slow_grow
from tests.support.forked import in_child

GENERATIONS = 4
WORKERS = 3
EVALUATIONS = "SELECT genes, part, case_index, sample, value FROM evaluations ORDER BY 1, 2, 3, 4"
EVENTS = "SELECT seq, json_extract(document, '$.kind'), json_extract(document, '$.mutation_id') FROM events ORDER BY 1"


def start(folder: Path) -> None:
    evolution(folder).run(GENERATIONS, seed=5, progress=False)


def resume(folder: Path) -> None:
    app = evolution(folder)
    [run] = app._services.journal.runs()
    app.resume(run.run_id, progress=False)


def evolution(folder: Path):
    os.environ["GARDEN_TRACE"] = str(folder / "trace.txt")
    return garden(folder, evaluate=slow_grow, workers=WORKERS)


def told(folder: Path) -> dict[str, object]:
    database = Database(folder / "g.db")
    [run] = database.rows("SELECT status, summary FROM runs")
    asked = (folder / "trace.txt").read_text().splitlines()
    summary = json.loads(run[1])
    return {
        "status": run[0],
        "dna": summary["dna_checksum"],
        "test_fitness": summary["test_fitness"],
        "evaluations": database.rows(EVALUATIONS),
        "trials": database.rows("SELECT generation, slot, genes, status, fitness FROM trials ORDER BY 1, 2"),
        "events": database.rows(EVENTS),
        "asked_again": len(asked) - len(set(asked)),
    }


def dies_at_checkpoint(number: int) -> None:
    """Kill this process just before it stores its n-th checkpoint: the writes that it takes up are stored by then."""
    put, count = SqliteSaver.put, itertools.count(1)

    def fatal(saver: SqliteSaver, *arguments: Any, **named: Any) -> Any:
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return put(saver, *arguments, **named)

    SqliteSaver.put = fatal  # type: ignore[method-assign]


def killed(folder: Path, *, after_s: float = 0.0, at_checkpoint: int = 0) -> dict[str, object]:
    folder.mkdir()

    def work() -> None:
        if at_checkpoint:
            dies_at_checkpoint(at_checkpoint)
        start(folder)

    child = in_child(work)
    if not at_checkpoint:
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    begun, reached = journalled(folder)
    again = in_child(lambda: resume(folder) if begun else start(folder))
    _, ended = os.waitpid(again, 0)
    return {"killed": os.WIFSIGNALED(status), "reached": reached, "resumed": ended == 0, **told(folder)}


def journalled(folder: Path) -> tuple[bool, int]:
    """Return whether a run was begun, and how many evaluations it had recorded."""
    if not (folder / "g.db").exists():
        return False, 0
    database = Database(folder / "g.db")
    tables = {row[0] for row in database.rows("SELECT name FROM sqlite_master")}
    begun = "runs" in tables and database.row("SELECT 1 FROM runs") is not None
    reached = len(database.rows("SELECT 1 FROM evaluations")) if "evaluations" in tables else 0
    database.close()
    return begun, reached


def main() -> None:
    root, points = Path(sys.argv[1]), int(sys.argv[2])
    whole = root / "whole"
    whole.mkdir()
    began = time.monotonic()
    os.waitpid(in_child(lambda: start(whole)), 0)
    duration = time.monotonic() - began
    runs = [killed(root / f"moment-{point}", after_s=duration * (point + 0.5) / points) for point in range(points)]
    checkpoints = len(Database(whole / "g.db").rows("SELECT 1 FROM checkpoints"))
    runs += [killed(root / f"checkpoint-{n}", at_checkpoint=n) for n in range(1, checkpoints + 1)]
    print(json.dumps({"whole": told(whole), "runs": runs, "checkpoints": checkpoints}))


if __name__ == "__main__":
    main()
