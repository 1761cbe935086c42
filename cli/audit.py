"""`audit verify|replay|export`: prove that the record is whole, and that decisions follow from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .options import App, AsJson, Store, chosen_app, open_store, print_json

if TYPE_CHECKING:
    from ..governance.audit import AuditReport

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Verify, replay or export the record.")


def add_to(app: typer.Typer) -> None:
    """Register the commands of this group."""
    app.add_typer(group, name="audit")


@group.command()
def verify(app: App = None, store: Store = None, as_json: AsJson = False) -> None:
    """Check the hash chain of the events and the ancestry of the DNA."""
    from ..governance.audit import verify as check

    _, dna_store = open_store(store)
    _tell(check(dna_store, chosen_app(dna_store, app)), "events", as_json)


@group.command()
def replay(run: Annotated[str, typer.Argument(help="The run.")], store: Store = None, as_json: AsJson = False) -> None:
    """Decide a recorded run again from its recorded evaluations, and compare."""
    from ..clock import SystemClock
    from ..fitness.journal import Journal
    from ..governance.audit import replay as again

    database, dna_store = open_store(store)
    _tell(again(dna_store, Journal(database, SystemClock()), run), "decisions", as_json)


@group.command()
def export(app: App = None, store: Store = None, as_json: AsJson = False) -> None:
    """Print every event as one line of JSON; with --json, one object that holds them all."""
    _, dna_store = open_store(store)
    name = chosen_app(dna_store, app)
    if as_json:
        print_json({"app": name, "events": [event.model_dump(mode="json") for event in dna_store.events(name)]})
        return
    for event in dna_store.events(name):
        print(event.model_dump_json())


def _tell(report: AuditReport, what: str, as_json: bool) -> None:
    if as_json:
        print_json({"intact": report.intact, "checked": report.checked, "problems": report.problems})
    elif report.intact:
        print(f"intact: {report.checked} {what} checked")
    else:
        for problem in report.problems:
            print(f"PROBLEM {problem}")
    if not report.intact:
        raise typer.Exit(1)
