"""What waits for CloudWatch, in the application's file: it survives the process, and leaves in the order it came."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import orjson

from ..dna.commit_points import CommitPoint
from .points import Metric, Point
from .work_file import WorkFile

LONGEST_QUEUE = 10_000
"""Points that are kept at most."""
_TABLE = (
    "CREATE TABLE IF NOT EXISTS metric_queue"
    " (number INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, point BLOB NOT NULL)"
)
_POINT: CommitPoint = "tables"
"""What waits here is nothing that a run is continued from, so no write of it is a commit point of its own."""
_LEASE = "metrics"


class Waiting(NamedTuple):
    """A point that waits."""

    number: int
    namespace: str
    point: Point


class MetricQueue:
    """A bounded queue that several processes put into, and one at a time takes from.

    Args:
        file: The application's file.
        told: Makes the point that tells how many were dropped.
        longest: Points that are kept at most; the oldest are dropped first.
    """

    def __init__(self, file: WorkFile, told: Callable[[int], Iterable[Point]], *, longest: int = LONGEST_QUEUE) -> None:
        self._file = file
        self._told = told
        self._longest = longest
        with file.database.transaction("tables") as connection:
            connection.execute(_TABLE)

    def add(self, namespace: str, points: Sequence[Point]) -> int:
        """Put points at the end; return how many were dropped for them.

        Raises:
            StoreError: They cannot be stored; none of them was.
        """
        with self._file.database.transaction(_POINT) as connection:
            _insert(connection, namespace, points)
            return self._make_room(connection, namespace)

    def _make_room(self, connection: sqlite3.Connection, namespace: str) -> int:
        [waiting] = connection.execute("SELECT count(*) FROM metric_queue").fetchone()
        if waiting <= self._longest:
            return 0
        # One more, for the point that tells of it.
        rows = connection.execute(
            "SELECT number, namespace, point FROM metric_queue ORDER BY number LIMIT ?", [waiting - self._longest + 1]
        ).fetchall()
        oldest = [_read(*row) for row in rows]
        dropped = sum(each.point.worth for each in oldest)
        self._delete(connection, oldest)
        _insert(connection, namespace, self._told(dropped))
        return dropped

    def oldest(self, limit: int) -> list[Waiting]:
        """Return the points that wait longest, oldest first."""
        rows = self._file.database.rows(
            "SELECT number, namespace, point FROM metric_queue ORDER BY number LIMIT ?", [limit]
        )
        return [_read(*row) for row in rows]

    def remove(self, taken: Sequence[Waiting], *, lost: Sequence[Waiting] = ()) -> None:
        """Take points out that are where they should be, or lost for good.

        Args:
            taken: The oldest of the queue.
            lost: Those among them that nobody will ever see; their number is told.
        """
        with self._file.database.transaction(_POINT) as connection:
            self._delete(connection, taken)
            if dropped := sum(each.point.worth for each in lost):
                _insert(connection, lost[0].namespace, self._told(dropped))

    def _delete(self, connection: sqlite3.Connection, oldest: Sequence[Waiting]) -> None:
        if oldest:
            connection.execute("DELETE FROM metric_queue WHERE number <= ?", [oldest[-1].number])

    def __len__(self) -> int:
        row = self._file.database.row("SELECT count(*) FROM metric_queue")
        return int(row[0]) if row else 0

    @property
    def taken_from(self) -> bool:
        """Whether some process takes from it at present."""
        return self._file.database.leased(_LEASE)

    def taking(self) -> AbstractContextManager[None]:
        """Keep other processes from taking during a block.

        Raises:
            UsageError: One does already.
        """
        return self._file.database.lease(_LEASE)


def _insert(connection: sqlite3.Connection, namespace: str, points: Iterable[Point]) -> None:
    connection.executemany(
        "INSERT INTO metric_queue (namespace, point) VALUES (?, ?)", [(namespace, _written(point)) for point in points]
    )


def _written(point: Point) -> bytes:
    return orjson.dumps([*point.metric, point.value, point.at_ms, point.dimensions])


def _read(number: int, namespace: str, written: bytes) -> Waiting:
    name, unit, sets, value, at_ms, dimensions = orjson.loads(written)
    metric = Metric(name, unit, tuple(map(tuple, sets)))
    return Waiting(number, namespace, Point(metric, value, at_ms, dimensions))
