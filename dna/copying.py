"""`store copy`: an application's whole record, from one store to another.

Events are copied as they are, byte by byte, so that their chain and their hashes stay the same; with each goes the DNA
that it made live. What is copied is copied in order, a transaction at a time: a copy that was killed goes on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..errors import IntegrityError, UsageError
from .aws.mending import Mender
from .aws.objects import folders
from .aws.record import Record
from .aws.stored import Batch, Head, Snapshot, StoredEvent, day_of
from .aws.verifying.findings import Told, nobody
from .cloud import CloudDNAStore
from .database import Database
from .events import EvolutionEvent, linked
from .shipping import RUN_OF, Shipping
from .sqlite import SQLiteDNAStore
from .working_copy import MAKES_DNA, Projection

_EVENTS_AT_ONCE = 20
_BYTES_AT_ONCE = 2_000_000
_PAGE = 1000

Rows = dict[str, list[tuple[Any, ...]]]
"""The rows of a run, by table, in the order they were written."""


@dataclass(frozen=True, slots=True)
class Side:
    """A store that is copied from or to.

    Args:
        store: DNA and events.
        database: Its file, or its working copy on this machine.
    """

    store: SQLiteDNAStore
    database: Database


@dataclass(frozen=True, slots=True)
class Tables:
    """What the floors above know of a file's tables.

    Args:
        prepare: Makes the tables that hold the rows of runs.
        project: Brings the tables of governance up to date with an event.
        problems: Audits an application's record; returns what is wrong.
    """

    prepare: Callable[[Database], None]
    project: Projection
    problems: Callable[[SQLiteDNAStore, str], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Copied:
    """What both stores hold of an application now.

    Args:
        app: The application.
        events: How many events.
        generations: How many generations of DNA.
        runs: How many runs.
        rows: How many rows of runs.
        new: How many events and rows were copied just now.
    """

    app: str
    events: int
    generations: int
    runs: int
    rows: int
    new: int


def copy_app(source: Side, target: Side, app: str, *, tables: Tables, told: Told = nobody) -> Copied:
    """Copy an application's record, as of one moment, and compare both.

    Args:
        source: Copied from; it is not changed.
        target: Copied to; what it holds must be how the record begins.
        app: The application.
        tables: What the floors above know of the tables.
        told: Told of the progress.

    Raises:
        UsageError: The target holds another record of the application, or the source none.
        IntegrityError: The record of the source is not sound, or the copy is not the same.
        StoreUnavailable: A store cannot be reached; run it again later, it goes on.
    """
    check_copy(source, target, app, tables=tables)
    count = source.store.count(app)
    try:
        return _copied(source, target, app, tables, told)
    except IntegrityError as error:
        if source.store.count(app) == count:
            raise
        raise UsageError(
            f"{app!r} was worked on in the source while it was copied.",
            hint="Stop it, and repeat the copy: it goes on where it stopped.",
        ) from error


def check_copy(source: Side, target: Side, app: str, *, tables: Tables) -> None:
    """Demand that what the target holds of an application is how the source's record begins.

    Raises:
        UsageError: It is another record, or the source has none.
        StoreUnavailable: A store cannot be reached.
    """
    for side in (source, target):
        tables.prepare(side.database)
        side.store.watch_runs()
        side.store.ready()
        side.store.refresh(app)
    if not source.store.count(app):
        raise UsageError(f"the store holds no application {app!r}.", hint="Name one with --app.")
    _common(source, target, app)


def _copied(source: Side, target: Side, app: str, tables: Tables, told: Told) -> Copied:
    with source.store.one_moment():
        count = source.store.count(app)
        new = _copy_events(source, target, app, tables, told)
        runs = _runs(source, app)
        rows = 0
        for number, run_id in enumerate(runs, 1):
            with _rows(source, app, run_id, tables) as found:
                new += _copy_rows(found, target, app, run_id, tables)
                rows += sum(map(len, found.values()))
            told(f"runs of {app}", number, len(runs))
        target.store.ready()
        generations = _compared(source, target, app, tables)
    return Copied(app, count, generations, len(runs), rows, new)


# -- events and DNA


def _copy_events(source: Side, target: Side, app: str, tables: Tables, told: Told) -> int:
    if target.store.anchor is not None and target.store.count(app):
        target.store.sign_head(app)
    before, count = _common(source, target, app), source.store.count(app)
    new = count - before.number
    for batch in _batches(source, app, before):
        if isinstance(target.store, CloudDNAStore):
            target.store.adopt(batch)
        else:
            _adopt(target, batch, tables.project)
        told(f"events of {app}", batch.after.number, count)
    return new


def _common(source: Side, target: Side, app: str) -> Head:
    """Return where the target's record ends.

    Raises:
        UsageError: It is not how the source's begins.
    """
    end = Head()
    hashes = "SELECT seq, hash FROM events WHERE app = ? AND seq > ? ORDER BY seq LIMIT ?"
    while there := target.database.rows(hashes, [app, end.number, _PAGE]):
        here = dict(source.database.rows(hashes, [app, end.number, _PAGE]))
        for number, digest in there:
            if here.get(number) != digest:
                other = "another one" if number in here else "one that the source lacks"
                raise _another(app, f"event {number} is {other}")
        end = end._replace(number=there[-1][0], hash=there[-1][1])
    checksums = "SELECT generation, checksum FROM dna WHERE app = ? ORDER BY generation"
    known = dict(source.database.rows(checksums, [app]))
    for generation, checksum in target.database.rows(checksums, [app]):
        if known.get(generation) != checksum:
            raise _another(app, f"generation {generation} is another one, or one that the source lacks")
        end = end._replace(generation=generation, checksum=checksum)
    return end


def _another(app: str, what: str) -> UsageError:
    return UsageError(
        f"the target holds another record of {app!r}: {what}; nothing was changed.",
        hint="Copy to a store that does not hold this application.",
    )


def _batches(source: Side, app: str, before: Head) -> Iterator[Batch]:
    """Yield what follows a position: no more at once than a transaction holds, each ending with what makes DNA."""
    events: list[StoredEvent] = []
    after, size, dna = before, 0, _snapshot(source, app, before.generation + 1)
    for page in source.store.event_rows(app, after=before.number):
        for row in page:
            body, digest = linked(row, app, after.number + 1, after.hash)
            document = (row[4] or b"").decode()
            if events and (len(events) == _EVENTS_AT_ONCE or size + len(document) > _BYTES_AT_ONCE):
                yield Batch(app, before, after, tuple(events))
                before, events, size = after, [], 0
            events.append(StoredEvent(after.number + 1, body["kind"], body["key"], digest, document, day_of(document)))
            after, size = after._replace(number=after.number + 1, hash=digest), size + len(document)
            if dna and body["kind"] in MAKES_DNA and body["data"].get("dna") == dna.checksum:
                after = after._replace(generation=dna.generation, checksum=dna.checksum)
                yield Batch(app, before, after, tuple(events), dna)
                before, events, size, dna = after, [], 0, _snapshot(source, app, after.generation + 1)
    if events:
        yield Batch(app, before, after, tuple(events))
        before = after
    while dna is not None:
        # No event names it: it comes last.
        after = before._replace(generation=dna.generation, checksum=dna.checksum)
        yield Batch(app, before, after, (), dna)
        before, dna = after, _snapshot(source, app, after.generation + 1)


def _snapshot(source: Side, app: str, generation: int) -> Snapshot | None:
    row = source.database.row(
        "SELECT generation, checksum, parent, mutation, document FROM dna WHERE app = ? AND generation = ?",
        [app, generation],
    )
    return None if row is None else Snapshot(*row)


def _adopt(target: Side, batch: Batch, project: Projection) -> None:
    """Store a batch in a file, and sign its end."""
    anchor = target.store.anchor
    if anchor is not None and not anchor.ready:
        anchor.prepare(known=target.database.row("SELECT 1 FROM events LIMIT 1") is not None)
    with target.database.transaction("dna.commit") as connection:
        for event in batch.events:
            connection.execute(
                "INSERT INTO events (app, seq, kind, key, hash, document) VALUES (?, ?, ?, ?, ?, ?)",
                [batch.app, event.number, event.kind, event.key, event.hash, event.document],
            )
            project(connection, EvolutionEvent.read(event.document, event.hash))
        if (dna := batch.snapshot) is not None:
            connection.execute(
                "INSERT INTO dna (app, generation, checksum, parent, mutation, document) VALUES (?, ?, ?, ?, ?, ?)",
                [batch.app, dna.generation, dna.checksum, dna.parent, dna.mutation, dna.document],
            )
    if anchor is not None and batch.events:
        anchor.sign(batch.app, batch.after.number, batch.after.hash)


# -- the rows of runs


def _runs(source: Side, app: str) -> list[str]:
    """Return the runs of an application that left rows."""
    rows = source.database.rows(
        "SELECT run_id FROM runs WHERE app = ? UNION"
        " SELECT json_extract(document, '$.run_id') FROM events WHERE app = ?",
        [app, app],
    )
    runs = {str(run_id) for (run_id,) in rows if run_id}
    if isinstance(source.store, CloudDNAStore):
        regions = source.store.regions
        runs.update(folders(regions.table(), f"{regions.place.folder('runs', app)}/"))
    return sorted(runs)


@contextmanager
def _rows(side: Side, app: str, run_id: str, tables: Tables) -> Iterator[Rows]:
    """Read the rows of a run: from the file, or from the cloud where another machine worked on it."""
    if not isinstance(side.store, CloudDNAStore) or _owner(side.store, app, run_id) in (None, side.store.machine):
        yield _read(side.database, run_id)
        return
    record = Record(side.store.regions.table(), side.store.regions.place)
    with TemporaryDirectory(prefix="run-") as folder:
        staged = Database(Path(folder, "staged.db"))
        try:
            tables.prepare(staged)
            shipping = Shipping(staged)
            for number, content in Mender([record]).segments(app, run_id):
                with staged.transaction("store.pull") as connection:
                    shipping.unpack(connection, run_id, number, content)
            yield _read(staged, run_id)
        finally:
            staged.close()


def _owner(store: CloudDNAStore, app: str, run_id: str) -> str | None:
    return Record(store.regions.table(), store.regions.place).owner(app, run_id)


def _read(database: Database, run_id: str) -> Rows:
    return {
        table: database.rows(
            f"SELECT {_columns(database, table)} FROM {table} WHERE {run} = ?"  # noqa: S608  # ours
            f" ORDER BY {_columns(database, table, key=True)}",
            [run_id],
        )
        for table, run in RUN_OF.items()
    }


def _columns(database: Database, table: str, *, key: bool = False) -> str:
    rows = database.rows("SELECT name FROM pragma_table_info(?) WHERE pk >= ? ORDER BY name", [table, int(key)])
    return ", ".join(f'"{name}"' for (name,) in rows)


def _copy_rows(rows: Rows, target: Side, app: str, run_id: str, tables: Tables) -> int:
    """Bring the rows of a run to the target, all of them or none; return how many are new."""
    with _rows(target, app, run_id, tables) as known:
        there = {table: set(found) for table, found in known.items()}
    missing = {table: [row for row in found if row not in there[table]] for table, found in rows.items()}
    new = sum(map(len, missing.values()))
    if not new:
        return 0
    if isinstance(target.store, CloudDNAStore) and _owner(target.store, app, run_id) not in (
        None,
        target.store.machine,
    ):
        raise UsageError(
            f"run {run_id} of {app!r} is worked on by another machine of the target, and differs there.",
            hint="Copy from the machine that began the copy, or to another store.",
        )
    with target.database.transaction("run.begin") as connection:
        for table, found in missing.items():
            _insert(connection, table, _columns(target.database, table), found)
    target.store.flush()
    return new


def _insert(connection: sqlite3.Connection, table: str, columns: str, rows: list[tuple[Any, ...]]) -> None:
    if rows:
        marks = ", ".join("?" * len(rows[0]))
        connection.executemany(f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({marks})", rows)  # noqa: S608  # ours


# -- comparing


def _compared(source: Side, target: Side, app: str, tables: Tables) -> int:
    """Compare both records; return how many generations they have.

    Raises:
        IntegrityError: They differ, or one is not sound.
    """
    for side, named in ((source, "source"), (target, "target")):
        if problems := tables.problems(side.store, app):
            raise IntegrityError(f"the record of {app!r} in the {named} is not sound: {problems[0]}.")
    counts = [side.store.count(app) for side in (source, target)]
    lines = [[dna.checksum for dna in side.store.lineage(app)] for side in (source, target)]
    heads = [list(side.database.rows(_LAST, [app])) for side in (source, target)]
    if counts[0] != counts[1] or lines[0] != lines[1] or heads[0] != heads[1]:
        raise IntegrityError(f"the copy of {app!r} is not the same: {counts[0]} events became {counts[1]}.")
    for run_id in _runs(source, app):
        with _rows(source, app, run_id, tables) as here, _rows(target, app, run_id, tables) as there:
            if here != there:
                raise IntegrityError(f"the rows of run {run_id} in the target are other ones than in the source.")
    return len(lines[0])


_LAST = "SELECT seq, hash FROM events WHERE app = ? ORDER BY seq DESC LIMIT 1"
