"""The ledger: money is reserved before a model call and settled after it, so that no budget is overshot.

A two-phase transfer: pending, then posted, voided or expired
(https://docs.tigerbeetle.com/coding/two-phase-transfers/).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from ...settings import Budget
from ..models.prices import Tokens

Dimension = Literal["day", "month", "run", "agent", "model", "region", "task", "error"]
AlarmKind = Literal["over_hold", "measures", "exhausted"]

HOLD_TTL_S = 3600.0
"""So many seconds after it was made an open hold is taken for that of a process that died."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Money set aside for one call."""

    call_id: str
    micro_usd: int


@dataclass(frozen=True, slots=True)
class Spend:
    """What was spent, in micro-dollars and calls; tokens read from or written to the cache are input tokens too."""

    micro_usd: int
    calls: int
    failed_calls: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    unconfirmed_micro_usd: int = 0
    """Part of it that was kept for calls whose answer never came: it may or may not be billed."""
    held_micro_usd: int = 0
    """Part of it that is set aside for calls under way: what they do not use comes back."""


@dataclass(frozen=True, slots=True)
class Pressure:
    """How far the cap closest to its limit is used up.

    Args:
        share: Spent and held, as a share of the cap; 0 without caps.
        scope: Which cap, such as `daily`; `no` without caps.
        calls: Calls that it covers.
        room_micro_usd: What is left under the tightest of the caps that all agents share; None without any.
    """

    share: float
    scope: str
    calls: int
    room_micro_usd: int | None = None


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing about money that somebody should look at.

    Args:
        at: When, ISO 8601 in UTC.
        kind: `over_hold` (a call cost more than was held for it), `measures` (80 % of a cap are spent or held) or
            `exhausted` (all of it is, or a call was refused).
        scope: Which cap: `run`, `daily <agent>`, `daily`, `monthly`, or `call` for a single call.
        period: The run, day or month of the cap; for `over_hold`, the id of the call.
        cap_micro_usd: The cap, or the hold.
        micro_usd: What is spent or held, or what the single call costs.
        message: The same in words.
    """

    at: str
    kind: AlarmKind
    scope: str
    period: str
    cap_micro_usd: int
    micro_usd: int
    message: str


@dataclass(frozen=True, slots=True)
class Group:
    """The spend of calls that are alike in some respects, named in the order they were asked for."""

    names: tuple[str, ...]
    spend: Spend


class Ledger(Protocol):
    """Model spend of one application."""

    budget: Budget
    """The caps as they are now: a raised one admits calls at once."""

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
        """Set money aside for a call at its worst case, under all caps or not at all.

        Args:
            run_id: The run it belongs to.
            agent: Who makes it.
            model: Where it goes.
            micro_usd: The most it can cost, in micro-dollars.
            region: The region it is sent to.
            task: The family of tasks it is for.
            reason: Why this model was chosen.
            key: Names this attempt: reserving again under the same key, while the hold is open, returns that hold.

        Raises:
            SpendExhausted: Spent plus held plus this would pass a cap; nothing was set aside.
            UsageError: The amount is negative, or the key names a call of another amount or one that is closed.
            StoreUnavailable: The books cannot be reached; the call must not be made.
        """
        ...

    def settle(self, hold: Hold, *, tokens: Tokens, micro_usd: int, latency_ms: int = 0) -> None:
        """Replace a hold by what the call really used, even if that is more, and even if it comes late.

        Where the books cannot be reached it is logged and the hold stays, which counts until it is closed.

        Closing a call a second time changes nothing, unless it says more surely what the call cost: expired and lost
        are presumptions, voided and settled are not, and real usage beats all.

        Args:
            hold: What `reserve` returned.
            tokens: What the response reports.
            micro_usd: What that costs, in micro-dollars.
            latency_ms: Milliseconds until the answer was there.
        """
        ...

    def void(self, hold: Hold, *, error: str) -> None:
        """Give a hold back: the service refused the call and bills nothing."""
        ...

    def keep(self, hold: Hold, *, error: str) -> None:
        """Count a hold as spent, unconfirmed: the answer was lost, and the call may be billed."""
        ...

    def give_up(self, run_id: str) -> None:
        """Count what a run still holds as spent, unconfirmed: nobody waits for those calls any longer."""
        ...

    def run_spend(self, run_id: str) -> Spend:
        """Return what a run has spent, holds included."""
        ...

    def day_spend(self) -> Spend:
        """Return what the application has spent today (UTC), holds included."""
        ...

    def month_spend(self) -> Spend:
        """Return what the application has spent this month (UTC), holds included."""
        ...

    def pressure(self, run_id: str) -> Pressure:
        """Return how far the cap closest to its limit is used up, as a run sees it."""
        ...

    def alarms(self) -> list[Alarm]:
        """Return the alarms, newest first; each cap raises one of a kind in each of its periods."""
        ...

    def spend_by(self, *dimensions: Dimension, since: str = "") -> list[Group]:
        """Return the spend, holds included, grouped by some dimensions.

        Args:
            dimensions: How to group: a leading day or month comes newest first, all else by cost.
            since: The first day or moment that counts, ISO 8601 in UTC; all of them by default.
        """
        ...

    def paces(self, *, block_s: int, blocks: int) -> list[int]:
        """Return the micro-dollars spent in each of the last whole blocks of time, newest first.

        Args:
            block_s: Seconds of a block; the newest ends now.
            blocks: How many at most; none begins before the application's first call.
        """
        ...
