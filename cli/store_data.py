"""`store verify|promote|copy`: what a store in the cloud holds, and where."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from .options import AsJson, By, Store, Why, print_json
from .tables import print_table

if TYPE_CHECKING:
    from ..bedrock.money.books import CopiedBooks
    from ..dna.aws.regions import Regions
    from ..dna.aws.verifying.findings import Told
    from ..dna.aws.verifying.verification import Verification
    from ..dna.copying import Copied, Tables
    from ..governance.stores import OpenStore

OnlyApp = Annotated[str | None, typer.Option("--app", help="Only this application.")]


def add_to(group: typer.Typer) -> None:
    """Register the commands in the group `store`."""
    group.command()(verify)
    group.command()(promote)
    group.command()(copy)


def verify(
    app: OnlyApp = None,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what has a sound copy elsewhere.")] = False,
    with_copy: Annotated[
        bool, typer.Option("--with-copy", help="The working copy of this machine is a source for repairs too.")
    ] = False,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Check every item and object in every region, and the regions with one another."""
    from ..bedrock.money.dynamo_inspection import books_of
    from ..bedrock.routing.dynamo_inspection import learned_in
    from ..dna.aws.verifying.verification import verify as check

    opened, regions = _cloud(store)
    also = [books_of(regions.place), learned_in(regions.place)]
    copy = opened.database if with_copy else None
    with _bar() as told:
        report = check(regions, app=app, repair=repair, copy=copy, also=also, told=told)
    if as_json:
        print_json({"intact": report.intact, **asdict(report)})
    else:
        _tell(report)
    if not report.intact:
        raise typer.Exit(1)


def promote(
    region: Annotated[str, typer.Argument(help="The region to write to from now on.")],
    by: By,
    why: Why = "",
    confirm_lost: Annotated[
        bool, typer.Option("--confirm-lost", help="Promote though another region cannot be told of it.")
    ] = False,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Make another region the one that is written to, and shut writers of the old one out."""
    from ..clock import SystemClock
    from ..dna.aws.promotion import promote as begin

    opened, _ = _cloud(store)
    done = begin(opened.store, region, by=by, why=why, confirm_lost=confirm_lost, clock=SystemClock())  # type: ignore[arg-type]  # a cloud store, as was checked
    epoch = done.promotion.epoch
    if as_json:
        fenced, unreachable = list(done.promotion.fenced), list(done.promotion.unreachable)
        told = {"epoch": epoch.number, "region": epoch.region, "fenced": fenced, "unreachable": unreachable}
        print_json({**told, "recorded": done.recorded})
        return
    print(f"epoch {epoch.number}: the store is written to in {epoch.region}")
    print(f"fenced: {', '.join(done.promotion.fenced) or 'no other region'}")
    if done.promotion.unreachable:
        print(f"unreachable: {', '.join(done.promotion.unreachable)}: told by the next writer that reaches them")
    print(f"on record for: {', '.join(done.recorded) or 'no application'}")


def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="URL of the store to copy.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="URL of the store to copy it to.")],
    app: OnlyApp = None,
    as_json: AsJson = False,
) -> None:
    """Copy the record, the books and what the router learned to another store; run again, it goes on."""
    from ..errors import UsageError

    from_, to = _opened(source, existing=True), _opened(target, existing=False)
    if from_.database.path.resolve() == to.database.path.resolve():
        raise UsageError("the two stores are one.", hint="Name another store to copy to.")
    apps = [app] if app else from_.store.apps()
    copied: list[_CopiedApp] = []
    for name in apps:
        _check(from_, to, name)
    for name in apps:
        with _bar() as told:
            copied.append(_copied(from_, to, name, told))
    from_.store.close()
    to.store.close()
    if as_json:
        print_json({"copied": [one.plain() for one in copied]})
        return
    print_table(
        ["application", "events", "generations", "runs", "model calls", "cost", "families", "copied now"],
        [one.cells() for one in copied],
    )
    print("both records are equal and intact, and all model calls are in both books")


@dataclass(frozen=True, slots=True)
class _CopiedApp:
    """What was copied of an application: its record, its books, and the families that the router knows."""

    record: Copied
    books: CopiedBooks
    families: int
    learned: int

    @property
    def new(self) -> int:
        return self.record.new + self.books.new + self.learned

    def cells(self) -> list[str]:
        from ..bedrock.money.caps import dollars

        record, books = self.record, self.books
        counts = record.events, record.generations, record.runs, books.calls
        return [record.app, *map(str, counts), dollars(books.micro_usd), str(self.families), str(self.new)]

    def plain(self) -> dict[str, object]:
        from ..settings import MICRO

        books = {"calls": self.books.calls, "cost_usd": self.books.micro_usd / MICRO, "families": self.families}
        return {**asdict(self.record), **books, "new": self.new}


def _check(from_: OpenStore, to: OpenStore, app: str) -> None:
    """Refuse to copy anything where one of the applications cannot be copied."""
    from ..dna.copying import Side, check_copy

    check_copy(Side(from_.store, from_.database), Side(to.store, to.database), app, tables=_tables())


def _tables() -> Tables:
    from ..dna.copying import Tables
    from ..governance.audit import verify as audit
    from ..governance.projections import project
    from ..graph.run_tables import prepare_run_tables

    return Tables(prepare_run_tables, project, lambda store, app: audit(store, app).problems)


def _copied(from_: OpenStore, to: OpenStore, app: str, told: Told) -> _CopiedApp:
    from ..bedrock.money.books import copy_books
    from ..clock import SystemClock
    from ..dna.copying import Side, copy_app

    clock = SystemClock()
    one, other = Side(from_.store, from_.database), Side(to.store, to.database)
    record = copy_app(one, other, app, tables=_tables(), told=told)
    books = copy_books(from_.books(app=app, clock=clock), to.books(app=app, clock=clock), told=told)
    knows = to.tracker(app=app, clock=clock)
    families = from_.tracker(app=app, clock=clock).families()
    return _CopiedApp(record, books, len(families), sum(map(knows.adopt, families)))


def _tell(report: Verification) -> None:
    print_table(
        ["application", "region", "role", "events", "generations", "behind", "forked at"],
        [
            [s.app, s.region, s.role, str(s.events), str(s.generations), str(s.behind), str(s.forked_at or "–")]
            for s in report.standings
        ],
    )
    for finding in report.mended:
        print(f"MENDED  {finding.region}: {finding.what} {finding.wrong}; from {finding.mended}")
    for finding in report.findings:
        why_not = f" (not mended: {finding.why_not})" if finding.why_not else ""
        print(f"PROBLEM {finding.region}: {finding.what} {finding.wrong}{why_not}")
    for region in report.unreachable:
        print(f"PROBLEM {region}: cannot be reached, and was not looked at")
    said = "intact" if report.intact else "NOT INTACT"
    looked = f"{report.items} items, {report.objects} objects, {report.runs} runs"
    print(f"{said}: {looked}; epoch {report.epoch}, written to in {report.writer}")


def _opened(url: str | None, *, existing: bool) -> OpenStore:
    from ..clock import RandomIds, SystemClock
    from ..governance.stores import open_store
    from ..settings import Settings

    return open_store(Settings.load(store=url), clock=SystemClock(), ids=RandomIds(), existing=existing)


def _cloud(url: str | None) -> tuple[OpenStore, Regions]:
    from ..errors import UsageError

    opened = _opened(url, existing=True)
    if opened.regions is None:
        raise UsageError(
            "the store is a file.",
            hint="`bedrock-evolution audit verify` checks it; name a store in the cloud with --store.",
        )
    return opened, opened.regions


@contextmanager
def _bar() -> Iterator[Told]:
    """Show how far long work is, where somebody watches."""
    if not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def told(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=max(total, done))

        yield told


def _silent(what: str, done: int, total: int) -> None:
    """Say nothing."""
