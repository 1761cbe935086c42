"""The working copy of a cloud store on one machine: what the cloud has, and behind it what waits to be sent."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..errors import StoreUnavailable
from .aws.stored import Batch, Head, Segment, Snapshot, StoredEvent, day_of
from .database import Database
from .events import GENESIS, EventDraft, EvolutionEvent
from .shipping import Packed, Shipping
from .sync import StorageSync

Projection = Callable[[sqlite3.Connection, EvolutionEvent], None]
"""Brings tables of the working copy up to date with an event that another machine stored."""

MAKES_DNA = ("applied", "declared", "restored")
"""The kinds of event that come with a generation of DNA."""
_EVENTS_AT_ONCE = 20
_BYTES_AT_ONCE = 2_000_000
"""A transaction may have 100 parts and 4 MB
(https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html)."""
_POSITIONS = (
    "CREATE TABLE IF NOT EXISTS positions"
    " (app TEXT PRIMARY KEY, number INTEGER, hash TEXT, generation INTEGER, checksum TEXT) WITHOUT ROWID"
)


class WorkingCopy:
    """Keeps the tables `dna` and `events` of a machine's file in step with the record in the cloud.

    The first events, up to the position, are those of the record. Behind them stand the queued ones, chained as if
    nobody else had written; when somebody has, they are chained anew behind what is taken over.

    Args:
        database: The machine's file.
        sync: Knows what is queued.
        shipping: Knows the rows of runs that wait.
        project: Told of each event that another machine stored.
    """

    def __init__(self, database: Database, sync: StorageSync, shipping: Shipping, project: Projection) -> None:
        self._database = database
        self._sync = sync
        self._shipping = shipping
        self._project = project
        with database.transaction("tables") as connection:
            connection.execute(_POSITIONS)

    def position(self, app: str) -> Head:
        """Return up to where the record in the cloud is known here."""
        row = self._database.row("SELECT number, hash, generation, checksum FROM positions WHERE app = ?", [app])
        return Head(*row) if row else Head()

    def hash_of(self, app: str, number: int) -> str | None:
        """Return the hash of the event of a number."""
        row = self._database.row("SELECT hash FROM events WHERE app = ? AND seq = ?", [app, number])
        return None if row is None else str(row[0])

    def as_of(self, app: str, number: int) -> Head:
        """Return the position after the event of a number."""
        if not number:
            return Head()
        row = self._database.row(
            "SELECT dna.generation, checksum FROM events JOIN dna ON dna.app = events.app"
            " AND checksum = json_extract(events.document, '$.data.dna')"
            " WHERE events.app = ? AND seq <= ? AND kind IN ('applied', 'declared', 'restored')"
            " ORDER BY dna.generation DESC LIMIT 1",
            [app, number],
        )
        return Head(number, self.hash_of(app, number) or GENESIS, *(row or (-1, "")))

    # -- taking over

    def take(
        self, app: str, since: Head, events: Sequence[StoredEvent], snapshots: Sequence[Snapshot], upto: Head
    ) -> bool:
        """Take over what follows a position; tell whether that still was the position.

        Args:
            app: The application.
            since: The position that it follows.
            events: The events.
            snapshots: The DNA that came with them.
            upto: The new position.
        """
        with self._database.transaction("store.pull", waits=False) as connection:
            if self.position(app) != since:
                return False
            own = self._lifted(connection, app)
            for event in events:
                self._insert(connection, app, event)
                document = own.pop(event.key, None)
                self._sync.sent(connection, app, event.key)
                if document is not None and _said(document) != _said(event.document):
                    why = "another machine was faster with an event of this key"
                    self._sync.refuse(connection, app, event.key, document, why)
                if document is None or _said(document) != _said(event.document):
                    self._project(connection, EvolutionEvent.read(event.document, event.hash))
            if snapshots:
                connection.execute("DELETE FROM dna WHERE app = ? AND generation > ?", [app, since.generation])
            for dna in snapshots:
                self._insert_dna(connection, app, dna)
            for key in self._overruled(connection, app, own):
                self._sync.refuse(connection, app, key, own.pop(key), "another change became live in its place")
            self._move(connection, app, upto)
            self._chain_anew(connection, app, upto, own.values())
        return True

    @staticmethod
    def _overruled(connection: sqlite3.Connection, app: str, own: Mapping[str, str]) -> list[str]:
        """Return the keys of queued events whose DNA did not become live where the store is written to by now."""
        bodies = {key: json.loads(document) for key, document in own.items()}
        made = {
            key: dna for key, body in bodies.items() if body["kind"] in MAKES_DNA and (dna := body["data"].get("dna"))
        }
        known = "SELECT 1 FROM dna WHERE app = ? AND checksum = ?"
        return [key for key, dna in made.items() if connection.execute(known, [app, dna]).fetchone() is None]

    def go_back(self, app: str, since: Head, to: Head) -> None:
        """Queue again what follows a position: the region that is written to by now has not got it.

        Args:
            app: The application.
            since: The position that this is about; if it is another one by now, nothing is done.
            to: The position to go back to.
        """
        with self._database.transaction("store.pull") as connection:
            if self.position(app) != since:
                return
            rows = connection.execute(
                "SELECT key FROM events WHERE app = ? AND seq BETWEEN ? AND ?", [app, to.number + 1, since.number]
            ).fetchall()
            for (key,) in rows:
                # It was on record: whose run it is of was judged then.
                self._sync.queue_again(connection, app, key, None)
            self._move(connection, app, to)

    def set_aside(self, app: str, run_id: str) -> None:
        """Take a run that another machine has taken over out of the queue."""
        with self._database.transaction("store.pull") as connection:
            said_here = "SELECT key FROM outbox WHERE app = ? AND run_id = ?"
            keys = [key for (key,) in connection.execute(said_here, [app, run_id]) if key.startswith(f"{run_id}/")]
            own = self._lifted(connection, app)
            for key in keys:
                why = f"run {run_id} was taken over by another machine"
                self._sync.refuse(connection, app, key, own.pop(key), why)
            self._shipping.forget(connection, run_id)
            self._chain_anew(connection, app, self.position(app), own.values())

    # -- sending

    def queued(self, app: str, machine: str) -> tuple[Batch, Sequence[Packed]] | None:
        """Return what is to be sent next, if anything is."""
        with self._database.snapshot():
            rows = self._database.rows(
                "SELECT events.seq, kind, events.key, hash, document, run_id FROM outbox JOIN events USING (app, key)"
                " WHERE app = ? ORDER BY events.seq LIMIT ?",
                [app, _EVENTS_AT_ONCE],
            )
            packed = self._shipping.pack(app)
            if not rows and not packed:
                return None
            batch = self._batch(app, self.position(app), [row for *row, _ in rows])
        said_here = [event for event, (*_, run_id) in zip(batch.events, rows, strict=False) if run_id is not None]
        runs = {segment.run_id for segment in packed} | {run for event in said_here if (run := worker_of(event))}
        segments = tuple(Segment(each.run_id, each.number, each.content) for each in packed)
        return batch._replace(segments=segments, runs=tuple(sorted(runs)), machine=machine), packed

    def following(self, app: str, before: Head) -> Batch | None:
        """Return what is known to follow a position in the record, for a replica that has not got it.

        Raises:
            StoreUnavailable: The position is none of this record.
        """
        with self._database.snapshot():
            position = self.position(app)
            if 0 < before.number <= position.number and self.hash_of(app, before.number) != before.hash:
                raise StoreUnavailable(
                    f"the record of {app!r} there parts from this one before event {before.number}.",
                    hint="`bedrock-evolution store verify` tells more.",
                )
            rows = self._database.rows(
                "SELECT seq, kind, key, hash, document FROM events WHERE app = ? AND seq > ? AND seq <= ?"
                " ORDER BY seq LIMIT ?",
                [app, before.number, position.number, _EVENTS_AT_ONCE],
            )
            return self._batch(app, before, rows) if rows else None

    def _batch(self, app: str, before: Head, rows: Sequence[Sequence[Any]]) -> Batch:
        """Return rows as a batch: no more than a transaction holds, and ending with the first that makes DNA."""
        events: list[StoredEvent] = []
        after, size, snapshot = before, 0, None
        for number, kind, key, digest, document in rows:
            size += len(document)
            if events and size > _BYTES_AT_ONCE:
                break
            events.append(StoredEvent(number, kind, key, digest, document, day_of(document)))
            after = after._replace(number=number, hash=digest)
            if kind in MAKES_DNA and (snapshot := self._made(app, before, json.loads(document))) is not None:
                after = after._replace(generation=snapshot.generation, checksum=snapshot.checksum)
                break
        return Batch(app, before, after, tuple(events), snapshot)

    def _made(self, app: str, before: Head, body: dict[str, Any]) -> Snapshot | None:
        """Return the DNA that an event made live, unless the region has it already."""
        row = self._database.row(
            "SELECT generation, checksum, parent, mutation, document FROM dna WHERE app = ? AND generation = ?",
            [app, before.generation + 1],
        )
        return Snapshot(*row) if row and row[1] == body["data"].get("dna") else None

    def sent(self, batch: Batch, packed: Sequence[Packed]) -> None:
        """Note that a batch is part of the record; what is forgotten is sent again, and found there.

        Where another process of this machine went on meanwhile, it has taken the batch over from the record.
        """
        with self._database.transaction("store.sent", waits=False) as connection:
            if self.position(batch.app) == batch.before:
                for event in batch.events:
                    self._sync.sent(connection, batch.app, event.key)
                self._move(connection, batch.app, batch.after)
            for segment in packed:
                if self._shipping.last(segment.run_id) < segment.number:
                    self._shipping.sent(connection, segment)

    # -- inside a transaction

    def drop_strays(self, connection: sqlite3.Connection, app: str) -> None:
        """Remove the DNA that no event made: where nothing is queued, all of it is as old as the position."""
        connection.execute("DELETE FROM dna WHERE app = ? AND generation > ?", [app, self.position(app).generation])

    def add(self, connection: sqlite3.Connection, batch: Batch) -> None:
        """Store a batch that the cloud has."""
        for event in batch.events:
            self._insert(connection, batch.app, event)
        if batch.snapshot is not None:
            self._insert_dna(connection, batch.app, batch.snapshot)
        self._move(connection, batch.app, batch.after)

    def _lifted(self, connection: sqlite3.Connection, app: str) -> dict[str, str]:
        """Take the queued events off the record; return their documents by key, in order."""
        rows = connection.execute(
            "SELECT key, document FROM outbox JOIN events USING (app, key) WHERE app = ? ORDER BY seq", [app]
        ).fetchall()
        connection.executemany("DELETE FROM events WHERE app = ? AND key = ?", [(app, key) for key, _ in rows])
        return dict(rows)

    def _chain_anew(self, connection: sqlite3.Connection, app: str, after: Head, documents: Iterable[str]) -> None:
        number, previous = after.number, after.hash
        for document in documents:
            body = json.loads(document)
            draft = EventDraft.model_validate({name: body[name] for name in EventDraft.model_fields})
            event, text = EvolutionEvent.sealed(draft, seq=number + 1, previous=previous)
            self._insert(connection, app, StoredEvent.of(event, text))
            number, previous = event.seq, event.hash

    @staticmethod
    def _insert(connection: sqlite3.Connection, app: str, event: StoredEvent) -> None:
        connection.execute(
            "INSERT INTO events (app, seq, kind, key, hash, document) VALUES (?, ?, ?, ?, ?, ?)",
            [app, event.number, event.kind, event.key, event.hash, event.document],
        )

    @staticmethod
    def _insert_dna(connection: sqlite3.Connection, app: str, dna: Snapshot) -> None:
        connection.execute(
            "INSERT INTO dna (app, generation, checksum, parent, mutation, document) VALUES (?, ?, ?, ?, ?, ?)",
            [app, dna.generation, dna.checksum, dna.parent, dna.mutation, dna.document],
        )

    @staticmethod
    def _move(connection: sqlite3.Connection, app: str, to: Head) -> None:
        connection.execute("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?, ?)", [app, *to])


def worker_of(event: StoredEvent) -> str:
    """Return the run whose worker says this; others say things about runs too, such as who approved what."""
    run_id = json.loads(event.document)["run_id"]
    return run_id if run_id and event.key.startswith(f"{run_id}/") else ""


def _said(document: str) -> dict[str, Any]:
    """Return what an event says, wherever it stands in the record."""
    body: dict[str, Any] = json.loads(document)
    return {name: value for name, value in body.items() if name not in ("seq", "previous")}
