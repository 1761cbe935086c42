"""`SQLiteDNAStore`: DNA and events in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ..errors import IntegrityError, StaleParent, UnknownRun
from .database import Database
from .events import GENESIS, EventDraft, EventRow, EvolutionEvent, digest_of, linked
from .genome import SystemDNA
from .store import always
from .testimony import Anchor

if TYPE_CHECKING:
    from .sync import Queue

_PAGE = 1000
_ROWS_PAGE = 200
"""Small enough that what was read is still in the processor's cache when it is hashed."""
_ALTERED = "The store was altered: `bedrock-evolution audit verify` tells more; restore it from a copy."
# As bytes, because a text that is no UTF-8 could not be read, let alone be named.
_ROWS = (
    "SELECT seq, CAST(kind AS BLOB), CAST(key AS BLOB), CAST(hash AS BLOB), CAST(document AS BLOB) FROM events"
    " WHERE app = ? AND seq > ? AND typeof(seq) = 'integer' ORDER BY seq LIMIT ?"
)


class SQLiteDNAStore:
    """A `DNAStore` in a SQLite file: compare-and-set under the file's write lock.

    Args:
        database: The opened file.
        anchor: Where the head of the record is signed after each event; None signs nothing.
    """

    shared = False
    """Whether machines with other files store events in it too."""

    def __init__(self, database: Database, anchor: Anchor | None = None) -> None:
        self._database = database
        self.anchor = anchor
        with database.tables() as tables:
            tables.table("dna").create(
                {"app": str, "generation": int, "checksum": str, "parent": str, "mutation": str, "document": str},
                pk=("app", "generation"),
                if_not_exists=True,
            )
            tables.table("dna").create_index(["app", "mutation"], if_not_exists=True)
            tables.table("events").create(
                {"app": str, "seq": int, "kind": str, "key": str, "hash": str, "document": str},
                pk=("app", "seq"),
                if_not_exists=True,
            )
            tables.table("events").create_index(["app", "key"], unique=True, if_not_exists=True)
            tables.table("events").create_index(["app", "kind", "seq"], if_not_exists=True)

    def head(self, app: str) -> SystemDNA | None:
        """See `DNAStore.head`."""
        row = self._database.row(
            "SELECT checksum, document FROM dna WHERE app = ? ORDER BY generation DESC LIMIT 1", [app]
        )
        return None if row is None else read_dna(*row)

    def commit(
        self, expected: str | None, dna: SystemDNA, event: EventDraft, *, allowed: Callable[[], object] = always
    ) -> SystemDNA:
        """See `DNAStore.commit`."""
        with self._database.transaction("dna.commit") as connection:
            known = connection.execute(
                "SELECT checksum, document FROM dna WHERE app = ? AND mutation = ? AND parent IS ?",
                [dna.app, dna.mutation, expected],
            ).fetchone()
            head = self.head(dna.app)
            live = head.checksum if head else None
            if known is not None and dna.mutation is not None and (live == known[0] or self.event(dna.app, event.key)):
                # Its event is known too, unless another run proposed the very same mutation and has its own to tell.
                self._record(connection, event)
                return read_dna(*known)
            if live != expected:
                raise stale(dna.app, live, expected)
            allowed()
            connection.execute(
                "INSERT INTO dna (app, generation, checksum, parent, mutation, document) VALUES (?, ?, ?, ?, ?, ?)",
                [dna.app, dna.generation, dna.checksum, dna.parent, dna.mutation, write_dna(dna)],
            )
            self._record(connection, event)
        return dna

    def snapshot(self, app: str, generation: int) -> SystemDNA:
        """See `DNAStore.snapshot`."""
        row = self._database.row(
            "SELECT checksum, document FROM dna WHERE app = ? AND generation = ?", [app, generation]
        )
        if row is None:
            raise UnknownRun(f"{app!r} has no generation {generation}.", hint="`bedrock-evolution history` lists them.")
        return read_dna(*row)

    def history(self, app: str, *, limit: int = 50) -> list[SystemDNA]:
        """See `DNAStore.history`."""
        rows = self._database.rows(
            "SELECT checksum, document FROM dna WHERE app = ? ORDER BY generation DESC LIMIT ?", [app, limit]
        )
        return [read_dna(*row) for row in rows]

    def append(self, event: EventDraft) -> EvolutionEvent:
        """See `DNAStore.append`."""
        with self._database.transaction("event.append") as connection:
            return self._record(connection, event)

    def _record(self, connection: sqlite3.Connection, draft: EventDraft) -> EvolutionEvent:
        if (anchor := self.anchor) is None:
            return chain(connection, draft)[0]
        if not anchor.ready:
            anchor.prepare(known=connection.execute("SELECT 1 FROM events LIMIT 1").fetchone() is not None)
        event, new = chain(connection, draft)
        if new:
            self._database.afterwards(lambda: anchor.sign(event.app, event.seq, event.hash))
        return event

    def sign_head(self, app: str) -> None:
        """Sign what a process that died could not: the present head, where the newest signed one is an earlier one.

        Raises:
            IntegrityError: The record does not go on from the newest signed head; nothing was signed.
            StoreError: The key or the anchor cannot be used.
        """
        if self.anchor is None or self._database.row("SELECT 1 FROM events WHERE app = ? LIMIT 1", [app]) is None:
            return
        self.anchor.prepare(known=True)
        signed = self.anchor.newest(app)
        count, head = (signed.number, signed.head) if signed else (0, GENESIS)
        try:
            self._holds(app, count, head)
            for page in self.event_rows(app, after=count):
                for row in page:
                    _, head = linked(row, app, count + 1, head)
                    count += 1
            if strays := self.unnumbered(app):
                raise IntegrityError(f"{strays} of its records have no valid number")
        except IntegrityError as error:
            raise IntegrityError(
                f"the record of {app!r} does not go on from its newest signed head: {error.message}.",
                hint="`bedrock-evolution audit verify` tells more; restore the store from a copy.",
            ) from error
        if signed is None or count > signed.number:
            self.anchor.sign(app, count, head)

    def _holds(self, app: str, count: int, head: str) -> None:
        """Check that the event of a signed number is the one that was signed."""
        if not count:
            return
        row = self._database.row("SELECT hash FROM events WHERE app = ? AND seq = ?", [app, count])
        if row is None:
            raise IntegrityError(f"{count} events were signed, and event {count} is missing")
        if row[0] != head:
            raise IntegrityError(f"event {count} is not the one that was signed")

    def events(self, app: str, *, after: int = 0) -> Iterator[EvolutionEvent]:
        """See `DNAStore.events`."""
        while rows := self._database.rows(
            "SELECT seq, document, hash FROM events WHERE app = ? AND seq > ? ORDER BY seq LIMIT ?", [app, after, _PAGE]
        ):
            for row in rows:
                yield read_event(*row)
            after = rows[-1][0]

    def event(self, app: str, key: str) -> EvolutionEvent | None:
        """See `DNAStore.event`."""
        row = self._database.row("SELECT seq, document, hash FROM events WHERE app = ? AND key = ?", [app, key])
        return None if row is None else read_event(*row)

    def recent(self, app: str, kinds: Sequence[str], *, limit: int) -> list[EvolutionEvent]:
        """See `DNAStore.recent`."""
        # Kind by kind, as each is in the index: for several at once SQLite reads all events backwards.
        rows = [
            row
            for kind in kinds
            for row in self._database.rows(
                "SELECT seq, document, hash FROM events WHERE app = ? AND kind = ? ORDER BY seq DESC LIMIT ?",
                [app, kind, limit],
            )
        ]
        return [read_event(*row) for row in sorted(rows, reverse=True)[:limit]]

    def events_from(self, app: str, number: int, *, limit: int) -> list[EvolutionEvent]:
        """Return the event of a number and those after it, `limit` in all."""
        return list(islice(self.events(app, after=number - 1), limit))

    def count(self, app: str) -> int:
        """Return how many events an application has."""
        row = self._database.row("SELECT max(seq) FROM events WHERE app = ? AND typeof(seq) = 'integer'", [app])
        return int(row[0] or 0) if row else 0

    def event_rows(self, app: str, *, after: int = 0) -> Iterator[list[EventRow]]:
        """Yield the numbered rows of the record in pages, oldest first, for an audit to judge."""
        while rows := self._database.rows(_ROWS, [app, after, _ROWS_PAGE]):
            yield rows
            after = rows[-1][0]

    def unnumbered(self, app: str) -> int:
        """Count the rows that no reading meets, because what they have for a number is none."""
        row = self._database.row(
            "SELECT count(*) FROM events WHERE app = ? AND (typeof(seq) <> 'integer' OR seq < 1)", [app]
        )
        return int(row[0]) if row else 0

    def lineage(self, app: str) -> Iterator[SystemDNA]:
        """Yield every generation, oldest first.

        Raises:
            IntegrityError: One does not match its checksum or its row.
        """
        after = -1
        while rows := self._database.rows(
            "SELECT checksum, document, generation, parent, mutation FROM dna WHERE app = ? AND generation > ?"
            " ORDER BY generation LIMIT ?",
            [app, after, _PAGE],
        ):
            for checksum, document, *columns in rows:
                dna = read_dna(checksum, document)
                if [dna.generation, dna.parent, dna.mutation] != columns or dna.app != app:
                    raise IntegrityError(
                        f"generation {columns[0]} of {app!r} was altered: its content does not match its row.",
                        hint=_ALTERED,
                    )
                yield dna
            after = rows[-1][2]

    def refresh(self, app: str) -> None:
        """Take over what other machines stored: here, nothing, as all share the file."""

    def ready(self) -> None:
        """Wait until the live DNA can be changed: here, not at all.

        Raises:
            StoreUnavailable: It cannot for too long.
        """

    def bring_up_to_date(self, app: str) -> None:
        """Know all that is on record; a file does.

        Raises:
            StoreUnavailable: It cannot be known now.
        """

    def watch_runs(self) -> None:
        """See to it that another machine can go on with the runs of this one: here, that is the file itself."""

    def fetch_run(self, app: str, run_id: str) -> None:
        """Bring a run of another machine here, to go on with it: here, there is no other.

        Args:
            app: The application.
            run_id: The run.
        """

    def read_run(self, app: str, run_id: str) -> None:
        """Bring what another machine has of a run here, to look at it: here, there is no other.

        Args:
            app: The application.
            run_id: The run.
        """

    def works_on(self, app: str, run_id: str) -> bool:
        """Whether a run is this machine's, as far as can be told: here, all are.

        Args:
            app: The application.
            run_id: The run.
        """
        return True

    def flush(self) -> None:
        """Send what waits to be sent: here, nothing ever does."""

    def queue(self) -> Queue | None:
        """Return what waits to be sent: here, nothing ever does."""
        return None

    def on(self, database: Database) -> SQLiteDNAStore:
        """Return the same store on another connection, as a process needs it after a fork."""
        return SQLiteDNAStore(database, self.anchor)

    def close(self) -> None:
        """End what works for the store in the background; the file is closed by its owner."""

    def one_moment(self) -> AbstractContextManager[None]:
        """Let several readings in a block see the store as of one moment."""
        return self._database.snapshot()

    def apps(self) -> list[str]:
        """Return the names of the applications in this file."""
        return [row[0] for row in self._database.rows("SELECT DISTINCT app FROM dna ORDER BY app")]


def stale(app: str, live: str | None, expected: str | None) -> StaleParent:
    """Return what a compare-and-set is refused with."""
    return StaleParent(
        f"the live DNA of {app!r} is {str(live)[:12]}, not {str(expected)[:12]}: another run changed it.",
        hint="Read it again and propose from there; nothing was written.",
    )


def write_dna(dna: SystemDNA) -> str:
    """Return DNA as it is stored."""
    return json.dumps(dna.as_json(), ensure_ascii=False)


def read_dna(checksum: str, document: str) -> SystemDNA:
    """Read stored DNA.

    Raises:
        IntegrityError: It does not match its checksum.
    """
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


def read_event(seq: int, document: str, digest: str) -> EvolutionEvent:
    """Read a stored event.

    Raises:
        IntegrityError: It does not match its hash, or has another number.
    """
    try:
        whole = digest_of(document) == digest
        event = EvolutionEvent.read(document, digest)
    except (ValueError, TypeError, AttributeError) as error:
        raise IntegrityError(f"event {seq} cannot be read: {error}", hint=_ALTERED) from error
    if not whole or event.seq != seq:
        raise IntegrityError(f"event {seq} was altered: its content does not match its hash.", hint=_ALTERED)
    return event


def chain(connection: sqlite3.Connection, draft: EventDraft) -> tuple[EvolutionEvent, bool]:
    """Return the event of a draft as it is stored, and whether it is new."""
    last = connection.execute(
        "SELECT seq, hash FROM events WHERE app = ? AND typeof(seq) = 'integer' ORDER BY seq DESC LIMIT 1", [draft.app]
    ).fetchone()
    seq, previous = last or (0, GENESIS)
    event, document = EvolutionEvent.sealed(draft, seq=seq + 1, previous=previous)
    added = connection.execute(
        "INSERT INTO events (app, seq, kind, key, hash, document) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (app, key) DO NOTHING",
        [event.app, event.seq, event.kind, event.key, event.hash, document],
    )
    if added.rowcount:
        return event, True
    known = connection.execute(
        "SELECT seq, document, hash FROM events WHERE app = ? AND key = ?", [draft.app, draft.key]
    ).fetchone()
    return read_event(*known), False
