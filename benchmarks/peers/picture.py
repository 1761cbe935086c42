"""The picture: what a proposal costs against how many were made before it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from groups import Groups
from processes import GEPA, OPENEVOLVE, OURS

_WINDOW = 49
"""Six generations of eight."""
_COLOURS = {OURS: "#1f6f5c", GEPA: "#b5552b", OPENEVOLVE: "#4a62a8"}
_DASHES = ("solid", (0, (5, 1.6)), (0, (1.2, 1.4)), (0, (6, 1.4, 1.2, 1.4)))
_INK, _FAINT = "#333333", "#d9d9d9"


def draw(groups: Groups, path: Path) -> None:
    """Draw running medians of every setting, over its repeats and neighbours, on a logarithmic axis.

    Args:
        groups: The overhead runs.
        path: The PNG to write.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9.5, 5.2), layout="constrained")
    ends: list[tuple[float, str, str]] = []
    drawn = dict.fromkeys(_COLOURS, 0)
    for (tool, setting), repeats in groups.items():
        middle = [statistics.median(at) for at in zip(*(done.answer.ms_by_proposal for done in repeats), strict=False)]
        costs, half = running_median(middle), _WINDOW // 2
        style, colour = _DASHES[drawn[tool] % len(_DASHES)], _COLOURS[tool]
        drawn[tool] += 1
        axes.plot(
            range(half, half + len(costs)), costs, color=colour, linestyle=style, linewidth=2.4 if tool == OURS else 1.7
        )
        ends.append((costs[-1], f"{tool}, {setting}", colour))
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(0, max(len(its[0].answer.ms_by_proposal) for its in groups.values()))
    axes.set_xlabel("proposals made before", color=_INK)
    axes.set_title(
        "What a proposal costs beside evaluator and model, in milliseconds", loc="left", color=_INK, fontsize=12, pad=12
    )
    axes.grid(axis="y", color=_FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(colors=_INK, which="both", left=False)
    places = spaced([end for end, _, _ in ends], *axes.get_ylim(), least=0.05)
    for (_, name, colour), place in zip(ends, places, strict=True):
        axes.annotate(
            name,
            (1.012, place),
            xycoords="axes fraction",
            color=colour,
            va="center",
            fontsize=9,
            annotation_clip=False,
            fontweight="bold" if name.startswith(OURS) else "normal",
        )
    figure.savefig(path, dpi=160)


def running_median(values: Sequence[float], window: int = _WINDOW) -> list[float]:
    """Return the median of each value and its neighbours, where there are enough of them on both sides."""
    return [statistics.median(values[place : place + window]) for place in range(len(values) - window + 1)]


def spaced(values: Sequence[float], low: float, high: float, *, least: float) -> list[float]:
    """Return the heights of labels on a logarithmic axis, from 0 to 1, moved apart where they would overlap.

    Args:
        values: Where the lines end.
        low: Lower end of the axis.
        high: Upper end of the axis.
        least: Least distance of two labels.
    """
    span = math.log(high / low)
    wanted = [math.log(value / low) / span for value in values]
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    heights = [wanted[place] for place in order]
    for _ in range(200):
        for i in range(len(heights) - 1):
            missing = least - (heights[i + 1] - heights[i])
            if missing > 0:
                heights[i] -= missing / 2
                heights[i + 1] += missing / 2
    placed = dict(zip(order, heights, strict=True))
    return [placed[place] for place in range(len(wanted))]
