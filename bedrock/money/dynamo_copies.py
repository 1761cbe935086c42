"""The books in the store's other regions: what is copied are calls, and their balances follow from them there."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from ...clock import Clock
from ...dna.aws.calls import ConditionFailed
from ...dna.aws.copies import AT_ONCE, transact
from ...dna.aws.items import Item, Part, put, put_new
from ...dna.aws.regions import Epoch, Regions
from ...dna.aws.sums import altered, summed
from ...errors import IntegrityError, StoreUnavailable
from ...settings import Budget
from .books import side_by_side
from .caps import Account, accounts_of
from .closing import Posting, iso, posting_of, surer
from .dynamo_accounts import moved
from .dynamo_calls import call_key, taken_over
from .dynamo_sums import sound

log = logging.getLogger(__name__)

_ROUNDS = 8
"""How often what a region has is read again that others bring to it at the same time."""
_KEPT = 10_000
"""So many calls are remembered at most that are open in another region."""
_SKEW = timedelta(minutes=10)
"""So much later at most a call is on record than its id says: clocks differ, and transactions are sent again."""
MARK = "copied"
"""Sort key of the item that tells up to when the calls of a region are copied."""
_UNCAPPED = Budget()


class MoneyCopies:
    """Brings the calls of one application to a region, with their balances and alarms.

    Of a call each region keeps the surest end it was told of, and in the same transaction adds to its balances what
    that changes, so there balances are sums over calls as well, whatever is missing, comes twice, or comes in another
    order. An open call is copied with its hold: where its end never arrives, it expires as spent there.

    Args:
        regions: Know the tables.
        name: The partition key.
        clock: Tells until when everything is copied.
    """

    def __init__(self, regions: Regions, name: str, clock: Clock) -> None:
        self._regions = regions
        self._pk = name
        self._clock = clock
        self._open: dict[tuple[str, str], Item] = {}

    def bring(self, region: str, changed: Mapping[str, Item]) -> None:
        """See `Copied.bring`: one transaction, unless another process was faster."""
        new = self._read(changed, self._whole)
        # What this process did not bring itself is not there yet, as a rule.
        known: dict[str, Item | None] = {sk: self._open.pop((region, sk), None) for sk in new}
        for _ in range(_ROUNDS):
            try:
                if parts := self._parts(new, known):
                    transact(self._regions, region, parts)
            except ConditionFailed:
                known = self._read(new, lambda sk, _: self._get(region, sk), there=False)
                new = {sk: new[sk] for sk in known}
            else:
                return self._remember(region, new)
        raise StoreUnavailable(f"the calls of {self._pk} in {region} change faster than they can be read.")

    def _read(
        self, asked: Mapping[str, Item], how: Callable[[str, Item], Item | None], *, there: bool = True
    ) -> dict[str, Any]:
        """Read items; one that was altered is named and left out, so that it holds up no other.

        Args:
            asked: What is known of them.
            how: Reads one.
            there: Leave those out that are not there.
        """
        found: dict[str, Any] = {}
        for sk, known in asked.items():
            try:
                item = how(sk, known)
            except IntegrityError as error:
                log.error("%s", error.message)  # noqa: TRY400  # it says all
                continue
            if item is not None or not there:
                found[sk] = item
        return found

    def _whole(self, sk: str, item: Item) -> Item | None:
        """Return an item with all its attributes: a call that was found among the open ones lacks some."""
        return item if "at" in item else self._get(self._regions.epoch().region, sk)

    def _get(self, region: str, sk: str) -> Item | None:
        item = self._regions.tables[region].get(self._pk, sk)
        if item is not None and not sound(item):
            raise altered(item, self._regions.tables[region].site)
        return item

    def _parts(self, new: Mapping[str, Item], known: Mapping[str, Item | None]) -> list[Part]:
        parts: list[Part] = []
        sums: dict[Account, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for sk, item in new.items():
            there = known[sk]
            if not _is_call(sk):
                parts += [put_new(self._pk, sk, item)] if there is None else []
            elif there is None or surer(item, there):
                parts += taken_over(self._pk, item, there)
                change = posting_of(item).since(posting_of(there) if there else Posting())
                amounts = change.amounts(calls=int(there is None))
                for account in accounts_of(_UNCAPPED, run_id=item["run_id"], agent=item["agent"], day=item["day"]):
                    for name, amount in amounts.items():
                        sums[account][name] += amount
        changes = (moved(self._pk, account, amounts) for account, amounts in sums.items())
        return parts + [part for part in changes if part is not None]

    def _remember(self, region: str, brought: Mapping[str, Item]) -> None:
        if len(self._open) > _KEPT:
            self._open = {}  # what is forgotten is read
        self._open |= {(region, sk): item for sk, item in brought.items() if item.get("status") == "held"}

    # -- comparing

    def sweep(self, region: str) -> None:
        """See `Copied.sweep`; calls that were ended and copied before the last sweep are not looked at again.

        What only a region has that was the writer's before, and is back, was spent there: the writer's takes it over.
        """
        epoch = self._regions.epoch()
        writer = epoch.region
        mark = self._marked(region, epoch)
        upto = iso(self._clock.now() - _SKEW)
        lacking: dict[str, dict[str, Item]] = {region: {}, writer: {}}
        for call_id, mine, theirs in side_by_side(self._calls(writer, mark), self._calls(region, mark)):
            sk = call_key(call_id)
            if mine is not None and mine["status"] == "held":
                upto = min(upto, mine["at"])
            if mine is not None and (theirs is None or surer(mine, theirs)):
                lacking[region][sk] = mine
            elif theirs is not None and (mine is None or surer(theirs, mine)):
                lacking[writer][sk] = theirs
            self._bring_all(lacking, at_least=AT_ONCE)
        for alarm in self._sound(writer, "alarm#"):
            lacking[region][alarm["sk"]] = alarm
            self._bring_all(lacking, at_least=AT_ONCE)
        self._bring_all(lacking, at_least=1)
        transact(self._regions, region, [put(self._pk, MARK, summed(MARK, {"upto": upto, "epoch": epoch.number}))])

    def _marked(self, region: str, epoch: Epoch) -> str:
        """Return up to when a region was compared with the writer's: with another writer's that says nothing."""
        found = self._read({MARK: {}}, lambda sk, _: self._get(region, sk)).get(MARK, {})
        return str(found["upto"]) if found.get("epoch") == epoch.number else ""

    def _bring_all(self, lacking: Mapping[str, dict[str, Item]], *, at_least: int) -> None:
        for region, items in lacking.items():
            if len(items) >= at_least:
                self.bring(region, items)
                items.clear()

    def _calls(self, region: str, since: str) -> Iterator[dict[str, Any]]:
        return self._sound(region, "call#", above=call_key(since) if since else "")

    def _sound(self, region: str, begins: str, *, above: str = "") -> Iterator[dict[str, Any]]:
        """Yield the items that were not altered; the others are named, and copied when they are mended."""
        table = self._regions.tables[region]
        for item in table.query(self._pk, begins=begins, above=above):
            if sound(item):
                yield item
            else:
                log.error("%s", altered(item, table.site).message)


def _is_call(sk: str) -> bool:
    return sk.startswith("call#")
