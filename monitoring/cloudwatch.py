"""CloudWatch by its API: points wait in the application's file, and are sent in batches while it can be reached."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

import orjson

from ..clock import Clock
from ..dna.aws.calls import Clients
from ..errors import StoreError, StoreUnavailable
from .points import DROPPED, Point, points
from .queue import LONGEST_QUEUE, MetricQueue, Waiting
from .work_file import WorkFile

log = logging.getLogger(__name__)

MAX_DATA = 1000
MAX_BYTES = 900_000
"""CloudWatch takes 1000 metrics or 1 MB at once
(https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html); some room is left for what is
sent with them."""
_OVERHEAD_BYTES = 48
"""Of a datum: numbers and times are longer in the form they are sent in than in JSON."""
OLDEST = timedelta(days=14) - timedelta(minutes=5)
"""CloudWatch refuses what is two weeks old; a request takes a moment."""
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 2.0, 120.0
_MS = 1000


@dataclass(slots=True)
class CloudWatch:
    """Publishes points with PutMetricData, each at least once.

    Points are stored before they are sent and forgotten once CloudWatch has them, so those that are lost with a
    process are at most those of the last seconds. While CloudWatch cannot be reached they wait: exponential backoff
    with full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).

    Args:
        file: The application's file, where they wait.
        clients: Make the calls; one attempt each is enough, as they are repeated here.
        region: Where the metrics are kept.
        namespace: The namespace of the metrics.
        app: The application, under which it is told how many points were dropped.
        clock: Tells how old a point is, and when to try again.
        draws: Of the jitter.
        longest: Points that are kept at most.
    """

    file: WorkFile
    clients: Clients
    region: str
    namespace: str
    app: str
    clock: Clock
    draws: random.Random
    longest: int = LONGEST_QUEUE
    _opened: MetricQueue | None = None
    _failures: int = 0
    _again_s: float = field(default=float("-inf"))

    def take(self, given: Sequence[Point]) -> None:
        """Store points; they are sent later.

        Raises:
            StoreError: They cannot be stored.
        """
        if dropped := self._queue.add(self.namespace, given):
            log.warning("app=<%s> dropped=<%d> | the queue of metrics is full, the oldest are lost", self.app, dropped)

    def ship(self, *, now: bool) -> bool:
        """Send what waits, oldest first; tell whether nothing is left.

        Args:
            now: Do not wait for the end of a backoff.
        """
        if not now and self.clock.monotonic_s() < self._again_s:
            return False
        try:
            if self._queue.taken_from:
                return False  # another process sends for all
            with self._queue.taking():
                self._send_all()
        except Exception as error:  # noqa: BLE001  # told, kept, and tried again
            self._failed(error)
            return False
        self._failures, self._again_s = 0, float("-inf")
        return True

    @property
    def _queue(self) -> MetricQueue:
        if self._opened is None:
            self._opened = MetricQueue(self.file, self._told, longest=self.longest)
        return self._opened

    def _told(self, dropped: int) -> Iterator[Point]:
        return points(DROPPED, dropped, self._now_ms(), {"App": self.app})

    def _now_ms(self) -> int:
        return round(_MS * self.clock.now().timestamp())

    def _send_all(self) -> None:
        while waiting := self._queue.oldest(MAX_DATA):
            expired = [*takewhile(lambda each: self._expired(each.point), waiting)]
            if expired:
                log.warning("app=<%s> dropped=<%d> | CloudWatch takes no metrics this old", self.app, len(expired))
                self._queue.remove(expired, lost=expired)
            else:
                self._send([*takewhile(lambda each: not self._expired(each.point), waiting)])

    def _expired(self, point: Point) -> bool:
        return point.at_ms < self._now_ms() - OLDEST // timedelta(milliseconds=1)

    def _send(self, waiting: Sequence[Waiting]) -> None:
        namespace = waiting[0].namespace
        alike = [*takewhile(lambda each: each.namespace == namespace, waiting)]
        batch = alike[: fitting(each.point for each in alike)]
        data = [datum for each in batch for datum in data_of(each.point)]
        try:
            self.clients.call("cloudwatch", self.region, "put_metric_data", Namespace=namespace, MetricData=data)
        except StoreUnavailable:
            raise
        except StoreError as refused:
            if all(each.point.metric.name == DROPPED.name for each in batch):
                raise  # what tells of a loss would be lost, and told, for ever
            # Sent again it would be refused again, and hold up all that comes after it.
            log.error("app=<%s> dropped=<%d> | %s", self.app, len(batch), refused.message)  # noqa: TRY400  # it says all
            self._queue.remove(batch, lost=batch)
        else:
            self._queue.remove(batch)

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        longest_s = min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2 ** min(self._failures, 10))
        self._again_s = self.clock.monotonic_s() + self.draws.uniform(0.0, longest_s)
        log.warning("app=<%s> failures=<%d> | metrics wait in the file: %s", self.app, self._failures, error)


def data_of(point: Point) -> Iterator[dict[str, Any]]:
    """Yield a point as PutMetricData takes it: once for each set of its dimensions."""
    for names in point.metric.sets:
        yield {
            "MetricName": point.metric.name,
            "Dimensions": [{"Name": name, "Value": point.dimensions[name]} for name in names],
            "Timestamp": datetime.fromtimestamp(point.at_ms / _MS, UTC),
            "Value": float(point.value),
            "Unit": point.metric.unit,
        }


def fitting(given: Iterable[Point]) -> int:
    """Return how many of the first points fit one request, at least one."""
    count = data = size = 0
    for point in given:
        more = [*data_of(point)]
        data += len(more)
        size += sum(len(orjson.dumps(datum)) + _OVERHEAD_BYTES for datum in more)
        if count and (data > MAX_DATA or size > MAX_BYTES):
            break
        count += 1
    return count
