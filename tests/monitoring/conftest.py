"""A CloudWatch that answers on this machine, and metrics on their way to it."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, TextIO
from urllib.request import Request, urlopen

import pytest

from bedrock_evolution.clock import Clock, FixedClock, SystemClock
from bedrock_evolution.dna.aws.calls import Clients
from bedrock_evolution.monitoring.cloudwatch import CloudWatch
from bedrock_evolution.monitoring.measures import Measures
from bedrock_evolution.monitoring.metrics import LONGEST_HAND_OVER, Metrics
from bedrock_evolution.monitoring.opening import open_metrics
from bedrock_evolution.monitoring.outcomes import Outcomes
from bedrock_evolution.monitoring.queue import LONGEST_QUEUE
from bedrock_evolution.monitoring.work_file import WorkFile
from tests.support.cloud import session
from tests.support.moto_server import MotoServer, moto_server

APP = "router"
REGION = "eu-central-1"
MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENCE_S = 60.0
"""More than anything here takes, however busy the machine is."""
_NAMES = count(1)


@dataclass(frozen=True)
class Progress:
    """Where a run stands: `results.Progress`, as far as it is measured."""

    run_id: str = "run-1"
    step: str = "trial"
    generation: int = 1
    fitness: float | None = None
    trials: int = 0
    evaluations: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True)
class Result:
    """What a run ended with, as far as it is measured."""

    run_id: str = "run-1"
    status: str = "done"
    fitness: float | None = None
    trials: int = 0
    evaluations: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True)
class Watch:
    """CloudWatch at a URL, under a namespace that nobody has."""

    url: str
    path: Path
    namespace: str = field(default_factory=lambda: f"Test{next(_NAMES)}")

    def clients(self, read_timeout_s: float = PATIENCE_S) -> Clients:
        return Clients(session, {REGION: self.url}, attempts=1, read_timeout_s=read_timeout_s)

    def metrics(
        self,
        *,
        app: str = APP,
        clock: Clock | None = None,
        environment: Mapping[str, str] | None = None,
        out: TextIO | None = None,
        read_timeout_s: float = PATIENCE_S,
    ) -> Metrics:
        """Return metrics as the application opens them."""
        return open_metrics(
            app=app,
            namespace=self.namespace,
            path=self.path,
            clients=self.clients(read_timeout_s),
            region=REGION,
            clock=clock or SystemClock(),
            draws=random.Random(1),
            environment=environment or {},
            out=out or sys.stdout,
        )

    def small(self, *, queue: int = LONGEST_QUEUE, hand_over: int = LONGEST_HAND_OVER) -> Metrics:
        """Return metrics that keep less than usual."""
        file, clock = WorkFile(self.path), SystemClock()
        outlet = CloudWatch(file, self.clients(), REGION, self.namespace, APP, clock, random.Random(1), queue)
        return Metrics(Measures(APP, Outcomes(file, APP)), outlet, file, clock=clock, longest=hand_over)

    def outlet(
        self, clock: Clock | None = None, *, longest: int = LONGEST_QUEUE, read_timeout_s: float = PATIENCE_S
    ) -> CloudWatch:
        """Return the way to CloudWatch alone."""
        return CloudWatch(
            WorkFile(self.path),
            self.clients(read_timeout_s),
            REGION,
            self.namespace,
            APP,
            clock or FixedClock(MOMENT),
            random.Random(1),
            longest,
        )

    def read(self, metric: str, statistic: str = "Sum", *, at: datetime | None = None, **dimensions: str) -> float:
        """Return a statistic of a metric with exactly these dimensions, as somebody else reads it; 0 for none."""
        client: Any = session().client("cloudwatch", region_name=REGION, endpoint_url=self.url)
        named = [{"Name": name, "Value": value} for name, value in dimensions.items()]
        about = {"Namespace": self.namespace, "MetricName": metric, "Dimensions": named}
        moment = at or datetime.now(UTC)
        found = client.get_metric_data(
            MetricDataQueries=[{"Id": "q", "MetricStat": {"Metric": about, "Period": 86_400, "Stat": statistic}}],
            StartTime=moment - timedelta(hours=1),
            EndTime=moment + timedelta(hours=1),
        )["MetricDataResults"][0]["Values"]
        return float(sum(found))

    def everywhere(self, metric: str, *, at: datetime) -> float:
        """Return the sum of a metric of this namespace, whatever its dimensions."""
        client: Any = session().client("cloudwatch", region_name=REGION, endpoint_url=self.url)
        found = client.get_metric_statistics(
            Namespace=self.namespace,
            MetricName=metric,
            StartTime=at - timedelta(hours=1),
            EndTime=at + timedelta(hours=1),
            Period=86_400,
            Statistics=["Sum"],
        )["Datapoints"]
        return float(sum(point["Sum"] for point in found))

    def listed(self) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        """Return the names and dimensions of all metrics of the namespace: what is paid for."""
        client: Any = session().client("cloudwatch", region_name=REGION, endpoint_url=self.url)
        pages = client.get_paginator("list_metrics").paginate(Namespace=self.namespace)
        return {
            (metric["MetricName"], tuple((each["Name"], each["Value"]) for each in metric["Dimensions"]))
            for page in pages
            for metric in page["Metrics"]
        }


@pytest.fixture(scope="module")
def server() -> Iterator[MotoServer]:
    with moto_server() as running:
        yield running


@pytest.fixture
def watch(server: MotoServer, tmp_path: Path) -> Watch:
    # The emulator tells metrics of one name apart by their dimensions only, not by their namespaces.
    with urlopen(Request(f"{server.url}/moto-api/reset", method="POST")) as answer:
        assert answer.status == 200
    return Watch(server.url, tmp_path / "evolution.db")


@pytest.fixture
def opened() -> Iterator[Callable[[Metrics], Metrics]]:
    """Close metrics when the test is over."""
    all_opened: list[Metrics] = []

    def remember(metrics: Metrics) -> Metrics:
        all_opened.append(metrics)
        return metrics

    yield remember
    for metrics in all_opened:
        metrics.close()
