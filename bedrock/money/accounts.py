"""The accounts of the ledger in a file: a balance for each period that a cap may cover, and the alarms they raise.

A reservation is checked against balances, never against a sum over calls, so it costs the same with ten calls in
the file and with a million.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import astuple

from ...dna.database import Database
from .caps import Account
from .closing import Posting
from .ledger import Alarm, Spend

_ACCOUNTS = """
CREATE TABLE IF NOT EXISTS accounts (
    app TEXT NOT NULL,
    scope TEXT NOT NULL,
    period TEXT NOT NULL,
    spent INTEGER NOT NULL DEFAULT 0 CHECK (spent >= 0),
    held INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0),
    unconfirmed INTEGER NOT NULL DEFAULT 0 CHECK (unconfirmed BETWEEN 0 AND spent),
    calls INTEGER NOT NULL DEFAULT 0,
    failed_calls INTEGER NOT NULL DEFAULT 0 CHECK (failed_calls BETWEEN 0 AND calls),
    input_tokens INTEGER NOT NULL DEFAULT 0 CHECK (input_tokens >= 0),
    output_tokens INTEGER NOT NULL DEFAULT 0 CHECK (output_tokens >= 0),
    cache_read_tokens INTEGER NOT NULL DEFAULT 0 CHECK (cache_read_tokens >= 0),
    cache_write_tokens INTEGER NOT NULL DEFAULT 0 CHECK (cache_write_tokens >= 0),
    PRIMARY KEY (app, scope, period)
) WITHOUT ROWID
"""
_ALARMS = """
CREATE TABLE IF NOT EXISTS alarms (
    app TEXT NOT NULL,
    at TEXT NOT NULL,
    kind TEXT NOT NULL,
    scope TEXT NOT NULL,
    period TEXT NOT NULL,
    cap_micro_usd INTEGER NOT NULL,
    micro_usd INTEGER NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (app, kind, scope, period, cap_micro_usd)
)
"""

# The row is made and checked in one statement, so that the first call of a period meets its cap too.
_HOLD = (
    "INSERT INTO accounts (app, scope, period, held, calls) SELECT :app, :scope, :period, :amount, 1"
    " WHERE :cap IS NULL OR :amount <= :cap"
    " ON CONFLICT (app, scope, period) DO UPDATE SET held = held + :amount, calls = calls + 1"
    " WHERE :cap IS NULL OR spent + held + :amount <= :cap"
)
_POST = (
    f"UPDATE accounts SET {', '.join(f'{name} = {name} + ?' for name in Posting._fields)}"  # noqa: S608  # our columns
    " WHERE app = ? AND scope = ? AND period = ?"
)
_TAKEN = "SELECT spent + held FROM accounts WHERE app = ? AND scope = ? AND period = ?"
_SPEND = (
    "SELECT spent + held, calls, failed_calls, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,"
    " unconfirmed, held FROM accounts WHERE app = ? AND scope = ? AND period = ?"
)


class Accounts:
    """The balances and alarms of one application.

    Args:
        database: The application's file.
        app: The application's name.
    """

    def __init__(self, database: Database, app: str) -> None:
        self._database = database
        self._app = app
        with database.transaction("money.caps") as connection:
            connection.execute(_ACCOUNTS)
            connection.execute(_ALARMS)

    def hold(self, connection: sqlite3.Connection, accounts: Iterable[Account], amount: int) -> dict[Account, int]:
        """Hold an amount in those accounts that have room for it, and return what is taken of them now."""
        taken: dict[Account, int] = {}
        for account in accounts:
            named = {"app": self._app, "scope": account.scope, "period": account.period}
            if connection.execute(_HOLD, named | {"amount": amount, "cap": account.cap}).rowcount:
                taken[account] = self._taken(connection, account)
        return taken

    def post(self, connection: sqlite3.Connection, accounts: Iterable[Account], change: Posting) -> dict[Account, int]:
        """Change balances, and return what is taken of the accounts now."""
        taken: dict[Account, int] = {}
        for account in accounts:
            connection.execute(_POST, [*change, self._app, account.scope, account.period])
            taken[account] = self._taken(connection, account)
        return taken

    def _taken(self, connection: sqlite3.Connection, account: Account) -> int:
        taken: int = connection.execute(_TAKEN, [self._app, account.scope, account.period]).fetchone()[0]
        return taken

    def sound(self, connection: sqlite3.Connection, alarms: Iterable[Alarm]) -> list[Alarm]:
        """Store the alarms that were not raised before for their scope, period and cap, and return them."""
        query = "INSERT OR IGNORE INTO alarms VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        return [alarm for alarm in alarms if connection.execute(query, [self._app, *astuple(alarm)]).rowcount]

    def spend(self, scope: str, period: str) -> Spend:
        """Return what an account has spent, holds included."""
        row = self._database.row(_SPEND, [self._app, scope, period])
        return Spend(*row) if row else Spend(0, 0, 0, 0, 0)

    def alarms(self) -> list[Alarm]:
        """Return the alarms, newest first."""
        rows = self._database.rows(
            "SELECT at, kind, scope, period, cap_micro_usd, micro_usd, message FROM alarms WHERE app = ?"
            " ORDER BY rowid DESC",
            [self._app],
        )
        return [Alarm(*row) for row in rows]
