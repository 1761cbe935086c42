"""Live outcomes: what the application's users got from the live genes, and what follows when they get worse.

`record` only puts an outcome into a queue. A thread writes the queue in batches and compares the outcomes of the live
genes with those of the genes before them; the comparison is made from the stored outcomes alone, so several processes
may record for one application and all of them come to the same result.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
import time
from collections import deque
from dataclasses import asdict
from numbers import Real

from ..clock import Clock
from ..dna.database import Database
from ..dna.sqlite import SQLiteDNAStore
from ..errors import StoreError, UsageError
from ..settings import Safety
from .degradation import Degradation
from .outcomes import Given, LiveSummary, OutcomeTable, Watched
from .rollback import conclude, roll_back_automatically

log = logging.getLogger(__name__)

LONGEST_QUEUE = 100_000
_BATCH = 256
_GATHERED_S = 0.2
_LONGEST_PAUSE_S = 30.0
_SHUTDOWN_S = 10.0


class LiveOutcomes:
    """Takes the outcomes of a running application, and rolls its genes back when they are credibly worse.

    A process that ends in order stores what it was given; one that is killed loses at most the last moments.

    Args:
        database: The application's file.
        store: Where its DNA is kept.
        app: The application.
        safety: How much evidence a rollback needs, and when safe mode begins.
        clock: Tells when an outcome was recorded.
    """

    def __init__(self, database: Database, store: SQLiteDNAStore, *, app: str, safety: Safety, clock: Clock) -> None:
        self._path = database.path
        self._store = store
        self._app = app
        self._safety = safety
        self._clock = clock
        self._table = OutcomeTable(database, store, app=app, safety=safety)
        self._opened_by = os.getpid()
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._waiting: deque[Given] = deque()
        self._batch: list[Given] = []
        self._stored: tuple[Watched, Degradation | None] | None = None
        self._thread: threading.Thread | None = None
        self._given = self._done = self._dropped = self._failures = 0
        self._hurried = self._closing = False
        self._error: Exception | None = None
        self._concluded = ""

    def record(self, value: float, *, genes: str) -> None:
        """Hand in one outcome; it is stored and judged in the background, within a moment.

        Args:
            value: How good it was; higher is better.
            genes: Name of the gene values it was produced with (`genes_key`).

        Raises:
            UsageError: The value is no finite number.
        """
        outcome = Given(_finite(value), genes, self._clock.now())
        if self._process != os.getpid():
            self._begin()  # After a fork: the thread and what it had to write are the parent's.
        with self._changed:
            self._waiting.append(outcome)
            self._given += 1
            if len(self._waiting) > LONGEST_QUEUE:
                self._waiting.popleft()
                self._done += 1
                self._dropped += 1
            if len(self._waiting) in (1, _BATCH):
                self._changed.notify_all()
            if self._thread is None:
                self._start()

    def flush(self, timeout_s: float = 30.0) -> None:
        """Wait until all outcomes given so far are stored and judged.

        Raises:
            StoreError: They cannot be stored; they are kept, and tried again. Or some were dropped, because they could
                not be stored for too long.
            EvolutionError: What follows from them failed; it is tried again.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            target, failures = self._given, self._failures
            while self._done < target and self._process == os.getpid():
                if self._failures > failures and self._error is not None:
                    raise self._error
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise StoreError(
                        f"{target - self._done} outcomes were not stored within {timeout_s:g} s.",
                        hint="They are kept and tried again; look for what holds the store.",
                    )
                self._hurried = True
                self._changed.notify_all()
                self._changed.wait(left_s)
            dropped, self._dropped = self._dropped, 0
        if dropped:
            raise StoreError(
                f"{dropped} outcomes were dropped, because the store could not be written for too long.",
                hint="The log says why.",
            )

    def close(self) -> None:
        """Store and judge what was given, and end the thread; another outcome would start it again.

        Raises:
            EvolutionError: As `flush` does; the thread is ended all the same.
        """
        thread = self._thread
        if thread is None or self._process != os.getpid():
            return
        try:
            self.flush(_SHUTDOWN_S)
        finally:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
            thread.join(_SHUTDOWN_S)
            with self._changed:
                self._thread, self._closing = None, False
            atexit.unregister(self._close_at_exit)

    def make_up(self) -> None:
        """Do what follows from stored outcomes, in case a process died between the two."""
        if (judged := self._table.judged()) is not None:
            self._follow(*judged)

    def summary(self) -> LiveSummary | None:
        """Return how the live genes do, or None where there is no DNA yet."""
        return self._table.summary()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._work, name=f"outcomes of {self._app}", daemon=True)
        self._thread.start()
        atexit.register(self._close_at_exit)

    def _close_at_exit(self) -> None:
        try:
            self.close()
        except Exception as error:  # noqa: BLE001  # nobody is left to catch it
            log.error("app=<%s> | the last outcomes are lost: %s", self._app, error)  # noqa: TRY400  # it says all

    # -- in the thread

    def _work(self) -> None:
        pause_s = 0.0
        while self._next_batch(pause_s):
            try:
                self._write_and_judge()
            except Exception as error:  # noqa: BLE001  # kept for `flush`, logged, and tried again
                pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s or _GATHERED_S)
                self._failed(error, pause_s)
            else:
                pause_s = 0.0
                self._settled()

    def _next_batch(self, pause_s: float) -> bool:
        """Wait for outcomes, and for the end of a pause after a failure; tell whether to go on."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._batch or self._closing)
            full = 0 if pause_s else _BATCH
            self._changed.wait_for(
                lambda: self._hurried or self._closing or 0 < full <= len(self._waiting),
                timeout=pause_s or _GATHERED_S,
            )
            self._hurried = False
            while not self._stored and self._waiting and len(self._batch) < _BATCH:
                self._batch.append(self._waiting.popleft())
            return bool(self._batch) and not (self._closing and pause_s)

    def _write_and_judge(self) -> None:
        if self._opened_by != os.getpid():
            # A connection must not be carried over a fork (https://www.sqlite.org/howtocorrupt.html, section 2.6).
            database = Database(self._path)
            self._store = self._store.on(database)
            self._table = OutcomeTable(database, self._store, app=self._app, safety=self._safety)
            self._opened_by = os.getpid()
        if self._stored is None:
            self._stored = self._table.add(self._batch)
        if self._stored is not None:
            self._follow(*self._stored)

    def _follow(self, watched: Watched, comparison: Degradation | None) -> None:
        """Do what follows from outcomes that are stored; all of it may be repeated."""
        head = watched.head
        if self._concluded != head.checksum:
            conclude(self._store, self._app, clock=self._clock, safety=self._safety)
            self._concluded = head.checksum
        if comparison is not None and comparison.degraded:
            roll_back_automatically(
                self._store,
                head,
                why=_reason(comparison),
                evidence=asdict(comparison),
                actor="live outcomes",
                clock=self._clock,
                safety=self._safety,
                better=self._table.better(watched),
            )

    def _failed(self, error: Exception, pause_s: float) -> None:
        log.error(
            "app=<%s> kept=<%d> dropped=<%d> | live outcomes could not be stored and judged, next try in %.1f s: %s",
            self._app,
            len(self._waiting) + len(self._batch),
            self._dropped,
            pause_s,
            error,
        )
        with self._changed:
            self._error = error
            self._failures += 1
            self._changed.notify_all()

    def _settled(self) -> None:
        with self._changed:
            self._done += len(self._batch)
            self._batch, self._stored, self._error = [], None, None
            self._changed.notify_all()


def _finite(value: float) -> float:
    try:
        number = float(value) if isinstance(value, Real) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise UsageError(f"the outcome {value!r} is no finite number.", hint="Record a number; higher is better.")
    return number


def _reason(found: Degradation) -> str:
    return (
        f"live outcomes got worse: mean {found.mean_now:.4g} over {found.outcomes} outcomes, {found.mean_before:.4g}"
        f" before; evidence {found.e_value:.3g}, needed {found.threshold:.3g}"
    )
