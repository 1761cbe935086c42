"""The accounts of the ledger in DynamoDB: balances that only transactions change, and the alarms they raise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import count
from typing import Any, NamedTuple

from ...dna.aws.calls import ConditionFailed
from ...dna.aws.copies import Copies
from ...dna.aws.items import Item, Part, put_new, update
from ...dna.aws.sums import summed
from ...errors import StoreUnavailable
from .caps import Account, reached, refusal, spend_exhausted, tell, thresholds
from .closing import TOKENS, Posting
from .ledger import Alarm, Spend
from .partition import Partition

_ROUNDS = 16
"""How often balances are read again that others change at the same time."""
_KEPT = 1024
"""So many alarms are remembered at most."""
_FAILED = "ConditionalCheckFailed"
_NAMES = ("pk", "sk", "scope", "period")
_Raised = tuple[str, str, str, int]


class Bounds(NamedTuple):
    """Between which balances a change is admitted and raises the same alarms; None for no bound."""

    low: int | None = None
    high: int | None = None


_UNBOUND = Bounds()


@dataclass(frozen=True, slots=True)
class Entry:
    """A change of balances.

    Args:
        accounts: Whose.
        change: By how much.
        calls: How many calls more they cover.
        at: When, ISO 8601 in UTC.
        watched: Whether their alarms may follow: what does not grow was alarmed about when it did.
        agent: Whose call has to fit the caps; empty where what happened is only recorded.
        alarms: Raised whatever the balances are.
    """

    accounts: Sequence[Account]
    change: Posting
    at: str
    watched: bool
    calls: int = 0
    agent: str = ""
    alarms: tuple[Alarm, ...] = ()

    @property
    def growth(self) -> int:
        """How much more of each account is taken afterwards."""
        return self.change.spent + self.change.held

    def refusals(self, taken: Mapping[Account, int]) -> list[Alarm]:
        """Return the refusals that balances call for."""
        if not self.agent:
            return []
        return [
            refusal(account, self.growth, agent=self.agent, at=self.at, taken=before)
            for account, before in taken.items()
            if account.cap is not None and before + self.growth > account.cap
        ]

    def called_for(self, taken: Mapping[Account, int]) -> list[Alarm]:
        """Return the alarms that follow from balances, whether or not they were raised before."""
        grown = {account: before + self.growth for account, before in taken.items()} if self.watched else {}
        return [*reached(grown, self.at), *self.alarms]


class DynamoAccounts:
    """The balances and alarms of one application.

    A transaction returns no balances, so it demands that each of them stays between two thresholds: then the call is
    admitted, and the alarms that are written with it are the right ones. The first try expects that no alarm is due,
    which is so for all but a few calls of a period. Where it was wrong, the balances are read, and it is tried again
    with what they call for.

    Args:
        partition: Where they are.
        copies: Bring the alarms to other regions.
    """

    def __init__(self, partition: Partition, copies: Copies) -> None:
        self._partition = partition
        self._copies = copies
        self._raised: set[_Raised] = set()
        self._numbers = count()

    def book(self, parts: Sequence[Part], entry: Entry, *, region: str = "") -> None:
        """Change balances together with other items, or nothing at all, and raise the alarms that follow.

        Args:
            parts: The other items.
            entry: The change.
            region: Only while this one is written to: what this process owes the next one is not counted there yet.

        Raises:
            ConditionFailed: A condition of the other items did not hold.
            SpendExhausted: The change would pass a cap; that alarm is raised.
            StoreUnavailable: It is not known whether it was done.
        """
        alarms = list(entry.alarms)
        for _ in range(_ROUNDS):
            if region not in ("", self._partition.region):
                raise StoreUnavailable(f"the accounts of {self._partition.name} are in another region by now.")
            changes = self._changes(entry, alarms)
            try:
                if changes is not None:
                    self._transact([*parts, *changes], alarms)
                    return tell(alarms)
            except ConditionFailed as failed:
                if _FAILED in failed.reasons[: len(parts)]:
                    raise
            taken = {account: self._taken(account) for account in entry.accounts if account.cap is not None}
            if refusals := entry.refusals(taken):
                self.sound(refusals)
                raise spend_exhausted(refusals)
            alarms = [alarm for alarm in entry.called_for(taken) if self._is_new(alarm)]
        raise StoreUnavailable(f"the accounts of {self._partition.name} change faster than they can be read.")

    def _changes(self, entry: Entry, alarms: Iterable[Alarm]) -> list[Part] | None:
        """Return the changes of all balances; None where they cannot go without an alarm."""
        sounding, parts = {_name(alarm) for alarm in alarms}, []
        for account in entry.accounts:
            bounds = self._bounds(account, entry, sounding)
            if bounds.high is not None and bounds.high < (bounds.low or 0):
                return None
            if part := self._change(account, entry, bounds):
                parts.append(part)
        return parts

    def _bounds(self, account: Account, entry: Entry, sounding: set[_Raised]) -> Bounds:
        if account.cap is None or not entry.watched:
            return Bounds()
        lows, highs = [], [account.cap - entry.growth] if entry.agent else []
        for kind, least in thresholds(account.cap).items():
            name = (kind, account.scope, account.period, account.cap)
            if name in sounding:
                lows.append(least - entry.growth)
            elif name not in self._raised:
                highs.append(least - entry.growth - 1)
        low = max(lows, default=0)
        return Bounds(low if low > 0 else None, min(highs, default=None))

    def _change(self, account: Account, entry: Entry, bounds: Bounds) -> Part | None:
        return moved(self._partition.name, account, entry.change.amounts(calls=entry.calls), bounds)

    # -- balances

    def spend(self, scope: str, period: str) -> Spend:
        """Return what an account has spent, holds included."""
        item = self._partition.get(account_key(scope, period)) or {}
        counts = {name: item.get(name, 0) for name in ("calls", "failed_calls", *TOKENS)}
        return Spend(
            item.get("taken", 0),
            **counts,
            unconfirmed_micro_usd=item.get("unconfirmed", 0),
            held_micro_usd=item.get("held", 0),
        )

    def _taken(self, account: Account) -> int:
        return self.spend(account.scope, account.period).micro_usd

    # -- alarms

    def sound(self, alarms: Iterable[Alarm]) -> None:
        """Raise those alarms that were not raised before for their scope, period and cap."""
        for alarm in alarms:
            if _name(alarm) in self._raised:
                continue
            try:
                self._transact([], [alarm])
            except ConditionFailed:
                self._remember([alarm])  # it was raised before
            else:
                tell([alarm])

    def alarms(self) -> list[Alarm]:
        """Return the alarms, newest first."""
        return alarms_of(self._partition)[::-1]

    def _transact(self, parts: Sequence[Part], alarms: Sequence[Alarm]) -> None:
        region, stored = self._partition.region, [self._stored(alarm) for alarm in alarms]
        self._partition.transact([*parts, *stored])
        self._remember(alarms)
        for part in stored:
            self._copies.add(part.key.sk, part.item, written_in=region)

    def _is_new(self, alarm: Alarm) -> bool:
        if _name(alarm) not in self._raised and self._partition.get(alarm_key(asdict(alarm))) is not None:
            self._remember([alarm])
        return _name(alarm) not in self._raised

    def _stored(self, alarm: Alarm) -> Part:
        return put_new(self._partition.name, *alarm_item(alarm, next(self._numbers)))

    def _remember(self, alarms: Iterable[Alarm]) -> None:
        if len(self._raised) > _KEPT:
            self._raised = set()  # what is forgotten is read again
        self._raised.update(map(_name, alarms))


def moved(pk: str, account: Account, amounts: Mapping[str, int], bounds: Bounds = _UNBOUND) -> Part | None:
    """Return the part that adds amounts to a balance which lies between bounds; None where there is none to do."""
    added = with_check({name: amount for name, amount in amounts.items() if amount})
    condition, values = _condition(bounds)
    if not added and not condition:
        return None
    expression = "SET #scope = :scope, #period = :period"
    if added:
        expression += " ADD " + ", ".join(f"#{name} :{name}" for name in added)
    named = {"scope": account.scope, "period": account.period}
    return update(pk, account_key(**named), expression, condition=condition, **named, **added, **values)


def with_check(amounts: Mapping[str, int]) -> dict[str, int]:
    """Return amounts with what makes an altered one known: their sum, to which every change adds its own."""
    check = sum(amounts.values())
    return {**amounts, "check": check} if check else dict(amounts)


def sound_account(item: Item) -> bool:
    """Whether the amounts of an account add up, and are those of the account that its sort key names."""
    amounts = [value for name, value in item.items() if name not in _NAMES]
    if not all(type(amount) is int for amount in amounts):
        return False
    belongs: bool = item["sk"] == account_key(item.get("scope", ""), item.get("period", ""))
    return belongs and sum(amounts) == 2 * item.get("check", 0)


def _condition(bounds: Bounds) -> tuple[str, dict[str, int]]:
    low, high = bounds
    values = {name: bound for name, bound in (("low", low), ("high", high)) if bound is not None}
    if len(values) == len(bounds):
        return "#taken BETWEEN :low AND :high", values
    if low is not None:
        return "#taken >= :low", values
    return "attribute_not_exists(#taken) OR #taken <= :high" if values else "", values


def account_key(scope: str, period: str) -> str:
    """Return the sort key of an account."""
    return f"account#{scope}#{period}"


def _name(alarm: Alarm) -> _Raised:
    return (alarm.kind, alarm.scope, alarm.period, alarm.cap_micro_usd)


def alarms_of(partition: Partition) -> list[Alarm]:
    """Return the alarms of some books, oldest first."""
    items = sorted(partition.query("alarm#"), key=lambda item: (item["at"], item["number"]))
    return [Alarm(**{field.name: item[field.name] for field in fields(Alarm)}) for item in items]


def alarm_item(alarm: Alarm, number: int) -> tuple[str, Item]:
    """Return the item of an alarm, behind its sort key; the number orders those of one microsecond."""
    sk = alarm_key(asdict(alarm))
    return sk, summed(sk, {**asdict(alarm), "number": number})


def alarm_key(said: Mapping[str, Any]) -> str:
    """Return the sort key of an alarm."""
    return "#".join(["alarm", *(str(said[name]) for name in ("kind", "scope", "period", "cap_micro_usd"))])
