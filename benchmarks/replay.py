"""Runs an application, replays the run from its record, and compares the seconds; called by `run.py`.

The evaluator scores a message as the support router does and takes some milliseconds more, as one that works would:
one that asks a model takes a hundred times as long. The stand-in advises, so no model's latency is in the run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bedrock_evolution import Evolution
from bedrock_evolution.graph.replay import replay

SUPPORT_ROUTER = Path(__file__).resolve().parent.parent / "examples" / "support_router"


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--case-ms", type=float, default=5.0, help="Milliseconds that a case takes more.")
    parser.add_argument("--repeats", type=int, default=5, help="Replays, of which the median counts.")
    options = parser.parse_args()
    found = {
        "costly": measured(options.generations, options.case_ms, options.repeats),
        "free": measured(options.generations, 0.0, options.repeats),
    }
    print(json.dumps({"case_ms": options.case_ms, "generations": options.generations, **found}))


def measured(generations: int, case_ms: float, repeats: int) -> dict[str, Any]:
    """Run the support router and replay the run.

    Args:
        generations: Generations of the run.
        case_ms: Milliseconds that the scoring of a case takes more.
        repeats: Replays.
    """
    sys.path.insert(0, str(SUPPORT_ROUTER))
    import app

    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{folder}/replay.db"
        evolution = Evolution(
            "support-router",
            app.GENES,
            evaluate_all=slowed(app.score, case_ms),
            cases=app.load_messages(),
            score_range=(0.0, 1.0),
            store=store,
            model="local",
        )
        began = time.perf_counter()
        result = evolution.run(generations, seed=1, progress=False)
        run_s = time.perf_counter() - began
        reports = [replay(evolution._database, result.run_id) for _ in range(repeats)]  # noqa: SLF001  # its own store
        evolution.close()
    if not all(report.identical for report in reports):
        raise SystemExit(f"the replay differs: {reports[0].difference}")
    replay_s = sorted(report.seconds for report in reports)[repeats // 2]
    return {
        "run_s": run_s,
        "replay_s": replay_s,
        "ratio": run_s / replay_s,
        "evaluations": result.evaluations,
        "steps": reports[0].steps,
        "workers": os.cpu_count(),
    }


Score = Callable[[Mapping[str, Any], Sequence[Any]], list[Any]]


def slowed(score: Score, case_ms: float) -> Score:
    """Return an evaluator that takes some milliseconds more for each case."""

    def slow(genes: Mapping[str, Any], cases: Sequence[Any]) -> list[Any]:
        time.sleep(len(cases) * case_ms / 1000)
        return score(genes, cases)

    return slow


if __name__ == "__main__":
    main()
