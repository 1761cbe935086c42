"""Incidents: of which kind they are, and what may be done about each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_evolution.errors import EvaluationFailed, EvolutionError, IntegrityError, ModelCallFailed, StoreError
from bedrock_evolution.healing.incident import MAX_ATTEMPTS, Action, IncidentKind, allowed, incident_of

KINDS: tuple[IncidentKind, ...] = ("evaluator", "storage", "integrity", "degraded", "stuck", "other")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (EvaluationFailed("it crashed."), "evaluator"),
        (StoreError("the disk is full."), "storage"),
        (IntegrityError("an event was altered."), "integrity"),
        (ModelCallFailed("no answer."), "other"),
    ],
)
def test_the_kind_follows_from_the_error(error: EvolutionError, kind: str) -> None:
    incident = incident_of(error, node="trial", attempts=2)
    assert incident == {"kind": kind, "node": "trial", "attempts": 2, "message": error.message, "hint": error.hint}


@pytest.mark.parametrize("kind", ["degraded", "stuck"])
def test_the_kind_is_given_where_the_error_does_not_tell(kind: IncidentKind) -> None:
    assert incident_of(EvaluationFailed("it crashed."), node="trial", attempts=1, kind=kind)["kind"] == kind


@pytest.mark.parametrize(
    ("kind", "attempts", "can_roll_back", "actions"),
    [
        ("storage", 1, False, ("retry", "stop")),
        ("storage", 1, True, ("retry", "rollback", "stop")),
        ("stuck", MAX_ATTEMPTS, True, ("rollback", "stop")),
        ("degraded", MAX_ATTEMPTS, False, ("stop",)),
        ("integrity", 1, True, ("stop",)),
    ],
)
def test_what_is_allowed(kind: IncidentKind, attempts: int, can_roll_back: bool, actions: tuple[Action, ...]) -> None:
    incident = incident_of(EvolutionError("it failed."), node="apply", attempts=attempts, kind=kind)
    assert allowed(incident, can_roll_back=can_roll_back) == actions


@given(kind=st.sampled_from(KINDS), attempts=st.integers(1, 10), can_roll_back=st.booleans())
def test_stopping_is_always_allowed_and_damaged_data_and_endless_retries_never(
    kind: IncidentKind, attempts: int, can_roll_back: bool
) -> None:
    incident = incident_of(EvolutionError("it failed."), node="apply", attempts=attempts, kind=kind)
    actions = allowed(incident, can_roll_back=can_roll_back)
    assert "stop" in actions
    assert len(set(actions)) == len(actions)
    assert "retry" not in actions or attempts < MAX_ATTEMPTS
    assert "rollback" not in actions or can_roll_back
    assert kind != "integrity" or actions == ("stop",)
