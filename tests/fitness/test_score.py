"""Scores: what counts as one, and what becomes of everything else."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedrock_evolution.fitness.score import Outcome, Score, as_outcome, failed


@pytest.mark.parametrize(
    ("result", "value"),
    [
        pytest.param(0.25, 0.25, id="float"),
        pytest.param(3, 3.0, id="integer"),
        pytest.param(-2.5, -2.5, id="negative"),
        pytest.param(True, 1.0, id="true"),
        pytest.param(False, 0.0, id="false"),
        pytest.param(np.float32(0.5), 0.5, id="numpy float"),
        pytest.param(np.int64(4), 4.0, id="numpy integer"),
        pytest.param(np.bool_(True), 1.0, id="numpy truth value"),
        pytest.param(np.array(0.75), 0.75, id="numpy array without dimensions"),
        pytest.param(np.array([0.75]), 0.75, id="numpy array of one"),
        pytest.param(Score(0.5), 0.5, id="Score"),
        pytest.param(Score(np.float64(0.5)), 0.5, id="Score of a numpy float"),
        pytest.param(Score(value=0.0), 0.0, id="zero"),
    ],
)
def test_a_finite_number_is_a_score(result: Any, value: float) -> None:
    outcome = as_outcome(result, None)
    assert outcome == Outcome(value=value)
    assert type(outcome.value) is float


@pytest.mark.parametrize(
    ("result", "said"),
    [
        pytest.param(float("nan"), "nan, not a finite number", id="nan"),
        pytest.param(float("inf"), "inf, not a finite number", id="infinity"),
        pytest.param(np.float32("-inf"), "-inf, not a finite number", id="numpy infinity"),
        pytest.param(Score(float("nan")), "nan, not a finite number", id="Score of nan"),
        pytest.param("0.9", "'0.9', not a number or a Score", id="text"),
        pytest.param(None, "None, not a number or a Score", id="nothing"),
        pytest.param([0.5], "[0.5], not a number", id="list"),
        pytest.param({"value": 1}, "{'value': 1}, not a number", id="dict"),
        pytest.param(1j, "1j, not a number", id="complex"),
        pytest.param(Decimal("0.5"), "Decimal('0.5'), not a number", id="decimal"),
        pytest.param(Score("high"), "not a number or a Score", id="Score of text"),  # type: ignore[arg-type]
        pytest.param("x" * 1000, "…, not a number", id="long text"),
        pytest.param(np.array([0.5, 0.6]), "cannot be read as a score", id="numpy array of two"),
        pytest.param(10**400, "cannot be read as a score", id="integer beyond floats"),
        pytest.param(Score(0.5, metrics={"ms": "fast"}), "cannot be read as a score", id="metric of text"),  # type: ignore[dict-item]
        pytest.param(Score(0.5, metrics=None), "cannot be read as a score", id="no metrics"),  # type: ignore[arg-type]
    ],
)
def test_anything_else_is_a_failure_that_says_what_came_back(result: Any, said: str) -> None:
    outcome = as_outcome(result, None)
    assert outcome.value is None
    assert said in outcome.error
    assert len(outcome.error) < 300


@settings(max_examples=60, deadline=None)
@given(st.floats(), st.floats(-10, 10), st.floats(0.1, 10))
def test_a_score_outside_the_declared_range_is_a_failure_and_never_clipped(
    value: float, low: float, width: float
) -> None:
    outcome = as_outcome(value, (low, low + width))
    if low <= value <= low + width:
        assert outcome == Outcome(value=value)
    else:
        assert outcome.value is None
        assert repr(value) in outcome.error


def test_a_range_names_both_ends() -> None:
    assert "outside the declared score_range 0 to 1" in as_outcome(1.5, (0.0, 1.0)).error


def test_all_that_a_score_says_is_kept_as_plain_values() -> None:
    score = Score(1, feedback="well", gene_feedback={"prompt": "too long"}, metrics={"ms": np.float64(3)})
    assert as_outcome(score, (0, 1)) == Outcome(1.0, "well", {"prompt": "too long"}, {"ms": 3.0})


def test_a_failure_has_a_reason_and_no_value() -> None:
    assert failed("it broke") == Outcome(value=None, error="it broke")
