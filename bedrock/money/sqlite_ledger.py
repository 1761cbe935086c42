"""`SQLiteLedger`: the ledger in an application's file, every change one transaction under its write lock."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain

from ...clock import Clock, IdSource
from ...dna.database import Database
from ...settings import Budget
from ..models.prices import Tokens
from .accounts import Accounts
from .calls import Calls
from .caps import Account, accounts_of, call_refusal, reached, refusal, spend_exhausted, tell, tightest
from .closing import CallRecord, Ending, check_amount, check_open, iso, over_hold, presumed, settled, unknown
from .ledger import HOLD_TTL_S, Alarm, Dimension, Group, Hold, Pressure, Spend

log = logging.getLogger(__name__)


class SQLiteLedger:
    """The `Ledger` of one application on one SQLite file, for any number of threads and processes.

    Args:
        database: The application's file.
        app: The application's name.
        budget: The caps.
        clock: Tells the UTC day and month a call belongs to, for good, and when its hold expires.
        ids: Names calls.
        hold_ttl_s: Seconds after which an open hold is taken for that of a process that died: it then counts as
            spent, as the call may be billed.

    Raises:
        StoreError: The file holds calls in a form older than this one.
    """

    def __init__(
        self,
        database: Database,
        *,
        app: str,
        budget: Budget,
        clock: Clock,
        ids: IdSource,
        hold_ttl_s: float = HOLD_TTL_S,
    ) -> None:
        self.budget = budget
        self._database = database
        self._app = app
        self._calls = Calls(database, app)
        self._accounts = Accounts(database, app)
        self._clock = clock
        self._ids = ids
        self._ttl = timedelta(seconds=hold_ttl_s)

    # -- reserving

    def reserve(
        self,
        *,
        run_id: str,
        agent: str,
        model: str,
        micro_usd: int,
        region: str = "",
        task: str = "",
        reason: str = "",
        key: str | None = None,
    ) -> Hold:
        """Set money aside for a call at its worst case, under all caps or not at all; see `Ledger.reserve`."""
        check_amount(micro_usd)
        now = self._now()
        day = f"{now:%Y-%m-%d}"
        call = {"run_id": run_id, "agent": agent, "model": model, "region": region, "task": task, "reason": reason}
        call |= {"at": iso(now), "day": day, "month": day[:7], "expires_at": iso(now + self._ttl)}
        with self._database.transaction("money.reserve") as connection:
            self._expire(connection, now)
            if key is not None and (known := self._calls.keyed(connection, key)) is not None:
                check_open(known, key, micro_usd)
                return Hold(known.call_id, known.reserved)
            accounts = accounts_of(self.budget, run_id=run_id, agent=agent, day=day)
            refusals, alarms = self._admitted(connection, accounts, micro_usd, call)
            hold = Hold(self._ids.new("call"), micro_usd)
            if not refusals:
                amounts = {"reserved_micro_usd": micro_usd, "held_micro_usd": micro_usd}
                self._calls.add(connection, {**call, **amounts, "call_id": hold.call_id, "key": key, "status": "held"})
            raised = self._accounts.sound(connection, alarms)
        tell(raised)
        if refusals:
            raise spend_exhausted(refusals)
        return hold

    def _admitted(
        self, connection: sqlite3.Connection, accounts: Sequence[Account], amount: int, call: Mapping[str, str]
    ) -> tuple[list[Alarm], list[Alarm]]:
        """Hold an amount in all accounts or in none; return the refusals, and the alarms that follow."""
        agent, at = call["agent"], call["at"]
        if (refused := call_refusal(self.budget, amount, agent=agent, at=at, day=call["day"])) is not None:
            return [refused], [refused]
        connection.execute("SAVEPOINT admission")
        taken = self._accounts.hold(connection, accounts, amount)
        if len(taken) < len(accounts):
            connection.execute("ROLLBACK TO admission")
        connection.execute("RELEASE admission")
        refusals = [
            refusal(account, amount, agent=agent, at=at, taken=self._spent(account))
            for account in accounts
            if account not in taken
        ]
        return refusals, refusals or list(reached(taken, at))

    def _spent(self, account: Account) -> int:
        return self._accounts.spend(account.scope, account.period).micro_usd

    # -- closing

    def settle(self, hold: Hold, *, tokens: Tokens, micro_usd: int, latency_ms: int = 0) -> None:
        """Replace a hold by what the call really used, even if that is more; see `Ledger.settle`."""
        self._close(hold, settled(tokens, micro_usd, latency_ms))

    def void(self, hold: Hold, *, error: str) -> None:
        """Give a hold back: the service refused the call and bills nothing."""
        self._close(hold, Ending("void", error=error))

    def keep(self, hold: Hold, *, error: str) -> None:
        """Count a hold as spent, unconfirmed: the answer was lost, and the call may be billed."""
        self._close(hold, Ending("lost", error=error))

    def give_up(self, run_id: str) -> None:
        """Count what a run still holds as spent, unconfirmed; see `Ledger.give_up`."""
        with self._database.transaction("money.give_up") as connection:
            for call in self._calls.held(connection, run_id):
                self._end(connection, call, Ending("expired", error="given up"))

    def _close(self, hold: Hold, end: Ending) -> None:
        with self._database.transaction("money.settle") as connection:
            call = self._calls.named(connection, hold.call_id)
            if call is None:
                raise unknown(self._app, hold)
            raised = self._accounts.sound(connection, self._end(connection, call, end))
        tell(raised)

    def _expire(self, connection: sqlite3.Connection, now: datetime) -> None:
        """Close the calls of processes that died, as far as can be told: they may be billed, so they count as spent."""
        for call in self._calls.expired(connection, iso(now)):
            self._end(connection, call, Ending("expired", error="expired"))
            log.warning(
                "call=<%s> agent=<%s> run=<%s> micro_usd=<%d> | the hold expired, and counts as spent",
                call.call_id,
                call.agent,
                call.run_id,
                call.reserved,
            )

    def _end(self, connection: sqlite3.Connection, call: CallRecord, end: Ending) -> Iterator[Alarm]:
        """Bring a call and its accounts to its end, unless a surer one is known; return the alarms that follow."""
        if not end.tells_more_than(call.status):
            return iter(())
        after = end.posting(call.reserved)
        self._calls.close(connection, call, end, after)
        change = after.since(presumed(call.status, call.reserved))
        accounts = accounts_of(self.budget, run_id=call.run_id, agent=call.agent, day=call.day)
        taken = self._accounts.post(connection, accounts, change)
        # What did not grow was alarmed about when it did.
        grown = taken if change.spent + change.held > 0 else {}
        return chain(reached(grown, self._at()), over_hold(call, after.spent, self._at()))

    # -- reading

    def run_spend(self, run_id: str) -> Spend:
        """Return what a run has spent, holds included."""
        return self._accounts.spend("run", run_id)

    def day_spend(self) -> Spend:
        """Return what the application has spent today (UTC), holds included."""
        return self._accounts.spend("daily", self._today())

    def month_spend(self) -> Spend:
        """Return what the application has spent this month (UTC), holds included."""
        return self._accounts.spend("monthly", self._today()[:7])

    def pressure(self, run_id: str) -> Pressure:
        """Return how far the cap closest to its limit is used up, as a run sees it."""
        return tightest(self.budget, run_id=run_id, day=self._today(), spend=self._accounts.spend)

    def alarms(self) -> list[Alarm]:
        """Return the alarms, newest first; each cap raises one of a kind in each of its periods."""
        return self._accounts.alarms()

    def spend_by(self, *dimensions: Dimension, since: str = "") -> list[Group]:
        """Return the spend, holds included, grouped by some dimensions; see `Ledger.spend_by`."""
        return self._calls.spend_by(*dimensions, since=since)

    def paces(self, *, block_s: int, blocks: int) -> list[int]:
        """Return the micro-dollars spent in each of the last whole blocks of time; see `Ledger.paces`."""
        return self._calls.paces(self._now(), block_s=block_s, blocks=blocks)

    def _now(self) -> datetime:
        return self._clock.now().astimezone(UTC)

    def _at(self) -> str:
        return iso(self._now())

    def _today(self) -> str:
        return f"{self._now():%Y-%m-%d}"
