"""The rows that a run leaves in its machine's file, on their way to another machine that goes on with it.

Triggers note which rows change. They are packed into numbered segments, and unpacked in that order on an empty disk.
"""

from __future__ import annotations

import base64
import sqlite3
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from ..errors import IntegrityError
from .database import Database

RUN_OF = {
    "runs": "run_id",
    "trials": "run_id",
    "evaluations": "run_id",
    "model_calls": "run_id",
    "checkpoints": "thread_id",
    "writes": "thread_id",
}
"""The tables whose rows are a run's, and the column that names it."""
_ROWS_AT_ONCE = 5000
_RUNS_AT_ONCE = 10
"""Each takes two parts of a transaction."""
_TABLES = """
CREATE TABLE IF NOT EXISTS changes (
    number INTEGER PRIMARY KEY AUTOINCREMENT, place TEXT NOT NULL, run_id TEXT NOT NULL, row TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS shipped (run_id TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fetching (run_id TEXT PRIMARY KEY) WITHOUT ROWID
"""


class Packed(NamedTuple):
    """Changed rows of one run, ready to be sent."""

    run_id: str
    number: int
    """Of the segment."""
    upto: int
    """Number of the last change that is in it."""
    content: bytes


class Shipping:
    """Notes, packs and unpacks the rows of runs.

    Args:
        database: The machine's file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction("tables") as connection:
            for statement in _TABLES.split(";\n"):
                connection.execute(statement)

    def watch(self) -> None:
        """Note from now on what changes in those tables that are there."""
        with self._database.transaction("tables") as connection:
            for table, run in RUN_OF.items():
                if key := _key(connection, table):
                    for statement in _triggers(table, run, key):
                        connection.execute(statement)

    def apps(self) -> list[str]:
        """Return the applications of the runs in which something changed that was not sent yet."""
        if self._database.row("SELECT 1 FROM changes LIMIT 1") is None:
            return []
        rows = self._database.rows("SELECT DISTINCT app FROM runs WHERE run_id IN (SELECT run_id FROM changes)")
        return [app for (app,) in rows]

    def runs(self, app: str) -> list[str]:
        """Return the runs of an application of which something was sent or taken over."""
        if self._database.row("SELECT 1 FROM shipped LIMIT 1") is None:
            return []
        rows = self._database.rows("SELECT run_id FROM runs JOIN shipped USING (run_id) WHERE app = ?", [app])
        return [run_id for (run_id,) in rows]

    def last(self, run_id: str) -> int:
        """Return the number of a run's last segment that this machine sent or took over."""
        row = self._database.row("SELECT number FROM shipped WHERE run_id = ?", [run_id])
        return int(row[0]) if row else 0

    def pack(self, app: str) -> list[Packed]:
        """Return what changed in some runs of an application and was not sent yet."""
        if app not in self.apps():
            return []
        runs = self._database.rows(
            "SELECT run_id FROM changes WHERE run_id IN (SELECT run_id FROM runs WHERE app = ?)"
            " GROUP BY run_id ORDER BY min(number) LIMIT ?",
            [app, _RUNS_AT_ONCE],
        )
        return [self._packed(run_id) for (run_id,) in runs]

    def _packed(self, run_id: str) -> Packed:
        changed = self._database.rows(
            "SELECT number, place, row FROM changes WHERE run_id = ? ORDER BY number LIMIT ?", [run_id, _ROWS_AT_ONCE]
        )
        # The newest state of a row is sent, once, in the place of its last change.
        latest = {(place, row): number for number, place, row in changed}
        lines = [self._line(place, row) for (place, row), _ in sorted(latest.items(), key=lambda item: item[1])]
        return Packed(run_id, self.last(run_id) + 1, changed[-1][0], zlib.compress(b"\n".join(lines)))

    def _line(self, table: str, row: str) -> bytes:
        key = {name: _unpacked(value) for name, value in orjson.loads(row).items()}
        where = " AND ".join(f'"{name}" = ?' for name in key)
        columns = self._database.rows(f"SELECT name FROM pragma_table_info('{table}') ORDER BY cid")  # noqa: S608  # ours
        found = self._database.row(f'SELECT * FROM "{table}" WHERE {where}', list(key.values()))  # noqa: S608  # ours
        named = None if found is None else dict(zip((name for (name,) in columns), map(_packed, found), strict=True))
        return orjson.dumps({"table": table, "key": {n: _packed(v) for n, v in key.items()}, "row": named})

    def sent(self, connection: sqlite3.Connection, packed: Packed) -> None:
        """Forget changes that are on their other machine's way by now."""
        connection.execute("DELETE FROM changes WHERE run_id = ? AND number <= ?", [packed.run_id, packed.upto])
        self.reached(connection, packed.run_id, packed.number)

    def reached(self, connection: sqlite3.Connection, run_id: str, number: int) -> None:
        """Note which segment of a run is the last one."""
        connection.execute("INSERT OR REPLACE INTO shipped (run_id, number) VALUES (?, ?)", [run_id, number])

    def forget(self, connection: sqlite3.Connection, run_id: str) -> None:
        """Send nothing of a run that another machine has taken over."""
        connection.execute("DELETE FROM changes WHERE run_id = ?", [run_id])

    def fetching(self, run_id: str) -> bool:
        """Whether a run is on its way here, and not all of it has come."""
        return self._database.row("SELECT 1 FROM fetching WHERE run_id = ?", [run_id]) is not None

    def fetch(self, connection: sqlite3.Connection, run_id: str) -> None:
        """Note that a run is on its way here."""
        connection.execute("INSERT OR IGNORE INTO fetching (run_id) VALUES (?)", [run_id])

    def fetched(self, connection: sqlite3.Connection, run_id: str) -> None:
        """Note that all of a run is here."""
        connection.execute("DELETE FROM fetching WHERE run_id = ?", [run_id])

    def clear(self, connection: sqlite3.Connection, run_id: str) -> None:
        """Remove all rows of a run from this machine's file."""
        for table, run in RUN_OF.items():
            if _key(connection, table):
                connection.execute(f"DELETE FROM {table} WHERE {run} = ?", [run_id])  # noqa: S608  # ours
        self.forget(connection, run_id)

    def unpack(self, connection: sqlite3.Connection, run_id: str, number: int, content: bytes) -> None:
        """Make the rows of a segment those of this machine's file.

        Raises:
            IntegrityError: It holds something else.
        """
        try:
            lines = [orjson.loads(line) for line in zlib.decompress(content).split(b"\n") if line]
        except (zlib.error, ValueError) as error:
            raise IntegrityError(f"segment {number} of {run_id} cannot be read: {error}.") from error
        for line in lines:
            _restore(connection, run_id, line)
        self.forget(connection, run_id)
        self.reached(connection, run_id, number)


def _restore(connection: sqlite3.Connection, run_id: str, line: dict[str, Any]) -> None:
    table, key, row = line["table"], line["key"], line["row"]
    if table not in RUN_OF or _unpacked(key[RUN_OF[table]]) != run_id:
        raise IntegrityError(f"a segment of {run_id} holds a row of {table!r} that is not its own.")
    known = set(_columns(connection, table))
    if not known or not known >= set(row or key):
        raise IntegrityError(f"a segment of {run_id} holds columns of {table!r} that this version does not know.")
    if row is None:
        where = " AND ".join(f'"{name}" = ?' for name in key)
        connection.execute(f'DELETE FROM "{table}" WHERE {where}', _values(key.values()))  # noqa: S608  # names are known
        return
    names = ", ".join(f'"{name}"' for name in row)
    marks = ", ".join("?" * len(row))
    connection.execute(f'INSERT OR REPLACE INTO "{table}" ({names}) VALUES ({marks})', _values(row.values()))  # noqa: S608


def _key(connection: sqlite3.Connection, table: str) -> list[str]:
    rows = connection.execute("SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk", [table]).fetchall()
    return [name for (name,) in rows]


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", [table])]


def _triggers(table: str, run: str, key: Iterable[str]) -> Iterable[str]:
    for moment, of in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
        named = ", ".join(f"'{name}', {of}.\"{name}\"" for name in key)
        note = f"INSERT INTO changes (place, run_id, row) VALUES ('{table}', {of}.{run}, json_object({named}))"  # noqa: S608  # ours
        yield f"CREATE TRIGGER IF NOT EXISTS note_{table}_{moment.lower()} AFTER {moment} ON {table} BEGIN {note}; END"


def _packed(value: Any) -> Any:
    return {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _unpacked(value: Any) -> Any:
    return base64.b64decode(value["bytes"]) if isinstance(value, dict) else value


def _values(values: Iterable[Any]) -> list[Any]:
    return [_unpacked(value) for value in values]
