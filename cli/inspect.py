"""`status`, `history`, `show`, `diff`, `costs`: look at what is recorded; nothing here changes anything."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import App, AsJson, Store, chosen_app, open_all, open_store, print_json
from .status import status
from .tables import number, print_table

if TYPE_CHECKING:
    from ..dna.events import EvolutionEvent


def add_to(app: typer.Typer) -> None:
    """Register the commands of this group."""
    for command in (status, history, show, diff, costs):
        app.command()(command)


def history(
    app: App = None,
    store: Store = None,
    limit: Annotated[int, typer.Option(min=1, help="How many generations at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the generations of DNA, newest first, with the reason for each."""
    _, dna_store = open_store(store)
    name = chosen_app(dna_store, app)
    reasons = {_made(event): event for event in dna_store.events(name) if event.kind in _CHANGES_DNA}
    rows: list[dict[str, Any]] = []
    for dna in dna_store.history(name, limit=limit):
        event = reasons.get(dna.checksum) or reasons.get(dna.generation)
        rows.append(
            {
                "generation": dna.generation,
                "checksum": dna.checksum,
                "fitness": dna.fitness,
                "by": event.actor if event else "",
                "why": event.why if event else "",
            }
        )
    if as_json:
        print_json({"app": name, "generations": rows})
        return
    print_table(
        ["generation", "checksum", "fitness", "by", "why"],
        [[str(r["generation"]), r["checksum"][:12], number(r["fitness"]), r["by"], r["why"]] for r in rows],
    )


_CHANGES_DNA = ("applied", "restored", "declared")


def _made(event: EvolutionEvent) -> str | int:
    """Return the DNA an event led to: its checksum, or its generation where the event was written before it."""
    return str(event.data["dna"]) if "dna" in event.data else int(event.data["from"]) + 1


def show(
    generation: Annotated[int, typer.Argument(min=0, help="Generation of the DNA.")],
    app: App = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Show the genes of one generation."""
    _, dna_store = open_store(store)
    dna = dna_store.snapshot(chosen_app(dna_store, app), generation)
    if as_json:
        print_json({**dna.as_json(), "checksum": dna.checksum})
        return
    print_table(["gene", "kind", "value"], [[name, gene.kind, str(gene.value)] for name, gene in dna.genes.items()])


def diff(
    a: Annotated[int, typer.Argument(min=0, help="Earlier generation.")],
    b: Annotated[int, typer.Argument(min=0, help="Later generation.")],
    app: App = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Show what differs between two generations, gene by gene."""
    from ..results import gene_changes

    _, dna_store = open_store(store)
    name = chosen_app(dna_store, app)
    changes = gene_changes(dna_store.snapshot(name, a), dna_store.snapshot(name, b))
    if as_json:
        print_json({"app": name, "from": a, "to": b, "changes": list(changes)})
        return
    from rich.console import Console

    from .report import described

    console = Console(highlight=False)
    for change in changes:
        console.print(f"{change.gene}: ", described(change))
    if not changes:
        print("the same genes")


class CostsBy(StrEnum):
    """How the spend can be grouped."""

    AGENT = "agent"
    MODEL = "model"
    TASK = "task"
    RUN = "run"
    DAY = "day"
    MONTH = "month"


def costs(
    app: App = None,
    store: Store = None,
    by: Annotated[CostsBy | None, typer.Option(help="Group by this only; default: day, agent, model.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show model spend, what it will be at the end of the day and month, alarms, and what would save money."""
    from ..bedrock.models.catalog import Catalog
    from ..bedrock.money.costs import CostTracker
    from ..clock import RandomIds, SystemClock
    from ..settings import Budget, Settings
    from .report import CostReport, print_costs

    opened, clock = open_all(store), SystemClock()
    name = chosen_app(opened.store, app)
    ledger = opened.ledger(app=name, budget=Budget(), clock=clock, ids=RandomIds())
    tracker = CostTracker(ledger, clock=clock, catalog=Catalog(Settings.load().model_cards))
    learned = opened.tracker(app=name, clock=clock).snapshot()
    columns = ("day", "agent", "model") if by is None else (by.value,)
    groups = tracker.by(*columns)
    report = CostReport(name, columns, groups, tracker.forecasts(), tracker.alarms(), tracker.savings(learned))
    if as_json:
        print_json(report.as_json())
    elif groups:
        print_costs(report)
    else:
        print("no model was called: the stand-in costs nothing")
