"""Measures search without a language model against random search, TPE and CMA-ES, with equal evaluations.

Prints a table, and writes `build/bench/search.json` and `search.png`. `docs/benchmarks.md` tells how to read them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from search_methods import METHODS, Curve
from search_problems import PROBLEMS, draw

OUTPUT = Path(__file__).resolve().parent.parent / "build" / "bench"
OURS, RANDOM = "ours", "random"
SEEDS, SHORT_SEEDS = 10, 4
SHORT = ("branin", "choices", "pipeline", "words told")
CHANCE = 0.05
"""Two methods are tied on a problem where differences as large come about by chance more often."""
_PROCESSES = 2
_LEAST = 1e-6
"""Regrets below this are drawn and ranked as this: nobody cares for more digits."""
_COLOURS = {OURS: "#1f6f5c", RANDOM: "#8a8a8a", "tpe": "#b5552b", "cma": "#4a62a8"}

Curves: TypeAlias = dict[str, dict[str, list[Curve]]]
"""By problem and method, one for each seed."""


def measured(problems: Sequence[str], seeds: int) -> Curves:
    """Run every method on every instance; a seed draws the instance and what the method draws."""
    found: dict[tuple[str, str, int], Curve] = {}
    tasks = list(itertools.product(problems, METHODS, range(1, seeds + 1)))
    with ProcessPoolExecutor(_PROCESSES) as pool, Progress(console=Console(stderr=True)) as bars:
        bar = bars.add_task("search", total=len(tasks))
        running = {pool.submit(_run, *task): task for task in tasks}
        for done in as_completed(running):
            found[running[done]] = done.result()
            bars.advance(bar)
    return {p: {m: [found[p, m, seed] for seed in range(1, seeds + 1)] for m in METHODS} for p in problems}


def _run(problem: str, method: str, seed: int) -> Curve:
    return METHODS[method](draw(problem, seed), seed)


def regrets(curves: Sequence[Curve]) -> list[float]:
    """Return how far below the optimum each run ended."""
    return [max(curve[-1][1], _LEAST) for curve in curves]


def ranks(by_method: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return each method's mean rank over the seeds, from 1; equal regrets share theirs."""
    found = dict.fromkeys(by_method, 0.0)
    for values in zip(*by_method.values(), strict=True):
        for method, value in zip(by_method, values, strict=True):
            found[method] += sum(other < value for other in values) + (values.count(value) + 1) / 2
    count = len(next(iter(by_method.values())))
    return {method: total / count for method, total in found.items()}


def chance(ours: Sequence[float], other: Sequence[float]) -> float:
    """Return how often signs drawn at random make ours as much worse as it is: small where it truly is worse.

    An exact paired permutation test (Fisher, 1935) over the logarithms of the regrets.
    """
    differences = [math.log(a) - math.log(b) for a, b in zip(ours, other, strict=True)]
    seen = math.fsum(differences)
    signs = itertools.product((1, -1), repeat=len(differences))
    sums = [math.fsum(s * d for s, d in zip(each, differences, strict=True)) for each in signs]
    return sum(total >= seen - 1e-12 for total in sums) / len(sums)


def summary(curves: Curves) -> dict[str, Any]:
    """Return regrets, ranks and comparisons of every problem, and the mean ranks."""
    problems: dict[str, Any] = {}
    for name, by_method in curves.items():
        ended = {method: regrets(its) for method, its in by_method.items()}
        problems[name] = {
            "kind": draw(name, 1).kind,
            "evaluations": draw(name, 1).evaluations,
            "regrets": ended,
            "ranks": ranks(ended),
            "ours_worse_by_chance": {m: chance(ended[OURS], ended[m]) for m in ended if m != OURS},
        }
    mean = {m: statistics.fmean(its["ranks"][m] for its in problems.values()) for m in METHODS}
    return {"problems": problems, "mean_rank": mean}


def rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the claims, as rows of the table of `make bench-peers`."""
    mean = found["mean_rank"]
    told = ", ".join(f"{method} {rank:.2f}" for method, rank in sorted(mean.items(), key=lambda each: each[1]))
    worse = [name for name, its in found["problems"].items() if its["ours_worse_by_chance"][RANDOM] < CHANCE]
    seeds = len(next(iter(found["problems"].values()))["regrets"][OURS])
    over = f"{len(found['problems'])} problems, {seeds} seeds"
    first = mean[OURS] <= min(mean.values())
    claims = [
        (f"search without a language model, mean rank over {over}", told, "ours best", first),
        ("problems on which ours is worse than random search", ", ".join(worse) or "none", "none", not worse),
    ]
    return [{"claim": c, "measured": m, "limit": limit, "met": met, "ratio": True} for c, m, limit, met in claims]


def show(found: Mapping[str, Any]) -> None:
    """Print median regrets with their quartiles, and ranks."""
    table = Table(title="Regret at the end: median (quartiles), mean rank", title_justify="left", show_lines=True)
    for head in ("problem", "evaluations", *METHODS):
        table.add_column(head)
    for name, its in found["problems"].items():
        best = min(its["ranks"].values())
        cells = [_cell(its["regrets"][m], its["ranks"][m], best=best) for m in METHODS]
        table.add_row(f"{name}\n{its['kind']}", str(its["evaluations"]), *cells)
    table.add_row("mean rank", "", *(f"{found['mean_rank'][method]:.2f}" for method in METHODS))
    Console(width=None if Console().is_terminal else 150).print(table)


def _cell(values: Sequence[float], rank: float, *, best: float) -> str:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    told = f"{middle:.3g} ({low:.2g}–{high:.2g})\nrank {rank:.2f}"
    return f"[bold]{told}[/bold]" if rank == best else told


def plot(curves: Curves, path: Path) -> None:
    """Draw the median regret against evaluations, one panel a problem, the quartiles behind it."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    across = min(4, len(curves))
    down = math.ceil(len(curves) / across)
    figure, every = plt.subplots(down, across, figsize=(3.4 * across, 2.7 * down), layout="constrained", squeeze=False)
    for axes in every.flat[len(curves) :]:
        axes.axis("off")
    for axes, (name, by_method) in zip(every.flat, curves.items(), strict=False):
        problem = draw(name, 1)
        places = [round(problem.evaluations * place / 100) for place in range(2, 101)]
        for method, its in by_method.items():
            low, middle, high = zip(*(_quartiles(its, place) for place in places), strict=True)
            axes.fill_between(places, low, high, color=_COLOURS[method], alpha=0.13, linewidth=0)
            width = 2.2 if method == OURS else 1.4
            axes.plot(places, middle, color=_COLOURS[method], linewidth=width, label=method)
        axes.set_yscale("log")
        axes.set_title(f"{name} ({problem.kind})", fontsize=9.5, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    every[0, 0].set_ylabel("regret", fontsize=9)
    every[-1, 0].set_xlabel("evaluations", fontsize=9)
    spare = every.flat[-1] if len(curves) < every.size else every.flat[0]
    spare.legend(*every.flat[0].get_legend_handles_labels(), frameon=False, fontsize=9, loc="center")
    figure.savefig(path, dpi=140)


def _quartiles(curves: Sequence[Curve], place: int) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles([_at(curve, place) for curve in curves], n=4, method="inclusive")
    return low, middle, high


def _at(curve: Curve, place: int) -> float:
    """Return the regret after so many evaluations."""
    known = [regret for used, regret in curve if used <= place] or [curve[0][1]]
    return max(known[-1], _LEAST)


def _chosen(options: argparse.Namespace) -> Iterator[str]:
    wanted = options.only or (SHORT if options.short else PROBLEMS)
    yield from (name for name in PROBLEMS if name in wanted)


def main() -> None:
    """Measure, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PROBLEMS, action="append", metavar="PROBLEM", help="May be repeated.")
    parser.add_argument("--short", action="store_true", help="Fewer problems and seeds: about a minute.")
    parser.add_argument("--seeds", type=int, help=f"Instances of each problem; {SEEDS}, or {SHORT_SEEDS} with --short.")
    parser.add_argument("--check", action="store_true", help="Exit with 1 if ours is worse than random search.")
    parser.add_argument("--json", action="store_true", help="End with the rows as one line of JSON.")
    options = parser.parse_args()
    seeds = options.seeds or (SHORT_SEEDS if options.short else SEEDS)
    curves = measured(list(_chosen(options)), seeds)
    found = summary(curves)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "search.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    plot(curves, OUTPUT / "search.png")
    show(found)
    if options.json:
        print(json.dumps({"rows": rows(found)}))
    if options.check and not rows(found)[1]["met"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
