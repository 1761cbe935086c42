"""Running evaluation jobs in parallel, each with its own deadline, on any executor."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import Any

from ..errors import EvaluationFailed
from .evaluator import Evaluator, Job
from .score import Outcome, failed

DEFAULT_TIMEOUT_S = 300.0
_LOOP_GRACE_S = 0.5
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
        self._executor: Executor = executor or self._threads  # type: ignore[assignment]  # one of the two is there

    def run(self, evaluator: Evaluator, jobs: Sequence[Job]) -> Iterator[list[Finished]]:
        """Run jobs and yield them as they finish, a few at a time.

        Raises:
            EvaluationFailed: The executor broke, or hung jobs hold all of its workers.
        """
        if evaluator.asynchronous:
            yield from self._run_on_loop(evaluator, jobs)
        else:
            yield from self._run_on_executor(evaluator, jobs)

    def _run_on_executor(self, evaluator: Evaluator, jobs: Sequence[Job]) -> Iterator[list[Finished]]:
        waiting = iter(enumerate(jobs))
        running: dict[Future[list[Outcome]], tuple[int, float]] = {}
        room = self.count
        left = len(jobs)
        while left:
            while len(running) < room and (following := next(waiting, None)) is not None:
                place, job = following
                running[self._submit(evaluator, job)] = place, time.monotonic()
            wait(running, timeout=self._next_deadline(running), return_when=FIRST_COMPLETED)
            finished = [(running.pop(future)[0], _result(future)) for future in list(running) if future.done()]
            late = [future for future, (_, started) in running.items() if self._is_late(started)]
            for future in late:
                place, _ = running.pop(future)
                finished.append((place, [self._timed_out()] * len(jobs[place].cases)))
                if not future.cancel():
                    room -= self._lose_worker()
            left -= len(finished)
            if finished:
                yield sorted(finished, key=lambda item: item[0])
            if left and room < 1:
                raise EvaluationFailed(
                    "evaluations that timed out hold every worker of the executor.",
                    hint="Give more workers, or an evaluator that ends by itself.",
                )

    def _submit(self, evaluator: Evaluator, job: Job) -> Future[list[Outcome]]:
        try:
            return self._executor.submit(evaluator.run, job)
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

    def _next_deadline(self, running: dict[Future[list[Outcome]], tuple[int, float]]) -> float | None:
        if self.timeout_s is None or not running:
            return None
        return max(0.0, min(started for _, started in running.values()) + self.timeout_s - time.monotonic())

    def _is_late(self, started: float) -> bool:
        return self.timeout_s is not None and time.monotonic() - started >= self.timeout_s

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
        for _ in jobs:
            item = self._next_finished(done)
            if isinstance(item, BaseException):
                raise EvaluationFailed(f"the event loop of the evaluator broke: {item!r}.") from item
            yield [item]

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
