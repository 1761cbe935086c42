"""The books in a cloud store's table, as they are moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...clock import Clock
from ...dna.aws.copies import AT_ONCE
from ...dna.aws.items import Item
from ...dna.aws.regions import Regions
from .books import Call, key_of_another
from .dynamo_accounts import alarm_item, alarms_of
from .dynamo_calls import DynamoCalls, call_key, new_call
from .dynamo_copies import MoneyCopies
from .dynamo_sums import sound
from .ledger import Alarm
from .partition import Partition, money_of

_OF_ITEM = ("pk", "sk", "sum", "end_sum")


class DynamoBooks:
    """The `Books` of one application in the table of a cloud store.

    What is adopted is brought to the other regions before it is brought to the writer's: books that were interrupted
    lack it there, so who goes on brings it to all of them.

    Args:
        regions: Know the tables.
        app: The application's name.
        clock: Tells when to try again.
    """

    def __init__(self, regions: Regions, *, app: str, clock: Clock) -> None:
        name = money_of(regions.place, app)
        self._regions = regions
        self._partition = Partition(regions, name, sound=sound, clock=clock)
        self._calls = DynamoCalls(self._partition)
        self._copies = MoneyCopies(regions, name, clock)

    def calls(self) -> Iterator[Call]:
        """See `Books.calls`."""
        for item in self._partition.query("call#"):
            yield {name: value for name, value in item.items() if name not in _OF_ITEM}

    def alarms(self) -> list[Alarm]:
        """See `Books.alarms`."""
        return alarms_of(self._partition)

    def adopt(self, calls: Sequence[Call]) -> None:
        """See `Books.adopt`: a few of them in each transaction."""
        self._regions.clients.at_once(self._check_key, [call for call in calls if call["key"] is not None])
        for first in range(0, len(calls), AT_ONCE):
            self._bring({call_key(call["call_id"]): new_call(call) for call in calls[first : first + AT_ONCE]})

    def adopt_alarms(self, alarms: Sequence[Alarm]) -> None:
        """See `Books.adopt_alarms`."""
        for first in range(0, len(alarms), AT_ONCE):
            some = enumerate(alarms[first : first + AT_ONCE], first)
            self._bring(dict(alarm_item(alarm, number) for number, alarm in some))

    def _bring(self, items: Mapping[str, Item]) -> None:
        writer = self._partition.region
        for region in sorted(self._regions.tables, key=lambda region: region == writer):
            self._copies.bring(region, items)

    def _check_key(self, call: Call) -> None:
        keyed = self._calls.keyed(call["key"])
        if keyed is not None and keyed.call_id != call["call_id"]:
            raise key_of_another(call)
