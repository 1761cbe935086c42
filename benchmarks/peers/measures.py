"""Utilisation, kill and resume, the null test, the budget (rows b to e): tasks, best fair settings, rows."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from groups import DEFAULT, WIDE, WORKERS, Key, Settings, Size, cells, plain, repeated, told
from processes import GEPA, GRACE_S, OPENEVOLVE, OURS, Bench, Done
from table import Row, spread

AHEAD = f"{WIDE}, ahead"
"""The advisor is asked for the next generation during this one's trials."""


def utilisation(size: Size, bench: Bench) -> list[Row]:
    """Keep eight workers busy, start-up included, with a model that takes no time and with one that does."""
    settings: Settings = [
        (OURS, {"setting": WIDE, "cases": 40}),
        (OURS, {"setting": AHEAD, "cases": 40}),
        (GEPA, {"setting": "run folder"}),
        (GEPA, {"setting": "IndependentSampling"}),
        # What knows no cases is given one, so that its unit of work is as long as the others'.
        (OPENEVOLVE, {"setting": "8 workers", "cases": 1, "proposals": 319}),
    ]
    shared = {"measure": "utilisation", "workers": WORKERS, "evaluator_s": 0.2, "evaluations": 320, "proposals": 320}
    rows: list[Row] = []
    bench.expect(2 * size.repeats * len(settings))
    for model_s, model, limit, mine in (
        (0.0, "a model that answers at once", 0.95, WIDE),
        (0.2, "a model that takes 0.2 s", 0.9, AHEAD),
    ):
        groups = repeated(bench, size.repeats, settings, expect=False, model_s=model_s, **shared)
        busy = {key: [_busy(done) for done in its] for key, its in groups.items()}
        counts = {key: sorted({done.evaluations for done in its}) for key, its in groups.items()}
        lines = {key: f"{spread(busy[key])}, {_either(counts[key])} evaluations" for key in groups}
        reached = statistics.median(busy[OURS, mine])
        name = f"utilisation of 8 workers, 0.2 s an evaluation, {model}, start-up included"
        rows.append(Row("b", name, cells(lines), f"≥ {limit:g}", reached >= limit, figures=plain(busy)))
    return rows


def kills(size: Size, bench: Bench) -> list[Row]:
    """Kill every tool at random points, let it go on, and compare with a run that nobody killed."""
    settings: Settings = [
        (OURS, {"setting": DEFAULT, "cases": 40}),
        (GEPA, {"setting": "run folder"}),
        (OPENEVOLVE, {"setting": "8 workers, checkpoint every 10"}),
        (OPENEVOLVE, {"setting": "8 workers"}),
    ]
    shared = {"measure": "kill", "proposals": 120, "workers": WORKERS, "evaluator_s": 0.03}
    bench.expect((size.kills + 1) * len(settings))
    runs: dict[Key, list[Done]] = {}
    more: dict[Key, list[int]] = {}
    same: dict[Key, list[bool]] = {}
    for tool, own in settings:
        key, given = (tool, own["setting"]), shared | own
        whole = bench.run(tool, **given)
        runs[key] = its = [bench.run_killed(tool, whole, seed=seed, **given) for seed in range(1, size.kills + 1)]
        more[key] = [run.evaluations - whole.evaluations for run in its]
        same[key] = [run.answer.best == whole.answer.best and run.begun.keys() == whole.begun.keys() for run in its]
    lost = {key: [run.lost for run in its] for key, its in runs.items()}
    mine, kills = (OURS, DEFAULT), f"kill -9 at {size.kills} random points, resumed"
    return [
        Row(
            "c",
            f"{kills}: evaluations beyond those of the uninterrupted run",
            told(more, 0),
            f"≤ {WORKERS}, those in flight",
            max(more[mine]) <= WORKERS,
            figures=plain(more),
        ),
        Row(
            "c",
            f"{kills}: cases scored again that had been scored {1000 * GRACE_S:g} ms before the kill",
            told(lost, 0),
            "0",
            not any(lost[mine]),
            figures=plain(lost),
        ),
        Row(
            "c",
            f"{kills}: runs that are as the uninterrupted one, with the same evaluations and the same best",
            cells({key: f"{sum(its)} of {len(its)}" for key, its in same.items()}),
            f"{size.kills} of {size.kills}",
            all(same[mine]),
            figures=plain(same),
        ),
    ]


def null(size: Size, bench: Bench) -> list[Row]:
    """Give every tool candidates that are all equally good, and look at what it believes."""
    settings: Settings = [
        (OURS, {"setting": "5 candidates a generation"}),
        (GEPA, {"setting": "run folder"}),
        (OPENEVOLVE, {"setting": "1 worker"}),
    ]
    shared = {"measure": "null", "proposals": 50, "cases": 60, "sigma": 0.1}
    bench.expect(size.seeds * len(settings))
    groups: dict[Key, list[Done]] = {(tool, own["setting"]): [] for tool, own in settings}
    for seed in range(1, size.seeds + 1):
        for tool, own in settings:
            groups[tool, own["setting"]].append(bench.run(tool, seed=seed, **shared, **own))
    changed = {key: [int(_told(done.answer.promotions)) for done in its] for key, its in groups.items()}
    reported = {key: [_told(done.answer.reported) for done in its] for key, its in groups.items()}
    [mine] = [key for key in groups if key[0] == OURS]
    share, mean = _promoting(changed[mine]), statistics.mean(reported[mine])
    sealed = statistics.mean(_told(done.answer.sealed) for done in groups[mine])
    best = {key: f"{statistics.mean(its):.3f} ({min(its):.3f}–{max(its):.3f})" for key, its in reported.items()}
    best[mine] += f"; on the sealed test {sealed:.3f}"
    times = {key: f"{100 * _promoting(its):.0f} %, {spread(its, 0)} times a run" for key, its in changed.items()}
    name = f"null test (σ = 0.1, 60 cases, 50 proposals, {size.seeds} seeds)"
    return [
        Row("d", f"{name}: runs that promote", cells(times), "≤ 5 %", share <= 0.05, figures=plain(changed)),
        Row("d", "null test: reported best for a true 0.500, mean", cells(best), "≤ 0.51", mean <= 0.51,
            figures=plain(reported)),
    ]  # fmt: skip


def budget(_size: Size, bench: Bench) -> list[Row]:
    """Ask every tool for a hundred evaluations, and count."""
    settings: Settings = [
        (OURS, {"setting": WIDE, "cases": 40}),
        (GEPA, {"setting": "run folder"}),
        (GEPA, {"setting": "IndependentSampling"}),
        # It has no limit of evaluations; iterations are the nearest, each of them one evaluation.
        (OPENEVOLVE, {"setting": "8 workers", "cases": 1, "proposals": 100}),
    ]
    groups = repeated(
        bench, 1, settings, measure="budget", proposals=100, workers=WORKERS, evaluator_s=0.02, evaluations=100
    )
    counts = {key: [done.evaluations for done in its] for key, its in groups.items()}
    met = max(counts[OURS, WIDE]) <= 100
    name = "evaluation budget of 100, 8 workers: evaluations made"
    return [Row("e", name, told(counts, 0), "≤ 100", met, figures=plain(counts))]


def _busy(done: Done) -> float:
    return done.task.evaluator_s * done.evaluations / (done.task.workers * done.wall_s)


def _told(figure: float | None) -> float:
    if figure is None:
        raise ValueError("a tool did not tell what the null test asks for")
    return figure


def _promoting(promotions: Sequence[int]) -> float:
    return sum(count > 0 for count in promotions) / len(promotions)


def _either(values: Sequence[int]) -> str:
    return "/".join(map(str, values))


MEASURES: dict[str, Callable[[Size, Bench], list[Row]]] = {
    "b": utilisation,
    "c": kills,
    "d": null,
    "e": budget,
}
"""By letter; `a` and `g` are two readings of the same runs."""
