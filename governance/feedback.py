"""Feedback: what people or other programs say of the application, queued as data until an advisor has read it.

The table is a projection of the record: a row is written from the event that tells of it, whoever stored that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from sqlite3 import Connection
from typing import Any, Literal

from ..clock import Clock
from ..dna.canonical import checksum, storable
from ..dna.database import Database
from ..dna.events import EventDraft, EvolutionEvent
from ..dna.sqlite import SQLiteDNAStore
from ..errors import UsageError

MAX_CHARS = 2000
MAX_NAME_CHARS = 200

RemarkStatus = Literal["queued", "read"]
_COLUMNS = "number, app, text, source, at, status, run_id, generation, proposals, meaning"
_TABLE = (
    """
    CREATE TABLE IF NOT EXISTS "feedback" (
        "number" INTEGER, "app" TEXT, "text" TEXT, "source" TEXT, "at" TEXT, "status" TEXT,
        "run_id" TEXT, "generation" INTEGER, "proposals" TEXT, "meaning" TEXT,
        PRIMARY KEY ("app", "number")
    )
    """,
    'CREATE INDEX IF NOT EXISTS "idx_feedback_app_status_at" ON "feedback" ("app", "status", "at", "number")',
)


@dataclass(frozen=True, slots=True)
class Remark:
    """One piece of feedback: untrusted text with its source, and what became of it."""

    number: int
    """Counts from one in a file; where machines share the record, a checksum, which is the same on all of them."""
    app: str
    text: str
    source: str
    at: str
    status: RemarkStatus = "queued"
    run_id: str | None = None
    """The run whose advisor read it."""
    generation: int | None = None
    """Generation of that run."""
    proposals: tuple[str, ...] = ()
    """Ids of the mutations that were proposed to answer it."""
    meaning: str = ""
    """What the advisor understood; empty where it did not say."""


def project(connection: Connection, event: EvolutionEvent) -> None:
    """Bring the rows of remarks up to date with an event on record; other events change nothing.

    The first reading of a remark in the record stands, whatever this file held before.

    Args:
        connection: Of a file with the table `events`, which holds what comes before the event in the record.
        event: The event.
    """
    if event.kind == "feedback" and event.key == f"feedback/{event.data.get('number')}":
        _create_table(connection)
        _project_remark(connection, event)
    elif event.kind == "feedback_read" and event.key == f"{event.run_id}/{event.generation}/feedback_read":
        _create_table(connection)
        _project_reading(connection, event)


def named(by: str, why: str, what: str) -> tuple[str, str]:
    """Return who answers for something and why, as they go on record.

    Args:
        by: The person.
        why: The reason.
        what: What they answer for, such as `a rollback`.

    Raises:
        UsageError: Nobody is named, or one of both is too long.
    """
    by, why = flattened(by or ""), flattened(why or "")
    if not by:
        raise UsageError(f"{what} needs the name of the person who answers for it.", hint="Give --by NAME.")
    if len(by) > MAX_NAME_CHARS or len(why) > MAX_CHARS:
        raise UsageError(
            f"the name is {len(by)} characters long, the reason {len(why)}.",
            hint=f"Give at most {MAX_NAME_CHARS} and {MAX_CHARS}.",
        )
    return by, why


def flattened(text: str) -> str:
    """Return outside text on one line, without control characters: it is shown in terminals and in prompts.

    Raises:
        UsageError: It is no text.
    """
    if not isinstance(text, str):
        raise UsageError(f"{text!r} is no text.", hint="Give a text.")
    return " ".join("".join(c if c.isprintable() else " " for c in storable(text)).split())


class FeedbackQueue:
    """Feedback on applications; it has no authority whatever it says.

    Args:
        database: The applications' file.
        store: Keeps the events; its tables are in the same file, so that a remark and its event are stored together.
            What other machines stored is taken over before anything is read.
        clock: Tells when it came in.
    """

    def __init__(self, database: Database, store: SQLiteDNAStore, clock: Clock) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        with database.transaction("tables") as connection:
            _create_table(connection)

    def add(self, app: str, text: str, *, source: str) -> Remark:
        """Queue a remark.

        Raises:
            UsageError: It is empty or too long, or does not say who says it.
        """
        text, source = flattened(text), flattened(source)
        if not text or len(text) > MAX_CHARS:
            raise UsageError(f"the feedback is {len(text)} characters long.", hint=f"Give 1 to {MAX_CHARS} characters.")
        if not source or len(source) > MAX_NAME_CHARS:
            raise UsageError(
                f"the source of the feedback is {len(source)} characters long.",
                hint=f"Say in 1 to {MAX_NAME_CHARS} characters who says it.",
            )
        at = self._clock.now()
        with self._database.transaction("feedback.add") as connection:
            number = self._free_number(connection, app, text, source, at.isoformat())
            event = EventDraft(
                app=app,
                kind="feedback",
                key=f"feedback/{number}",
                at=at,
                actor=source,
                why="feedback was left for the advisor",
                data={"number": number, "text": text},
            )
            project(connection, self._store.append(event))
        return Remark(number, app, text, source, at.isoformat())

    def queued(self, app: str, *, limit: int) -> list[Remark]:
        """Return remarks that no advisor has read yet, oldest first."""
        return self._select(app, "status = 'queued' ORDER BY at, number LIMIT ?", [limit])

    def newest(self, app: str, *, limit: int) -> list[Remark]:
        """Return the newest remarks, read or not, oldest first."""
        return self.listed(app, limit=limit)[::-1]

    def listed(self, app: str, *, limit: int) -> list[Remark]:
        """Return the newest remarks, newest first."""
        return self._select(app, "TRUE ORDER BY at DESC, number DESC LIMIT ?", [limit])

    def count_queued(self, app: str) -> int:
        """Return how many remarks no advisor has read yet."""
        self._store.refresh(app)
        row = self._database.row("SELECT count(*) FROM feedback WHERE app = ? AND status = 'queued'", [app])
        return int(row[0]) if row else 0

    def mark_read(
        self,
        app: str,
        numbers: Iterable[int],
        *,
        run_id: str,
        generation: int,
        answers: Mapping[int, Sequence[str]],
        meanings: Mapping[int, str] | None = None,
    ) -> None:
        """Record that an advisor was shown some remarks; what was read before stays as it was.

        Args:
            app: The application.
            numbers: The remarks it was shown.
            run_id: The run it advised.
            generation: Generation of that run.
            answers: Ids of the mutations it proposed, by the number of the remark they answer.
            meanings: What it understood, by number.
        """
        shown = sorted(set(numbers))
        if not shown:
            return
        answered = {str(n): list(answers[n]) for n in shown if answers.get(n)}
        understood = {
            str(n): meaning for n, text in (meanings or {}).items() if n in shown and (meaning := flattened(text))
        }
        with self._database.transaction("feedback.read") as connection:
            event = EventDraft(
                app=app,
                kind="feedback_read",
                key=f"{run_id}/{generation}/feedback_read",
                at=self._clock.now(),
                actor="advisor",
                why=f"the advisor was shown {len(shown)} remarks and answers {len(answered)} of them",
                run_id=run_id,
                generation=generation,
                data={"numbers": shown, "answers": answered, **({"meanings": understood} if understood else {})},
            )
            project(connection, self._store.append(event))

    def _free_number(self, connection: Connection, app: str, text: str, source: str, at: str) -> int:
        """Return a number that no remark has, on any machine that shares the record."""
        # Machines that share a record would count to the same number, and only one remark would be kept.
        if self._store.shared:
            number = int(checksum([app, text, source, at])[:10], 16)
        else:
            [number] = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM feedback").fetchone()
        while self._store.event(app, f"feedback/{number}") is not None:
            number += 1
        return int(number)

    def _select(self, app: str, where: str, parameters: Sequence[Any]) -> list[Remark]:
        self._store.refresh(app)
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM feedback WHERE app = ? AND {where}",  # noqa: S608  # ours
            [app, *parameters],
        )
        return [_read(row) for row in rows]


def _read(row: tuple[Any, ...]) -> Remark:
    number, app, text, source, at, status, run_id, generation, proposals, meaning = row
    return Remark(number, app, text, source, at, status, run_id, generation, tuple(json.loads(proposals)), meaning)


# -- from the record


def _create_table(connection: Connection) -> None:
    for statement in _TABLE:
        connection.execute(statement)


def _project_remark(connection: Connection, left: EvolutionEvent) -> None:
    """Write what was said; who has read it is told by other events."""
    place = [left.data["number"], left.app]
    connection.execute(
        "INSERT INTO feedback (number, app, status, proposals, meaning) SELECT ?, ?, 'queued', '[]', ''"
        " WHERE NOT EXISTS (SELECT 1 FROM feedback WHERE number = ? AND app = ?)",
        [*place, *place],
    )
    connection.execute(
        "UPDATE feedback SET text = ?, source = ?, at = ? WHERE number = ? AND app = ?",
        [left.data["text"], left.actor, left.at.isoformat(), *place],
    )


def _project_reading(connection: Connection, read: EvolutionEvent) -> None:
    """Mark what an advisor was shown, and nothing else, as read by it."""
    numbers, by = read.data["numbers"], [read.run_id, read.generation]
    connection.execute(
        "UPDATE feedback SET status = 'queued', run_id = NULL, generation = NULL, proposals = '[]', meaning = ''"
        " WHERE app = ? AND run_id = ? AND generation = ? AND number NOT IN (SELECT value FROM json_each(?))",
        [read.app, *by, json.dumps(numbers)],
    )
    answers, meanings = read.data["answers"], read.data.get("meanings", {})
    connection.executemany(
        "UPDATE feedback SET status = 'read', run_id = ?, generation = ?, proposals = ?, meaning = ?"
        " WHERE number = ? AND app = ? AND NOT EXISTS (SELECT 1 FROM events WHERE events.app = feedback.app"
        " AND key = feedback.run_id || '/' || feedback.generation || '/feedback_read' AND seq BETWEEN 1 AND ?)",
        [
            [*by, json.dumps(answers.get(str(n), [])), meanings.get(str(n), ""), n, read.app, read.seq - 1]
            for n in numbers
        ],
    )
