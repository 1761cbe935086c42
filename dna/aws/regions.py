"""The regions of a store: which one is written to, and the epoch that keeps a writer of earlier days out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ...clock import Clock
from ...errors import IntegrityError, StoreError, StoreUnavailable, UsageError, WriterFenced
from .calls import Clients, ConditionFailed
from .items import Part, check, update
from .place import CloudPlace, Site
from .table import Table

log = logging.getLogger(__name__)

FENCE_CHECKED_S = 5.0
"""So many seconds after the other regions were last asked for their epoch they are asked again before a write."""
_REST_S = 30.0
"""So long a region that could not be reached is left alone where another one can answer."""
CONTROL = "control"
GUARDS = tuple(f"control#{number:02d}" for number in range(16))
"""Copies of it that transactions look at: two at once must not look at one item
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html#transaction-conflict-handling)."""


class Epoch(NamedTuple):
    """Which region is written to, and the how manieth it is; the first is number 1."""

    number: int
    region: str


@dataclass(frozen=True, slots=True)
class Promotion:
    """What a promotion did."""

    epoch: Epoch
    fenced: tuple[str, ...]
    """Regions that refuse earlier writers by now."""
    unreachable: tuple[str, ...]
    """Regions that could not be told; they are told by the next writer that reaches them."""


class Regions:
    """Knows the writer of a store, follows promotions, and refuses to write with an epoch that is over.

    Each region holds the epoch in a table of its own, and every transaction demands that it still is the writer's.
    DynamoDB judges conditions region by region, so before a write the other regions are asked too, unless that was
    done within the last `FENCE_CHECKED_S` seconds and the writer's region can be reached.

    Args:
        clients: Make the calls.
        place: Names the regions.
        clock: Tells when they were asked.
    """

    def __init__(self, clients: Clients, place: CloudPlace, clock: Clock) -> None:
        self.place = place
        self.clients = clients
        self.tables = {site.region: Table(clients, site) for site in place.sites}
        self._clock = clock
        self._epoch: Epoch | None = None
        self._asked_s = float("-inf")
        self._rests: dict[str, float] = {}
        self._lock = threading.RLock()

    @property
    def several(self) -> bool:
        """Whether there is more than one."""
        return len(self.place.sites) > 1

    def sites(self) -> list[Site]:
        """Return the sites, the writer's first."""
        region = self.epoch().region
        return sorted(self.place.sites, key=lambda site: site.region != region)

    @property
    def known(self) -> Epoch | None:
        """The epoch that this process writes with, if it has asked for it."""
        return self._epoch

    def epoch(self) -> Epoch:
        """Return the epoch that this process writes with; asked for once, where no region is unreachable.

        Raises:
            StoreUnavailable: No region can be reached.
        """
        with self._lock:
            if self._epoch is None:
                self._epoch = self._newest()
                self._asked_s = self._clock.monotonic_s()
                if self._epoch.number > 1:
                    self._fence(self._epoch)  # a region that came back may not have heard of it
            return self._epoch

    def table(self) -> Table:
        """Return the table of the writer's region."""
        return self.tables[self.epoch().region]

    def resting(self, region: str) -> bool:
        """Whether a region is left alone for a while, because it could not be reached."""
        return self._clock.monotonic_s() < self._rests.get(region, float("-inf"))

    def rest(self, region: str) -> None:
        """Leave a region alone for a while."""
        self._rests[region] = self._clock.monotonic_s() + _REST_S

    def guard(self) -> Part:
        """Return the condition that every transaction demands: no later epoch has begun in the writer's region."""
        return self._guard(self.epoch())

    def transact(self, parts: Sequence[Part], *, begun: Epoch | None = None) -> None:
        """Do all parts or none, in the writer's region, in this epoch.

        Args:
            parts: What to do.
            begun: The epoch in which the objects were put that the parts name: they are in its region.

        Raises:
            ConditionFailed: The condition of a part did not hold; its reasons are in the order of the parts. Or this is
                another epoch than the one in which it was begun.
            WriterFenced: A later epoch has begun; nothing was written.
            StoreUnavailable: It is not known whether it was done.
            IntegrityError: What the region says of its epoch was altered; nothing was written.
        """
        self.check()
        epoch = self.epoch()
        if begun not in (None, epoch):
            raise ConditionFailed
        guard = self._guard(epoch)
        try:
            self.tables[epoch.region].transact([*parts, guard])
        except ConditionFailed as failed:
            if failed.reasons and failed.reasons[-1] == "ConditionalCheckFailed":
                raise self._refused(guard) from failed
            raise ConditionFailed(failed.reasons[:-1]) from failed

    def check(self) -> None:
        """Ask the other regions whether this epoch is over, unless that was done a moment ago.

        Raises:
            WriterFenced: It is.
        """
        with self._lock:
            mine = self.epoch()
            asked = self._clock.monotonic_s() - self._asked_s < FENCE_CHECKED_S
            # Another one may be promoted just because this one cannot be reached.
            if not self.several or (asked and not self.resting(mine.region)):
                return
            newest = self._newest(besides=mine.region)
            if newest.number > mine.number:
                # Told to whoever asks next too: not everybody who is told follows.
                raise self._fenced(newest)
            self._asked_s = self._clock.monotonic_s()

    def follow(self) -> bool:
        """Adopt the newest epoch that any region tells of; whether there is one.

        What is queued has to be rebased on the record of the new writer's region before anything is written there.
        """
        with self._lock:
            mine, newest = self._epoch, self._newest()
            self._asked_s = self._clock.monotonic_s()
            if mine is not None and newest.number <= mine.number:
                return False  # where the writer's region cannot be reached, another one may not have heard of it
            self._epoch = newest
            if mine is None:
                return False
            log.warning("epoch=<%d> region=<%s> | the store is written to in another region now", *newest)
            self._fence(newest)
            return True

    def promote(self, region: str) -> Promotion:
        """Begin a new epoch with a region as the writer's, and shut earlier writers out wherever it can be told.

        Raises:
            UsageError: The region is none of the store's, or is the writer's already.
            StoreUnavailable: It cannot be reached.
        """
        if region not in self.tables:
            raise UsageError(
                f"{region!r} is no region of this store.",
                hint=f"It has {', '.join(self.tables)}; name another one with &replica= in its URL.",
            )
        with self._lock:
            before = self._newest()
            if before == Epoch(1, region):
                raise UsageError(f"{region} is written to already.", hint="There is nothing to promote.")
            # Promoted before, perhaps by a process that did not live to tell the others.
            epoch = before if before.region == region else Epoch(before.number + 1, region)
            if not self._set(region, epoch) and self._told(region) != epoch:
                raise UsageError("another promotion took place at the same moment.", hint="Look at `store verify`.")
            self._epoch, self._asked_s = epoch, self._clock.monotonic_s()
            fenced = self._fence(epoch)
        others = [site.region for site in self.place.sites if site.region not in (*fenced, region)]
        return Promotion(epoch, tuple(fenced), tuple(others))

    def _guard(self, epoch: Epoch) -> Part:
        condition = "attribute_not_exists(pk) OR #epoch = :epoch"
        return check(self.place.prefix, self.clients.draws.choice(GUARDS), condition, epoch=epoch.number)

    def tell(self, region: str) -> None:
        """Tell a region that was away of this epoch, if it has not heard of it.

        Raises:
            StoreUnavailable: It cannot be reached.
        """
        epoch = self.epoch()
        if epoch.number > 1 and self._told(region).number < epoch.number:
            self._set(region, epoch)

    def _fence(self, epoch: Epoch) -> list[str]:
        """Tell the other regions of an epoch; return those that were reached."""
        fenced = []
        for region in self.tables:
            if region == epoch.region or self.resting(region):
                continue
            try:
                self._set(region, epoch)
            except StoreError as error:
                log.warning("region=<%s> | cannot be told of the new epoch yet: %s", region, error.message)
            else:
                fenced.append(region)
        return fenced

    def _set(self, region: str, epoch: Epoch) -> bool:
        changes = [
            update(
                self.place.prefix,
                name,
                "SET #epoch = :epoch, #region = :region",
                condition="attribute_not_exists(pk) OR #epoch < :epoch",
                epoch=epoch.number,
                region=epoch.region,
            )
            for name in (CONTROL, *GUARDS)
        ]
        try:
            self.tables[region].transact(changes)
        except ConditionFailed:
            return False
        return True

    def _newest(self, besides: str = "") -> Epoch:
        """Return the latest epoch of those regions that can be reached."""
        found: list[Epoch] = []
        last = StoreError("the store names no region.")
        for region in self.tables:
            if besides and (region == besides or self.resting(region)):
                continue
            try:
                found.append(self._told(region))
            except StoreError as error:
                # One whose table is gone does not hide that another one cannot be reached.
                last = last if isinstance(last, StoreUnavailable) else error
                self.rest(region)
        if not found and not besides:
            raise last
        return max(found, default=Epoch(0, ""))

    def _told(self, region: str) -> Epoch:
        """Return the epoch that a region was told."""
        item = self.tables[region].get(self.place.prefix, CONTROL)
        if item is None:
            return Epoch(1, self.place.sites[0].region)
        number, writer = item.get("epoch"), item.get("region")
        if not isinstance(number, int) or writer not in self.tables:
            raise IntegrityError(
                f"the item {CONTROL} of {self.place.prefix} in {region} was altered: {item}.",
                hint="`bedrock-evolution store verify` tells more, and mends what it can with --repair.",
            )
        return Epoch(number, str(writer))

    def _refused(self, guard: Part) -> WriterFenced | IntegrityError:
        """Return why an epoch was refused: a later one has begun, or else the item that says so was altered."""
        number, newest = guard.values["epoch"], self._newest()
        if newest.number > number:
            return self._fenced(newest)
        return IntegrityError(
            f"the item {guard.key.sk} of {self.place.prefix} in {newest.region} was altered: it tells of another epoch"
            f" than {number}, which is the last. Nothing was written.",
            hint="`bedrock-evolution store verify --repair` mends it.",
        )

    def _fenced(self, newest: Epoch) -> WriterFenced:
        return WriterFenced(
            f"the store is written to in {newest.region} since epoch {newest.number}; this process writes in epoch"
            f" {self.epoch().number}, which is over. Nothing was written.",
            hint="Run again: it goes on there.",
        )
