"""The calls of the ledger in a file: one row for each model call, with everything that is known of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from ...dna.database import Database
from ...errors import StoreError
from .closing import CallRecord, Ending, Posting, iso
from .ledger import Dimension, Group, Spend

_COLUMNS = {
    "call_id": str,
    "app": str,
    "run_id": str,
    "agent": str,
    "model": str,
    "region": str,
    "task": str,
    "reason": str,
    "key": str,
    "at": str,
    "day": str,
    "month": str,
    "expires_at": str,
    "status": str,
    "reserved_micro_usd": int,
    "held_micro_usd": int,
    "cost_micro_usd": int,
    "input_tokens": int,
    "output_tokens": int,
    "cache_read_tokens": int,
    "cache_write_tokens": int,
    "latency_ms": int,
    "error": str,
}
_OF_CALL = tuple(name for name in _COLUMNS if name != "app")
_WHOLE = ", ".join(_OF_CALL)
_INDEXES = (
    "CREATE INDEX IF NOT EXISTS calls_in_time ON calls (app, at)",
    "CREATE INDEX IF NOT EXISTS open_calls ON calls (app, expires_at) WHERE status = 'held'",
    "CREATE UNIQUE INDEX IF NOT EXISTS keyed_calls ON calls (app, key) WHERE key IS NOT NULL",
)
_RECORD = "SELECT call_id, run_id, agent, model, day, status, reserved_micro_usd FROM calls WHERE app = ? AND "
_SPEND = (
    "sum(held_micro_usd + cost_micro_usd), count(*), sum(status IN ('expired', 'lost', 'void')), sum(input_tokens),"
    " sum(output_tokens), sum(cache_read_tokens), sum(cache_write_tokens),"
    " sum(CASE WHEN status IN ('expired', 'lost') THEN cost_micro_usd ELSE 0 END), sum(held_micro_usd)"
)


class Calls:
    """The calls of one application.

    Args:
        database: The application's file.
        app: The application's name.

    Raises:
        StoreError: The file holds calls in a form older than this one.
    """

    def __init__(self, database: Database, app: str) -> None:
        self._database = database
        self._app = app
        with database.tables() as tables:
            calls = tables.table("calls")
            calls.create(_COLUMNS, pk="call_id", not_null=set(_COLUMNS) - {"key"}, if_not_exists=True)
            missing = [name for name in _COLUMNS if name not in calls.columns_dict]
            if missing:
                raise StoreError(
                    f"{database.path} keeps model calls without {', '.join(missing)}: an early version wrote it.",
                    hint="Move the file away and begin a new one; it was not changed.",
                )
            for statement in _INDEXES:
                tables.execute(statement)

    def add(self, connection: sqlite3.Connection, call: Mapping[str, Any]) -> None:
        """Record a new call; what is not given is empty or zero."""
        blank = {name: "" if kind is str else 0 for name, kind in _COLUMNS.items()}
        row = blank | {"app": self._app} | dict(call)
        places = ", ".join(f":{name}" for name in _COLUMNS)
        connection.execute(f"INSERT INTO calls ({', '.join(_COLUMNS)}) VALUES ({places})", row)  # noqa: S608  # our columns

    def replace(self, connection: sqlite3.Connection, call: Mapping[str, Any]) -> None:
        """Record a whole call, in place of what is known of it."""
        connection.execute("DELETE FROM calls WHERE app = ? AND call_id = ?", [self._app, call["call_id"]])
        self.add(connection, call)

    def whole(self, connection: sqlite3.Connection, call_id: str) -> dict[str, Any] | None:
        """Return the call with an id, with everything that is known of it."""
        query = f"SELECT {_WHOLE} FROM calls WHERE app = ? AND call_id = ?"  # noqa: S608  # our columns
        row = connection.execute(query, [self._app, call_id]).fetchone()
        return None if row is None else dict(zip(_OF_CALL, row, strict=True))

    def after(self, at: str, call_id: str, *, limit: int) -> list[dict[str, Any]]:
        """Return the whole calls that follow a call, in the order of time and then of their ids."""
        rows = self._database.rows(
            f"SELECT {_WHOLE} FROM calls WHERE app = ? AND (at, call_id) > (?, ?) ORDER BY at, call_id LIMIT ?",  # noqa: S608  # our columns
            [self._app, at, call_id, limit],
        )
        return [dict(zip(_OF_CALL, row, strict=True)) for row in rows]

    def named(self, connection: sqlite3.Connection, call_id: str) -> CallRecord | None:
        """Return the call with an id."""
        return next(self._found(connection, "call_id = ?", call_id), None)

    def keyed(self, connection: sqlite3.Connection, key: str) -> CallRecord | None:
        """Return the call with an idempotency key."""
        return next(self._found(connection, "key = ?", key), None)

    def expired(self, connection: sqlite3.Connection, at: str) -> list[CallRecord]:
        """Return the open calls whose hold has run out."""
        return list(self._found(connection, "status = 'held' AND expires_at <= ?", at))

    def held(self, connection: sqlite3.Connection, run_id: str) -> list[CallRecord]:
        """Return the open calls of a run."""
        return list(self._found(connection, "status = 'held' AND run_id = ?", run_id))

    def _found(self, connection: sqlite3.Connection, where: str, value: str) -> Iterator[CallRecord]:
        return (CallRecord(*row) for row in connection.execute(_RECORD + where, [self._app, value]).fetchall())

    def close(self, connection: sqlite3.Connection, call: CallRecord, end: Ending, posting: Posting) -> None:
        """Give a call its end: what it adds to its accounts from now on, and why it failed, if it did."""
        connection.execute(
            "UPDATE calls SET status = ?, error = ?, latency_ms = ?, held_micro_usd = ?, cost_micro_usd = ?,"
            " input_tokens = ?, output_tokens = ?, cache_read_tokens = ?, cache_write_tokens = ? WHERE call_id = ?",
            [end.status, end.error, end.latency_ms, posting.held, posting.spent, *posting[-4:], call.call_id],
        )

    def spend_by(self, *dimensions: Dimension, since: str) -> list[Group]:
        """Return the spend grouped by some dimensions; see `Ledger.spend_by`."""
        columns = ["run_id" if dimension == "run" else dimension for dimension in dimensions]
        listed = ", ".join(columns)
        newest = f"{columns[0]} DESC, " if columns[0] in {"day", "month"} else ""
        rows = self._database.rows(
            f"SELECT {listed}, {_SPEND} FROM calls WHERE app = ? AND at >= ?"  # noqa: S608  # our columns
            f" GROUP BY {listed} ORDER BY {newest}{len(columns) + 1} DESC, {listed}",
            [self._app, since],
        )
        return [Group(row[: len(columns)], Spend(*row[len(columns) :])) for row in rows]

    def paces(self, now: datetime, *, block_s: int, blocks: int) -> list[int]:
        """Return the micro-dollars spent in each of the last whole blocks of time; see `Ledger.paces`."""
        first = self._database.row("SELECT min(at) FROM calls WHERE app = ?", [self._app])
        if first is None or first[0] is None:
            return []
        whole = min(blocks, int((now - datetime.fromisoformat(first[0])).total_seconds() // block_s))
        rows = self._database.rows(
            "SELECT (? - strftime('%s', at)) / ? AS block, sum(held_micro_usd + cost_micro_usd) FROM calls"
            " WHERE app = ? AND at >= ? GROUP BY block",
            # A block begins with its first second: what is a whole number of blocks old belongs to the newer one.
            [int(now.timestamp()) - 1, block_s, self._app, iso(now - timedelta(seconds=block_s * whole))],
        )
        spent: dict[int, int] = dict(rows)
        return [spent.get(block, 0) for block in range(whole)]
