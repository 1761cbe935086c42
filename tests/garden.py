"""A small application for tests: numbers, a choice and texts, a noisy evaluator that can be repeated exactly."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bedrock_evolution import Evolution, Score, choice, number, text

GENES = {
    "water": number(0.1, low=0.0, high=1.0),
    "light": number(0.9, low=0.0, high=1.0),
    "soil": choice("sand", options=["sand", "clay", "loam"]),
    "label": text("A plant.", min_chars=3, max_chars=200),
}
WORDS = ("fern", "moss", "orchid", "cactus")
CASES = [{"plot": plot, "wants": WORDS[plot % len(WORDS)]} for plot in range(60)]


def grow(genes: Mapping[str, Any], case: Mapping[str, Any], seed: int) -> Score:
    """Score a garden plot: best with some water, little light, loam, and a label that names its plant."""
    plan = (genes["water"] - 0.6) ** 2 + (genes["light"] - 0.3) ** 2
    named = case["wants"] in str(genes["label"])
    value = 0.6 - plan + 0.1 * (genes["soil"] == "loam") + 0.2 * named + random.Random(seed).gauss(0, 0.02)
    missing = {} if named else {"label": f'should have named: "{case["wants"]}"'}
    return Score(value, feedback="" if named else "the label is wrong", gene_feedback=missing)


def slow_grow(genes: Mapping[str, Any], case: Mapping[str, Any], seed: int) -> Score:
    """Score a plot as `grow` does, in two milliseconds, and leave a trace of having been asked."""
    if trace := os.environ.get("GARDEN_TRACE"):
        descriptor = os.open(trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{sorted(genes.items())} {case['plot']} {seed}\n".encode())
        os.close(descriptor)
    time.sleep(0.002)
    return grow(genes, case, seed)


async def async_grow(genes: Mapping[str, Any], case: Mapping[str, Any], seed: int) -> Score:
    """Score a plot as `grow` does, on an event loop."""
    return grow(genes, case, seed)


def grow_all(genes: Mapping[str, Any], cases: list[Mapping[str, Any]], seeds: list[int]) -> list[Score]:
    """Score many plots as `grow` does, in one call."""
    return [grow(genes, case, seed) for case, seed in zip(cases, seeds, strict=True)]


def garden(folder: Path, **options: Any) -> Evolution:
    """Return the garden with a store of its own in `folder`."""
    chosen: dict[str, Any] = {"evaluate": grow, "cases": CASES, "model": "local", "store": f"sqlite:///{folder}/g.db"}
    if "evaluate_all" in options:
        del chosen["evaluate"]
    return Evolution("garden", GENES, **(chosen | options))
