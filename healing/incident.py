"""Incidents: what went wrong in a run, and what may be done about it."""

from __future__ import annotations

from typing import Any, Literal

from ..errors import EvaluationFailed, EvolutionError, IntegrityError, StoreError

IncidentKind = Literal["evaluator", "storage", "integrity", "other"]
Action = Literal["retry", "stop"]

MAX_ATTEMPTS = 3
"""How often one step is tried again before the run stops, whatever a healing plan says."""

_KINDS: tuple[tuple[type[EvolutionError], IncidentKind], ...] = (
    (EvaluationFailed, "evaluator"),
    (StoreError, "storage"),
    (IntegrityError, "integrity"),
)


def incident_of(error: EvolutionError, *, node: str, attempts: int) -> dict[str, Any]:
    """Describe a failure of a graph node, JSON-plain.

    Args:
        error: What the node raised.
        node: Its name.
        attempts: How often it has failed in this generation, this time included.
    """
    kind = next((kind for type_, kind in _KINDS if isinstance(error, type_)), "other")
    return {"kind": kind, "node": node, "attempts": attempts, "message": error.message, "hint": error.hint}


def bounded(action: Action, incident: dict[str, Any]) -> Action:
    """Keep an action inside its bounds: damaged data and endless retries always stop the run."""
    if incident["kind"] == "integrity" or incident["attempts"] >= MAX_ATTEMPTS:
        return "stop"
    return action
