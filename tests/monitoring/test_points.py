"""Points hold nothing that CloudWatch refuses."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_evolution.monitoring.points import FITNESS, METRICS, dimension_value, points


@given(st.text(min_size=1, max_size=300) | st.text(" :%", min_size=1, max_size=4))
def test_any_text_becomes_a_value_that_a_dimension_may_have(text: str) -> None:
    value = dimension_value(text)
    assert 1 <= len(value) <= 1024
    assert all(" " <= character <= "~" for character in value)
    assert not value.startswith(":")
    assert not value.isspace()


@given(st.lists(st.text(min_size=1, max_size=40) | st.text(" :%2053A", min_size=1, max_size=6), max_size=20))
def test_different_names_of_usual_length_stay_different(names: list[str]) -> None:
    assert len({dimension_value(name) for name in names}) == len(set(names))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("support-router", "support-router"),
        ("arn:aws:bedrock:eu-central-1:1:model/x", "arn:aws:bedrock:eu-central-1:1:model/x"),
        ("a b", "a b"),
        ("für alle", "f%C3%BCr alle"),
        ("100%", "100%25"),
        (":app", "%3Aapp"),
        ("  ", "%20 "),
        ("", "-"),
        ("x" * 2000, "x" * 1024),
    ],
)
def test_a_value_is_written_as_it_is_where_it_may_be(text: str, value: str) -> None:
    assert dimension_value(text) == value


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, 2.0**361, -(2.0**361)])
def test_a_value_that_would_spoil_a_whole_request_is_left_out(value: float | None) -> None:
    assert list(points(FITNESS, value, 0, {"App": "a"})) == []


def test_every_metric_is_told_by_application_or_by_less_than_its_run() -> None:
    """A set of dimensions is paid for with each of its values: only four metrics have one for each run."""
    assert all(names[0] == "App" for metric in METRICS for names in metric.sets)
    by_run = [metric.name for metric in METRICS if any("Run" in names for names in metric.sets)]
    assert by_run == ["Fitness", "Trials", "Evaluations", "SpendUsd"]
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_the_documentation_tells_of_every_metric() -> None:
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    told = {row[0]: (row[1], row[2]) for row in rows if len(row) == 4 and row[0].startswith("`")}
    assert told == {
        f"`{metric.name}`": (metric.unit, " · ".join(f"`{', '.join(names)}`" for names in metric.sets))
        for metric in METRICS
    }
