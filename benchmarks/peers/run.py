"""Measures bedrock-evolution, gepa and openevolve on the same work, one after another; called by `make bench-peers`.

Writes one table as Markdown and JSON, and a picture, to `build/bench/`. `docs/benchmarks.md` tells how to read it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from groups import Size
from measures import MEASURES
from ours_alone import BENCHMARKS, make_bench, search, startup
from picture import draw
from processes import Bench, Done, check_installed
from proposal_cost import footprint, overhead, overhead_groups, overhead_runs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from table import Row, markdown, show

OUTPUT = BENCHMARKS.parent / "build" / "bench"
LETTERS = {
    "a": "overhead",
    "b": "utilisation",
    "c": "kill -9 and resume",
    "d": "null test",
    "e": "evaluation budget",
    "f": "search quality",
    "g": "memory and disk",
    "h": "start-up",
}
_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


def measured(letters: Sequence[str], size: Size, record: list[Done], *, short: bool) -> Iterator[list[Row]]:
    """Measure the rows that are wanted, and yield them letter by letter.

    Args:
        letters: The rows.
        size: How much is done.
        record: Receives everything that was done.
        short: Whether ours alone is measured in its short form, too.
    """
    with Progress(*_COLUMNS, console=Console(stderr=True)) as bars:
        for letter in letters:
            bench = Bench(bars, LETTERS[letter], record)
            match letter:
                case "a" | "g":
                    if overhead_groups(record):
                        bench.finish()
                    runs = overhead_groups(record) or overhead_runs(size, bench)
                    yield overhead(runs) if letter == "a" else footprint(runs)
                case "f":
                    yield search(bench, short=short)
                case "h":
                    yield startup(bench, short=short)
                case _:
                    yield MEASURES[letter](size, bench)


def write(rows: Sequence[Row], versions: dict[str, str], about: dict[str, Any], record: Sequence[Done]) -> None:
    """Write the table, with all that is needed to judge it, as Markdown and JSON."""
    heading = "# Measured against the field\n\n"
    text = heading + markdown(rows, versions) + "\n" + _below(about, record)
    (OUTPUT / "peers.md").write_text(text, encoding="utf-8")
    runs = [
        {"tool": done.tool, "wall_s": done.wall_s, "evaluations_begun": done.evaluations}
        | {"task": asdict(done.task), "answer": asdict(done.answer)}
        for done in record
    ]
    written = {"machine": about, "tools": versions, "rows": [asdict(row) for row in rows], "runs": runs}
    (OUTPUT / "peers.json").write_text(json.dumps(written, ensure_ascii=False) + "\n", encoding="utf-8")


def _below(about: dict[str, Any], record: Sequence[Done]) -> str:
    """Tell the machine, the sizes and every setting."""
    lines = [
        "Median, and lowest–highest over the repeats. One line for each setting of a tool; `met` is about ours.",
        "",
        f"Measured at {about['at']} on {about['system']}, {about['cores']} cores, load before {about['load_before']},"
        f" Python {about['python']}, "
        + ", ".join(f"{name} {number}" for name, number in about["versions"].items())
        + f". {about['size']}.",
        "",
        "## Settings",
        "",
    ]
    for (tool, measure, setting), done in _firsts(record).items():
        chosen = ", ".join(f"{name}={value}" for name, value in done.answer.setting.items())
        task = {name: value for name, value in asdict(done.task).items() if name in _TOLD and value}
        given = ", ".join(f"{name} {value:g}" for name, value in task.items())
        notes = f" {done.answer.notes}" if done.answer.notes else ""
        lines.append(f"- **{tool}**, {measure}, {setting} ({given}): {chosen}.{notes}")
    return "\n".join(lines) + "\n"


_TOLD = ("proposals", "cases", "workers", "evaluator_s", "model_s", "evaluations", "sigma")


def _firsts(record: Sequence[Done]) -> dict[tuple[str, str, str], Done]:
    found: dict[tuple[str, str, str], Done] = {}
    for done in record:
        found.setdefault((done.tool, done.task.measure, done.task.setting), done)
    return found


def main() -> None:
    """Measure, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    told = ", ".join(f"{letter} {name}" for letter, name in LETTERS.items())
    parser.add_argument("--only", choices=LETTERS, action="append", metavar="ROW", help=f"One row only: {told}.")
    parser.add_argument("--short", action="store_true", help="Fewer proposals, seeds and kills.")
    parser.add_argument("--repeats", type=int, help="Of what is timed; 3, or 1 with --short.")
    parser.add_argument("--check", action="store_true", help="Exit with 1 if a ratio is over its limit.")
    options = parser.parse_args()
    repeats = options.repeats or (1 if options.short else 3)
    size = Size(repeats, 500, seeds=4, kills=2) if options.short else Size(repeats, 1000, seeds=50, kills=10)
    versions = check_installed()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    about = make_bench().machine() | {"at": datetime.now(UTC).isoformat(timespec="minutes")}
    about["size"] = f"Repeats {size.repeats}, proposals {size.proposals}, seeds {size.seeds}, kills {size.kills}"
    record: list[Done] = []
    letters = [letter for letter in LETTERS if not options.only or letter in options.only]
    rows: list[Row] = []
    for found in measured(letters, size, record, short=options.short):
        rows += found
        write(rows, versions, about, record)  # every time: what is measured so far outlives a failure
    show(rows, versions)
    runs = overhead_groups(record)
    if runs:
        draw(runs, OUTPUT / "peers.png")
    pictured = " and peers.png" if runs else ""
    print(f"Written to {OUTPUT.relative_to(BENCHMARKS.parent)}: peers.md, peers.json{pictured}.")
    if options.check and any(row.ratio and row.met is False for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
