"""`StorageSync`: what waits to be sent to the cloud, durably, and when it is tried again."""

from __future__ import annotations

import logging
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from ..clock import Clock
from ..errors import StoreUnavailable
from .database import Database
from .retrying import Retrying

log = logging.getLogger(__name__)

_TABLES = """
CREATE TABLE IF NOT EXISTS outbox (app TEXT, key TEXT, run_id TEXT, at TEXT, PRIMARY KEY (app, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refused (
    app TEXT, key TEXT, document TEXT, why TEXT, at TEXT, PRIMARY KEY (app, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outage (one INTEGER PRIMARY KEY CHECK (one = 1), since TEXT, failures INTEGER, error TEXT)
"""


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits to be sent.

    Args:
        waiting: How many events.
        oldest: Since when the oldest of them waits, ISO 8601 in UTC.
        failing_since: Since when sending fails; None where the last attempt went well.
        failures: Attempts in a row that failed.
        error: Why the last one did.
        refused: Events that were set aside, because another machine has taken their run over.
    """

    waiting: int
    oldest: str | None
    failing_since: str | None
    failures: int
    error: str
    refused: int


class StorageSync:
    """A durable outbox, in the work file: what is queued survives the process, and is sent in its order.

    Args:
        database: The work file.
        clock: Tells when something was queued, and when to try again.
        draws: Of the jitter.
        deliver: Sends everything that waits.
    """

    def __init__(self, database: Database, clock: Clock, draws: random.Random, deliver: Callable[[], None]) -> None:
        self.runs: set[str] = set()
        """Runs of which this process queued something: it works on them."""
        self._database = database
        self._clock = clock
        self._deliver = deliver
        self._retrying = Retrying("storage sync", self.drain, clock, draws)
        with database.transaction("tables") as connection:
            for statement in _TABLES.split(";\n"):
                connection.execute(statement)
        self._told = database.row("SELECT 1 FROM outage") is not None

    # -- the queue

    def add(self, connection: sqlite3.Connection, app: str, key: str, run_id: str | None) -> None:
        """Queue an event in the transaction that stores it, and send it when that has ended."""
        if run_id is not None and key.startswith(f"{run_id}/"):  # others say things about runs too
            self.runs.add(run_id)
        self.queue_again(connection, app, key, run_id)
        self._database.afterwards(self._drain_in_passing)

    def queue_again(self, connection: sqlite3.Connection, app: str, key: str, run_id: str | None) -> None:
        """Queue an event without sending it."""
        connection.execute(
            "INSERT OR IGNORE INTO outbox (app, key, run_id, at) VALUES (?, ?, ?, ?)",
            [app, key, run_id, self._clock.now().isoformat()],
        )

    def sent(self, connection: sqlite3.Connection, app: str, key: str) -> None:
        """Take an event out of the queue."""
        connection.execute("DELETE FROM outbox WHERE app = ? AND key = ?", [app, key])

    def refuse(self, connection: sqlite3.Connection, app: str, key: str, document: str, why: str) -> None:
        """Set an event aside that may not be sent any more; it is kept, and no part of the record."""
        self.sent(connection, app, key)
        connection.execute(
            "INSERT OR IGNORE INTO refused (app, key, document, why, at) VALUES (?, ?, ?, ?, ?)",
            [app, key, document, why, self._clock.now().isoformat()],
        )

    def queue(self) -> Queue:
        """Return what waits."""
        [(waiting, oldest)] = self._database.rows("SELECT count(*), min(at) FROM outbox")
        since, failures, error = self._database.row("SELECT since, failures, error FROM outage") or (None, 0, "")
        [(refused,)] = self._database.rows("SELECT count(*) FROM refused")
        return Queue(waiting, oldest, since, failures, error, refused)

    # -- sending

    @property
    def failing(self) -> bool:
        """Whether the last attempt failed, and nothing has shown since that the cloud can be used."""
        return self._told or self._retrying.failures > 0

    @property
    def resting(self) -> bool:
        """Whether the cloud is left alone for a while after a failure."""
        return self._retrying.resting

    def drain(self) -> bool:
        """Send what waits; tell whether it was sent.

        Raises:
            WriterFenced: A run goes on elsewhere; what was queued of it is set aside.
        """
        try:
            self._deliver()
        except StoreUnavailable as error:
            self.failed(error)
            return False
        self.succeeded()
        return True

    def _drain_in_passing(self) -> None:
        if not self.resting:
            self.drain()

    def failed(self, error: StoreUnavailable) -> None:
        """Leave the cloud alone for a while, and try again afterwards."""
        self._retrying.failed()
        log.warning(
            "failures=<%d> | the cloud store cannot be used, what is written is queued: %s",
            self._retrying.failures,
            error.message,
        )
        if not self._database.inside:
            with self._database.transaction("store.failed") as connection:
                connection.execute(
                    "INSERT INTO outage (one, since, failures, error) VALUES (1, ?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET failures = excluded.failures, error = excluded.error",
                    [self._clock.now().isoformat(), self._retrying.failures, error.message],
                )
            self._told = True

    def succeeded(self) -> None:
        """Note that the cloud can be used."""
        self._retrying.succeeded()
        if self._told and not self._database.inside:
            with self._database.transaction("store.failed") as connection:
                connection.execute("DELETE FROM outage")
            self._told = False

    def reached(self) -> None:
        """Note that the cloud could be read: where nothing waits, the failure that is on record is over."""
        if self._told and self._database.row("SELECT 1 FROM outbox LIMIT 1") is None:
            self.succeeded()

    def close(self) -> None:
        """Let the thread end; what waits stays queued."""
        self._retrying.close()
