"""What a proposal costs beside evaluator and model (row a), and what the runs take of memory and disk (row g)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from groups import DEFAULT, SINGLE, WIDE, WORKERS, Groups, Key, Settings, Size, cells, plain, repeated, told
from processes import GEPA, OPENEVOLVE, OURS, Bench, Done
from table import Row, spread

EDGE = 50
"""Proposals at each end that are compared."""
LAST_OVER_FIRST, LAST_OVER_FIRST_SHORT = 1.2, 1.5
OURS_OVER_PEER, OURS_OVER_PEER_SHORT = 0.2, 1.0
PERSISTENT = ((GEPA, "run folder"), (OPENEVOLVE, "1 worker"), (OPENEVOLVE, "8 workers"))
"""Peers that can resume, and keep all they have found."""
THRIFTY = ((GEPA, "IndependentSampling"), (OPENEVOLVE, "1 worker, population 50"))
"""Peers that can resume, in their cheapest setting: one saves once for eight proposals, one forgets all but 50."""


def overhead_runs(size: Size, bench: Bench) -> Groups:
    """Run every setting of every tool with an evaluator and a model that take no time."""
    # Of ours, 8 cases are for training, 8 for validation and 4 are sealed; the peers have 8 in all. With 40 cases there
    # is evidence enough for promotions, so that more is decided, and scored.
    settings: Settings = [
        (OURS, {"setting": DEFAULT, "cases": 20}),
        (OURS, {"setting": f"{DEFAULT}, 40 cases", "cases": 40}),
        (OURS, {"setting": WIDE, "cases": 20}),
        (OURS, {"setting": SINGLE, "cases": 20}),
        (GEPA, {"setting": "run folder"}),
        (GEPA, {"setting": "IndependentSampling"}),
        (GEPA, {"setting": "memory only"}),
        (OPENEVOLVE, {"setting": "1 worker"}),
        (OPENEVOLVE, {"setting": "8 workers", "workers": WORKERS}),
        (OPENEVOLVE, {"setting": "1 worker, population 50"}),
    ]
    return repeated(bench, size.repeats, settings, measure="overhead", proposals=size.proposals)


def overhead_groups(record: Sequence[Done]) -> Groups:
    """Return the overhead runs among all that was done, by tool and setting."""
    groups: dict[Key, list[Done]] = {}
    for done in record:
        if done.task.measure == "overhead":
            groups.setdefault((done.tool, done.task.setting), []).append(done)
    return groups


def overhead(groups: Groups) -> list[Row]:
    """Tell what a proposal costs beside evaluator and model, and whether that grows with history."""
    means = {key: [_mean(done.answer.ms_by_proposal) for done in its] for key, its in groups.items()}
    timed = {key: its for key, its in groups.items() if all(done.answer.cpu_ms_by_proposal for done in its)}
    cpu = {key: [_mean(done.answer.cpu_ms_by_proposal) for done in its] for key, its in timed.items()}
    first = {key: [_mean(done.answer.ms_by_proposal[:EDGE]) for done in its] for key, its in groups.items()}
    last = {key: [_mean(done.answer.ms_by_proposal[-EDGE:]) for done in its] for key, its in groups.items()}
    growth = {key: [_growth(done) for done in its] for key, its in groups.items()}
    ours, grown = statistics.median(means[OURS, DEFAULT]), statistics.median(growth[OURS, DEFAULT])
    shares = {key: [ours / mean for mean in means[key]] for key in PERSISTENT}
    worst, (limit, growth_limit) = max(map(statistics.median, shares.values())), _limits(groups)
    cheapest = statistics.median(means[OURS, WIDE])
    thrifty = {key: [cheapest / mean for mean in means[key]] for key in THRIFTY}
    edges = {key: f"{spread(first[key], 1)} → {spread(last[key], 1, 'ms')}" for key in groups}
    return [
        Row("a", "overhead of a proposal, mean", told(means, 1, "ms"), "≤ 5 ms", ours <= 5, figures=plain(means)),
        Row("a", "the same in CPU time of the main process", told(cpu, 1, "ms"), figures=plain(cpu)),
        Row("a", f"first {EDGE} proposals → last {EDGE}", cells(edges), figures=plain(last)),
        Row(
            "a",
            f"last {EDGE} / first {EDGE}, the lesser of wall and CPU time",
            told(growth),
            f"≤ {growth_limit:g}",
            grown <= growth_limit,
            ratio=True,
            figures=plain(growth),
        ),
        Row(
            "a",
            f"ours, {DEFAULT}, / the peer, where it can resume and keeps all it found",
            told(shares),
            f"≤ {limit:g}",
            worst <= limit,
            ratio=True,
            figures=plain(shares),
        ),
        Row(
            "a",
            f"ours, {WIDE}, / the peer in its cheapest setting that can resume",
            told(thrifty),
            figures=plain(thrifty),
        ),
    ]


def _limits(groups: Groups) -> tuple[float, float]:
    """Return what ours may cost of a peer, and how much it may grow.

    The peers' cost grows with history, so a short run shows less of it; and few repeats of it say little.
    """
    if next(iter(groups.values()))[0].task.proposals >= 1000:
        return OURS_OVER_PEER, LAST_OVER_FIRST
    return OURS_OVER_PEER_SHORT, LAST_OVER_FIRST_SHORT


def footprint(groups: Groups) -> list[Row]:
    """Tell what the overhead runs took of memory and disk."""
    memory = {key: [done.answer.peak_memory_mb for done in its] for key, its in groups.items()}
    disk = {key: [done.answer.disk_mb for done in its] for key, its in groups.items()}
    proposals = next(iter(groups.values()))[0].task.proposals
    most, full = max(memory[OURS, DEFAULT]), max(disk[OURS, DEFAULT])
    # A short run writes a share of the file only, so it proves nothing about the limit.
    whole = proposals >= 1000
    return [
        Row("g", f"peak memory of the largest process, {proposals:,} proposals", told(memory, 0, "MB"), "≤ 150 MB",
            most <= 150, figures=plain(memory)),
        Row("g", f"disk, {proposals:,} proposals", told(disk, 1, "MB"), "≤ 20 MB" if whole else "",
            full <= 20 if whole else None, figures=plain(disk)),
    ]  # fmt: skip


def _growth(done: Done) -> float:
    """Return how much more a proposal costs at the end; other work on the machine shows in the wall time only."""
    times = [done.answer.ms_by_proposal, done.answer.cpu_ms_by_proposal]
    return min(_mean(its[-EDGE:]) / _mean(its[:EDGE]) for its in times if its)


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)
