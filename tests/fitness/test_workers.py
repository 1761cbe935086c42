"""Workers: jobs run in parallel, each with its own deadline, and nothing that hangs can hold up the rest."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest

from bedrock_evolution.errors import EvaluationFailed
from bedrock_evolution.fitness.evaluator import Evaluator, Job
from bedrock_evolution.fitness.score import Outcome
from bedrock_evolution.fitness.workers import Workers, beside
from tests.fitness.evaluators import doubled, fatal, jobs, late

PATIENCE_S = 20.0
"""No test waits so long unless something is broken."""


def each(function: Callable[..., Any]) -> Evaluator:
    return Evaluator.adapt(function, None, None)


def collected(workers: Workers, evaluator: Evaluator, work: list[Job]) -> dict[int, list[Outcome]]:
    found: dict[int, list[Outcome]] = {}
    for finished in workers.run(evaluator, work):
        for place, outcomes in finished:
            assert place not in found
            found[place] = outcomes
    return found


def values(found: dict[int, list[Outcome]]) -> list[float | None]:
    return [found[place][0].value for place in sorted(found)]


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets hanging evaluators go when the test is over."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


# -- threads


def test_as_many_jobs_run_at_once_as_there_are_workers() -> None:
    together = threading.Barrier(4)

    def meeting(genes: dict[str, Any], case: int) -> float:
        together.wait(PATIENCE_S)
        return case

    found = collected(Workers(None, 4, None), each(meeting), jobs(*range(8)))
    assert values(found) == list(range(8))


def test_no_more_jobs_run_at_once_than_there_are_workers() -> None:
    lock, running, most = threading.Lock(), 0, 0

    def watched(genes: dict[str, Any], case: int) -> float:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1
        return case

    collected(Workers(None, 3, 5.0), each(watched), jobs(*range(30)))
    assert 1 < most <= 3


@pytest.mark.parametrize("count", [1, 2, 7])
def test_an_outcome_belongs_to_its_job_whatever_finishes_first(count: int) -> None:
    delays = random.Random(count).choices([0.0, 0.002, 0.01], k=25)

    def slow(genes: dict[str, Any], case: int) -> float:
        time.sleep(delays[case])
        return case * genes["factor"]

    found = collected(Workers(None, count, None), each(slow), jobs(*range(25), factor=3))
    assert values(found) == [3.0 * case for case in range(25)]


def test_no_jobs_are_no_work() -> None:
    assert collected(Workers(None, 2, 1.0), each(doubled), []) == {}


def test_jobs_come_back_as_they_finish() -> None:
    hold = threading.Event()

    def first_waits(genes: dict[str, Any], case: int) -> float:
        if case == 0:
            hold.wait(PATIENCE_S)
        return case

    running = Workers(None, 2, None).run(each(first_waits), jobs(0, 1))
    assert next(running)[0][0] == 1
    hold.set()
    assert next(running)[0][0] == 0


# -- deadlines


def test_a_job_that_hangs_fails_alone_and_later_jobs_still_run(release: threading.Event) -> None:
    def hanging(genes: dict[str, Any], case: int) -> float:
        if case % 3 == 0:
            release.wait(PATIENCE_S)
        return case

    workers = Workers(None, 2, 0.2)
    started = time.monotonic()
    found = collected(workers, each(hanging), jobs(*range(9)))
    assert time.monotonic() - started < PATIENCE_S / 2
    assert [place for place in found if found[place][0].value is None] == [0, 3, 6]
    assert found[0][0].error == "the evaluator did not answer within 0.2 s"
    assert values(collected(workers, each(doubled), jobs(1, 2, 3))) == [2.0, 4.0, 6.0]


def test_more_hanging_jobs_than_workers_do_not_block(release: threading.Event) -> None:
    def hanging(genes: dict[str, Any], case: int) -> float:
        release.wait(PATIENCE_S)
        return case

    found = collected(Workers(None, 2, 0.1), each(hanging), jobs(*range(6)))
    assert values(found) == [None] * 6


def test_every_case_of_a_late_batch_is_failed(release: threading.Event) -> None:
    def hanging(genes: dict[str, Any], cases: list[int]) -> list[float]:
        release.wait(PATIENCE_S)
        return [1.0] * len(cases)

    evaluator = Evaluator.adapt(None, hanging, None)
    found = collected(Workers(None, 1, 0.1), evaluator, [Job({}, (1, 2, 3), (0, 0, 0))])
    assert [outcome.value for outcome in found[0]] == [None] * 3


def test_a_deadline_counts_from_the_start_of_a_job_and_not_of_the_list() -> None:
    found = collected(Workers(None, 1, 0.5), each(late), jobs(*[0.15] * 6))
    assert values(found) == [0.15] * 6


def test_a_deadline_does_not_count_the_wait_in_the_queue_of_a_smaller_executor() -> None:
    with ThreadPoolExecutor(1) as pool:
        found = collected(Workers(pool, 4, 0.5), each(late), jobs(*[0.2] * 4))
    assert values(found) == [0.2] * 4


def test_an_executor_all_of_whose_workers_hang_is_given_up(release: threading.Event) -> None:
    def hanging(genes: dict[str, Any], case: int) -> float:
        release.wait(PATIENCE_S)
        return case

    with ThreadPoolExecutor(2) as pool:
        running = Workers(pool, None, 0.1).run(each(hanging), jobs(*range(4)))
        failed = [outcomes[0].error for _, outcomes in next(running)]
        assert failed == ["the evaluator did not answer within 0.1 s"] * len(failed)
        with pytest.raises(EvaluationFailed, match="hold every worker"):
            list(running)
        release.set()


HANGS = """
import threading
from bedrock_evolution.fitness.evaluator import Evaluator, Job
from bedrock_evolution.fitness.workers import Workers, beside
evaluator = Evaluator.adapt(lambda genes, case: threading.Event().wait(), None, None)
print(list(Workers(None, 2, 0.1).run(evaluator, [Job({}, (1,), (0,))]))[0][0][1][0].error)
"""


def test_a_hanging_evaluator_does_not_keep_the_process_alive() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert "did not answer" in ended.stdout


# -- executors that are given


def test_the_size_of_an_executor_is_the_number_of_workers() -> None:
    with ThreadPoolExecutor(3) as pool:
        assert Workers(pool, None, None).count == 3
        assert Workers(pool, 2, None).count == 2
    assert Workers(None, None, None).count >= 1


def test_processes_give_what_threads_give(processes: ProcessPoolExecutor) -> None:
    work = jobs(*range(10), shift=0.5)
    assert collected(Workers(processes, None, 60.0), each(doubled), work) == collected(
        Workers(None, 2, None), each(doubled), work
    )


def test_an_evaluator_that_cannot_be_sent_is_explained(processes: ProcessPoolExecutor) -> None:
    with pytest.raises(EvaluationFailed, match="could not run the evaluator") as error:
        collected(Workers(processes, None, 60.0), each(lambda genes, case: 1.0), jobs(1, 2))
    assert "pickled" in error.value.hint


def test_an_executor_that_breaks_is_explained() -> None:
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    with pool, pytest.raises(EvaluationFailed, match="the executor broke"):
        collected(Workers(pool, None, 60.0), each(fatal), jobs(1, 2))


def test_an_executor_that_is_shut_down_is_explained() -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(EvaluationFailed):
        collected(Workers(pool, None, None), each(doubled), jobs(1, 2))


def test_our_own_threads_end_when_closed_and_a_given_executor_stays() -> None:
    before = set(threading.enumerate())
    workers = Workers(None, 3, None)
    collected(workers, each(late), jobs(0.02, 0.02, 0.02))
    own = set(threading.enumerate()) - before
    assert own
    workers.close()
    for thread in own:
        thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in own)
    with ThreadPoolExecutor(1) as pool:
        Workers(pool, None, None).close()
        assert pool.submit(abs, -1).result() == 1


# -- async evaluators


async def patient(genes: dict[str, Any], case: float) -> float:
    await asyncio.sleep(case)
    return case


def test_async_jobs_overlap_and_keep_their_places() -> None:
    started = time.monotonic()
    found = collected(Workers(None, 10, None), each(patient), jobs(0.3, 0.2, 0.1, *[0.3] * 7))
    assert time.monotonic() - started < 2.0
    assert values(found) == [0.3, 0.2, 0.1, *[0.3] * 7]


def test_no_more_async_jobs_run_at_once_than_there_are_workers() -> None:
    running = most = 0

    async def watched(genes: dict[str, Any], case: int) -> float:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.002)
        running -= 1
        return case

    collected(Workers(None, 3, None), each(watched), jobs(*range(20)))
    assert most == 3


def test_an_async_job_that_hangs_fails_alone() -> None:
    found = collected(Workers(None, 2, 0.2), each(patient), jobs(0.0, 3600.0, 0.01, 3600.0, 0.01))
    assert values(found) == [0.0, None, 0.01, None, 0.01]
    assert "did not answer within 0.2 s" in found[1][0].error


def test_an_async_job_that_blocks_its_loop_is_failed_in_time() -> None:
    async def blocking(genes: dict[str, Any], case: float) -> float:
        time.sleep(case)  # noqa: ASYNC251  # the mistake this is about
        return case

    started = time.monotonic()
    with pytest.raises(EvaluationFailed, match="blocks its loop"):
        next(Workers(None, 1, 0.1).run(each(blocking), jobs(1.5)))
    assert time.monotonic() - started < 1.0


async def test_async_jobs_run_although_a_loop_is_running_already() -> None:
    assert values(collected(Workers(None, 4, 5.0), each(patient), jobs(0.01, 0.0))) == [0.01, 0.0]


async def test_plain_jobs_run_although_a_loop_is_running_already() -> None:
    assert values(collected(Workers(None, 4, 5.0), each(doubled), jobs(1, 2))) == [2.0, 4.0]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_a_single_hidden_coroutine_is_awaited_although_a_loop_is_running_already() -> None:
    evaluator = each(lambda genes, case: patient(dict(genes), case))
    assert values(collected(Workers(None, 4, None), evaluator, jobs(0.01))) == [0.01]


# -- beside


def test_work_beside_a_block_is_done_at_its_end() -> None:
    gate = threading.Event()
    with beside(lambda: gate.wait(10)) as done:
        assert not done.done()
        gate.set()
    assert done.result(0) is True


def test_what_work_beside_a_block_raises_is_kept_for_who_asks() -> None:
    with beside(lambda: 1 // 0) as done:
        pass
    with pytest.raises(ZeroDivisionError):
        done.result(0)


def test_work_beside_a_block_that_fails_is_done_at_its_end_too() -> None:
    gate = threading.Event()
    threading.Timer(0.05, gate.set).start()
    with pytest.raises(ValueError, match="no"), beside(lambda: gate.wait(10)) as done:
        raise ValueError("no")
    assert done.result(0) is True


def test_ctrl_c_waits_for_nothing_beside() -> None:
    gate = threading.Event()
    with pytest.raises(KeyboardInterrupt), beside(lambda: gate.wait(10)) as done:
        raise KeyboardInterrupt
    assert not done.done()
    gate.set()
