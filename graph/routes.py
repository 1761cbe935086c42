"""Routes: which node follows which; each returns a name the graph was compiled with."""

from __future__ import annotations

from collections.abc import Callable

from .state import EvolutionState

Route = Callable[[EvolutionState], str]


def unless_failed(route: Route) -> Route:
    """Follow a route, unless the node failed: then heal, or report when a budget is spent."""

    def follow(state: EvolutionState) -> str:
        if state["status"] == "budget":
            return "report"
        return "heal" if state.get("incident") else route(state)

    return follow


def to(node: str) -> Route:
    """Return the route that always leads to one node."""
    return lambda _: node


def after_begin(state: EvolutionState) -> str:
    """Begin the next generation, or report again when all of them are done."""
    return "observe" if state["generation"] < state["generations"] else "report"


def after_observe(state: EvolutionState) -> str:
    """Look for the cause of an automatic rollback, where there was one."""
    return "diagnose" if state["degraded"] else "govern"


def after_trial(state: EvolutionState) -> str:
    """Decide on what passed the promotion rule; where nothing did, there is nothing to decide."""
    return "decide" if state["release"] else "record"


def after_decide(state: EvolutionState) -> str:
    """Apply what was approved, ask a person where needed, record the rest."""
    decision = state["decision"]
    if decision is None:
        return "record"
    return {"APPROVE": "apply", "ASK": "approve"}.get(decision["verdict"], "record")


def after_approve(state: EvolutionState) -> str:
    """Follow the person's verdict."""
    decision = state["decision"]
    return "apply" if decision is not None and decision["verdict"] == "APPROVE" else "record"


def next_generation(state: EvolutionState) -> str:
    """Begin the next generation, or report when this was the last."""
    return "report" if state["ending"] else "observe"


def after_heal(state: EvolutionState) -> str:
    """Run the failed node again, roll back, or report when the plan is to stop."""
    incident = state["incident"]
    if incident is None or state.get("status") == "failed":
        return "report"
    return "rollback" if incident["action"] == "rollback" else str(incident["node"])


def after_rollback(state: EvolutionState) -> str:
    """Go on with the genes that are live again, unless nothing may change any more."""
    return "report" if state["status"] == "failed" else "observe"
