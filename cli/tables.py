"""Tables of plain text, as several commands print them."""

from __future__ import annotations


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table without lines; what a cell holds is text, whatever it looks like."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for place, column in enumerate(columns):
        # Ids are copied from the first column: they must not be broken over lines.
        table.add_column(column, overflow="fold", no_wrap=place == 0)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)


def number(value: float | None) -> str:
    """Return a score in short, or a dash where there is none."""
    return "–" if value is None else f"{value:.4g}"
