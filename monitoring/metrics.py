"""`Metrics`: takes what happens in a run within microseconds, and publishes it from a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from ..clock import Clock
from .measures import Measures
from .points import DROPPED, Point, points
from .seen import Begun, Called, Depth, Ended, Ending, Seen, Step, Stepped, Totals, What
from .work_file import WorkFile

log = logging.getLogger(__name__)

LONGEST_HAND_OVER = 10_000
"""What is handed in and not yet turned into points, and points not yet handed on: the oldest beyond it are dropped."""
GATHERED_S = 10.0
"""So long points are gathered: a request is paid for, however much is in it."""
_CLOSING_S = 5.0
_MS = 1000


class Outlet(Protocol):
    """Where points go: `StandardOutput` or `CloudWatch`."""

    def take(self, given: Sequence[Point], /) -> None:
        """Take points over, so that they are safe with it, or raise."""
        ...

    def ship(self, *, now: bool) -> bool:
        """Bring on its way what waits, unless it is too early after a failure; tell whether nothing waits any more."""
        ...


class Metrics:
    """The metrics of one application; no method but `flush` and `close` reads or writes anything.

    What is handed in is turned into points every few seconds. It never fails a run: what goes wrong is logged.

    Args:
        measures: Turns what is handed in into points.
        outlet: Where they go.
        file: The application's file.
        clock: Tells when something was handed in.
        longest: How much may wait in memory.
    """

    def __init__(
        self, measures: Measures, outlet: Outlet, file: WorkFile, *, clock: Clock, longest: int = LONGEST_HAND_OVER
    ) -> None:
        self._measures = measures
        self._outlet = outlet
        self._file = file
        self._clock = clock
        self._longest = longest
        self._changed = threading.Condition()
        self._taking = threading.Lock()
        self._seen: deque[Seen] = deque()
        self._points: list[Point] = []
        self._dropped = 0
        self._thread: threading.Thread | None = None
        self._asked = self._served = 0
        self._shipped = False
        self._closing = False

    # -- handing in

    def begin(self, run_id: str, totals: Totals | None = None) -> None:
        """Tell that a run begins or goes on, before its first step.

        Args:
            run_id: The run.
            totals: What it had used before; nothing for a new one.
        """
        self._hand_in(Begun(run_id, totals or Totals()))

    def observe(self, progress: Step) -> None:
        """Tell that a step has ended."""
        self._hand_in(Stepped(progress))

    def ended(self, result: Ending) -> None:
        """Tell what a run ended with."""
        self._hand_in(Ended(result))

    def called(self, run_id: str, model: str, latency_ms: float) -> None:
        """Tell that a model has answered.

        Args:
            run_id: The run it was asked for.
            model: Its name.
            latency_ms: Milliseconds until the answer was there.
        """
        self._hand_in(Called(run_id, model, latency_ms))

    def depth(self, waiting: int) -> None:
        """Tell how many operations wait in the store's outbox."""
        self._hand_in(Depth(waiting))

    def _hand_in(self, what: What) -> None:
        seen = Seen(round(_MS * self._clock.now().timestamp()), self._clock.monotonic_s(), what)
        with self._changed:
            self._seen.append(seen)
            if len(self._seen) > self._longest:
                self._seen.popleft()
                self._dropped += 1
            if len(self._seen) == 1:
                self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="metrics", daemon=True)
                self._thread.start()

    # -- waiting for it

    def flush(self, timeout_s: float = _CLOSING_S) -> bool:
        """Publish what was handed in, or try to; tell whether all of it is published.

        Args:
            timeout_s: Seconds it may take; what is not published by then, or cannot be, is not forgotten.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            if self._thread is None or self._closing:
                return not self._seen
            self._asked += 1
            number = self._asked
            self._changed.notify_all()
            served = self._changed.wait_for(lambda: self._served >= number, max(0.0, deadline - time.monotonic()))
            return served and self._shipped

    def close(self, timeout_s: float = _CLOSING_S) -> bool:
        """Publish as `flush` does, and end; what is not published is left where the next process finds it.

        Args:
            timeout_s: Seconds it may take. The object is of no use afterwards.
        """
        if self._closing:
            return self._shipped
        deadline = time.monotonic() + timeout_s
        published, thread = self.flush(timeout_s), self._thread
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if thread is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
            self._take_over()  # what came in meanwhile, though the thread may still wait for an answer
        if thread is None or not thread.is_alive():
            self._file.close()
        return published

    # -- in the thread

    def _work(self) -> None:
        while (number := self._next()) is not None:
            self._take_over()
            shipped = self._outlet.ship(now=number > self._served)
            with self._changed:
                self._shipped = shipped and not self._points
                self._served = number
                self._changed.notify_all()

    def _next(self) -> int | None:
        """Wait until there is something to do; return which request it answers, or None at the end."""
        with self._changed:
            if self._shipped:
                self._changed.wait_for(lambda: self._seen or self._hurried)
            self._changed.wait_for(lambda: self._hurried, GATHERED_S)
            return None if self._closing else self._asked

    @property
    def _hurried(self) -> bool:
        return self._closing or self._asked > self._served

    def _take_over(self) -> None:
        """Turn what was handed in into points and hand them on; what cannot be handed on is kept."""
        with self._taking:
            with self._changed:
                seen, self._seen = self._seen, deque()
                dropped, self._dropped = self._dropped, 0
            for each in seen:
                self._measure(each)
            if dropped:
                self._points += self._told(dropped)
            if self._points:
                self._hand_on()

    def _measure(self, seen: Seen) -> None:
        try:
            self._points += self._measures.of(seen)
        except Exception as error:  # noqa: BLE001  # of counts nothing is lost: the next step tells them too
            log.warning("app=<%s> | a step was not measured: %s", self._measures.app, error)

    def _hand_on(self) -> None:
        try:
            self._outlet.take(self._points)
            self._points = []
        except Exception as error:  # noqa: BLE001  # told, kept, and tried again
            log.warning(
                "app=<%s> kept=<%d> | metrics cannot be stored: %s", self._measures.app, len(self._points), error
            )
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        excess = len(self._points) - self._longest
        if excess > 0:
            with self._changed:
                self._dropped += sum(point.worth for point in self._points[:excess])
            del self._points[:excess]

    def _told(self, dropped: int) -> list[Point]:
        at_ms = round(_MS * self._clock.now().timestamp())
        return list(points(DROPPED, dropped, at_ms, {"App": self._measures.app}))
