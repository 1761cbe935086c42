"""Embedded Metric Format: metrics as lines of a log, from which CloudWatch takes them.

Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

import orjson

from .points import Point

_NAMED = {"local": True, "lambda": True, "ecs": True, "ec2": False, "default": False}
"""What AWS_EMF_ENVIRONMENT may say, as in aws-embedded-metrics, and whether CloudWatch reads standard output there."""


def reads_standard_output(environment: Mapping[str, str]) -> bool:
    """Whether CloudWatch reads the standard output of a process with these environment variables.

    AWS_EMF_ENVIRONMENT says so; without it Lambda does, and ECS. An ECS task whose log driver sends elsewhere has to
    set it to `Default`.
    """
    named = environment.get("AWS_EMF_ENVIRONMENT", "").lower()
    if named in _NAMED:
        return _NAMED[named]
    return bool(environment.get("AWS_LAMBDA_FUNCTION_NAME") or environment.get("ECS_CONTAINER_METADATA_URI_V4"))


class StandardOutput:
    """Writes each batch of points as lines.

    Args:
        out: Where to.
        namespace: The namespace of the metrics.
    """

    def __init__(self, out: TextIO, namespace: str) -> None:
        self._out = out
        self._namespace = namespace

    def take(self, points: Iterable[Point]) -> None:
        """Write the points, in one piece.

        Raises:
            OSError: They cannot be written.
            ValueError: The file is closed.
        """
        self._out.write("".join(f"{line}\n" for line in documents(points, self._namespace)))
        self._out.flush()

    def ship(self, *, now: bool) -> bool:  # what is written has arrived
        """Return that nothing waits."""
        return True


def documents(points: Iterable[Point], namespace: str) -> Iterator[str]:
    """Yield the documents that hold the points: one for all that have time and dimensions in common."""
    open_documents: dict[tuple[Any, ...], dict[str, Point]] = {}
    for point in points:
        about = (point.at_ms, tuple(point.dimensions.items()), point.metric.sets)
        named = open_documents.setdefault(about, {})
        if point.metric.name in named:
            yield _document(named, namespace)
            named = open_documents[about] = {}
        named[point.metric.name] = point
    for named in open_documents.values():
        yield _document(named, namespace)


def _document(named: Mapping[str, Point], namespace: str) -> str:
    first = next(iter(named.values()))
    directive = {
        "Namespace": namespace,
        "Dimensions": first.metric.sets,
        "Metrics": [{"Name": name, "Unit": point.metric.unit} for name, point in named.items()],
    }
    metadata = {"Timestamp": first.at_ms, "CloudWatchMetrics": [directive]}
    values = {name: point.value for name, point in named.items()}
    return orjson.dumps({"_aws": metadata, **first.dimensions, **values}).decode()
