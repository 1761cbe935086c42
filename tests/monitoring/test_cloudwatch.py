"""Points reach CloudWatch in requests it takes, once it can be reached, in their order, and not without end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.model import ServiceModel
from botocore.serialize import create_serializer
from hypothesis import given, settings
from hypothesis import strategies as st

from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.aws.calls import Clients
from bedrock_evolution.dna.database import Database
from bedrock_evolution.monitoring.cloudwatch import MAX_DATA, OLDEST, data_of, fitting
from bedrock_evolution.monitoring.points import DROPPED, FITNESS, INCIDENTS, METRICS, TRIALS, Metric, Point, points
from bedrock_evolution.monitoring.queue import MetricQueue
from bedrock_evolution.monitoring.work_file import WorkFile
from tests.monitoring.conftest import APP, MOMENT, PATIENCE_S, REGION, Watch
from tests.support.cloud import session
from tests.support.faulty_proxy import FaultyProxy
from tests.support.moto_server import MotoServer

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[2]
MEGABYTE = 1_000_000
PORT_OF_NOBODY = "http://127.0.0.1:9"


def made(count: int, *, metric: Metric = TRIALS, first: float = 1, age: timedelta = timedelta(0)) -> list[Point]:
    at_ms = round(1000 * (MOMENT - age).timestamp())
    dimensions = {"App": APP, "Run": "run-1"}
    return [point for number in range(count) for point in points(metric, first + number, at_ms, dimensions)]


def waiting(path: Path) -> list[Point]:
    queue = MetricQueue(WorkFile(path), lambda dropped: [])
    return [each.point for each in queue.oldest(100_000)]


def values(of: Iterable[Point]) -> list[float]:
    return [point.value for point in of]


@pytest.fixture(autouse=True)
def _uncompressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the proxy see what is sent: large requests are compressed otherwise."""
    monkeypatch.setenv("AWS_DISABLE_REQUEST_COMPRESSION", "true")


# -- requests


SERVICE: ServiceModel = session().client("cloudwatch", region_name=REGION).meta.service_model
GIVEN = st.builds(
    lambda metric, app, run, count: list(points(metric, 0.1, 1_700_000_000_000, {"App": app, "Run": run})) * count,
    st.sampled_from([metric for metric in METRICS if all({"App", "Run"} >= set(names) for names in metric.sets)]),
    st.text(min_size=1, max_size=1500) | st.integers(1, 1500).map(lambda length: "ü" * length),
    st.text(min_size=1, max_size=30),
    st.integers(1, 800),
)


@settings(max_examples=15)
@given(st.lists(GIVEN, min_size=1, max_size=3))
def test_a_request_holds_no_more_than_cloudwatch_takes(lists: list[list[Point]]) -> None:
    left = [point for given in lists for point in given]
    while left:
        count = fitting(left)
        assert 1 <= count <= len(left)
        data = [datum for point in left[:count] for datum in data_of(point)]
        assert len(data) <= MAX_DATA
        for protocol in ("smithy-rpc-v2-cbor", "json"):
            serializer = create_serializer(protocol, include_validation=False)
            operation = SERVICE.operation_model("PutMetricData")
            body = serializer.serialize_to_request({"Namespace": "N" * 255, "MetricData": data}, operation)["body"]
            assert len(body if isinstance(body, bytes) else body.encode()) <= MEGABYTE
        left = left[count:]


def test_a_request_is_filled() -> None:
    assert fitting(made(5000, metric=INCIDENTS)) == MAX_DATA
    assert fitting(made(5000, metric=FITNESS)) == MAX_DATA / 2


# -- publishing


def test_what_is_published_can_be_read_back(watch: Watch) -> None:
    outlet = watch.outlet()
    outlet.take(made(3, metric=TRIALS))
    outlet.take(made(2, metric=FITNESS, first=0.25))
    assert outlet.ship(now=False)
    assert watch.read("Trials", at=MOMENT, App=APP) == 6
    assert watch.read("Trials", "SampleCount", at=MOMENT, App=APP, Run="run-1") == 3
    assert watch.read("Fitness", "Maximum", at=MOMENT, App=APP, Run="run-1") == 1.25
    by_app, by_run = (("App", APP),), (("App", APP), ("Run", "run-1"))
    assert watch.listed() == {(name, names) for name in ("Trials", "Fitness") for names in (by_app, by_run)}
    assert waiting(watch.path) == []


def test_thousands_of_points_are_published_in_batches(server: MotoServer, watch: Watch) -> None:
    with FaultyProxy(server.url) as proxy:
        outlet = Watch(proxy.url, watch.path, watch.namespace).outlet()
        outlet.take(made(2300, metric=INCIDENTS))
        assert outlet.ship(now=False)
        assert [call.operation for call in proxy.calls] == ["PutMetricData"] * 3
    assert watch.read("Incidents", "SampleCount", at=MOMENT, App=APP) == 2300


def test_metrics_of_another_namespace_that_wait_in_the_file_are_published_there(watch: Watch) -> None:
    """Two applications in one file, or one whose setting was changed."""
    other = Watch(watch.url, watch.path)
    for each in (watch, other, watch):
        each.outlet().take(made(1, metric=INCIDENTS))
    assert watch.outlet().ship(now=False)
    assert (watch.everywhere("Incidents", at=MOMENT), other.everywhere("Incidents", at=MOMENT)) == (2, 1)


def test_only_one_process_at_a_time_takes_from_the_queue(watch: Watch) -> None:
    outlet = watch.outlet()
    outlet.take(made(1))
    with Database(watch.path).lease("metrics"):
        assert not outlet.ship(now=True)
    assert outlet.ship(now=True)
    assert watch.read("Trials", at=MOMENT, App=APP) == 1


# -- while it cannot be reached


def test_the_queue_grows_while_cloudwatch_hangs_and_is_published_when_it_answers(
    server: MotoServer, watch: Watch
) -> None:
    outlet = watch.outlet(read_timeout_s=0.3)
    server.freeze()
    try:
        for number in range(1, 4):
            outlet.take(made(100))
            assert not outlet.ship(now=True)
            assert len(waiting(watch.path)) == 100 * number
    finally:
        server.thaw()
    outlet.clients = watch.clients()
    assert outlet.ship(now=True)
    assert waiting(watch.path) == []
    # The server may take up what it was sent while it hung: each point is published at least once.
    assert watch.read("Trials", "SampleCount", at=MOMENT, App=APP) >= 300


def test_what_waited_is_published_in_its_order(server: MotoServer, watch: Watch) -> None:
    with FaultyProxy(server.url) as proxy:
        outlet = Watch(proxy.url, watch.path, watch.namespace).outlet()
        proxy.down("cloudwatch")
        for number in range(3):
            outlet.take(made(MAX_DATA, metric=INCIDENTS, first=MAX_DATA * number))
            assert not outlet.ship(now=True)
        proxy.up()
        left = []
        while waiting(watch.path):
            left.append(values(waiting(watch.path)))
            proxy.fail("denied", service="cloudwatch", nth=2, times=None)
            assert outlet.ship(now=True) == (len(left) == 3)
            proxy.heal()
    assert [(each[0], each[-1]) for each in left] == [(0, 2999), (1000, 2999), (2000, 2999)]
    assert watch.read("Incidents", "SampleCount", at=MOMENT, App=APP) == 3000


@pytest.mark.parametrize("kind", ["unavailable", "throttle", "denied", "timeout_after", "reset_before", "cut"])
def test_whatever_fails_on_the_way_is_tried_again_and_published(server: MotoServer, watch: Watch, kind: Any) -> None:
    with FaultyProxy(server.url) as proxy:
        outlet = Watch(proxy.url, watch.path, watch.namespace).outlet(read_timeout_s=2.0)
        outlet.take(made(2))
        proxy.fail(kind, service="cloudwatch", times=1)
        assert not outlet.ship(now=True)
        assert values(waiting(watch.path)) == [1, 2]
        assert outlet.ship(now=True)
    assert waiting(watch.path) == []
    # At least once: what took effect without an answer is sent a second time.
    again = kind in ("timeout_after", "cut")
    assert watch.read("Trials", at=MOMENT, App=APP) == (6 if again else 3)


def test_after_failures_cloudwatch_is_left_alone_longer_and_longer_up_to_a_limit(watch: Watch) -> None:
    clock = FixedClock(MOMENT)
    outlet = Watch(PORT_OF_NOBODY, watch.path).outlet(clock)
    outlet.draws = random.Random(7)
    outlet.take(made(1))
    pauses = []
    for _ in range(30):
        assert not outlet.ship(now=False)
        left_alone_s = outlet._again_s - clock.monotonic_s()
        assert not outlet.ship(now=False)
        assert outlet._again_s - clock.monotonic_s() == left_alone_s, "it was not tried before its time"
        pauses.append(left_alone_s)
        clock.sleep(left_alone_s + 0.001)
    assert max(pauses[:3]) <= 16
    assert 60 < max(pauses) <= 120
    assert len(set(pauses)) == len(pauses), "jitter"
    outlet.clients = watch.clients()
    assert outlet.ship(now=False)


def test_a_batch_that_is_refused_for_good_holds_up_nothing_and_is_told(server: MotoServer, watch: Watch) -> None:
    with FaultyProxy(server.url) as proxy:
        outlet = Watch(proxy.url, watch.path, watch.namespace).outlet()
        outlet.take(made(500))
        outlet.take(made(1, first=7))
        proxy.fail("conflict", service="cloudwatch", times=1)
        assert outlet.ship(now=True)
    assert watch.read("Trials", at=MOMENT, App=APP) == 7
    assert watch.read("MetricsDropped", at=MOMENT, App=APP) == 500


def test_a_count_of_what_was_refused_waits_where_that_is_refused_too(server: MotoServer, watch: Watch) -> None:
    with FaultyProxy(server.url) as proxy:
        outlet = Watch(proxy.url, watch.path, watch.namespace).outlet()
        outlet.take(made(500))
        proxy.fail("conflict", service="cloudwatch", times=None)
        assert not outlet.ship(now=True)
        assert len(proxy.calls) == 2
    assert [point.value for point in waiting(watch.path)] == [500]
    assert watch.outlet().ship(now=True)
    assert watch.read("MetricsDropped", at=MOMENT, App=APP) == 500


def test_missing_credentials_keep_the_points(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_found() -> Any:
        raise KeyError("no credentials")

    outlet = watch.outlet()
    outlet.clients = Clients(nothing_found, {REGION: watch.url})
    outlet.take(made(1))
    assert not outlet.ship(now=True)
    assert len(waiting(watch.path)) == 1


# -- bounds


def test_the_oldest_points_are_dropped_first_and_their_number_is_told(watch: Watch) -> None:
    outlet = watch.outlet(longest=10)
    outlet.take(made(10))
    assert values(waiting(watch.path)) == list(range(1, 11))
    outlet.take(made(3, first=11))
    *kept, told = waiting(watch.path)
    assert values(kept) == list(range(5, 14))
    assert (told.metric, told.value) == (DROPPED, 4)


@settings(max_examples=30)
@given(batches=st.lists(st.integers(0, 25), max_size=12), longest=st.integers(1, 20))
def test_every_point_is_in_the_queue_or_counted_as_dropped(
    batches: list[int], longest: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("queue") / "evolution.db"
    outlet = Watch(PORT_OF_NOBODY, path).outlet(longest=longest)
    number = 0
    for size in batches:
        outlet.take(made(size, first=number))
        number += size
        found = waiting(path)
        assert len(found) <= longest
        kept = [point for point in found if point.metric != DROPPED]
        assert len(kept) + sum(point.worth for point in found if point.metric == DROPPED) == number
        assert values(kept) == sorted(values(kept))
    outlet.file.close()


def test_points_older_than_two_weeks_are_dropped_and_counted(watch: Watch) -> None:
    outlet = watch.outlet()
    outlet.take(made(3, age=OLDEST + timedelta(seconds=1)))
    outlet.take(made(2, age=OLDEST - timedelta(seconds=1)))
    outlet.take(made(1, age=OLDEST * 2))
    assert outlet.ship(now=False)
    assert watch.read("Trials", "SampleCount", at=MOMENT - OLDEST, App=APP) == 2
    assert watch.read("MetricsDropped", at=MOMENT, App=APP) == 4
    assert waiting(watch.path) == []


# -- another process


DRIVER = """
import sys, time
from pathlib import Path
from tests.monitoring.conftest import Progress, Watch
path, namespace = sys.argv[1:]
metrics = Watch({url!r}, Path(path), namespace).metrics()
metrics.begin("run-1")
for number in range(1, 6):
    metrics.observe(Progress(step="trial", trials=number, evaluations=10 * number, fitness=number / 8))
assert not metrics.flush(60.0)
print("queued", flush=True)
time.sleep(600)
"""


def test_what_a_killed_process_left_in_the_queue_is_published_by_the_next_one(watch: Watch) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER.format(url=PORT_OF_NOBODY), str(watch.path), watch.namespace],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "queued\n"
        os.kill(driver.pid, signal.SIGKILL)
    assert driver.returncode == -signal.SIGKILL
    assert watch.read("Trials", App=APP) == 0
    metrics = watch.metrics()
    metrics.depth(0)  # a process that has something to tell brings along what waits
    assert metrics.close(PATIENCE_S)
    assert watch.read("Trials", App=APP, Run="run-1") == 5
    assert watch.read("Evaluations", App=APP) == 50
    assert watch.read("Fitness", "Maximum", App=APP, Run="run-1") == 0.625
    assert watch.read("QueueDepth", "SampleCount", App=APP) == 1
