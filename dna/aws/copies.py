"""Items of the writer's region in the store's other regions, brought there by threads that nobody waits for."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Mapping
from itertools import count, islice
from typing import Protocol

from ...errors import StoreUnavailable
from .calls import ConditionFailed
from .items import Item, Part
from .regions import Regions

log = logging.getLogger(__name__)

AT_ONCE = 12
"""So many items are brought together; with what belongs to them they have to fit into one transaction."""
_MOST = 10_000
"""So many items wait for one region at most; where there are more, the regions are compared."""
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.25, 10.0
_EXIT_S = 2.0
"""So long the end of the process waits for what is still to be copied."""


class Copied(Protocol):
    """Items that can be brought to a region in any order, and twice: what is there already is left or made surer."""

    def bring(self, region: str, changed: Mapping[str, Item]) -> None:
        """Make items part of what a region has.

        Args:
            region: The region.
            changed: What was written last of each item, by sort key.

        Raises:
            StoreUnavailable: A region cannot be reached, or is in another epoch.
        """
        ...

    def sweep(self, region: str) -> None:
        """Compare a region with the writer's, and bring each what only the other one has.

        Raises:
            StoreUnavailable: A region cannot be reached, or is in another epoch.
        """
        ...


class Copies:
    """Copies what is written to the store's other regions; with a single region it does nothing.

    What waits is kept in memory, and each region has a thread of its own, which ends when nothing waits. A region that
    cannot be reached delays nobody. What a process had not copied when it ended is found by the next one, which
    compares the regions first: if both are there. After a promotion, what waits for the promoted region goes there too.

    Args:
        regions: Know the tables.
        copied: Brings the items.
    """

    def __init__(self, regions: Regions, copied: Copied) -> None:
        self._regions = regions
        self._copied = copied
        self._copiers = {region: _Copier(region, regions, copied) for region in regions.tables if regions.several}

    def add(self, sk: str, item: Item, *, written_in: str) -> None:
        """Have an item copied that was written.

        Args:
            sk: Its sort key.
            item: What was written; attributes that are missing are as they were written before.
            written_in: The writer's region just before.
        """
        if not self._copiers:
            return
        writer = self._regions.epoch().region
        for region, copier in self._copiers.items():
            # Where another region was promoted meanwhile, nobody knows which one has it.
            if region != writer or writer != written_in:
                copier.add(sk, item)

    def record(self, sk: str, item: Item) -> None:
        """Bring an item to the writer's region, which was written in another one before, and copy it from there.

        Raises:
            StoreUnavailable: It cannot be reached.
        """
        region = self._regions.epoch().region
        self._copied.bring(region, {sk: item})
        self.add(sk, item, written_in=region)

    @property
    def owed(self) -> bool:
        """Whether something waits for the region that is the writer's: it was written before that was promoted."""
        waiting = {region for region, copier in self._copiers.items() if copier.waiting}
        return bool(waiting) and self._regions.epoch().region in waiting

    def bring_home(self) -> None:
        """Bring what waits for the writer's region.

        Raises:
            StoreUnavailable: It cannot be reached.
        """
        self._copiers[self._regions.epoch().region].bring()

    def copy(self) -> bool:
        """Copy what waits, now; whether that was all."""
        done = [copier.copy() for copier in self._copiers.values()]
        return all(done)

    def close(self) -> None:
        """Let the threads end."""
        for copier in self._copiers.values():
            copier.closed.set()


class _Copier:
    """What waits for one region, and the thread that brings it there."""

    def __init__(self, region: str, regions: Regions, copied: Copied) -> None:
        self._region = region
        self._regions = regions
        self._copied = copied
        self._due: dict[str, tuple[int, Item]] = {}
        self._compared = 0
        """The epoch in which the region was last compared with the writer's."""
        self._numbers = count()
        self._failures = 0
        self.closed = threading.Event()
        self.at_work = threading.Lock()
        self._lock = threading.Lock()
        self._thread: tuple[int, threading.Thread] | None = None
        self._idle = threading.Event()
        self._idle.set()
        weakref.finalize(self, self._idle.wait, _EXIT_S)

    @property
    def waiting(self) -> int:
        """How many items wait."""
        return len(self._due)

    def add(self, sk: str, item: Item) -> None:
        with self._lock:
            if sk in self._due or len(self._due) < _MOST:
                before = self._due[sk][1] if sk in self._due else {}
                self._due[sk] = next(self._numbers), {**before, **item}
            else:
                self._compared = 0
            # A thread does not outlive a fork.
            if self._thread is None or self._thread[0] != os.getpid() or not self._thread[1].is_alive():
                thread = threading.Thread(target=self._run, name=f"copies to {self._region}", daemon=True)
                self._thread = os.getpid(), thread
                self._idle.clear()
                thread.start()

    def bring(self) -> None:
        """Bring what waits.

        Raises:
            StoreUnavailable: It cannot be brought now.
        """
        while some := self._some():
            self._copied.bring(self._region, {sk: item for sk, (_, item) in some.items()})
            with self._lock:
                for sk, brought in some.items():
                    if self._due.get(sk) is brought:
                        del self._due[sk]

    def copy(self) -> bool:
        """Bring what waits, and compare the regions if that was not done yet; whether it could be done."""
        with self.at_work:
            return self._copy()

    def _copy(self) -> bool:
        try:
            self.bring()
            epoch = self._regions.epoch()
            if self._compared < epoch.number:
                self._compared = epoch.number
                if epoch.region != self._region:
                    self._copied.sweep(self._region)
        except Exception as error:  # noqa: BLE001  # told, and tried again later
            self._compared = 0
            if not self._failures:
                log.warning("region=<%s> | nothing can be copied now, and is later: %s", self._region, error)
            self._failures += 1
            return False
        self._failures = 0
        return True

    def _some(self) -> dict[str, tuple[int, Item]]:
        with self._lock:
            return dict(islice(self._due.items(), AT_ONCE))

    def _run(self) -> None:
        while not self._done():
            if not self.copy():
                longest_s = min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** min(self._failures, 10))
                self.closed.wait(self._regions.clients.draws.uniform(0.0, longest_s))

    def _done(self) -> bool:
        epoch = self._regions.epoch().number
        with self._lock:
            if not self.closed.is_set() and (self._due or self._compared < epoch):
                return False
            self._thread = None
            self._idle.set()
            return True


def transact(regions: Regions, region: str, parts: list[Part]) -> None:
    """Do all parts or none in one of the regions, whichever is the writer's, in this epoch.

    Raises:
        ConditionFailed: The condition of a part did not hold.
        StoreUnavailable: The region cannot be reached, or is in another epoch.
    """
    try:
        regions.tables[region].transact([*parts, regions.guard()])
    except ConditionFailed as failed:
        if failed.reasons and failed.reasons[-1] == "ConditionalCheckFailed":
            raise StoreUnavailable(f"{region} is in another epoch than {regions.epoch().number}.") from failed
        raise
    except StoreUnavailable as error:
        if not _answered(error) and region != regions.epoch().region:
            # Whoever asks it for its epoch before a call would wait for it.
            regions.rest(region)
        raise


def _answered(error: StoreUnavailable) -> bool:
    from botocore.exceptions import ClientError

    return isinstance(error.__cause__, ClientError)
