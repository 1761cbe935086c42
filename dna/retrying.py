"""Work that is tried again when it failed: later each time, by a thread of its own."""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Callable

from ..clock import Clock

log = logging.getLogger(__name__)

_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.5, 60.0
_SHORTEST_WAIT_S = 0.01


class Retrying:
    """When work that failed is tried again: exponential backoff with full jitter, 60 seconds at most.

    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

    Args:
        name: What the work is, for the log.
        work: Does it; whether it succeeded. It tells `failed` and `succeeded` itself.
        clock: Tells when it is due.
        draws: Of the jitter; processes must draw differently, or they all come back at once.
    """

    def __init__(self, name: str, work: Callable[[], bool], clock: Clock, draws: random.Random) -> None:
        self.failures = 0
        self._name = name
        self._work = work
        self._clock = clock
        self._draws = draws
        self._due_s = float("-inf")
        self._closed = threading.Event()
        self._thread: tuple[int, threading.Thread] | None = None

    @property
    def resting(self) -> bool:
        """Whether it is not due yet."""
        return self._clock.monotonic_s() < self._due_s

    def failed(self) -> None:
        """Note a failure, and see to it that the work is tried again when it is due."""
        self.failures += 1
        longest_s = min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** min(self.failures, 10))
        self._due_s = self._clock.monotonic_s() + self._draws.uniform(0.0, longest_s)
        # A thread does not outlive a fork.
        if self._thread is None or self._thread[0] != os.getpid() or not self._thread[1].is_alive():
            thread = threading.Thread(target=self._try_again, name=self._name, daemon=True)
            self._thread = os.getpid(), thread
            thread.start()

    def succeeded(self) -> None:
        """Note that it works."""
        self.failures, self._due_s = 0, float("-inf")

    def close(self) -> None:
        """Let the thread end."""
        self._closed.set()

    def _try_again(self) -> None:
        while not self._closed.wait(max(_SHORTEST_WAIT_S, self._due_s - self._clock.monotonic_s())):
            try:
                if not self.resting and self._work():
                    return
            except Exception as error:  # noqa: BLE001  # told, and met again by whoever writes next
                log.error("work=<%s> | cannot be done: %s", self._name, error)  # noqa: TRY400  # it says all
                return
