"""Replicas: what the writer's region has, in the store's other regions too."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping

from ...clock import Clock
from ...errors import IntegrityError, StoreError, StoreUnavailable
from ..retrying import Retrying
from .calls import ConditionFailed
from .record import Record
from .regions import Regions
from .stored import Batch, Head, Segment

log = logging.getLogger(__name__)

_BROKEN = (StoreError, IntegrityError)
"""A replica that cannot be used, whatever is wrong with it, stops nobody: `store verify` names it."""
Following = Callable[[str, Head], Batch | None]
"""Returns what is known to follow a position in an application's record."""
Runs = Callable[[str], Iterable[str]]
"""Returns the runs of an application that this machine works or worked on."""


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
        runs: The runs it sends rows of.
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
        runs: Runs,
        clock: Clock,
        draws: random.Random,
    ) -> None:
        self._regions = regions
        self._records = records
        self._following = following
        self._apps = apps
        self._runs = runs
        self._retrying = Retrying("replication", self.catch_up, clock, draws)
        self._behind = set(records) if regions.several else set()
        """Regions that may lack something: all of them, until this process has looked."""

    @property
    def behind(self) -> frozenset[str]:
        """Regions that lack something, or were not looked at yet."""
        return frozenset(self._behind - {self._regions.epoch().region})

    def prepare(self) -> None:
        """Bring the replicas up to date before something new is written, where that is due."""
        if self.behind and not self._retrying.resting:
            self.catch_up()

    def copy(self, batch: Batch) -> None:
        """Bring a batch to every replica that has all before it."""
        writer = self._regions.epoch().region
        for region, record in self._records.items():
            if region != writer and region not in self._behind:
                try:
                    self._write(record, batch)
                except (ConditionFailed, *_BROKEN) as error:
                    log.warning("region=<%s> | the replica falls behind, and catches up later: %s", region, error)
                    self._behind.add(region)
                    self._retrying.failed()

    def catch_up(self) -> bool:
        """Bring the replicas up to date that can be reached; tell whether all are."""
        for region in self.behind:
            try:
                self._catch_up(self._records[region])
            except _BROKEN as error:
                log.warning("region=<%s> | the replica cannot be brought up to date now: %s", region, error.message)
            else:
                self._behind.discard(region)
        if self.behind:
            self._retrying.failed()
        else:
            self._retrying.succeeded()
        return not self.behind

    def _catch_up(self, record: Record) -> None:
        # Before it is written to: writers of earlier days must not take its silence for consent.
        self._regions.tell(record.site.region)
        broken: Exception | None = None
        for app in self._apps():
            try:
                while (batch := self._following(app, record.head(app))) is not None:
                    self._write(record, batch)
                for run_id in self._runs(app):
                    self._copy_segments(app, run_id, record)
            except ConditionFailed as error:
                broken = StoreUnavailable(
                    f"the record of {app!r} in {record.site.region} is another one: somebody else wrote to it.",
                    hint="`bedrock-evolution store verify` tells more.",
                )
                broken.__cause__ = error
            except _BROKEN as error:
                broken = error  # the others are not to blame
        if broken is not None:
            raise broken

    def _copy_segments(self, app: str, run_id: str, to: Record) -> None:
        writer = self._records[self._regions.epoch().region]
        last, there = writer.last_segment(app, run_id), to.last_segment(app, run_id)
        if there < last:
            owner = writer.owner(app, run_id) or ""
            for stored in writer.segments(app, run_id):
                if stored.number > there and (content := writer.document(stored.object)) is not None:
                    segments = (Segment(run_id, stored.number, content),)
                    self._write(to, Batch(app, Head(), Head(), segments=segments, runs=(run_id,), machine=owner))

    def _write(self, record: Record, batch: Batch) -> None:
        """Write what the writer's region has accepted: who works on a run was judged there."""
        record.put_objects(batch)
        record.table.transact([*record.parts(batch, judged=True), self._regions.guard()])

    def close(self) -> None:
        """Let the thread end."""
        self._retrying.close()
