"""Replicas: what the writer's region has, in the store's other regions too."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping

from ...clock import Clock
from ...errors import StoreUnavailable
from ..retrying import Retrying
from .calls import ConditionFailed
from .record import Batch, Head, Record, Segment
from .regions import Regions

log = logging.getLogger(__name__)

Following = Callable[[str, Head], Batch | None]
"""Returns what is known to follow a position in an application's record."""


class Replication:
    """Brings each batch to the replicas right after the writer's region has it.

    A replica that cannot be reached does not hold anybody up: it is brought up to date later, from the working copy.
    DynamoDB's own global tables are not used: there the last writer wins, also over a compare-and-set
    (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/V2globaltables_HowItWorks.html).

    Args:
        regions: Knows the writer's region.
        records: The record in each region.
        following: What a replica lacks.
        apps: The applications that this machine knows.
        clock: Tells when to try again.
        draws: Of the jitter.
    """

    def __init__(
        self,
        regions: Regions,
        records: Mapping[str, Record],
        *,
        following: Following,
        apps: Callable[[], Iterable[str]],
        clock: Clock,
        draws: random.Random,
    ) -> None:
        self._regions = regions
        self._records = records
        self._following = following
        self._apps = apps
        self._retrying = Retrying("replication", self.catch_up, clock, draws)
        self._behind = set(records) if regions.several else set()
        """Regions that may lack something: all of them, until this process has looked."""

    @property
    def behind(self) -> frozenset[str]:
        """Regions that lack something, or were not looked at yet."""
        return frozenset(self._behind - {self._regions.epoch().region})

    def copy(self, batch: Batch) -> None:
        """Bring a batch to every replica that has all before it."""
        for region, record in self._records.items():
            if region in self._behind or region == self._regions.epoch().region:
                continue
            try:
                self._write(record, batch)
            except (ConditionFailed, StoreUnavailable) as error:
                log.warning("region=<%s> | the replica is behind, and is brought up to date later: %s", region, error)
                self._behind.add(region)
        if self.behind and not self._retrying.resting:
            self.catch_up()

    def catch_up(self) -> bool:
        """Bring the replicas up to date that can be reached; tell whether all are."""
        for region in self.behind:
            try:
                for app in self._apps():
                    self._catch_up(self._records[region], app)
            except StoreUnavailable as error:
                log.warning("region=<%s> | the replica cannot be brought up to date now: %s", region, error.message)
            else:
                self._behind.discard(region)
        if self.behind:
            self._retrying.failed()
        else:
            self._retrying.succeeded()
        return not self.behind

    def _catch_up(self, record: Record, app: str) -> None:
        while (batch := self._following(app, record.head(app))) is not None:
            try:
                self._write(record, batch)
            except ConditionFailed as error:
                raise StoreUnavailable(
                    f"the record of {app!r} in {record.site.region} is another one after event {batch.before.number}.",
                    hint="`bedrock-evolution store verify` tells more.",
                ) from error

    def copy_segment(self, app: str, segment: Segment, to: Record) -> None:
        """Bring one segment of a run to a replica."""
        self._write(to, Batch(app, Head(), Head(), segments=(segment,)))

    def _write(self, record: Record, batch: Batch) -> None:
        record.put_objects(batch)
        record.table.transact([*record.parts(batch), self._regions.guard()])

    def close(self) -> None:
        """Let the thread end."""
        self._retrying.close()
