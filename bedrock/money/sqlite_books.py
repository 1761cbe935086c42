"""The books in a file, as they are moved."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ...dna.database import Database
from ...settings import Budget
from .accounts import Accounts
from .books import Call, another_call, key_of_another
from .calls import Calls
from .caps import accounts_of
from .closing import Posting, posting_of, surer
from .ledger import Alarm

_PAGE = 500
_UNCAPPED = Budget()


class SQLiteBooks:
    """The `Books` of one application in its file.

    In a file a call's id does not begin with its moment, so that is added on the way out and taken off on the way in:
    books that come back are the same.

    Args:
        database: The application's file.
        app: The application's name.

    Raises:
        StoreError: The file holds calls in a form older than this one.
    """

    def __init__(self, database: Database, app: str) -> None:
        self._database = database
        self._calls = Calls(database, app)
        self._accounts = Accounts(database, app)

    def calls(self) -> Iterator[Call]:
        """See `Books.calls`."""
        at = call_id = ""
        while page := self._calls.after(at, call_id, limit=_PAGE):
            for call in page:
                at, call_id = call["at"], call["call_id"]
                yield {**call, "call_id": f"{at}/{call_id}"}

    def alarms(self) -> list[Alarm]:
        """See `Books.alarms`."""
        with self._database.transaction("store.pull") as connection:
            return [self._moved(connection, alarm) for alarm in self._accounts.alarms()[::-1]]

    def _moved(self, connection: sqlite3.Connection, alarm: Alarm) -> Alarm:
        call = self._calls.whole(connection, alarm.period) if alarm.kind == "over_hold" else None
        return alarm if call is None else replace(alarm, period=f"{call['at']}/{alarm.period}")

    def adopt(self, calls: Sequence[Call]) -> None:
        """See `Books.adopt`: all of them in one transaction."""
        with self._database.transaction("store.pull") as connection:
            for call in calls:
                self._adopt(connection, {**call, "call_id": call["call_id"].removeprefix(f"{call['at']}/")})

    def _adopt(self, connection: sqlite3.Connection, call: Call) -> None:
        known = self._calls.whole(connection, call["call_id"])
        if known is not None and known["at"] != call["at"]:
            raise another_call(f"{call['at']}/{call['call_id']}")
        if known is not None and not surer(call, known):
            return
        if call["key"] is not None:
            keyed = self._calls.keyed(connection, call["key"])
            if keyed is not None and keyed.call_id != call["call_id"]:
                raise key_of_another(call)
        self._calls.replace(connection, call)
        accounts = accounts_of(_UNCAPPED, run_id=call["run_id"], agent=call["agent"], day=call["day"])
        if known is None:
            self._accounts.hold(connection, accounts, 0)  # it counts as a call
        change = posting_of(call).since(posting_of(known) if known else Posting())
        self._accounts.post(connection, accounts, change)

    def adopt_alarms(self, alarms: Sequence[Alarm]) -> None:
        """See `Books.adopt_alarms`."""
        with self._database.transaction("store.pull") as connection:
            self._accounts.sound(connection, map(_returned, alarms))


def _returned(alarm: Alarm) -> Alarm:
    return replace(alarm, period=alarm.period.partition("/")[2]) if alarm.kind == "over_hold" else alarm
