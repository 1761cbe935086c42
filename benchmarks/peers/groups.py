"""Repeats of a task by tool and setting: how they are made, and how they are told in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from processes import Bench, Done
from table import spread

DEFAULT, SINGLE, WIDE = "4 candidates a generation", "1 candidate a generation", "8 candidates a generation"
"""Settings of ours."""
WORKERS = 8

Key = tuple[str, str]
"""A tool and its setting."""
Groups = Mapping[Key, Sequence[Done]]
Settings = Sequence[tuple[str, dict[str, Any]]]
"""Tools, each with its setting and what else of the task is its own."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done.

    Args:
        repeats: Of what is timed.
        proposals: Of an overhead run.
        seeds: Of the null test.
        kills: Of each tool.
    """

    repeats: int
    proposals: int
    seeds: int
    kills: int


def repeated(
    bench: Bench, repeats: int, settings: Settings, *, expect: bool = True, **shared: Any
) -> dict[Key, list[Done]]:
    """Do all settings in turn, again and again, so that a machine that grows slower is slower for all."""
    if expect:
        bench.expect(repeats * len(settings))
    groups: dict[Key, list[Done]] = {(tool, own["setting"]): [] for tool, own in settings}
    for _ in range(repeats):
        for tool, own in settings:
            groups[tool, own["setting"]].append(bench.run(tool, **(shared | own)))
    return groups


def told(groups: Mapping[Key, Sequence[float]], digits: int = 2, unit: str = "") -> dict[str, list[str]]:
    """Return the lines of a table's cells: median and spread of each setting, by tool."""
    return cells({key: spread(its, digits, unit) for key, its in groups.items()})


def cells(texts: Mapping[Key, str]) -> dict[str, list[str]]:
    """Return the lines of a table's cells, one for each setting, by tool."""
    lines: dict[str, list[str]] = {}
    for (tool, setting), text in texts.items():
        lines.setdefault(tool, []).append(f"{setting}: {text}")
    return lines


def plain(groups: Mapping[Key, Any]) -> dict[str, Any]:
    """Return what belongs to each setting under a name that JSON can hold."""
    return {f"{tool}, {setting}": its for (tool, setting), its in groups.items()}
