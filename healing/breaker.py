"""The circuit breaker: what fails again and again is left alone for a while, by all processes on a store.

Source: https://martinfowler.com/bliki/CircuitBreaker.html
"""

from __future__ import annotations

from datetime import datetime, timedelta

from ..bedrock.failures import Target
from ..clock import Clock
from ..dna.database import Database

_REST = timedelta(seconds=30)
"""How long a target is left alone at first; it doubles with every failed probe."""
_LONGEST_REST = timedelta(minutes=10)
_PROBE = timedelta(seconds=30)
"""How long one caller's probe keeps others from probing as well."""


class CircuitBreaker:
    """Opens after failures in a row, and lets one probe through when its time has passed.

    Nothing is written while targets answer, so a healthy call costs one read.

    Args:
        database: The application's file, where its state is kept for all processes and for resumed runs.
        clock: Tells when a target may be tried again.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        with database.tables() as tables:
            tables.table("breakers").create(
                {"model": str, "region": str, "failures": int, "openings": int, "open_until": str, "error": str},
                pk=("model", "region"),
                if_not_exists=True,
            )

    def rests(self, target: Target) -> bool:
        """Whether a target is left alone at present."""
        until = self._open_until(target)
        return bool(until) and datetime.fromisoformat(until) > self._clock.now()

    def admits(self, target: Target) -> bool:
        """Whether an attempt may go to a target; True after a rest makes the caller its probe."""
        until, now = self._open_until(target), self._clock.now()
        if not until:
            return True
        if datetime.fromisoformat(until) > now:
            return False
        with self._database.transaction("breaker.probe") as connection:
            claimed = connection.execute(
                "UPDATE breakers SET open_until = ? WHERE model = ? AND region = ? AND open_until = ?",
                [(now + _PROBE).isoformat(), *target, until],
            )
            return claimed.rowcount == 1

    def _open_until(self, target: Target) -> str:
        row = self._database.row("SELECT open_until FROM breakers WHERE model = ? AND region = ?", list(target))
        return str(row[0]) if row else ""

    def succeeded(self, target: Target) -> None:
        """Close the breaker of a target that answered."""
        if self._database.row("SELECT 1 FROM breakers WHERE model = ? AND region = ?", list(target)):
            with self._database.transaction("breaker.close") as connection:
                connection.execute("DELETE FROM breakers WHERE model = ? AND region = ?", list(target))

    def failed(self, target: Target, error: str, *, limit: int) -> None:
        """Count a failure, and open the breaker when it is one too many.

        Args:
            target: What failed.
            error: Its code, for whoever looks.
            limit: Failures in a row after which it is left alone.
        """
        with self._database.transaction("breaker.count") as connection:
            row = connection.execute(
                "SELECT failures, openings FROM breakers WHERE model = ? AND region = ?", list(target)
            ).fetchone()
            failures, openings = row or (0, 0)
            failures += 1
            opens = failures >= limit
            until = self._clock.now() + min(_REST * 2**openings, _LONGEST_REST) if opens else None
            connection.execute(
                "INSERT OR REPLACE INTO breakers (model, region, failures, openings, open_until, error)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [*target, failures, openings + opens, until.isoformat() if until else "", error],
            )

    def resting(self) -> list[tuple[Target, datetime, str]]:
        """Return what is left alone at present, until when, and after which error."""
        now = self._clock.now()
        rows = self._database.rows(
            "SELECT model, region, open_until, error FROM breakers WHERE open_until != '' ORDER BY model, region"
        )
        found = [(Target(model, region), datetime.fromisoformat(until), error) for model, region, until, error in rows]
        return [entry for entry in found if entry[1] > now]
