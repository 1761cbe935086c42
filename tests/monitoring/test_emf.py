"""Lines on standard output are documents of the Embedded Metric Format."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedrock_evolution.monitoring.cloudwatch import data_of
from bedrock_evolution.monitoring.emf import StandardOutput, documents, reads_standard_output
from bedrock_evolution.monitoring.points import METRICS, Point, points
from tests.garden import garden
from tests.monitoring.conftest import Watch

UNITS = (
    "Seconds|Microseconds|Milliseconds|Bytes|Kilobytes|Megabytes|Gigabytes|Terabytes|Bits|Kilobits|Megabits|Gigabits|"
    "Terabits|Percent|Count|None"
)
SCHEMA = {
    "type": "object",
    "required": ["_aws"],
    "properties": {
        "_aws": {
            "type": "object",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "additionalProperties": False,
            "properties": {
                "Timestamp": {"type": "integer"},
                "CloudWatchMetrics": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["Namespace", "Dimensions", "Metrics"],
                        "additionalProperties": False,
                        "properties": {
                            "Namespace": {"type": "string", "minLength": 1, "maxLength": 255},
                            "Dimensions": {
                                "type": "array",
                                "minItems": 1,
                                "items": {
                                    "type": "array",
                                    "maxItems": 30,
                                    "items": {"type": "string", "minLength": 1, "maxLength": 250},
                                },
                            },
                            "Metrics": {
                                "type": "array",
                                "maxItems": 100,
                                "items": {
                                    "type": "object",
                                    "required": ["Name"],
                                    "additionalProperties": False,
                                    "properties": {
                                        "Name": {"type": "string", "minLength": 1, "maxLength": 1024},
                                        "Unit": {"type": "string", "pattern": f"^({UNITS})$"},
                                        "StorageResolution": {"enum": [1, 60]},
                                    },
                                },
                            },
                        },
                    },
                },
            },
        }
    },
}
"""The specification's schema, with what its text demands beyond it: no other members, and at most 100 metrics
(https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html)."""
MAX_BYTES = 256 * 1024


def extracted(line: str) -> list[tuple[str, str, tuple[tuple[str, str], ...], int, float]]:
    """Return what CloudWatch takes from a line, after checking it by the specification."""
    document: dict[str, Any] = json.loads(line)
    jsonschema.validate(document, SCHEMA)
    assert len(line.encode()) <= MAX_BYTES
    found = []
    for directive in document["_aws"]["CloudWatchMetrics"]:
        for definition in directive["Metrics"]:
            value = document[definition["Name"]]
            assert isinstance(value, int | float)
            for names in directive["Dimensions"]:
                dimensions = tuple((name, document[name]) for name in names)
                assert all(isinstance(text, str) and 1 <= len(text) <= 1024 for _, text in dimensions)
                at_ms = document["_aws"]["Timestamp"]
                found.append((definition["Name"], definition["Unit"], dimensions, at_ms, float(value)))
    return found


TEXTS = st.text(min_size=1, max_size=30)
GIVEN = st.builds(
    points,
    st.sampled_from(METRICS),
    st.floats() | st.integers(0, 10**6),
    st.integers(1_700_000_000_000, 1_700_000_000_003),
    st.fixed_dictionaries(
        {name: TEXTS | st.just("same") for name in ("App", "Run", "Step", "Model", "Verdict", "Status")}
    ),
)


@settings(max_examples=40)
@given(st.lists(GIVEN, max_size=20).map(lambda lists: [point for made in lists for point in made]))
def test_any_points_come_out_of_the_lines_as_they_come_out_of_the_api(given: list[Point]) -> None:
    wanted = Counter(
        (
            datum["MetricName"],
            datum["Unit"],
            tuple((each["Name"], each["Value"]) for each in datum["Dimensions"]),
            point.at_ms,
            datum["Value"],
        )
        for point in given
        for datum in data_of(point)
    )
    lines = list(documents(given, "Evolution"))
    assert Counter(each for line in lines for each in extracted(line)) == wanted
    assert all("\n" not in line for line in lines)


def test_what_is_not_a_dimension_of_a_metric_is_told_beside_it() -> None:
    """So logs can be searched by the run, and nothing is paid for it."""
    [point] = points(METRICS[-1], 1, 0, {"App": "a", "Run": "run-1"})
    [line] = documents([point], "Evolution")
    assert json.loads(line)["Run"] == "run-1"
    assert json.loads(line)["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["App"]]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"AWS_LAMBDA_FUNCTION_NAME": "evolve"}, True),
        ({"AWS_LAMBDA_FUNCTION_NAME": ""}, False),
        ({"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/x"}, True),
        ({"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/x", "AWS_EMF_ENVIRONMENT": "Default"}, False),
        ({"AWS_LAMBDA_FUNCTION_NAME": "evolve", "AWS_EMF_ENVIRONMENT": "EC2"}, False),
        ({"AWS_EMF_ENVIRONMENT": "Local"}, True),
        ({"AWS_EMF_ENVIRONMENT": "Lambda"}, True),
        ({"AWS_EMF_ENVIRONMENT": "nonsense"}, False),
        ({"AWS_LAMBDA_FUNCTION_NAME": "evolve", "AWS_EMF_ENVIRONMENT": "nonsense"}, True),
    ],
)
def test_where_standard_output_is_read(environment: dict[str, str], expected: bool) -> None:
    assert reads_standard_output(environment) is expected


def test_a_closed_standard_output_fails_and_half_a_batch_is_never_written() -> None:
    out = io.StringIO()
    outlet = StandardOutput(out, "Evolution")
    made = [point for number in range(3) for point in points(METRICS[0], number, number, {"App": "a", "Run": "r"})]
    outlet.take(made)
    assert len(out.getvalue().splitlines()) == 3
    out.close()
    with pytest.raises(ValueError, match="closed"):
        outlet.take(made)


def test_a_run_on_lambda_needs_no_aws_to_tell_its_metrics(tmp_path: Path) -> None:
    """The URL is one where nobody answers, and there are no credentials."""
    evolution, out = garden(tmp_path), io.StringIO()
    metrics = Watch("http://127.0.0.1:9", tmp_path / "g.db").metrics(
        app="garden", environment={"AWS_LAMBDA_FUNCTION_NAME": "evolve"}, out=out
    )
    last: Any = None
    for last in evolution.stream(2, seed=5):
        if hasattr(last, "step"):
            if last.step == "begin":
                metrics.begin(last.run_id)
            metrics.observe(last)
    metrics.ended(last)
    assert metrics.close(60.0)
    found = [each for line in out.getvalue().splitlines() for each in extracted(line)]
    sums: Counter[tuple[str, ...]] = Counter()
    for name, _, dimensions, _, value in found:
        sums[name, *(name for name, _ in dimensions)] += value  # type: ignore[assignment]
    for by in (("App",), ("App", "Run")):
        assert sums["Trials", *by] == last.trials
        assert sums["Evaluations", *by] == last.evaluations
    assert sums["Decisions", "App", "Verdict"] == last.generations == 2
    assert sums["RunsEnded", "App", "Status"] == 1
    evolution.close()
