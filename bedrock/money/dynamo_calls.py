"""The calls of the ledger in DynamoDB: one item for each, and another one while it is open.

A call's id begins with the moment it was reserved at, so that calls lie in the order of time: those since a moment are
read without the older ones. The items of open calls lie in the order in which they expire.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ...dna.aws.items import Item, Key, Part, put, put_new, update
from ...dna.aws.sums import sum_of, summed
from .closing import FAILED, OF_END, PRESUMED, TOKENS, CallRecord, Ending, Posting, iso
from .ledger import Dimension, Group, Hold, Spend
from .partition import Partition

_BLANK: Mapping[str, Any] = {
    "region": "",
    "task": "",
    "reason": "",
    "key": None,
    "status": "held",
    "cost_micro_usd": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "cache_read_tokens": 0,
    "cache_write_tokens": 0,
    "latency_ms": 0,
    "error": "",
}
_OF_OPEN = ("call_id", "run_id", "agent", "model", "day", "status", "reserved_micro_usd", "expires_at")


@dataclass(frozen=True, slots=True)
class DynamoHold(Hold):
    """A hold that knows its call as it was when it was read, so that closing it need not read it again."""

    call: CallRecord
    expires_at: str
    region: str
    """Where the call is on record."""
    item: Item = field(compare=False, repr=False)
    """The item it was read from: that of the call, or a shorter one."""


class DynamoCalls:
    """The calls of one application.

    Args:
        partition: Where they are.
    """

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self._pk = partition.name

    @property
    def region(self) -> str:
        """The region that is written to."""
        return self._partition.region

    def reaching(self) -> AbstractContextManager[None]:
        """See `Partition.reaching`."""
        return self._partition.reaching()

    def opening(self, call: Item) -> list[Part]:
        """Return the parts that put a new call on record."""
        parts = [
            put_new(self._pk, call_key(call["call_id"]), call),
            put(self._pk, *open_item(call)),
        ]
        if call["key"] is not None:
            parts.append(put_new(self._pk, *named_item(call)))
        return parts

    def closing(self, hold: DynamoHold, said: Item) -> list[Part]:
        """Return the parts that give a call its end, if its status is still the one that the hold tells of."""
        setting = ", ".join(f"#{name} = :{name}" for name in said)
        known = hold.call.status
        parts = [
            update(
                self._pk,
                call_key(hold.call_id),
                f"SET {setting}",
                condition="#status = :known",
                known=known,
                **said,
            )
        ]
        if known == "held":
            parts.append(Part("Delete", Key(self._pk, _open_key(hold.expires_at, hold.call_id))))
        return parts

    # -- single calls

    def named(self, call_id: str) -> DynamoHold | None:
        """Return the call with an id."""
        item = self._partition.get(call_key(call_id))
        return None if item is None else self.hold(item)

    def keyed(self, key: str) -> DynamoHold | None:
        """Return the call with an idempotency key."""
        item = self._partition.get(_named_key(key))
        return None if item is None else self.named(item["call_id"])

    def open(self) -> Iterator[DynamoHold]:
        """Yield the open calls, the one that expires first before the others."""
        return (self.hold({name: item[name] for name in _OF_OPEN}) for item in self._partition.query("open#"))

    def hold(self, item: Item) -> DynamoHold:
        """Return the hold that an item tells of."""
        call = CallRecord(
            call_id=item["call_id"],
            run_id=item["run_id"],
            agent=item["agent"],
            model=item["model"],
            day=item["day"],
            status=item["status"],
            reserved=item["reserved_micro_usd"],
        )
        return DynamoHold(call.call_id, call.reserved, call, item["expires_at"], self.region, item)

    # -- many calls

    def spend_by(self, *dimensions: Dimension, since: str) -> list[Group]:
        """Return the spend grouped by some dimensions, reading all calls since then; see `Ledger.spend_by`."""
        names = ["run_id" if dimension == "run" else dimension for dimension in dimensions]
        sums: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0] * 9)
        for item in self._since(since):
            group = sums[tuple(item[name] for name in names)]
            group[:] = (known + more for known, more in zip(group, _spend(item), strict=True))
        groups = [Group(group, Spend(*spend)) for group, spend in sums.items()]
        groups.sort(key=lambda group: (-group.spend.micro_usd, group.names))
        if names[0] in {"day", "month"}:
            groups.sort(key=lambda group: group.names[0], reverse=True)
        return groups

    def paces(self, now: datetime, *, block_s: int, blocks: int) -> list[int]:
        """Return the micro-dollars spent in each of the last whole blocks of time; see `Ledger.paces`."""
        first = next(self._partition.query("call#", limit=1), None)
        if first is None:
            return []
        whole = min(blocks, int((now - datetime.fromisoformat(first["at"])).total_seconds() // block_s))
        spent = [0] * whole
        for item in self._since(iso(now - timedelta(seconds=block_s * whole))) if whole else ():
            # A block begins with its first second: what is a whole number of blocks old belongs to the newer one.
            age_s = max(0, int(now.timestamp()) - 1 - int(datetime.fromisoformat(item["at"]).timestamp()))
            if age_s // block_s < whole:
                spent[age_s // block_s] += item["held_micro_usd"] + item["cost_micro_usd"]
        return spent

    def _since(self, moment: str) -> Iterator[Item]:
        return self._partition.query("call#", above=call_key(moment) if moment else "")


def new_call(call: Item) -> Item:
    """Return the item of a call that is about to be made; what is not given is empty or zero."""
    item = {**_BLANK, **call}
    return {**item, **_sums(item)}


def ended(call_id: str, end: Ending, posting: Posting) -> Item:
    """Return what its end changes of the item of a call."""
    said = {
        "status": end.status,
        "error": end.error,
        "latency_ms": end.latency_ms,
        "held_micro_usd": posting.held,
        "cost_micro_usd": posting.spent,
        "input_tokens": posting.input_tokens,
        "output_tokens": posting.output_tokens,
        "cache_read_tokens": posting.cache_read_tokens,
        "cache_write_tokens": posting.cache_write_tokens,
    }
    return {**said, "end_sum": sum_of(call_key(call_id), said)}


def sound_call(item: Item) -> bool:
    """Whether the item of a call is as it was written."""
    return all(item.get(name) == right for name, right in _sums(item).items())


def _sums(item: Item) -> dict[str, str]:
    """Return two sums, as who ends a call may know no more of it than its end."""
    sk = call_key(item.get("call_id", ""))
    said = {name: value for name, value in item.items() if name not in ("pk", "sk", "sum", "end_sum")}
    end = {name: said.pop(name) for name in OF_END if name in said}
    return {"sum": sum_of(item.get("sk", sk), said), "end_sum": sum_of(item.get("sk", sk), end)}


def taken_over(pk: str, item: Item, known: Item | None) -> list[Part]:
    """Return the parts that put a call on record as another region has it, in place of what is known of it here."""
    key, opened = call_key(item["call_id"]), _open_key(item["expires_at"], item["call_id"])
    if known is not None:
        parts = [put(pk, key, item, condition="#status = :known", known=known["status"])]
        return parts + ([Part("Delete", Key(pk, opened))] if known["status"] == "held" else [])
    parts = [put_new(pk, key, item)]
    if item["status"] == "held":
        parts.append(put(pk, *open_item(item)))
    if item["key"] is not None:
        parts.append(put(pk, *named_item(item)))
    return parts


def open_item(call: Item) -> tuple[str, Item]:
    """Return the item by which a call is found among the open ones, behind its sort key."""
    sk = _open_key(call["expires_at"], call["call_id"])
    return sk, summed(sk, {name: call[name] for name in _OF_OPEN})


def named_item(call: Item) -> tuple[str, Item]:
    """Return the item by which a call is found under its idempotency key, behind its sort key."""
    sk = _named_key(call["key"])
    return sk, summed(sk, {"call_id": call["call_id"]})


def _spend(item: Item) -> Sequence[int]:
    """Return what a call adds to a spend, in the order of its fields."""
    held, cost, status = item["held_micro_usd"], item["cost_micro_usd"], item["status"]
    used = (item[name] for name in TOKENS)
    return (held + cost, 1, int(status in FAILED), *used, cost if status in PRESUMED else 0, held)


def call_key(call_id: str) -> str:
    """Return the sort key of a call; calls lie in the order of their ids."""
    return f"call#{call_id}"


def _open_key(expires_at: str, call_id: str) -> str:
    return f"open#{expires_at}#{call_id}"


def _named_key(key: str) -> str:
    return f"key#{key}"
