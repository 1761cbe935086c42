"""`SQLiteDNAStore`: DNA and events in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import ValidationError

from ..errors import IntegrityError, InvalidGene, StaleParent, UnknownRun
from .database import Database
from .events import GENESIS, EventDraft, EvolutionEvent
from .genes import GeneValue
from .genome import SystemDNA

_PAGE = 1000


class EventRow(NamedTuple):
    """The columns an event is found by."""

    app: str
    seq: int
    key: str
    hash: str


class SQLiteDNAStore:
    """A `DNAStore` in a SQLite file: compare-and-set under the file's write lock.

    Args:
        database: The opened file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.tables() as tables:
            tables.table("dna").create(
                {"app": str, "generation": int, "checksum": str, "parent": str, "mutation": str, "document": str},
                pk=("app", "generation"),
                if_not_exists=True,
            )
            tables.table("dna").create_index(["app", "mutation"], if_not_exists=True)
            tables.table("events").create(
                {"app": str, "seq": int, "key": str, "hash": str, "document": str},
                pk=("app", "seq"),
                if_not_exists=True,
            )
            tables.table("events").create_index(["app", "key"], unique=True, if_not_exists=True)

    def head(self, app: str) -> SystemDNA | None:
        """See `DNAStore.head`."""
        row = self._database.row(
            "SELECT checksum, document FROM dna WHERE app = ? ORDER BY generation DESC LIMIT 1", [app]
        )
        return None if row is None else _read(*row)

    def commit(self, expected: str | None, dna: SystemDNA, event: EventDraft) -> SystemDNA:
        """See `DNAStore.commit`."""
        with self._database.transaction() as connection:
            known = connection.execute(
                "SELECT checksum, document FROM dna WHERE app = ? AND mutation = ? AND parent IS ?",
                [dna.app, dna.mutation, expected],
            ).fetchone()
            if known is not None and dna.mutation is not None:
                # Its event is known too, unless another run proposed the very same mutation and has its own to tell.
                _chain(connection, event)
                return _read(*known)
            head = self.head(dna.app)
            live = head.checksum if head else None
            if live != expected:
                raise StaleParent(
                    f"the live DNA of {dna.app!r} is {str(live)[:12]}, not {str(expected)[:12]}:"
                    " another run changed it.",
                    hint="Read it again and propose from there; nothing was written.",
                )
            connection.execute(
                "INSERT INTO dna (app, generation, checksum, parent, mutation, document) VALUES (?, ?, ?, ?, ?, ?)",
                [dna.app, dna.generation, dna.checksum, dna.parent, dna.mutation, _write(dna)],
            )
            _chain(connection, event)
        return dna

    def snapshot(self, app: str, generation: int) -> SystemDNA:
        """See `DNAStore.snapshot`."""
        row = self._database.row(
            "SELECT checksum, document FROM dna WHERE app = ? AND generation = ?", [app, generation]
        )
        if row is None:
            raise UnknownRun(f"{app!r} has no generation {generation}.", hint="`bedrock-evolution history` lists them.")
        return _read(*row)

    def history(self, app: str, *, limit: int = 50) -> list[SystemDNA]:
        """See `DNAStore.history`."""
        rows = self._database.rows(
            "SELECT checksum, document FROM dna WHERE app = ? ORDER BY generation DESC LIMIT ?", [app, limit]
        )
        return [_read(*row) for row in rows]

    def append(self, event: EventDraft) -> EvolutionEvent:
        """See `DNAStore.append`."""
        with self._database.transaction() as connection:
            return _chain(connection, event)

    def events(self, app: str, *, after: int = 0) -> Iterator[EvolutionEvent]:
        """See `DNAStore.events`."""
        for _, event in self.event_rows(app, after=after):
            yield event

    def event_rows(self, app: str, *, after: int = 0) -> Iterator[tuple[EventRow, EvolutionEvent]]:
        """Yield the events with the columns of their rows, which an audit compares with them."""
        while rows := self._database.rows(
            "SELECT app, seq, key, hash, document FROM events WHERE app = ? AND seq > ? ORDER BY seq LIMIT ?",
            [app, after, _PAGE],
        ):
            for *columns, document in rows:
                row = EventRow(*columns)
                yield row, _event(row.seq, document)
            after = rows[-1][1]

    def restore(self, app: str, generation: int, event: EventDraft) -> SystemDNA:
        """See `DNAStore.restore`."""
        with self._database.transaction():
            old, head = self.snapshot(app, generation), self.head(app)
            if head is None:
                raise UnknownRun(f"{app!r} has no DNA.", hint="Run it once first.")
            values = {name: gene.value for name, gene in old.genes.items() if name in head.genes}
            for name, value in values.items():
                _still_allowed(head, name, value)
            restored = head.successor(values, mutation=f"restore-{generation}", fitness=old.fitness)
            return self.commit(head.checksum, restored, event)

    def lineage(self, app: str) -> Iterator[SystemDNA]:
        """Yield every generation, oldest first."""
        after = -1
        while rows := self._database.rows(
            "SELECT generation, checksum, document FROM dna WHERE app = ? AND generation > ?"
            " ORDER BY generation LIMIT ?",
            [app, after, _PAGE],
        ):
            for _, checksum, document in rows:
                yield _read(checksum, document)
            after = rows[-1][0]

    def apps(self) -> list[str]:
        """Return the names of the applications in this file."""
        return [row[0] for row in self._database.rows("SELECT DISTINCT app FROM dna ORDER BY app")]


def _still_allowed(head: SystemDNA, name: str, value: GeneValue) -> None:
    try:
        head.genes[name].check(value)
    except InvalidGene as error:
        raise InvalidGene(
            f"gene {name!r} had {error.message}.", hint="The application declares other bounds by now."
        ) from None


def _write(dna: SystemDNA) -> str:
    return json.dumps(dna.as_json(), ensure_ascii=False)


def _read(checksum: str, document: str) -> SystemDNA:
    try:
        dna = SystemDNA.model_validate_json(document)
    except ValidationError as error:
        raise IntegrityError(f"a stored DNA cannot be read: {error}", hint="Restore the store from a copy.") from error
    if dna.checksum != checksum:
        raise IntegrityError(
            f"generation {dna.generation} of {dna.app!r} does not match its checksum {checksum[:12]}.",
            hint="The store was altered; restore it from a copy.",
        )
    return dna


def _event(seq: int, document: str) -> EvolutionEvent:
    try:
        return EvolutionEvent.model_validate_json(document)
    except ValidationError as error:
        raise IntegrityError(f"event {seq} cannot be read: {error}", hint="The store was altered.") from error


def _chain(connection: sqlite3.Connection, draft: EventDraft) -> EvolutionEvent:
    known = connection.execute(
        "SELECT seq, document FROM events WHERE app = ? AND key = ?", [draft.app, draft.key]
    ).fetchone()
    if known is not None:
        return _event(*known)
    last = connection.execute(
        "SELECT seq, hash FROM events WHERE app = ? ORDER BY seq DESC LIMIT 1", [draft.app]
    ).fetchone()
    seq, previous = last or (0, GENESIS)
    event = EvolutionEvent.chain(draft, seq=seq + 1, previous=previous)
    connection.execute(
        "INSERT INTO events (app, seq, key, hash, document) VALUES (?, ?, ?, ?, ?)",
        [event.app, event.seq, event.key, event.hash, event.model_dump_json()],
    )
    return event
