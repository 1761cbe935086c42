"""Running evaluation jobs in parallel, each with its own deadline, on any executor."""

from __future__ import annotations

import asyncio
import math
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager
from typing import Any, TypeVar

from ..errors import EvaluationFailed
from .evaluator import Evaluator, Job
from .score import Outcome, failed

DEFAULT_TIMEOUT_S = 300.0
_AT_RISK_S, _DEEPEST = 0.004, 64
"""Up to so much work of a worker, and so many jobs, may wait to be recorded."""
_LOOP_GRACE_S = 0.5
Item = TypeVar("Item")
Finished = tuple[int, list[Outcome]]
"""The place of a job in the list it came in, and its outcomes."""


class DaemonThreads(Executor):
    """A thread pool whose threads never keep the process alive.

    The standard pool joins its threads when Python exits, so one evaluator that hangs would hang the
    application for ever; here a hung thread is left behind and replaced.

    Args:
        workers: How many jobs run at once.
    """

    def __init__(self, workers: int) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._workers = workers
        self._started = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue a call; threads are started as they are needed."""
        future: Future[Any] = Future()
        self._jobs.put((future, lambda: fn(*args, **kwargs)))
        if self._started < self._workers:
            self.add_thread()
        return future

    def add_thread(self) -> None:
        """Start one more thread, for instance in place of one that hangs."""
        self._started += 1
        threading.Thread(target=self._work, name=f"evaluation-{self._started}", daemon=True).start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, call = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001  # handed over to whoever asks the future
                future.set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let idle threads end; threads at work are not waited for."""
        for _ in range(self._started):
            self._jobs.put(None)


@contextmanager
def beside(work: Callable[[], Item]) -> Iterator[Future[Item]]:
    """Do some work in a thread during a block, and wait for its end at the end of the block.

    It is not waited for where the block ends with the process: Ctrl-C ends a program at once, whatever hangs in it.

    Args:
        work: What to do; what it returns or raises is in the future.
    """
    thread = DaemonThreads(1)
    done = thread.submit(work)
    thread.shutdown()
    try:
        yield done
    except Exception:
        wait([done])
        raise
    wait([done])


class _Batch:
    """Jobs on an executor, by their places: which wait, which run since when, which have ended.

    Args:
        evaluator: Scores them.
        jobs: In the order they begin.
    """

    def __init__(self, evaluator: Evaluator, jobs: Sequence[Job]) -> None:
        self._evaluator = evaluator
        self.waiting = deque(enumerate(jobs))
        self.running: dict[int, Future[list[Outcome]]] = {}
        self._began_s: dict[int, float] = {}
        self._took_s: list[float] = []
        self._ended: queue.SimpleQueue[int] = queue.SimpleQueue()

    def submit(self, executor: Executor, *, own: bool) -> None:
        """Hand the next job over; our own threads tell when they begin it, others are taken to do so at once."""
        place, job = self.waiting.popleft()
        if own:
            future = executor.submit(self._run, place, job)
        else:
            self._began_s[place] = time.monotonic()
            future = executor.submit(self._evaluator.run, job)
        self.running[place] = future
        future.add_done_callback(lambda _: self._ended.put(place))

    def _run(self, place: int, job: Job) -> list[Outcome]:
        self._began_s[place] = began_s = time.monotonic()
        outcomes = self._evaluator.run(job)
        self._took_s.append(time.monotonic() - began_s)
        return outcomes

    @property
    def mean_s(self) -> float:
        """How long a job takes in our own threads; 0 if none has ended."""
        return math.fsum(self._took_s) / len(self._took_s) if self._took_s else 0.0

    def take(self, place: int) -> Future[list[Outcome]]:
        """Return a job that has ended, or is given up."""
        self._began_s.pop(place, None)
        return self.running.pop(place)

    def next_ended(self, timeout_s: float | None) -> list[int]:
        """Wait until a job ends or its time is up; return all that have ended and were not given up before."""
        wait_s = None
        if timeout_s is not None:
            now = time.monotonic()
            wait_s = max(0.0, min([*self._began_s.values(), now]) + timeout_s - now)
        try:
            ended = [self._ended.get(timeout=wait_s), *_at_hand(self._ended)]
        except queue.Empty:
            return []
        return [place for place in ended if place in self.running]

    def late(self, timeout_s: float | None) -> list[int]:
        """Return the jobs whose time is up."""
        if timeout_s is None:
            return []
        before = time.monotonic() - timeout_s
        return [place for place, began_s in [*self._began_s.items()] if began_s <= before]


def _at_hand(items: queue.SimpleQueue[Item]) -> Iterator[Item]:
    """Yield what is in a queue by now."""
    while True:
        try:
            yield items.get_nowait()
        except queue.Empty:
            return


class Workers:
    """Runs jobs on an executor, at most `count` at once.

    Args:
        executor: Any `concurrent.futures.Executor`; None for threads of our own.
        count: How many jobs run at once; None takes the executor's own size, or the number of processors.
        timeout_s: Seconds a job may run before it counts as failed; None for no limit.
    """

    def __init__(self, executor: Executor | None, count: int | None, timeout_s: float | None) -> None:
        own_size = getattr(executor, "_max_workers", None)
        wanted = max(1, count or own_size or os.cpu_count() or 1)
        # More would wait in the executor's own queue, and waiting would count as running.
        self.count = min(wanted, own_size or wanted)
        self.timeout_s = timeout_s
        self._threads = DaemonThreads(self.count) if executor is None else None
        self._job_s = 0.0
        """How long a job takes, as far as is known."""
        self._executor: Executor = executor or self._threads  # type: ignore[assignment]  # one of the two is there

    def run(self, evaluator: Evaluator, jobs: Sequence[Job]) -> Iterator[list[Finished]]:
        """Run jobs and yield all that have finished since the last time; the others go on meanwhile.

        Raises:
            EvaluationFailed: The executor broke, or hung jobs hold all of its workers.
        """
        if evaluator.asynchronous:
            yield from self._run_on_loop(evaluator, jobs)
        else:
            yield from self._run_on_executor(evaluator, jobs)

    def _run_on_executor(self, evaluator: Evaluator, jobs: Sequence[Job]) -> Iterator[list[Finished]]:
        batch, lost = _Batch(evaluator, jobs), 0
        try:
            self._submit(batch, lost)
            while batch.running:
                finished = [(place, _result(batch.take(place))) for place in batch.next_ended(self.timeout_s)]
                for place in batch.late(self.timeout_s):
                    finished.append((place, [self._timed_out()] * len(jobs[place].cases)))
                    if not batch.take(place).cancel():
                        lost += self._lose_worker()
                if finished:
                    yield sorted(finished, key=lambda item: item[0])
                self._job_s = batch.mean_s or self._job_s
                self._submit(batch, lost)
            if batch.waiting:
                raise EvaluationFailed(
                    "evaluations that timed out hold every worker of the executor.",
                    hint="Give more workers, or an evaluator that ends by itself.",
                )
        finally:
            # Whoever stops listening wants no more of it.
            for future in batch.running.values():
                future.cancel()

    def _submit(self, batch: _Batch, lost: int) -> None:
        """Hand over jobs: one for each worker, so that no more than these are done again after a kill.

        Of jobs that take no time more are handed over, so that many are recorded in one commit. Only our own threads
        get them, which tell when each begins: what waits in the queue of another executor would count as running.
        """
        deep = min(_DEEPEST, int(_AT_RISK_S / self._job_s)) if self._threads and self._job_s else 1
        try:
            while len(batch.running) < (self.count - lost) * max(1, deep) and batch.waiting:
                batch.submit(self._executor, own=self._threads is not None)
        except RuntimeError as error:
            raise EvaluationFailed(
                f"the executor takes no work: {error}.", hint="Keep it open for as long as the run lasts."
            ) from error

    def _lose_worker(self) -> int:
        """Return how many workers a hung job takes away for good."""
        if self._threads is None:
            return 1
        self._threads.add_thread()
        return 0

    def _timed_out(self) -> Outcome:
        return failed(f"the evaluator did not answer within {self.timeout_s:g} s")

    def _run_on_loop(self, evaluator: Evaluator, jobs: Sequence[Job]) -> Iterator[list[Finished]]:
        """Run an async evaluator on a loop in a thread of its own, as the caller may be inside a loop already."""
        done: queue.SimpleQueue[Finished | BaseException] = queue.SimpleQueue()

        async def one(place: int, job: Job, gate: asyncio.Semaphore) -> None:
            async with gate:
                try:
                    outcomes = await asyncio.wait_for(evaluator.arun(job), self.timeout_s)
                except TimeoutError:
                    outcomes = [self._timed_out()] * len(job.cases)
            done.put((place, outcomes))

        async def everything() -> None:
            gate = asyncio.Semaphore(self.count)
            await asyncio.gather(*(one(place, job, gate) for place, job in enumerate(jobs)))

        def body() -> None:
            try:
                asyncio.run(everything())
            except BaseException as error:  # noqa: BLE001  # raised again in the thread that waits
                done.put(error)

        threading.Thread(target=body, name="evaluation-loop", daemon=True).start()
        left = len(jobs)
        while left:
            finished: list[Finished] = []
            for item in [self._next_finished(done), *_at_hand(done)]:
                if isinstance(item, BaseException):
                    raise EvaluationFailed(f"the event loop of the evaluator broke: {item!r}.") from item
                finished.append(item)
            left -= len(finished)
            yield finished

    def _next_finished(self, done: queue.SimpleQueue[Finished | BaseException]) -> Finished | BaseException:
        """Wait for a job; every one ends within its timeout, unless the evaluator blocks the loop itself."""
        try:
            return done.get(timeout=None if self.timeout_s is None else self.timeout_s + _LOOP_GRACE_S)
        except queue.Empty:
            return TimeoutError(f"nothing finished for {self.timeout_s:g} s: the async evaluator blocks its loop")

    def close(self) -> None:
        """Let our own threads end; an executor that was given is its owner's to close."""
        if self._threads:
            self._threads.shutdown()


def _result(future: Future[list[Outcome]]) -> list[Outcome]:
    try:
        return future.result()
    except BrokenExecutor as error:
        raise EvaluationFailed(
            f"the executor broke: {error}.", hint="Processes need an evaluator and cases that can be pickled."
        ) from error
    except Exception as error:
        raise EvaluationFailed(
            f"the executor could not run the evaluator: {type(error).__name__}: {error}.",
            hint="Processes need an evaluator and cases that can be pickled.",
        ) from error
