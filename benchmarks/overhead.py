"""What the product itself costs: a run whose evaluator does nothing, in a process of its own.

Prints one JSON object. With `--profile FILE` it runs under cProfile, which slows it down, and writes the statistics.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import json
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bedrock_evolution import Evolution, EvolutionResult, Gene, choice, flag, integer, number

GENES: dict[str, Gene] = {
    "x": number(0.9, low=0.0, high=1.0),
    "y": number(0.1, low=0.0, high=1.0),
    "z": number(0.5, low=0.0, high=1.0),
    "steps": integer(3, low=1, high=20),
    "mode": choice("plain", options=["plain", "fast", "exact"]),
    "cache": flag(False),
}
CASES = {"single": [0], "multi": list(range(60))}
EDGE = 50
"""Generations at each end that are compared."""
_MAXRSS_IN_A_MB = 2**20 if sys.platform == "darwin" else 2**10
_GENERATION_BEGINS, _RUN_ENDS = "observe", "report"


def trivial(genes: Mapping[str, Any], case: int) -> float:
    """Score a smooth hill, tilted a little by the case: about a microsecond of work."""
    tilt = (case * 37 % 11) / 100
    far = (genes["x"] - 0.3) ** 2 + (genes["y"] - 0.7) ** 2 + tilt * (genes["z"] - 0.2) ** 2
    return 1.0 - float(far) - 0.01 * abs(genes["steps"] - 12) + (0.02 if genes["mode"] == "exact" else 0.0)


def measure(objective: str, generations: int, store: Path) -> dict[str, Any]:
    """Run and time each generation.

    Args:
        objective: `single` (one deterministic case) or `multi`.
        generations: How many.
        store: A file that does not exist yet.
    """
    evolution = Evolution(
        app=f"overhead-{objective}",
        genes=GENES,
        evaluate=trivial,
        cases=CASES[objective],
        store=f"sqlite:///{store}",
        model="local",
    )
    marks: list[tuple[float, float, int]] = []
    began, result = time.perf_counter(), None
    for item in evolution.stream(generations, seed=1):
        if isinstance(item, EvolutionResult):
            result = item
        elif item.step in {_GENERATION_BEGINS, _RUN_ENDS}:
            marks.append((time.perf_counter(), time.process_time(), item.trials))
    if result is None or result.status != "done" or len(marks) != generations + 1:
        sys.exit(f"the run ended early, after {len(marks) - 1} generations: {result}")
    steps = list(itertools.pairwise(marks))
    counts = [max(1, after[2] - before[2]) for before, after in steps]
    wall = [1000 * (after[0] - before[0]) for before, after in steps]
    cpu = [1000 * (after[1] - before[1]) for before, after in steps]
    return {
        "objective": objective,
        "generations": generations,
        "trials": result.trials,
        "evaluations": result.evaluations,
        "promotions": result.dna_generation,
        "wall_s": time.perf_counter() - began,
        "wall_ms_per_trial": sum(wall) / sum(counts),
        "cpu_ms_per_trial": sum(cpu) / sum(counts),
        "wall_last_over_first": _last_over_first(wall, counts),
        "cpu_last_over_first": _last_over_first(cpu, counts),
        "first_ms": sum(wall[:EDGE]) / sum(counts[:EDGE]),
        "last_ms": sum(wall[-EDGE:]) / sum(counts[-EDGE:]),
        "database_mb": _size_mb(store),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MAXRSS_IN_A_MB,
        "wall_ms_by_generation": [round(ms / count, 3) for ms, count in zip(wall, counts, strict=True)],
        "cpu_ms_by_generation": [round(ms / count, 3) for ms, count in zip(cpu, counts, strict=True)],
    }


def _last_over_first(times_ms: list[float], trials: list[int]) -> float:
    """Return the time a trial takes in the last generations, over that in the first."""
    return (sum(times_ms[-EDGE:]) / sum(trials[-EDGE:])) / (sum(times_ms[:EDGE]) / sum(trials[:EDGE]))


def _size_mb(store: Path) -> float:
    """Return the size of the file with its write-ahead log: what is on the disk."""
    return sum(file.stat().st_size for file in store.parent.glob(store.name + "*")) / 1e6


def main() -> None:
    """Measure in a temporary folder and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("objective", choices=sorted(CASES))
    parser.add_argument("--generations", type=int, default=1000)
    parser.add_argument("--profile", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "bench.db"
        if options.profile:
            profile = cProfile.Profile()
            figures = profile.runcall(measure, options.objective, options.generations, store)
            profile.dump_stats(options.profile)
        else:
            figures = measure(options.objective, options.generations, store)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
