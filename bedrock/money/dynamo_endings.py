"""How calls in DynamoDB end: once each, whatever is lost on the way, and later where the table cannot be reached."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from ...dna.aws.calls import ConditionFailed
from ...dna.aws.copies import Copies
from ...dna.aws.items import Item
from ...errors import StoreError, StoreUnavailable, UsageError, WriterFenced
from .caps import Account
from .closing import CallRecord, Ending, iso, over_hold, presumed, unknown
from .dynamo_accounts import DynamoAccounts, Entry
from .dynamo_calls import DynamoCalls, DynamoHold, call_key, ended
from .ledger import Hold

log = logging.getLogger(__name__)

_LOOK_S = 60.0
"""So many seconds at most after a hold of another process expired it is found."""
UNREACHABLE = (StoreUnavailable, WriterFenced)
"""Nothing can be written now, or not by this process."""


class DynamoEndings:
    """Ends the calls of one application.

    A call is ended on the condition that its status is the one that was known, so it is ended once: where that fails,
    the call is read, and only what says more surely what it cost is done. What cannot be said now is said later, by
    this process; if it ends before, the hold expires as spent.

    Args:
        app: The application's name.
        calls: Its calls.
        accounts: Its balances.
        copies: Bring what was written to other regions.
        accounts_of: Returns the accounts of a call, with the caps as they are now.
        now: Tells the time, in UTC.
    """

    def __init__(
        self,
        app: str,
        calls: DynamoCalls,
        accounts: DynamoAccounts,
        copies: Copies,
        *,
        accounts_of: Callable[[CallRecord], list[Account]],
        now: Callable[[], datetime],
    ) -> None:
        self._app = app
        self._calls = calls
        self._accounts = accounts
        self._copies = copies
        self._accounts_of = accounts_of
        self._now = now
        self._late: deque[tuple[Hold, Ending]] = deque()
        self._look_at = datetime.min.replace(tzinfo=UTC)
        self._lock = threading.Lock()

    def end(self, hold: Hold, ending: Ending) -> None:
        """End a call, now or later.

        Raises:
            UsageError: It is on record nowhere.
        """
        try:
            self._end(hold, ending)
        except StoreError as error:
            self.end_later(hold, ending)
            log.warning(
                "call=<%s> status=<%s> | its end cannot be written now, its hold stays: %s",
                hold.call_id,
                ending.status,
                error.message,
            )

    def end_later(self, hold: Hold, ending: Ending) -> None:
        """End a call when the table can be reached again."""
        self._late.append((hold, ending))

    def catch_up(self) -> None:
        """Say what could not be said when it was due.

        Raises:
            StoreUnavailable: The table cannot be reached.
            WriterFenced: A later epoch has begun.
        """
        if self._copies.owed:
            with self._calls.reaching():
                self._copies.bring_home()
        if not self._late:
            return
        with self._lock:
            while self._late:
                hold, ending = self._late[0]
                try:
                    self._end(hold, ending)
                except StoreError:
                    raise
                except UsageError as error:
                    log.warning("call=<%s> | its end has no call: %s", hold.call_id, error.message)
                self._late.popleft()

    def expire(self) -> None:
        """Close the calls of processes that died, as far as can be told: they may be billed, so they count as spent.

        The open calls are looked at when the next one is known to expire, and once a minute, since other processes
        open calls too.

        Raises:
            StoreUnavailable: The table cannot be reached.
            WriterFenced: A later epoch has begun.
        """
        now = self._now()
        if now < self._look_at:
            return
        look_at = now + timedelta(seconds=_LOOK_S)
        for hold in self._calls.open():
            if (expires := datetime.fromisoformat(hold.expires_at)) > now:
                look_at = min(look_at, expires)
                break
            self._expire(hold)
        self._look_at = look_at

    def watch(self, hold: DynamoHold) -> None:
        """Look at the open calls when this one expires."""
        self._look_at = min(self._look_at, datetime.fromisoformat(hold.expires_at))

    def give_up(self, run_id: str) -> None:
        """Count what a run still holds as spent, unconfirmed; where that cannot be said, it expires as that."""
        try:
            self.catch_up()
            for hold in self._calls.open():
                if hold.call.run_id == run_id:
                    self._end(hold, Ending("expired", error="given up"))
        except StoreError as error:
            log.warning("run=<%s> | what it still holds stays held until it expires: %s", run_id, error.message)

    def _expire(self, hold: DynamoHold) -> None:
        if self._end(hold, Ending("expired", error="expired")):
            log.warning(
                "call=<%s> agent=<%s> run=<%s> micro_usd=<%d> | the hold expired, and counts as spent",
                hold.call_id,
                hold.call.agent,
                hold.call.run_id,
                hold.micro_usd,
            )

    def _end(self, hold: Hold, ending: Ending) -> bool:
        """Bring a call and its accounts to its end, unless a surer one is known; whether there was anything to do."""
        known = hold if isinstance(hold, DynamoHold) else self._known(hold)
        while known is not None and ending.tells_more_than(known.call.status):
            after, at = ending.posting(known.call.reserved), iso(self._now())
            change = after.since(presumed(known.call.status, known.call.reserved))
            entry = Entry(
                self._accounts_of(known.call),
                change,
                at,
                watched=change.spent + change.held > 0,
                alarms=tuple(over_hold(known.call, after.spent, at)),
            )
            said, region = ended(hold.call_id, ending, after), self._calls.region
            try:
                self._accounts.book(self._calls.closing(known, said), entry)
            except ConditionFailed:
                # Somebody else ended it, or an answer was lost, or it was made before another region was promoted.
                before, known = known, self._known(hold)
                if known is None:
                    self._record(before, said)
                else:
                    self._copies.add(call_key(hold.call_id), known.item, written_in=region)
            else:
                self._copies.add(call_key(hold.call_id), {**known.item, **said}, written_in=region)
                return True
        return False

    def _record(self, hold: DynamoHold, said: Item) -> None:
        """Put a call on record which is only in a region that is not written to any more."""
        log.warning("call=<%s> region=<%s> | it is on record in another region", hold.call_id, hold.region)
        with self._calls.reaching():
            self._copies.record(call_key(hold.call_id), {**hold.item, **said})

    def _known(self, hold: Hold) -> DynamoHold | None:
        """Return a call as it is on record; None where that is in a region which is not written to any more."""
        known = self._calls.named(hold.call_id)
        if known is None and not (isinstance(hold, DynamoHold) and hold.region != self._calls.region):
            raise unknown(self._app, hold)
        return known
