"""How a call ends, wherever it is on record: what each status adds to its accounts, and which one is surer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from ...errors import UsageError
from ..models.prices import Tokens
from .caps import dollars
from .ledger import Alarm, Hold

Status = Literal["held", "expired", "lost", "void", "settled"]

_BY_CERTAINTY: tuple[Status, ...] = ("held", "expired", "lost", "void", "settled")
"""A call's status changes only to one that says more surely what it cost, so closing it twice does no harm."""
PRESUMED: tuple[Status, ...] = ("expired", "lost")
"""Ends at which nobody knows what the call cost."""
FAILED: tuple[Status, ...] = (*PRESUMED, "void")


class Posting(NamedTuple):
    """What one call adds to each of its accounts: micro-dollars, failures and tokens."""

    spent: int = 0
    held: int = 0
    unconfirmed: int = 0
    failed_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    def since(self, before: Posting) -> Posting:
        """Return what this adds to an earlier posting."""
        return Posting(*(new - old for new, old in zip(self, before, strict=True)))

    def amounts(self, *, calls: int) -> dict[str, int]:
        """Return by name what it adds to a balance, with what is taken of a cap, for so many calls more."""
        return {**self._asdict(), "taken": self.spent + self.held, "calls": calls}


TOKENS = Posting._fields[-4:]
OF_END = ("status", "error", "latency_ms", "held_micro_usd", "cost_micro_usd", *TOKENS)
"""What its end changes of a call on record."""


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What the ledger has to know of a call to close it; the amount reserved is in micro-dollars."""

    call_id: str
    run_id: str
    agent: str
    model: str
    day: str
    status: Status
    reserved: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ends.

    Args:
        status: In which status.
        used: What it really used; None where that is not known.
        error: Why it failed, if it did.
        latency_ms: Milliseconds until the answer was there.
    """

    status: Status
    used: Posting | None = None
    error: str = ""
    latency_ms: int = 0

    def tells_more_than(self, status: Status) -> bool:
        """Whether it says more surely what the call cost than a status does."""
        return _BY_CERTAINTY.index(self.status) > _BY_CERTAINTY.index(status)

    def posting(self, reserved: int) -> Posting:
        """Return what a call for which so much was reserved adds to its accounts from now on."""
        return presumed(self.status, reserved) if self.used is None else self.used


def settled(tokens: Tokens, micro_usd: int, latency_ms: int) -> Ending:
    """Return the end of a call whose usage is known.

    Raises:
        UsageError: The amount is negative.
    """
    check_amount(micro_usd)
    used = Posting(micro_usd, 0, 0, 0, tokens.input, tokens.output, tokens.cache_read, tokens.cache_write)
    return Ending("settled", used, latency_ms=latency_ms)


def presumed(status: Status, reserved: int) -> Posting:
    """Return what a call without known usage adds to its accounts."""
    if status == "held":
        return Posting(held=reserved)
    if status == "void":
        return Posting(failed_calls=1)
    return Posting(spent=reserved, unconfirmed=reserved, failed_calls=1)


def posting_of(call: Mapping[str, Any]) -> Posting:
    """Return what a whole call, as it is on record, adds to each of its accounts."""
    cost, status = call["cost_micro_usd"], call["status"]
    used = (call[name] for name in TOKENS)
    return Posting(cost, call["held_micro_usd"], cost if status in PRESUMED else 0, int(status in FAILED), *used)


def surer(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a call says more surely what it cost than the same call in other books."""
    return Ending(one["status"]).tells_more_than(other["status"])


def check_open(call: CallRecord, key: str, micro_usd: int) -> None:
    """Demand that the call which was reserved before under the same key is open, and for as much.

    Raises:
        UsageError: It is not.
    """
    if call.reserved != micro_usd:
        problem = f"reserved at {dollars(call.reserved)}, not at {dollars(micro_usd)}"
    elif call.status != "held":
        # What is called under a closed hold would be paid for and never counted.
        problem = f"that is closed ({call.status})"
    else:
        return
    raise UsageError(f"the key {key!r} names a call {problem}.", hint="Give each attempt a key of its own.")


def check_amount(micro_usd: int) -> None:
    """Demand that an amount is not negative.

    Raises:
        UsageError: It is.
    """
    if micro_usd < 0:
        raise UsageError(f"a call cannot cost {micro_usd} micro-dollars.", hint="Give nothing or more.")


def unknown(app: str, hold: Hold) -> UsageError:
    """Return the error about a hold of another ledger."""
    return UsageError(f"the ledger of {app!r} holds no call {hold.call_id!r}.")


def over_hold(call: CallRecord, spent: int, at: str) -> Iterator[Alarm]:
    """Yield the alarm about a call that cost more than was held for it, if it did."""
    if spent > call.reserved:
        said = (
            f"a call of {call.agent} to {call.model} cost {dollars(spent)},"
            f" more than the {dollars(call.reserved)} that were held for it."
        )
        yield Alarm(at, "over_hold", "call", call.call_id, call.reserved, spent, said)


def iso(moment: datetime) -> str:
    """Write a UTC moment so that moments sort as their texts do."""
    return moment.isoformat(timespec="microseconds")
