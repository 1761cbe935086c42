"""A progress bar for a run, where somebody watches."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from .results import EvolutionResult, Progress

_TRIED = ("decide", "record")
"""What follows the trials of a generation: what passed is decided on, and where nothing did that is put on record."""


def watch(items: Iterator[Progress | EvolutionResult], *, show: bool) -> EvolutionResult:
    """Follow a run to its end.

    Args:
        items: What `Evolution.stream` yields.
        show: Draw a bar on standard error; a line for each generation, where that is no terminal.
    """
    if show:
        items = _drawn(items) if sys.stderr.isatty() else _written(items)
    result = _follow(items)
    if result is None:
        raise RuntimeError("a run ended without a result")
    return result


def _follow(items: Iterator[Progress | EvolutionResult]) -> EvolutionResult | None:
    last: EvolutionResult | None = None
    for item in items:
        if isinstance(item, EvolutionResult):
            last = item
    return last


def _written(items: Iterator[Progress | EvolutionResult]) -> Iterator[Progress | EvolutionResult]:
    for item in items:
        if isinstance(item, Progress) and item.step in _TRIED:
            print(f"generation {item.generation}/{item.generations}: {told(item)}", file=sys.stderr, flush=True)
        yield item


def _drawn(items: Iterator[Progress | EvolutionResult]) -> Iterator[Progress | EvolutionResult]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("generation"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("run", total=None, told="starting")
        for item in items:
            if isinstance(item, Progress):
                bar.update(
                    task,
                    completed=item.generation,
                    total=item.generations,
                    told=f"{item.step:<7} {told(item)}",
                )
            yield item


def told(progress: Progress) -> str:
    """Say in one line where a run stands."""
    fitness = "–" if progress.fitness is None else f"{progress.fitness:.4g}"
    baseline = "" if progress.baseline_fitness is None else f" (from {progress.baseline_fitness:.4g})"
    return (
        f"fitness {fitness}{baseline} · {progress.trials} trials"
        f" · {progress.evaluations} evaluations · ${progress.cost_usd:.4f}"
    )
