"""`audit verify|replay|export`: prove that the record is whole, and that decisions follow from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import App, AsJson, Store, chosen_app, open_all, open_store, print_json
from .tables import number, print_table

if TYPE_CHECKING:
    from ..dna.database import Database
    from ..governance.audit import AuditReport
    from ..governance.stores import OpenStore
    from ..graph.replaying.transitions import Checkpointer

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Verify, replay or export the record.")


def add_to(app: typer.Typer) -> None:
    """Register the commands of this group."""
    app.add_typer(group, name="audit")


@group.command()
def verify(app: App = None, store: Store = None, as_json: AsJson = False) -> None:
    """Check the hash chain of the events and the ancestry of the DNA, and both against the signed heads."""
    from ..governance.audit import verify as check

    _, dna_store = open_store(store)
    _tell(check(dna_store, chosen_app(dna_store, app)), as_json)


@group.command()
def replay(
    run: Annotated[str, typer.Argument(help="The run.")],
    at: Annotated[int | None, typer.Option(min=1, help="Fork: the first generation to do otherwise.")] = None,
    otherwise: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="NAME=VALUE", help="What is otherwise: answer=reject, alpha=0.01, …"),
    ] = None,
    application: Annotated[
        str | None,
        typer.Option("--run", metavar="APP", help="Scores what the run never scored: path/app.py:evolution."),
    ] = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Do a run again from its record, and compare; with --at and --with, show what would have happened otherwise."""
    from ..errors import UsageError
    from ..settings import Settings

    if at is None and (otherwise or application):
        raise UsageError("--with and --run are for forks.", hint="Give --at GENERATION: the first to do otherwise.")
    opened = open_all(store)
    _bring_rows_of(run, opened)
    checkpointer = _checkpointer(opened, Settings.load(store=store).checkpoints)
    if at is None:
        _replayed(opened.database, run, checkpointer, as_json)
    else:
        _forked(opened.database, run, at, otherwise or [], application, checkpointer, as_json)


def _bring_rows_of(run: str, opened: OpenStore) -> None:
    """Bring what another machine has of a run into the file of a store."""
    if opened.regions is not None:
        from ..graph.run_tables import prepare_run_tables

        prepare_run_tables(opened.database)
        for app in opened.store.apps():
            opened.store.read_run(app, run)


def _checkpointer(opened: OpenStore, place: str) -> Checkpointer | None:
    """Return what opens the checkpoints, where they are not in the file of the store."""
    from ..graph.cloud_checkpoints import STORE, open_cloud_checkpointer

    return partial(open_cloud_checkpointer, place, opened.clients, opened.database) if place != STORE else None


def _replayed(database: Database, run: str, checkpointer: Checkpointer | None, as_json: bool) -> None:
    from ..graph.replay import replay as again

    report = again(database, run, checkpointer)
    if as_json:
        print_json({"identical": report.identical} | asdict(report))
    else:
        done = f"{report.steps} steps, {report.events} events, {report.model_calls} model calls"
        scored = f"{report.evaluations} evaluations in {report.seconds:.2f} s"
        print(f"{'identical' if report.identical else 'DIFFERENT'}: {done}, {scored}; DNA {report.dna_checksum}")
        if report.difference is not None:
            print(f"first difference: {report.difference}")
    if not report.identical:
        raise typer.Exit(1)


def _forked(
    database: Database,
    run: str,
    at: int,
    otherwise: list[str],
    application: str | None,
    checkpointer: Checkpointer | None,
    as_json: bool,
) -> None:
    from ..clock import SystemClock
    from ..fitness.journal import Journal
    from ..graph.fork import alternative_of, fork
    from ..graph.loading import load_app

    request = Journal(database, SystemClock()).run(run).request
    alternative = alternative_of(request, _pairs(otherwise))
    scoring = load_app(application).application if application else None
    report = fork(database, run, at=at, alternative=alternative, application=scoring, checkpointer=checkpointer)
    if as_json:
        print_json(report)
        return
    print_table(
        ["generation", "on record", "in the fork"],
        [[str(o.generation), o.recorded or "–", o.forked or "–"] for o in report.outcomes],
    )
    print(f"on record: fitness {number(report.recorded_fitness)}, DNA {report.recorded_dna}")
    print(f"in the fork: fitness {number(report.forked_fitness)}, DNA {report.forked_dna}")
    if report.stopped:
        print(f"the fork stopped: {report.stopped}")


def _pairs(given: list[str]) -> dict[str, str]:
    from ..errors import UsageError

    wrong = [pair for pair in given if "=" not in pair]
    if wrong or not given:
        what = f"--with {wrong[0]!r} is no NAME=VALUE." if wrong else "a fork needs something that is otherwise."
        raise UsageError(what, hint="Give --with answer=reject, or a setting such as --with autonomy.ask_above=0.5.")
    return {name.strip(): value for name, _, value in (pair.partition("=") for pair in given)}


@group.command()
def export(
    app: App = None,
    store: Store = None,
    out: Annotated[Path | None, typer.Option(help="Write to this file instead of the screen.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the record as lines of JSON: a header, events, signed heads or digests; with --json, as one object."""
    from ..errors import UsageError
    from ..governance.audit import export as lines_of

    _, dna_store = open_store(store)
    name = chosen_app(dna_store, app)
    lines = lines_of(dna_store, name)
    written = [_one_object(lines)] if as_json else lines
    if out is None:
        for line in written:
            print(line)
        return
    try:
        with out.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in written)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error}.", hint="Name a file in a folder that exists.") from error
    if as_json:
        print_json({"app": name, "written": str(out)})
    else:
        print(f"written to {out}; docs/verify_audit.py verifies it")


def _one_object(lines: Iterable[str]) -> str:
    import json

    header, *records = (json.loads(line) for line in lines)
    heads = [record["signed_head"] for record in records if "signed_head" in record]
    digests = [record["digest"] for record in records if "digest" in record]
    events = [record for record in records if not record.keys() & {"signed_head", "digest"}]
    signed = {"signed_heads": heads} | ({"digests": digests} if digests else {})
    return json.dumps({**header, "events": events, **signed}, ensure_ascii=False)


def _tell(report: AuditReport, as_json: bool) -> None:
    if as_json:
        print_json({"intact": report.intact} | asdict(report))
    elif report.intact:
        signed = f", signed up to {report.signed} by key {report.key}" if report.signed else ""
        head = f"; head {report.head}" if report.head else ""
        print(f"intact: {report.checked} events checked{signed}{head}")
    else:
        for problem in report.problems:
            print(f"PROBLEM {problem}")
    if report.intact and report.unsigned and not as_json:
        one = "1 event is" if report.unsigned == 1 else f"{report.unsigned} events are"
        print(f"{one} not signed yet: a process is at it, or died before it could; the next run signs")
    if not report.intact:
        raise typer.Exit(1)
