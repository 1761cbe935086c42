"""Finds the best settings by brute force, which only a simulation as cheap as this one allows; takes a minute.

First every combination of a coarse grid on a sample of days, then finer and finer steps of every gene from the
best of them, on all days.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from app import DAYS, GENES
from room import simulate

from bedrock_evolution import UsageError

GRID: dict[str, Sequence[Any]] = {
    "comfort_c": (20.5, 21.0, 21.5),
    "setback_k": (0.0, 2.0, 5.0),
    "setback_from": (22, 23),
    "setback_until": (3, 5),
    "away_setback": (False, True),
    "hysteresis_k": (0.3, 0.9, 1.8),
    "readings": (1, 2, 4),
}
HEATING: Sequence[dict[str, Any]] = [
    *({"weather_compensation": True, "curve": curve, "flow_c": 55.0} for curve in (0.35, 0.5, 0.6, 0.8, 1.1)),
    *({"weather_compensation": False, "curve": 1.5, "flow_c": flow} for flow in (30.0, 35.0, 40.0, 50.0)),
]
FIRST_STEPS = {"comfort_c": 0.4, "setback_k": 0.8, "hysteresis_k": 0.4, "curve": 0.1, "flow_c": 4.0}
FINEST = 0.05
"""Share of the first steps at which the search ends."""
FINALISTS = 4

# The answer, as this file found it.
BEST: dict[str, Any] = {
    "comfort_c": 21.5,
    "setback_k": 0.8,
    "setback_from": 24,
    "setback_until": 3,
    "away_setback": False,
    "hysteresis_k": 1.75,
    "readings": 2,
    "weather_compensation": True,
    "curve": 0.4,
    "flow_c": 55.0,
}


def mean_score(genes: Mapping[str, Any], days: Sequence[Mapping[str, Any]], *, seeds: int = 1) -> float:
    """Return the mean score over days and seeds; equal seeds for all settings, so that they compare well."""
    scores = [simulate(genes, day, 1000 * seed + day["day"]).score for seed in range(seeds) for day in days]
    return sum(scores) / len(scores)


def combinations() -> Iterator[dict[str, Any]]:
    """Yield every combination of the grid."""
    for values in itertools.product(*GRID.values()):
        for heating in HEATING:
            yield dict(zip(GRID, values, strict=True)) | heating


def neighbours(genes: Mapping[str, Any], share: float) -> Iterator[dict[str, Any]]:
    """Yield the settings with one gene, or the two ends of the night, a step away."""
    for name, value in genes.items():
        if isinstance(value, bool):
            moves: tuple[Any, ...] = (not value,)
        elif isinstance(value, int):
            moves = (value - 1, value + 1)
        else:
            moves = (value - FIRST_STEPS[name] * share, value + FIRST_STEPS[name] * share)
        for moved in moves:
            try:
                yield {**genes, name: GENES[name].check(moved)}
            except UsageError:
                continue


def refined(genes: dict[str, Any], days: Sequence[Mapping[str, Any]]) -> tuple[float, dict[str, Any]]:
    """Climb by single steps, halved whenever none of them helps."""
    best, share = mean_score(genes, days), 1.0
    while share >= FINEST:
        score, following = max(((mean_score(n, days), n) for n in neighbours(genes, share)), key=lambda found: found[0])
        if score > best:
            best, genes = score, following
        else:
            share /= 2
    return best, genes


def main() -> None:
    """Search, and print the best settings found."""
    sample = DAYS[::20]
    with ProcessPoolExecutor() as pool:
        candidates = list(combinations())
        print(f"{len(candidates)} combinations", file=sys.stderr)
        scores = pool.map(partial(mean_score, days=sample), candidates, chunksize=500)
        ranked = sorted(zip(scores, candidates, strict=True), key=lambda found: -found[0])
        starts = [genes for _, genes in ranked[:FINALISTS]]
        finals = sorted(pool.map(partial(refined, days=DAYS), starts), key=lambda found: -found[0])
    for score, genes in finals:
        print(f"{score:.4f} {genes}")


if __name__ == "__main__":
    main()
