"""The one table: rows, figures with their spread, Markdown and the terminal."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

_HEAD = ("", "measure", "to reach", "met")


@dataclass(frozen=True, slots=True)
class Row:
    """One measure, for all tools side by side.

    Args:
        letter: The measure's name in issue and documentation, such as `a`.
        measure: What is measured.
        cells: By tool, one line for each of its settings.
        limit: What we want to reach; empty when nothing is asked.
        met: Whether our figure reaches it; None when nothing is asked.
        ratio: Whether it is a ratio, which holds on any machine, and so decides what `--check` returns.
        figures: The single values, by tool and setting.
    """

    letter: str
    measure: str
    cells: Mapping[str, Sequence[str]]
    limit: str = ""
    met: bool | None = None
    ratio: bool = False
    figures: Mapping[str, Any] = field(default_factory=dict)


def spread(values: Iterable[float], digits: int = 2, unit: str = "") -> str:
    """Tell the median of some values, and the lowest and the highest where they differ."""
    known = sorted(values)
    middle, low, high = (f"{value:,.{digits}f}" for value in (statistics.median(known), known[0], known[-1]))
    after = f" {unit}" if unit else ""
    return f"{middle}{after}" if low == high else f"{middle} ({low}–{high}){after}"


def markdown(rows: Sequence[Row], tools: Mapping[str, str]) -> str:
    """Return the table as Markdown, without what stands below it.

    Args:
        rows: Its rows.
        tools: Versions by tool, in the order of the columns.
    """
    heads = [*_HEAD, *(f"{tool} {number}" for tool, number in tools.items())]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for row in rows:
        cells = ["<br>".join(row.cells.get(tool, ())) for tool in tools]
        lines.append(_line([row.letter, row.measure, row.limit, _met(row), *cells]))
    return "\n".join(lines) + "\n"


def show(rows: Sequence[Row], tools: Mapping[str, str]) -> None:
    """Print the table to the terminal."""
    table = Table(title="Measured against the field", title_justify="left", show_lines=True)
    for head in (*_HEAD, *(f"{tool} {number}" for tool, number in tools.items())):
        table.add_column(head, overflow="fold")
    for row in rows:
        colour = {True: "green", False: "red", None: "default"}[row.met]
        cells = ["\n".join(row.cells.get(tool, ())) for tool in tools]
        table.add_row(row.letter, row.measure, row.limit, f"[{colour}]{_met(row)}[/{colour}]", *cells)
    Console(width=None if Console().is_terminal else 200).print(table)


def _met(row: Row) -> str:
    return {True: "yes", False: "no", None: ""}[row.met]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
