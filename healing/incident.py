"""Incidents: what went wrong in a run, and what may be done about it."""

from __future__ import annotations

from typing import Any, Literal

from ..errors import EvaluationFailed, EvolutionError, IntegrityError, StoreError

IncidentKind = Literal["evaluator", "storage", "integrity", "degraded", "stuck", "other"]
"""`degraded`: the live genes fail, or do worse after a change. `stuck`: a step that a run died in again and again."""
Action = Literal["retry", "rollback", "stop"]

MAX_ATTEMPTS = 3
"""How often one step is tried before the run stops, whatever a healing plan says."""

_KINDS: tuple[tuple[type[EvolutionError], IncidentKind], ...] = (
    (EvaluationFailed, "evaluator"),
    (StoreError, "storage"),
    (IntegrityError, "integrity"),
)


def incident_of(error: EvolutionError, *, node: str, attempts: int, kind: IncidentKind | None = None) -> dict[str, Any]:
    """Describe a failure of a graph node, JSON-plain.

    Args:
        error: What the node raised.
        node: Its name.
        attempts: How often it has failed in this generation, this time included.
        kind: What kind of failure it is, where the error alone does not tell.
    """
    known = next((kind for type_, kind in _KINDS if isinstance(error, type_)), "other")
    return {"kind": kind or known, "node": node, "attempts": attempts, "message": error.message, "hint": error.hint}


def allowed(incident: dict[str, Any], *, can_roll_back: bool) -> tuple[Action, ...]:
    """Return what may be done about an incident; stopping always may.

    Args:
        incident: What went wrong (`incident_of`).
        can_roll_back: Whether there are earlier genes that were stable.
    """
    if incident["kind"] == "integrity":
        return ("stop",)
    retry: tuple[Action, ...] = ("retry",) if incident["attempts"] < MAX_ATTEMPTS else ()
    rollback: tuple[Action, ...] = ("rollback",) if can_roll_back else ()
    return (*retry, *rollback, "stop")
