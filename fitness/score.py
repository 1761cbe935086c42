"""`Score`: what an evaluator says of one set of genes on one case."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..dna.canonical import storable

_SHOWN = 80
_REASON_CHARS = 500


@dataclass(frozen=True, slots=True)
class Score:
    """The result of one evaluation: higher is better.

    Args:
        value: The score itself, any finite number; in [0, 1] is customary.
        feedback: What went wrong or right, in words, for the advisor.
        gene_feedback: The same per gene: what this gene lacked or had too much of.
        metrics: Further numbers to record, such as latency or cost.
    """

    value: float
    feedback: str = ""
    gene_feedback: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One evaluation as it is recorded: a score, or the reason why there is none."""

    value: float | None
    feedback: str = ""
    gene_feedback: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str = ""


def failed(reason: str) -> Outcome:
    """Record an evaluation that gave no score; it is never counted as a low one."""
    return Outcome(value=None, error=storable(reason)[:_REASON_CHARS])


def as_outcome(result: Any, score_range: tuple[float, float] | None) -> Outcome:
    """Read what an evaluator returned.

    Args:
        result: A `Score`, a number or a truth value.
        score_range: Lowest and highest score the application declared, or None.

    Returns:
        The outcome; anything that is no finite number inside the declared range is a failure with its reason.
    """
    try:
        return _read(result, score_range)
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        return failed(f"the evaluator returned {_short(result)}, which cannot be read as a score: {error}")


def _read(result: Any, score_range: tuple[float, float] | None) -> Outcome:
    score = result if isinstance(result, Score) else None
    value = score.value if score else result
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()  # numpy and torch scalars
    if not isinstance(value, (int, float)):
        return failed(f"the evaluator returned {_short(result)}, not a number or a Score")
    if not math.isfinite(value):
        return failed(f"the evaluator returned {value!r}, not a finite number")
    if score_range and not score_range[0] <= value <= score_range[1]:
        low, high = score_range
        return failed(f"the evaluator returned {value!r}, outside the declared score_range {low:g} to {high:g}")
    if score is None:
        return Outcome(value=float(value))
    return Outcome(
        value=float(value),
        feedback=storable(str(score.feedback)),
        gene_feedback={storable(str(name)): storable(str(text)) for name, text in score.gene_feedback.items()},
        metrics={storable(str(name)): float(number) for name, number in score.metrics.items()},
    )


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
