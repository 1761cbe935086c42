"""Feedback: what people or other programs say of the application, kept as data for the advisor."""

from __future__ import annotations

from dataclasses import dataclass

from ..clock import Clock
from ..dna.canonical import storable
from ..dna.database import Database
from ..errors import UsageError

MAX_CHARS = 2000


@dataclass(frozen=True, slots=True)
class Remark:
    """One piece of feedback: untrusted text with its source."""

    number: int
    text: str
    source: str
    at: str


class FeedbackQueue:
    """Feedback on one application, newest last; it has no authority whatever it says.

    Args:
        database: The application's file.
        clock: Tells when it came in.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        with database.tables() as tables:
            tables.table("feedback").create(
                {"number": int, "app": str, "text": str, "source": str, "at": str}, pk="number", if_not_exists=True
            )

    def add(self, app: str, text: str, *, source: str) -> Remark:
        """Keep a remark.

        Raises:
            UsageError: It is empty or too long.
        """
        text, source = storable(" ".join(text.split())), storable(source)
        if not text or len(text) > MAX_CHARS:
            raise UsageError(f"the feedback is {len(text)} characters long.", hint=f"Give 1 to {MAX_CHARS} characters.")
        at = self._clock.now().isoformat()
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO feedback (app, text, source, at) VALUES (?, ?, ?, ?)", [app, text, source, at]
            )
            number = cursor.lastrowid or 0
        return Remark(number, text, source, at)

    def newest(self, app: str, *, limit: int) -> list[Remark]:
        """Return the newest remarks, oldest first."""
        rows = self._database.rows(
            "SELECT number, text, source, at FROM feedback WHERE app = ? ORDER BY number DESC LIMIT ?", [app, limit]
        )
        return [Remark(*row) for row in reversed(rows)]
