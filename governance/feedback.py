"""Feedback: what people or other programs say of the application, queued as data until an advisor has read it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..clock import Clock
from ..dna.canonical import storable
from ..dna.database import Database
from ..dna.events import EventDraft
from ..dna.store import DNAStore
from ..errors import UsageError

MAX_CHARS = 2000
MAX_NAME_CHARS = 200

RemarkStatus = Literal["queued", "read"]
_COLUMNS = "number, app, text, source, at, status, run_id, generation, proposals, meaning"


@dataclass(frozen=True, slots=True)
class Remark:
    """One piece of feedback: untrusted text with its source, and what became of it."""

    number: int
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
        clock: Tells when it came in.
    """

    def __init__(self, database: Database, store: DNAStore, clock: Clock) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        with database.tables() as tables:
            tables.table("feedback").create(
                {
                    "number": int,
                    "app": str,
                    "text": str,
                    "source": str,
                    "at": str,
                    "status": str,
                    "run_id": str,
                    "generation": int,
                    "proposals": str,
                    "meaning": str,
                },
                pk="number",
                if_not_exists=True,
            )
            tables.table("feedback").create_index(["app", "status", "number"], if_not_exists=True)

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
            cursor = connection.execute(
                "INSERT INTO feedback (app, text, source, at, status, proposals, meaning)"
                " VALUES (?, ?, ?, ?, 'queued', '[]', '')",
                [app, text, source, at.isoformat()],
            )
            remark = Remark(cursor.lastrowid or 0, app, text, source, at.isoformat())
            event = EventDraft(
                app=app,
                kind="feedback",
                key=f"feedback/{remark.number}",
                at=at,
                actor=source,
                why="feedback was left for the advisor",
                data={"number": remark.number, "text": text},
            )
            self._store.append(event)
        return remark

    def queued(self, app: str, *, limit: int) -> list[Remark]:
        """Return remarks that no advisor has read yet, oldest first."""
        return self._select("app = ? AND status = 'queued' ORDER BY number LIMIT ?", [app, limit])

    def newest(self, app: str, *, limit: int) -> list[Remark]:
        """Return the newest remarks, read or not, oldest first."""
        return self.listed(app, limit=limit)[::-1]

    def listed(self, app: str, *, limit: int) -> list[Remark]:
        """Return the newest remarks, newest first."""
        return self._select("app = ? ORDER BY number DESC LIMIT ?", [app, limit])

    def count_queued(self, app: str) -> int:
        """Return how many remarks no advisor has read yet."""
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
        told = meanings or {}
        answered = {str(n): list(answers[n]) for n in shown if answers.get(n)}
        with self._database.transaction("feedback.read") as connection:
            connection.executemany(
                "UPDATE feedback SET status = 'read', run_id = ?, generation = ?, proposals = ?, meaning = ?"
                " WHERE number = ? AND app = ? AND status = 'queued'",
                [
                    [run_id, generation, json.dumps(list(answers.get(n, []))), flattened(told.get(n, "")), n, app]
                    for n in shown
                ],
            )
            event = EventDraft(
                app=app,
                kind="feedback_read",
                key=f"{run_id}/{generation}/feedback_read",
                at=self._clock.now(),
                actor="advisor",
                why=f"the advisor was shown {len(shown)} remarks and answers {len(answered)} of them",
                run_id=run_id,
                generation=generation,
                data={"numbers": shown, "answers": answered},
            )
            self._store.append(event)

    def _select(self, where: str, parameters: Sequence[Any]) -> list[Remark]:
        rows = self._database.rows(f"SELECT {_COLUMNS} FROM feedback WHERE {where}", parameters)  # noqa: S608  # ours
        return [_read(row) for row in rows]


def _read(row: tuple[Any, ...]) -> Remark:
    number, app, text, source, at, status, run_id, generation, proposals, meaning = row
    return Remark(number, app, text, source, at, status, run_id, generation, tuple(json.loads(proposals)), meaning)
