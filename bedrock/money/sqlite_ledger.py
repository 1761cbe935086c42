"""`SQLiteLedger`: the ledger in an application's file, every change one transaction under its write lock."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain

from ...clock import Clock, IdSource
from ...dna.database import Database
from ...errors import SpendExhausted, UsageError
from ...settings import MICRO, Budget
from ..models.prices import Tokens
from .accounts import Account, Accounts, Posting, accounts_of, agents_account, dollars, micro, reached
from .calls import CallRecord, Calls, Status, iso
from .ledger import Alarm, Dimension, Group, Hold, Pressure, Spend

log = logging.getLogger(__name__)

HOLD_TTL_S = 3600.0
_HINTS = {
    "call": "Raise the budget of a call, or lower max_tokens.",
    "run": "Raise the budget, then resume the run.",
    "monthly": "Raise the budget or wait for the next month, then resume the run.",
}
_NEXT_DAY = "Raise the budget or wait for the next day, then resume the run."
_BY_CERTAINTY: tuple[Status, ...] = ("held", "expired", "lost", "void", "settled")
"""A call's status changes only to one that says more surely what it cost, so closing it twice does no harm."""


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
        _check_amount(micro_usd)
        now = self._now()
        day = f"{now:%Y-%m-%d}"
        call = {"run_id": run_id, "agent": agent, "model": model, "region": region, "task": task, "reason": reason}
        call |= {"at": iso(now), "day": day, "month": day[:7], "expires_at": iso(now + self._ttl)}
        with self._database.transaction("money.reserve") as connection:
            self._expire(connection, now)
            if key is not None and (known := self._calls.keyed(connection, key)) is not None:
                return _still_open(known, key, micro_usd)
            accounts = accounts_of(self.budget, run_id=run_id, agent=agent, day=day)
            refusals, alarms = self._admitted(connection, accounts, micro_usd, call)
            hold = Hold(self._ids.new("call"), micro_usd)
            if not refusals:
                amounts = {"reserved_micro_usd": micro_usd, "held_micro_usd": micro_usd}
                self._calls.add(connection, {**call, **amounts, "call_id": hold.call_id, "key": key, "status": "held"})
            raised = self._accounts.sound(connection, alarms)
        _tell(raised)
        if refusals:
            raise SpendExhausted(refusals[0].message, hint=_HINTS.get(refusals[0].scope, _NEXT_DAY))
        return hold

    def _admitted(
        self, connection: sqlite3.Connection, accounts: Sequence[Account], amount: int, call: Mapping[str, str]
    ) -> tuple[list[Alarm], list[Alarm]]:
        """Hold an amount in all accounts or in none; return the refusals, and the alarms that follow."""
        cap = micro(self.budget.call_usd)
        if cap is not None and amount > cap:
            said = _refused("call", cap, amount, call["agent"])
            return [refusal := Alarm(call["at"], "exhausted", "call", call["day"], cap, amount, said)], [refusal]
        connection.execute("SAVEPOINT admission")
        taken = self._accounts.hold(connection, accounts, amount)
        if len(taken) < len(accounts):
            connection.execute("ROLLBACK TO admission")
        connection.execute("RELEASE admission")
        refusals = [self._refusal(account, amount, call) for account in accounts if account not in taken]
        return refusals, refusals or list(reached(taken, call["at"]))

    def _refusal(self, account: Account, amount: int, call: Mapping[str, str]) -> Alarm:
        cap, taken = account.cap or 0, self._accounts.spend(account.scope, account.period).micro_usd
        said = _refused(account.scope, cap, amount, call["agent"], taken)
        return Alarm(call["at"], "exhausted", account.scope, account.period, cap, taken, said)

    # -- closing

    def settle(self, hold: Hold, *, tokens: Tokens, micro_usd: int, latency_ms: int = 0) -> None:
        """Replace a hold by what the call really used, even if that is more; see `Ledger.settle`."""
        _check_amount(micro_usd)
        used = Posting(micro_usd, 0, 0, 0, tokens.input, tokens.output, tokens.cache_read, tokens.cache_write)
        self._close(hold, "settled", used=used, latency_ms=latency_ms)

    def void(self, hold: Hold, *, error: str) -> None:
        """Give a hold back: the service refused the call and bills nothing."""
        self._close(hold, "void", error=error)

    def keep(self, hold: Hold, *, error: str) -> None:
        """Count a hold as spent, unconfirmed: the answer was lost, and the call may be billed."""
        self._close(hold, "lost", error=error)

    def give_up(self, run_id: str) -> None:
        """Count what a run still holds as spent, unconfirmed; see `Ledger.give_up`."""
        with self._database.transaction("money.give_up") as connection:
            for call in self._calls.held(connection, run_id):
                self._end(connection, call, "expired", error="given up")

    def _close(
        self, hold: Hold, status: Status, *, used: Posting | None = None, error: str = "", latency_ms: int = 0
    ) -> None:
        with self._database.transaction("money.settle") as connection:
            call = self._calls.named(connection, hold.call_id)
            if call is None:
                raise UsageError(f"the ledger of {self._app!r} holds no call {hold.call_id!r}.")
            alarms = self._end(connection, call, status, used=used, error=error, latency_ms=latency_ms)
            raised = self._accounts.sound(connection, alarms)
        _tell(raised)

    def _expire(self, connection: sqlite3.Connection, now: datetime) -> None:
        """Close the calls of processes that died, as far as can be told: they may be billed, so they count as spent."""
        for call in self._calls.expired(connection, iso(now)):
            self._end(connection, call, "expired", error="expired")
            log.warning(
                "call=<%s> agent=<%s> run=<%s> micro_usd=<%d> | the hold expired, and counts as spent",
                call.call_id,
                call.agent,
                call.run_id,
                call.reserved,
            )

    def _end(
        self,
        connection: sqlite3.Connection,
        call: CallRecord,
        status: Status,
        *,
        used: Posting | None = None,
        error: str = "",
        latency_ms: int = 0,
    ) -> Iterator[Alarm]:
        """Bring a call and its accounts to a status, unless a surer one is known; return the alarms that follow."""
        if _BY_CERTAINTY.index(status) <= _BY_CERTAINTY.index(call.status):
            return iter(())
        before = _presumed(call.status, call.reserved)
        after = _presumed(status, call.reserved) if used is None else used
        self._calls.close(connection, call, status, posting=after, error=error, latency_ms=latency_ms)
        change = Posting(*(new - old for new, old in zip(after, before, strict=True)))
        accounts = accounts_of(self.budget, run_id=call.run_id, agent=call.agent, day=call.day)
        taken = self._accounts.post(connection, accounts, change)
        # What did not grow was alarmed about when it did.
        grown = taken if change.spent + change.held > 0 else {}
        return chain(reached(grown, self._at()), _over_hold(call, after.spent, self._at()))

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
        day = self._today()
        shared = accounts_of(self.budget, run_id=run_id, agent="", day=day)
        agents = [agents_account(self.budget, agent, day) for agent in self.budget.agent_daily_usd]
        tightest = Pressure(0.0, "no", 0)
        rooms = [cap] if (cap := micro(self.budget.call_usd)) is not None else []
        for account in [*shared, *agents]:
            if account.cap is None:
                continue
            spend = self._accounts.spend(account.scope, account.period)
            share = spend.micro_usd / account.cap if account.cap else 1.0
            tightest = max(tightest, Pressure(share, account.scope, spend.calls), key=lambda found: found.share)
            if account in shared:
                rooms.append(max(0, account.cap - spend.micro_usd))
        return replace(tightest, room_micro_usd=min(rooms, default=None))

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


def _presumed(status: Status, reserved: int) -> Posting:
    """Return what a call without known usage adds to its accounts."""
    if status == "held":
        return Posting(held=reserved)
    if status == "void":
        return Posting(failed_calls=1)
    return Posting(spent=reserved, unconfirmed=reserved, failed_calls=1)


def _still_open(call: CallRecord, key: str, micro_usd: int) -> Hold:
    """Return the hold of a call that was reserved before under the same key."""
    if call.reserved != micro_usd:
        problem = f"reserved at {dollars(call.reserved)}, not at {dollars(micro_usd)}"
    elif call.status != "held":
        # What is called under a closed hold would be paid for and never counted.
        problem = f"that is closed ({call.status})"
    else:
        return Hold(call.call_id, call.reserved)
    raise UsageError(f"the key {key!r} names a call {problem}.", hint="Give each attempt a key of its own.")


def _check_amount(micro_usd: int) -> None:
    if micro_usd < 0:
        raise UsageError(f"a call cannot cost {micro_usd} micro-dollars.", hint="Give nothing or more.")


def _refused(scope: str, cap: int, amount: int, agent: str, taken: int | None = None) -> str:
    known = "" if taken is None else f"{dollars(taken)} are spent or held and "
    return (
        f"the {scope} budget of ${cap / MICRO:.2f} does not allow this call of {agent}:"
        f" {known}it may cost {dollars(amount)}."
    )


def _over_hold(call: CallRecord, spent: int, at: str) -> Iterator[Alarm]:
    if spent > call.reserved:
        said = (
            f"a call of {call.agent} to {call.model} cost {dollars(spent)},"
            f" more than the {dollars(call.reserved)} that were held for it."
        )
        yield Alarm(at, "over_hold", "call", call.call_id, call.reserved, spent, said)


def _tell(raised: Sequence[Alarm]) -> None:
    for alarm in raised:
        log.warning(
            "alarm=<%s> scope=<%s> period=<%s> cap_micro_usd=<%d> micro_usd=<%d> | %s",
            alarm.kind,
            alarm.scope,
            alarm.period,
            alarm.cap_micro_usd,
            alarm.micro_usd,
            alarm.message,
        )
