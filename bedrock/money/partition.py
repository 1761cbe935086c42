"""One partition of a cloud store's table: contended writes are tried again, and an outage is not waited for twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...clock import Clock
from ...dna.aws.items import Item, Part
from ...dna.aws.place import CloudPlace
from ...dna.aws.regions import Regions
from ...dna.aws.sums import altered
from ...errors import StoreUnavailable

_CONTENDED_ROUNDS = 6
"""How often a transaction is sent that met others at the same items, each time as often as any call is tried."""
_LONGEST_PAUSE_S = 0.5
_FIRST_REST_S, _LONGEST_REST_S = 5.0, 60.0


def money_of(place: CloudPlace, app: str) -> str:
    """Return the partition key of an application's books."""
    return f"{place.partition(app)}/money"


class Partition:
    """The items under one partition key, in the writer's region; all reads are strongly consistent.

    Where the table cannot be reached, the calls of the next seconds fail at once: whoever does without it until then
    is not kept waiting again.

    Args:
        regions: Know the table.
        name: The partition key.
        sound: Whether an item is as it was written.
        clock: Tells when to try again.
    """

    def __init__(self, regions: Regions, name: str, *, sound: Callable[[Item], bool], clock: Clock) -> None:
        self.name = name
        self._regions = regions
        self._sound = sound
        self._clock = clock
        self._failures = 0
        self._again_s = float("-inf")
        self._left_alone = ""

    @property
    def region(self) -> str:
        """The region that is written to."""
        return self._regions.epoch().region

    def get(self, sk: str) -> dict[str, Any] | None:
        """Return an item, or None.

        Raises:
            StoreUnavailable: The table cannot be read now.
            IntegrityError: The item was altered.
        """
        with self.reaching():
            table = self._regions.table()
            item = table.get(self.name, sk)
        if item is not None and not self._sound(item):
            raise altered(item, table.site)
        return item

    def query(self, begins: str, *, above: str = "", limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield the items whose sort keys begin so, in their order; only those above one of them, if it is given.

        Raises:
            StoreUnavailable: The table cannot be read now.
            IntegrityError: An item was altered.
        """
        with self.reaching():
            table = self._regions.table()
            for item in table.query(self.name, begins=begins, above=above, limit=limit):
                if not self._sound(item):
                    raise altered(item, table.site)
                yield item

    def transact(self, parts: Sequence[Part]) -> None:
        """Do all parts or none.

        Raises:
            ConditionFailed: The condition of a part did not hold; its reasons are in the order of the parts.
            WriterFenced: A later epoch has begun; nothing was written.
            StoreUnavailable: It is not known whether it was done.
        """
        with self.reaching():
            for number in range(1, _CONTENDED_ROUNDS + 1):
                try:
                    self._regions.transact(parts)
                except StoreUnavailable as error:
                    if not _contended(error) or number == _CONTENDED_ROUNDS:
                        raise
                else:
                    return
                self.pause()

    def pause(self) -> None:
        """Wait a little, each time for another while, so that those who met do not meet again."""
        clients = self._regions.clients
        clients.clock.sleep(clients.draws.uniform(0.0, _LONGEST_PAUSE_S))

    @contextmanager
    def reaching(self) -> Iterator[None]:
        """Leave the table alone for a while after it could not be reached, unless another region was promoted."""
        if self._clock.monotonic_s() < self._again_s and (not self._left_alone or self.region == self._left_alone):
            raise StoreUnavailable(
                f"the table of {self.name} could not be reached a moment ago and is left alone.", passing=False
            )
        region = ""
        try:
            region = self.region
            yield
        except StoreUnavailable as error:
            if not _contended(error):
                self._left_alone = region
                rest_s = min(_LONGEST_REST_S, _FIRST_REST_S * 2 ** min(self._failures, 10))
                self._failures += 1
                self._again_s = self._clock.monotonic_s() + rest_s
            raise
        self._failures = 0


def _contended(error: StoreUnavailable) -> bool:
    """Return whether the service did answer: others were at the same items."""
    from botocore.exceptions import ClientError

    cause = error.__cause__
    return isinstance(cause, ClientError) and cause.response["Error"]["Code"] == "TransactionCanceledException"
