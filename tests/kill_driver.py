"""Runs the garden again and again, kills it with SIGKILL at given points, resumes it, and tells what came of it.

A process of its own, because it forks: it imports once, stays single-threaded, and every run is a child.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bedrock_evolution.dna.database import Database
from tests.garden import garden, slow_grow

GENERATIONS = 4
WORKERS = 3
EVALUATIONS = "SELECT genes, part, case_index, sample, value FROM evaluations ORDER BY 1, 2, 3, 4"
EVENTS = "SELECT seq, json_extract(document, '$.kind'), json_extract(document, '$.mutation_id') FROM events ORDER BY 1"


def in_child(work: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(f"child failed: {error!r}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return child


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


def killed(folder: Path, after_s: float) -> dict[str, object]:
    folder.mkdir()
    child = in_child(lambda: start(folder))
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    reached = 0
    if (folder / "g.db").exists():
        database = Database(folder / "g.db")
        if database.rows("SELECT 1 FROM sqlite_master WHERE name = 'evaluations'"):
            reached = len(database.rows("SELECT 1 FROM evaluations"))
        begun = database.rows("SELECT 1 FROM sqlite_master WHERE name = 'runs'") and database.rows("SELECT 1 FROM runs")
        database.close()
    else:
        begun = []
    again = in_child(lambda: resume(folder) if begun else start(folder))
    _, ended = os.waitpid(again, 0)
    return {"killed": os.WIFSIGNALED(status), "reached": reached, "resumed": ended == 0, **told(folder)}


def main() -> None:
    root, points = Path(sys.argv[1]), int(sys.argv[2])
    whole = root / "whole"
    whole.mkdir()
    began = time.monotonic()
    os.waitpid(in_child(lambda: start(whole)), 0)
    duration = time.monotonic() - began
    runs = [killed(root / f"killed-{point}", duration * (point + 0.5) / points) for point in range(points)]
    print(json.dumps({"whole": told(whole), "runs": runs}))


if __name__ == "__main__":
    main()
