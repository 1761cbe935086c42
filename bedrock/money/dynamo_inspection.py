"""The books of a cloud store, verified: each item by its sum, and what follows from the calls by the calls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...dna.aws.items import Item, check
from ...dna.aws.place import CloudPlace
from ...dna.aws.table import Table
from ...dna.aws.verifying.findings import Findings
from ...dna.aws.verifying.summed import Look, SummedItems
from ...settings import Budget
from .caps import accounts_of
from .closing import posting_of
from .dynamo_accounts import account_key, alarm_key, with_check
from .dynamo_calls import call_key, named_item, open_item
from .dynamo_copies import MARK
from .dynamo_sums import sound
from .partition import money_of

_FROM_CALLS = "the calls"


def books_of(place: CloudPlace) -> Look:
    """Return what verifies the books of a store's applications."""

    def look(app: str, table: Table, others: Sequence[Table], findings: Findings) -> None:
        pk = money_of(place, app)
        _Books(pk, SummedItems(pk, table, others, findings, sound=sound)).inspect()

    return look


class _Books:
    """The books of one application in one region.

    Calls and alarms are mended from another region's. Balances, and the items by which calls are found, follow from
    the calls, and are made anew from them once all calls are sound.
    """

    def __init__(self, pk: str, items: SummedItems) -> None:
        self._pk = pk
        self._items = items

    def inspect(self) -> None:
        """Find what was altered, and mend what can be mended."""
        altered = self._items.altered
        own = {sk for sk, item in altered.items() if "at" in item or sk.startswith(("call#", "alarm#"))}
        lost = [sk for sk in own if not self._items.restore(sk, _right_key(altered[sk]))]
        calls = [item for sk, item in self._items.sound.items() if sk.startswith("call#")]
        whole = all(_is_alarm(altered[sk]) for sk in lost)
        accounts = _accounts(calls) if whole else {}
        derived = _named(calls) | _open(calls) | accounts
        for sk in altered.keys() - own:
            if sk in derived:
                self._items.replace(sk, derived[sk], source=_FROM_CALLS)
            elif whole or sk == MARK:
                self._items.remove(sk, source=_FROM_CALLS)
            else:
                self._items.restore(sk, None)
        for sk in derived.keys() - self._items.sound.keys() - altered.keys():
            self._fill(sk, derived[sk])
        if own:
            self._balance(accounts)

    def _balance(self, accounts: Mapping[str, Item]) -> None:
        """Make balances the sums of the calls again: another region may not have heard how a call ended."""
        for sk in accounts.keys() & self._items.sound.keys():
            if _amounts(self._items.sound[sk]) != _amounts(accounts[sk]):
                self._items.replace(sk, accounts[sk], source=_FROM_CALLS, wrong="is not the sum of its calls")

    def _fill(self, sk: str, right: Item) -> None:
        """Put an item that is missing, unless it was only written or removed since the others were read."""
        if self._items.get(sk) is not None:
            return
        given = []
        if sk.startswith("open#"):
            call = self._items.get(call_key(right["call_id"]))
            if call is None or call["status"] != "held":
                return
            given = [check(self._pk, call_key(right["call_id"]), "#status = :status", status="held")]
        self._items.fill(sk, right, source=_FROM_CALLS, given=given)


def _right_key(item: Item) -> str | None:
    """Return under which key an item says that it belongs."""
    if _is_alarm(item):
        return alarm_key(item)
    return call_key(item["call_id"]) if "call_id" in item else None


def _is_alarm(item: Item) -> bool:
    return {"kind", "scope", "period", "cap_micro_usd"} <= item.keys()


def _named(calls: Iterable[Item]) -> dict[str, Item]:
    return dict(named_item(call) for call in calls if call["key"] is not None)


def _open(calls: Iterable[Item]) -> dict[str, Item]:
    return dict(open_item(call) for call in calls if call["status"] == "held")


def _accounts(calls: Iterable[Item]) -> dict[str, Item]:
    """Return the accounts as the calls add up."""
    sums: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for call in calls:
        for account in accounts_of(Budget(), run_id=call["run_id"], agent=call["agent"], day=call["day"]):
            for name, amount in posting_of(call).amounts(calls=1).items():
                sums[account.scope, account.period][name] += amount
    return {account_key(*each): _account(*each, amounts) for each, amounts in sums.items()}


def _amounts(account: Item) -> dict[str, int]:
    return {name: amount for name, amount in account.items() if type(amount) is int and amount}


def _account(scope: str, period: str, amounts: dict[str, int]) -> dict[str, Any]:
    return {"scope": scope, "period": period, **with_check({n: amount for n, amount in amounts.items() if amount})}
