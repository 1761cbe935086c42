"""What a person reads at the end of a run: what changed, gene by gene, with the gain and its confidence."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..results import EvolutionResult, GeneChange

_ENDINGS = {
    "done": "done",
    "failed": "failed",
    "waiting": "waiting for approval",
    "budget": "stopped by its budget",
    "interrupted": "interrupted",
}


_NOTHING = {
    "done": "No gene changed: no candidate with a credible gain was approved.",
    "waiting": "No gene changed yet: a candidate with a credible gain waits for approval.",
}


def print_result(result: EvolutionResult, *, again: str, store: str) -> None:
    """Print the end of a run.

    Args:
        result: What it ended with.
        again: The arguments of `run` that name this application, for the command that is suggested.
        store: The option that names its store, or an empty text.
    """
    console = Console(highlight=False)
    console.print()
    console.print(_changes(result))
    console.print(_scores(result))
    if result.confidence is not None:
        # Rounded down: a confidence is never shown as more than it is.
        percent = int(result.confidence * 10_000) / 100
        console.print(f"every promotion had a credible gain: confidence at least {percent:g} %")
    work = f"{result.generations} generations · {result.trials} trials · {result.evaluations} evaluations"
    spend = f"{result.model_calls} model calls · ${result.cost_usd:.4f}"
    console.print(f"{_ENDINGS[result.status]} · {work} · {spend}", style="bold")
    if result.message:
        console.print(result.message)
    if result.approval is not None:
        console.print(
            f"approval {result.approval.approval_id}: {result.approval.question['why']}\n"
            f"  answer: bedrock-evolution approve {result.approval.approval_id} --by NAME{store}   (or reject)",
            soft_wrap=True,
        )
    if result.status in ("waiting", "interrupted", "budget", "failed"):
        console.print(f"  resume: bedrock-evolution run {again} --resume {result.run_id}", soft_wrap=True)
    console.print(f"DNA generation {result.dna_generation} · {result.dna_checksum}", style="dim", soft_wrap=True)


def _changes(result: EvolutionResult) -> Table | str:
    if not result.changes:
        return _NOTHING.get(result.status, "Nothing has changed so far.")
    table = Table(title=f"{result.app}: what changed", title_justify="left", show_lines=True)
    table.add_column("gene")
    table.add_column("before -> after")
    for change in result.changes:
        table.add_row(change.gene, described(change))
    return table


def described(change: GeneChange) -> Text:
    """Show one change: text and code as a diff of words, anything else as two values."""
    if change.kind in ("text", "code") and change.before is not None and change.after is not None:
        return _word_diff(str(change.before), str(change.after))
    return Text.assemble((_shown(change.before), "red"), " -> ", (_shown(change.after), "green"))


def _shown(value: object) -> str:
    if value is None:
        return "(not declared)"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _word_diff(before: str, after: str) -> Text:
    old, new = before.split(), after.split()
    told = Text()
    for action, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if action == "equal":
            told.append(" ".join(old[i1:i2]) + " ")
            continue
        if i2 > i1:
            told.append("[-" + " ".join(old[i1:i2]) + "-]", style="red")
            told.append(" ")
        if j2 > j1:
            told.append("{+" + " ".join(new[j1:j2]) + "+}", style="green")
            told.append(" ")
    told.rstrip()
    return told


def _scores(result: EvolutionResult) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("", "cases", "before", "after", "gain"):
        table.add_column(name, justify="left" if not name else "right")
    cases: Mapping[str, Any] = result.cases
    for name, count, before, after in (
        ("validation (decides)", cases["validation"], result.baseline_fitness, result.fitness),
        ("sealed test", cases["test"], result.baseline_test_fitness, result.test_fitness),
    ):
        gain = "–" if before is None or after is None else f"{after - before:+.4g}"
        table.add_row(name, str(count), _number(before), _number(after), gain)
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
