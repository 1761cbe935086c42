"""`DynamoLedger`: the ledger in a cloud store's table, one budget for any number of machines."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from ...clock import Clock, IdSource
from ...dna.aws.calls import ConditionFailed
from ...dna.aws.copies import Copies
from ...dna.aws.regions import Regions
from ...errors import StoreUnavailable
from ...settings import Budget
from ..models.prices import Tokens
from .caps import Account, accounts_of, call_refusal, spend_exhausted, tightest
from .closing import CallRecord, Ending, check_amount, check_open, iso, presumed, settled
from .dynamo_accounts import DynamoAccounts, Entry
from .dynamo_calls import DynamoCalls, DynamoHold, call_key, new_call
from .dynamo_copies import MoneyCopies
from .dynamo_endings import UNREACHABLE, DynamoEndings
from .dynamo_sums import sound
from .ledger import HOLD_TTL_S, Alarm, Dimension, Group, Hold, Pressure, Spend
from .partition import Partition, money_of

log = logging.getLogger(__name__)

_KEPT = 256
"""So many balances are remembered at most."""


class DynamoLedger:
    """The `Ledger` of one application in the table of a cloud store, for any number of machines.

    A reservation is one transaction: the call with its hold, and each of its accounts. A DynamoDB condition knows no
    arithmetic, so the balance that an account may have is worked out here and sent with it:
    `taken <= cap - amount`. Nothing of a cap is stored, so a cap that is raised, lowered or taken away holds for the
    next call, and processes with different caps each keep their own. (A stored remainder would have to be moved with
    every change of a cap, by whom nobody can say.) A transaction that took effect though its answer was lost is
    recognised by its call, which is there already.

    Where the table cannot be reached nothing is reserved. What closes a call is then said when this process next
    reserves or asks what was spent; if it does not, the hold stays and expires as spent. What a run asks of the books
    on its way is answered as it was last known.

    Where the store has several regions, a thread copies the calls to the others, so that a region that is promoted
    knows what was spent. It lacks what was not copied when the writer's region was lost: that of this process follows
    before it next reserves, that of a process which was lost as well does not, unless the region comes back.

    Args:
        regions: Know the table.
        app: The application's name.
        budget: The caps.
        clock: Tells the UTC day and month a call belongs to, for good, and when its hold expires.
        ids: Names calls.
        hold_ttl_s: Seconds after which an open hold is taken for that of a process that died: it then counts as
            spent, as the call may be billed.
    """

    def __init__(
        self,
        regions: Regions,
        *,
        app: str,
        budget: Budget,
        clock: Clock,
        ids: IdSource,
        hold_ttl_s: float = HOLD_TTL_S,
    ) -> None:
        self.budget = budget
        name = money_of(regions.place, app)
        partition = Partition(regions, name, sound=sound, clock=clock)
        self._copies = Copies(regions, MoneyCopies(regions, name, clock))
        self._calls = DynamoCalls(partition)
        self._accounts = DynamoAccounts(partition, self._copies)
        self._clock = clock
        self._ids = ids
        self._ttl = timedelta(seconds=hold_ttl_s)
        self._endings = DynamoEndings(
            app, self._calls, self._accounts, self._copies, accounts_of=self._accounts_of, now=self._now
        )
        self._known: dict[tuple[str, str], Spend] = {}

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
        """Set money aside for a call at its worst case, under all caps or not at all; see `Ledger.reserve`.

        Raises:
            StoreUnavailable: The table cannot be reached; the call must not be made.
        """
        check_amount(micro_usd)
        writer = self._calls.region
        self._endings.catch_up()
        self._endings.expire()
        now = self._now()
        at, day = iso(now), f"{now:%Y-%m-%d}"
        if key is not None and (known := self._calls.keyed(key)) is not None:
            return _still_open(known, key, micro_usd)
        if (refused := call_refusal(self.budget, micro_usd, agent=agent, at=at, day=day)) is not None:
            self._accounts.sound([refused])
            raise spend_exhausted([refused])
        call: dict[str, Any] = {}
        call |= {"call_id": f"{at}/{self._ids.new('call')}", "run_id": run_id, "agent": agent, "model": model}
        call |= {"region": region, "task": task, "reason": reason, "key": key, "at": at, "day": day, "month": day[:7]}
        call |= {"expires_at": iso(now + self._ttl), "reserved_micro_usd": micro_usd, "held_micro_usd": micro_usd}
        hold = self._calls.hold(new_call(call))
        try:
            return self._reserved(hold, writer)
        except UNREACHABLE:
            # Nobody knows whether it is held now. The call is not made, so the hold is given back.
            self._endings.end_later(hold, Ending("void", error="never sent"))
            raise

    def _reserved(self, hold: DynamoHold, writer: str) -> Hold:
        call, held = hold.item, presumed("held", hold.micro_usd)
        at, agent = call["at"], call["agent"]
        entry = Entry(self._accounts_of(hold.call), held, at, watched=True, calls=1, agent=agent)
        try:
            self._accounts.book(self._calls.opening(call), entry, region=writer)
        except ConditionFailed as failed:
            # It is there already: an answer was lost, or another process was faster under the same key.
            known, key = self._calls.named(hold.call_id), call["key"]
            if known is not None:
                self._copies.add(call_key(known.call_id), known.item, written_in=hold.region)
                return known
            if key is None or (known := self._calls.keyed(key)) is None:
                # Another region was promoted before the answer came.
                raise StoreUnavailable("it is not known whether the call is held.") from failed
            return _still_open(known, key, hold.micro_usd)
        self._copies.add(call_key(hold.call_id), call, written_in=hold.region)
        self._endings.watch(hold)
        return hold

    # -- closing

    def settle(self, hold: Hold, *, tokens: Tokens, micro_usd: int, latency_ms: int = 0) -> None:
        """Replace a hold by what the call really used, even if that is more; see `Ledger.settle`."""
        self._endings.end(hold, settled(tokens, micro_usd, latency_ms))

    def void(self, hold: Hold, *, error: str) -> None:
        """Give a hold back: the service refused the call and bills nothing."""
        self._endings.end(hold, Ending("void", error=error))

    def keep(self, hold: Hold, *, error: str) -> None:
        """Count a hold as spent, unconfirmed: the answer was lost, and the call may be billed."""
        self._endings.end(hold, Ending("lost", error=error))

    def give_up(self, run_id: str) -> None:
        """Count what a run still holds as spent, unconfirmed; see `Ledger.give_up`."""
        self._endings.give_up(run_id)

    # -- reading

    def run_spend(self, run_id: str) -> Spend:
        """Return what a run has spent, holds included."""
        return self._spend("run", run_id)

    def day_spend(self) -> Spend:
        """Return what the application has spent today (UTC), holds included."""
        return self._accounts.spend("daily", self._today())

    def month_spend(self) -> Spend:
        """Return what the application has spent this month (UTC), holds included."""
        return self._accounts.spend("monthly", self._today()[:7])

    def pressure(self, run_id: str) -> Pressure:
        """Return how far the cap closest to its limit is used up, as a run sees it."""
        return tightest(self.budget, run_id=run_id, day=self._today(), spend=self._spend)

    def alarms(self) -> list[Alarm]:
        """Return the alarms, newest first; each cap raises one of a kind in each of its periods."""
        return self._accounts.alarms()

    def spend_by(self, *dimensions: Dimension, since: str = "") -> list[Group]:
        """Return the spend, holds included, grouped by some dimensions; see `Ledger.spend_by`."""
        return self._calls.spend_by(*dimensions, since=since)

    def paces(self, *, block_s: int, blocks: int) -> list[int]:
        """Return the micro-dollars spent in each of the last whole blocks of time; see `Ledger.paces`."""
        return self._calls.paces(self._now(), block_s=block_s, blocks=blocks)

    def _spend(self, scope: str, period: str) -> Spend:
        """Return what an account has spent, or had when it could last be read."""
        try:
            self._endings.catch_up()
            spend = self._accounts.spend(scope, period)
        except UNREACHABLE as error:
            log.warning("scope=<%s> period=<%s> | told as last known: %s", scope, period, error.message)
            return self._known.get((scope, period), Spend(0, 0, 0, 0, 0))
        if len(self._known) > _KEPT:
            self._known = {}
        self._known[scope, period] = spend
        return spend

    def _accounts_of(self, call: CallRecord) -> list[Account]:
        return accounts_of(self.budget, run_id=call.run_id, agent=call.agent, day=call.day)

    def _now(self) -> datetime:
        return self._clock.now().astimezone(UTC)

    def _today(self) -> str:
        return f"{self._now():%Y-%m-%d}"


def _still_open(hold: DynamoHold, key: str, micro_usd: int) -> Hold:
    check_open(hold.call, key, micro_usd)
    return hold
