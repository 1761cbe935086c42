"""Metrics, and the data points that are published of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple
from urllib.parse import quote

Unit = Literal["Count", "Milliseconds", "None"]
Dimensions = tuple[str, ...]

APP: Dimensions = ("App",)
RUN: Dimensions = ("App", "Run")

_LARGEST = 2.0**360
"""CloudWatch refuses values beyond it (https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html)."""
_LONGEST_VALUE = 1024
_KEPT = "".join(chr(code) for code in range(ord(" "), ord("~") + 1) if chr(code) != "%")


class Metric(NamedTuple):
    """One metric.

    Args:
        name: Its name.
        unit: Its unit.
        sets: The sets of dimensions it is published under; each one with its values is a metric of its own, and paid
            for as such.
    """

    name: str
    unit: Unit
    sets: tuple[Dimensions, ...] = (APP,)


FITNESS = Metric("Fitness", "None", (APP, RUN))
TRIALS = Metric("Trials", "Count", (APP, RUN))
EVALUATIONS = Metric("Evaluations", "Count", (APP, RUN))
SPEND = Metric("SpendUsd", "None", (APP, RUN))
DECISIONS = Metric("Decisions", "Count", (("App", "Verdict"),))
STEP_LATENCY = Metric("StepLatency", "Milliseconds", (("App", "Step"),))
MODEL_LATENCY = Metric("ModelCallLatency", "Milliseconds", (("App", "Model"),))
INCIDENTS = Metric("Incidents", "Count")
QUEUE_DEPTH = Metric("QueueDepth", "Count")
RUNS_ENDED = Metric("RunsEnded", "Count", (("App", "Status"),))
DROPPED = Metric("MetricsDropped", "Count")
METRICS = (
    FITNESS, TRIALS, EVALUATIONS, SPEND, DECISIONS, STEP_LATENCY, MODEL_LATENCY, INCIDENTS, QUEUE_DEPTH, RUNS_ENDED,
    DROPPED,
)  # fmt: skip
"""All that is published."""


@dataclass(frozen=True, slots=True)
class Point:
    """One measured value.

    Args:
        metric: What was measured.
        value: A value that CloudWatch accepts.
        at_ms: When, in milliseconds since 1970 UTC.
        dimensions: The values of the dimensions of all its sets; there may be others, which are told beside it.
    """

    metric: Metric
    value: float
    at_ms: int
    dimensions: Mapping[str, str]

    @property
    def worth(self) -> int:
        """How many points are lost with it: one that tells of others that were dropped stands for them."""
        return int(self.value) if self.metric.name == DROPPED.name else 1


def points(metric: Metric, value: float | None, at_ms: int, dimensions: Mapping[str, str]) -> Iterator[Point]:
    """Yield a value as a point; nothing for one that CloudWatch would refuse together with all that is sent with it.

    Args:
        metric: What was measured.
        value: The value; None for one that is not known.
        at_ms: When, in milliseconds since 1970 UTC.
        dimensions: Names and values; values may be any texts.
    """
    if value is not None and math.isfinite(value) and abs(value) <= _LARGEST:
        yield Point(metric, value, at_ms, {name: dimension_value(text) for name, text in dimensions.items()})


def dimension_value(text: str) -> str:
    """Return a text as CloudWatch takes it for the value of a dimension.

    Such a value has 1 to 1024 printable ASCII characters, does not begin with a colon, and is not blank
    (https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_Dimension.html). All else is written as in
    a URL.
    """
    value = quote(text, safe=_KEPT)
    if value.startswith(":") or value.isspace():
        value = quote(value[0], safe="") + value[1:]
    return value[:_LONGEST_VALUE] or "-"
