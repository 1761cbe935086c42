"""Runs the garden with its checkpoints in DynamoDB, kills it with SIGKILL, resumes it, and tells what came of it.

A process of its own, because it forks: it imports once, stays single-threaded, and every run is a child. The work file
is the same before and after a kill; the checkpoints are on an emulator in another process.
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

from bedrock_evolution import Evolution
from bedrock_evolution.dna.aws.calls import Clients
from bedrock_evolution.graph.cloud_checkpoints import open_cloud_checkpointer
from bedrock_evolution.running import Runner
from tests.garden import garden, slow_grow
from tests.kill_driver import WORKERS, told
from tests.support.cloud import session
from tests.support.forked import in_child

GENERATIONS = 3
WRITING = ("put_item", "batch_write_item", "transact_write_items")
STRIDE = 7
"""Every so many-th request is one to die before; no multiple of the requests of a step, so that each kind is met."""


def evolution(folder: Path, url: str, clients: Clients) -> Evolution:
    os.environ["GARDEN_TRACE"] = str(folder / "trace.txt")
    app = garden(folder, evaluate=slow_grow, workers=WORKERS)
    app.__dict__["_runner"] = Runner(app._services, lambda: open_cloud_checkpointer(url, clients, app._database))
    return app


def go(folder: Path, url: str, clients: Clients) -> None:
    """Begin the run of a folder, or go on with it."""
    app = evolution(folder, url, clients)
    runs = app._services.journal.runs()
    if runs:
        app.resume(runs[0].run_id, progress=False)
    else:
        app.run(GENERATIONS, seed=5, progress=False)


class Counting(Clients):
    """Clients that kill their process just before a request that writes."""

    written = itertools.count(1)
    fatal = 0

    def call(self, service: Any, region: str, operation: str, **arguments: Any) -> dict[str, Any]:
        if operation in WRITING and next(Counting.written) == Counting.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().call(service, region, operation, **arguments)


def killed(folder: Path, url: str, region: str, endpoint: str, *, before: int = 0, after_s: float = 0.0) -> Any:
    folder.mkdir()

    def work(fatal: int = 0) -> None:
        Counting.fatal = fatal
        go(folder, url, Counting(session, {region: endpoint}))

    child = in_child(lambda: work(before))
    if not before:
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    _, ended = os.waitpid(in_child(work), 0)
    return {"killed": os.WIFSIGNALED(status), "before": before, "resumed": ended == 0, **told(folder)}


def main() -> None:
    root, url, region, endpoint, moments = Path(sys.argv[1]), *sys.argv[2:5], int(sys.argv[5])
    whole = root / "whole"
    whole.mkdir()

    def count() -> None:
        go(whole, url, Counting(session, {region: endpoint}))
        (root / "written").write_text(str(next(Counting.written) - 1))

    began = time.monotonic()
    os.waitpid(in_child(count), 0)
    duration_s, written = time.monotonic() - began, int((root / "written").read_text())
    points = range(1, written + 1, STRIDE)
    runs = [killed(root / f"before-{n}", url, region, endpoint, before=n) for n in points]
    runs += [
        killed(root / f"moment-{n}", url, region, endpoint, after_s=duration_s * (n + 0.5) / moments)
        for n in range(moments)
    ]
    print(json.dumps({"whole": told(whole), "runs": runs, "written": written, "seconds": duration_s}))


if __name__ == "__main__":
    main()
