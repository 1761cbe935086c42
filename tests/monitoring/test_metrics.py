"""Whoever hands something in waits for nothing: not for the file, not for CloudWatch, not for anybody's mistake."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.dna.database import Database
from bedrock_evolution.monitoring.metrics import Metrics
from bedrock_evolution.monitoring.seen import Totals
from tests.garden import garden
from tests.monitoring.conftest import APP, PATIENCE_S, Progress, Result, Watch
from tests.monitoring.test_cloudwatch import PORT_OF_NOBODY, waiting
from tests.support.moto_server import MotoServer

pytestmark = pytest.mark.slow


def finished(work: Callable[[], object]) -> bool:
    """Whether work comes to its end by itself."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return not thread.is_alive()


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Let nobody else write to the file."""
    with closing(Database(path)) as database, database.transaction("tables"):
        yield


def test_handing_in_waits_neither_for_the_file_nor_for_cloudwatch(
    server: MotoServer, watch: Watch, opened: Callable[[Metrics], Metrics]
) -> None:
    """The server hangs and the file is held by somebody else until everything is handed in."""
    metrics = opened(watch.metrics(read_timeout_s=0.3))
    server.freeze()
    try:
        with held(watch.path):

            def hand_in() -> None:
                metrics.begin("run-1")
                for number in range(5000):
                    metrics.observe(Progress(step="apply", trials=number))
                    metrics.called("run-1", "model", 3.0)
                    metrics.depth(number)
                metrics.ended(Result(trials=5000))

            assert finished(hand_in)
    finally:
        server.thaw()


def test_what_waits_in_memory_is_bounded_and_no_count_is_lost(
    watch: Watch, opened: Callable[[Metrics], Metrics]
) -> None:
    metrics = opened(watch.small(hand_over=100))
    metrics.begin("run-1")
    assert metrics.flush(PATIENCE_S)
    with held(watch.path):
        for number in range(1000):
            metrics.observe(Progress(step="trial", trials=number))
            assert len(metrics._seen) <= 100
            assert len(metrics._points) <= 100 + 3 * 100
        metrics.ended(Result(trials=1000))
    assert metrics.flush(PATIENCE_S)
    assert watch.read("Trials", App=APP) == 1000
    assert watch.read("MetricsDropped", App=APP) >= 1000 - 100 - 100


def test_a_run_in_which_cloudwatch_cannot_be_reached_is_published_afterwards(watch: Watch) -> None:
    metrics = Watch(PORT_OF_NOBODY, watch.path, watch.namespace).metrics()
    metrics.begin("run-1", Totals(trials=2, evaluations=20, micro_usd=1_000_000))
    metrics.observe(Progress(step="observe", fitness=0.5, trials=2, evaluations=30, cost_usd=1.0))
    metrics.observe(Progress(step="trial", fitness=0.5, trials=4, evaluations=50, cost_usd=1.25))
    metrics.ended(Result(status="waiting", fitness=0.5, trials=4, evaluations=60, cost_usd=1.5))
    assert not metrics.close(PATIENCE_S)
    assert waiting(watch.path)
    later = watch.metrics()
    later.depth(0)
    assert later.close(PATIENCE_S)
    assert watch.read("Trials", App=APP, Run="run-1") == 2
    assert watch.read("Evaluations", App=APP) == 40
    assert watch.read("SpendUsd", App=APP) == 0.5
    assert watch.read("RunsEnded", App=APP, Status="waiting") == 1


def test_closing_comes_to_an_end_while_cloudwatch_hangs_and_leaves_all_in_the_file(
    server: MotoServer, watch: Watch
) -> None:
    metrics = watch.metrics()
    server.freeze()
    try:
        metrics.begin("run-1")
        metrics.observe(Progress(trials=3))
        assert not metrics.flush(0.2)
        metrics.observe(Progress(trials=5))  # while the thread waits for its answer
        assert not metrics.close(0.2)
        trials = [point.value for point in waiting(watch.path) if point.metric.name == "Trials"]
        assert trials == [3, 2]
        assert not metrics.close()
    finally:
        server.thaw()


def test_nothing_is_opened_or_started_before_something_is_handed_in(tmp_path: Path) -> None:
    watch = Watch(PORT_OF_NOBODY, tmp_path / "evolution.db")
    before = set(threading.enumerate())
    metrics = watch.metrics()
    assert metrics.flush(0.0)
    assert metrics.close(0.0)
    assert not [thread for thread in {*threading.enumerate()} - before if thread.name == "metrics"]
    assert not watch.path.exists()


def test_metrics_that_nobody_can_take_are_kept_and_told_when_somebody_can(
    tmp_path: Path, opened: Callable[[Metrics], Metrics]
) -> None:
    class Full(io.StringIO):
        full = True

        def write(self, text: str) -> int:
            if self.full:
                raise OSError("no space left on device")
            return super().write(text)

    out = Full()
    metrics = opened(
        Watch(PORT_OF_NOBODY, tmp_path / "e.db").metrics(environment={"AWS_EMF_ENVIRONMENT": "Local"}, out=out)
    )
    metrics.depth(1)
    assert not metrics.flush(PATIENCE_S)
    out.full = False
    metrics.depth(2)
    assert metrics.flush(PATIENCE_S)
    assert out.getvalue().count('"QueueDepth":') == 2


def test_what_is_published_of_a_real_run_is_what_it_did(watch: Watch, tmp_path: Path) -> None:
    evolution = garden(tmp_path)
    metrics = Watch(watch.url, tmp_path / "g.db", watch.namespace).metrics(app="garden")
    last: Any = None
    for last in evolution.stream(2, seed=5):
        if hasattr(last, "step"):
            if last.step == "begin":
                metrics.begin(last.run_id)
            metrics.observe(last)
    metrics.ended(last)
    assert metrics.close(PATIENCE_S)
    assert watch.read("Trials", App="garden") == last.trials
    assert watch.read("Evaluations", App="garden", Run=last.run_id) == last.evaluations
    assert watch.read("Fitness", "Maximum", App="garden") == pytest.approx(last.fitness)
    verdicts = ("applied", "lost", "rejected", "deferred", "trialled")
    on_record = {kind: len(evolution.store.recent("garden", [kind], limit=99)) for kind in verdicts}
    told = {kind: watch.read("Decisions", App="garden", Verdict=kind) for kind in verdicts}
    assert told == on_record
    assert sum(told.values()) == 2
    assert watch.read("StepLatency", "SampleCount", App="garden", Step="trial") == 2
    evolution.close()
