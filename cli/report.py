"""What a person reads: at the end of a run what changed, gene by gene; at any time what the models cost."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..results import EvolutionResult, GeneChange
from ..settings import MICRO

if TYPE_CHECKING:
    from ..bedrock.money.costs import Forecast, Saving
    from ..bedrock.money.ledger import Alarm, Group

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
_ALARMS_SHOWN = 10


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
    if result.model == "bedrock" and result.stand_in_trials:
        console.print(
            f"The stand-in proposed {result.stand_in_trials} of the {result.trials} trials:"
            " models did not answer, or gave no usable answer. `bedrock-evolution costs` shows the failed calls."
        )
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


@dataclass(frozen=True, slots=True)
class CostReport:
    """What an application's models cost, grouped by some columns."""

    app: str
    columns: Sequence[str]
    groups: Sequence[Group]
    forecasts: Sequence[Forecast]
    alarms: Sequence[Alarm]
    savings: Sequence[Saving]

    def as_json(self) -> dict[str, Any]:
        """Return all of it, JSON-plain, with money in dollars."""
        return {
            "app": self.app,
            "spend": [
                dict(zip(self.columns, group.names, strict=True)) | _in_dollars(group.spend, "cost")
                for group in self.groups
            ],
            "forecast": [_in_dollars(forecast) for forecast in self.forecasts],
            "alarms": [_in_dollars(alarm, "amount") for alarm in self.alarms],
            "recommendations": [_in_dollars(saving, "saving") for saving in self.savings],
        }


def _in_dollars(record: Any, amount: str = "") -> dict[str, Any]:
    """Return a record's fields with its micro-dollars as dollars; the one called `micro_usd` gets a name."""
    plain: dict[str, Any] = {}
    for name, value in asdict(record).items():
        if name.endswith("micro_usd"):
            prefix = name.removesuffix("micro_usd") or f"{amount}_"
            plain[f"{prefix}usd"] = None if value is None else value / MICRO
        else:
            plain[name] = value
    return plain


def print_costs(report: CostReport) -> None:
    """Print what the models cost, what they will, what to look at, and what would save money."""
    from ..bedrock.money.costs import WINDOW_DAYS

    console = Console(highlight=False)
    console.print(_spend_table(report))
    total = sum(group.spend.micro_usd for group in report.groups)
    unconfirmed = sum(group.spend.unconfirmed_micro_usd for group in report.groups)
    held = sum(group.spend.held_micro_usd for group in report.groups)
    console.print(f"{report.app}: {_usd(total)} in all", style="bold")
    if unconfirmed:
        console.print(
            f"  {_usd(unconfirmed)} of it is unconfirmed: those answers were lost, and may or may not be billed"
        )
    if held:
        console.print(f"  {_usd(held)} of it is held for calls under way: what they do not use comes back")
    for forecast in report.forecasts:
        console.print(_told(forecast), soft_wrap=True)
    for alarm in report.alarms[:_ALARMS_SHOWN]:
        console.print(Text.assemble((f"alarm {alarm.at[:16]} {alarm.kind}: ", "red"), alarm.message), soft_wrap=True)
    if len(report.alarms) > _ALARMS_SHOWN:
        console.print(f"  {len(report.alarms) - _ALARMS_SHOWN} earlier alarms: see --json")
    for saving in report.savings:
        saved = (f"could have saved {_usd(saving.micro_usd)} in {WINDOW_DAYS} days: ", "green")
        console.print(Text.assemble(saved, saving.message), soft_wrap=True)


def _spend_table(report: CostReport) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in report.columns:
        table.add_column(column, overflow="fold")
    for column in ("cost", "calls", "failed", "tokens in", "cached", "out"):
        table.add_column(column, justify="right")
    for group in report.groups:
        spend = group.spend
        counts = (spend.calls, spend.failed_calls, spend.input_tokens, spend.cache_read_tokens, spend.output_tokens)
        table.add_row(*map(Text, group.names), _usd(spend.micro_usd), *(f"{count:,}" for count in counts))
    return table


def _told(forecast: Forecast) -> str:
    told = f"this {forecast.period}: {_usd(forecast.spent_micro_usd)} so far"
    if forecast.expected_micro_usd is not None:
        told += f", {_usd(forecast.expected_micro_usd)} expected by its end"
    if forecast.low_micro_usd is not None and forecast.high_micro_usd is not None:
        told += f" ({_usd(forecast.low_micro_usd)} to {_usd(forecast.high_micro_usd)})"
    return f"{told}. {forecast.method}"


def _usd(micro_usd: int) -> str:
    return f"${micro_usd / MICRO:.4f}"
