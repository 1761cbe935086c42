"""Moving books: what one ledger has on record becomes part of what another one has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import Any, Protocol

from ...dna.aws.verifying.findings import Told, nobody
from ...errors import IntegrityError, UsageError
from .closing import OF_END, surer
from .ledger import Alarm

Call = Mapping[str, Any]
"""All that is known of a call, by name. Its id begins with the moment it was reserved at, so ids sort by time."""
Pair = tuple[str, Call | None, Call | None]

_AT_ONCE = 100
_ELSEWHERE = "Copy to a store that does not hold this application."


class Books(Protocol):
    """What the ledger of one application has on record, wherever it is kept."""

    def calls(self) -> Iterator[Call]:
        """Yield the calls, in the order of their ids.

        Raises:
            StoreUnavailable: They cannot be read.
            IntegrityError: A call was altered.
        """
        ...

    def alarms(self) -> list[Alarm]:
        """Return the alarms, oldest first."""
        ...

    def adopt(self, calls: Sequence[Call]) -> None:
        """Put calls of other books on record, each with what it adds to its accounts; what is known more surely stays.

        Raises:
            UsageError: Another call has the idempotency key of one of them.
            StoreUnavailable: They cannot be written; some may have been.
        """
        ...

    def adopt_alarms(self, alarms: Sequence[Alarm]) -> None:
        """Put alarms of other books on record, those that are not yet."""
        ...


@dataclass(frozen=True, slots=True)
class CopiedBooks:
    """What was copied of an application's books.

    Args:
        calls: How many calls the source has on record.
        micro_usd: What they cost or hold, in micro-dollars.
        new: How many of them were copied just now.
    """

    calls: int
    micro_usd: int
    new: int


def copy_books(source: Books, target: Books, *, told: Told = nobody) -> CopiedBooks:
    """Copy all calls and alarms, and compare; run again, it copies what was added or ended since.

    Args:
        source: Copied from; it is not changed.
        target: Copied to; what it has on record besides stays.
        told: Told of the progress.

    Raises:
        IntegrityError: A call is another one in the target, or was altered in one of them.
        UsageError: Another call of the target has the idempotency key of one that is copied.
        StoreUnavailable: A store cannot be reached; run it again later, it goes on.
    """
    new, last, lacking = 0, "", list[Call]()
    for mine, theirs in _calls_of(source, target):
        last = mine["call_id"]
        if theirs is not None and _reserved(mine) != _reserved(theirs):
            raise another_call(last)
        if theirs is None or surer(mine, theirs):
            lacking.append(mine)
        if len(lacking) == _AT_ONCE:
            new += _adopted(target, lacking)
            told("model calls", new, new)
    new += _adopted(target, lacking)
    target.adopt_alarms(source.alarms())
    return _compared(source, target, last, new)


def _reserved(call: Call) -> Call:
    """Return what is known of a call before it ends."""
    return {name: value for name, value in call.items() if name not in OF_END}


def _adopted(target: Books, lacking: list[Call]) -> int:
    target.adopt(lacking)
    adopted = len(lacking)
    lacking.clear()
    return adopted


def _compared(source: Books, target: Books, last: str, new: int) -> CopiedBooks:
    """Return what was copied, up to a call: the source may have made others meanwhile."""
    calls = micro_usd = 0
    for mine, theirs in _calls_of(source, target):
        if mine["call_id"] > last:
            break
        if theirs is None:
            raise UsageError(
                f"the call {mine['call_id']} is not in the target: the books were worked on while they were copied.",
                hint="Stop the application, and copy again: it goes on.",
            )
        calls += 1
        micro_usd += mine["cost_micro_usd"] + mine["held_micro_usd"]
    return CopiedBooks(calls, micro_usd, new)


def _calls_of(source: Books, target: Books) -> Iterator[tuple[Call, Call | None]]:
    """Yield each call of the source, and what the target knows of it."""
    for _, mine, theirs in side_by_side(source.calls(), target.calls()):
        if mine is not None:
            yield mine, theirs


def side_by_side(mine: Iterable[Call], theirs: Iterable[Call]) -> Iterator[Pair]:
    """Yield the calls of two books in pairs of the same id; both have to be in the order of their ids."""
    named = merge(
        ((call["call_id"], 0, call) for call in mine),
        ((call["call_id"], 1, call) for call in theirs),
        key=itemgetter(0, 1),
    )
    for call_id, group in groupby(named, key=itemgetter(0)):
        found = {side: call for _, side, call in group}
        yield call_id, found.get(0), found.get(1)


def another_call(call_id: str) -> IntegrityError:
    """Return the error about two calls that have one id."""
    return IntegrityError(f"the call {call_id} is another one in the target.", hint=_ELSEWHERE)


def key_of_another(call: Call) -> UsageError:
    """Return the error about a call whose idempotency key another one has in the books that it is copied to."""
    return UsageError(
        f"the call {call['call_id']} has the key {call['key']!r}, which another call of the target has.",
        hint=_ELSEWHERE,
    )
