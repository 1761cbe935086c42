"""The state machine: observe, govern, advise, trial, decide, then approve, apply or record; heal where one fails."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import interrupt

from ..errors import (
    BudgetExhausted,
    EvolutionError,
    LiveGenesFailed,
    ReplayDiverged,
    SpendExhausted,
    StoreError,
    UsageError,
)
from ..healing.incident import IncidentKind, incident_of
from . import routes
from .advise import advise, govern
from .approve import approve
from .decide import decide
from .finish import report
from .heal import diagnose, heal, rollback
from .observe import begin, observe
from .release import apply, record
from .services import Services
from .state import EvolutionInput, EvolutionOutput, EvolutionState
from .trial import trial

Node = Callable[[Services, EvolutionState], dict[str, Any]]
EvolutionGraph = CompiledStateGraph[EvolutionState, None, EvolutionInput, EvolutionOutput]

_STEPS: dict[str, tuple[Node, routes.Route, tuple[str, ...]]] = {
    "observe": (observe, routes.after_observe, ("govern", "diagnose")),
    "diagnose": (diagnose, routes.to("govern"), ("govern",)),
    "govern": (govern, routes.to("advise"), ("advise",)),
    "advise": (advise, routes.to("trial"), ("trial",)),
    "trial": (trial, routes.after_trial, ("decide", "record")),
    "decide": (decide, routes.after_decide, ("apply", "approve", "record")),
    "approve": (approve, routes.after_approve, ("apply", "record")),
    "apply": (apply, routes.next_generation, ("observe",)),
    "record": (record, routes.next_generation, ("observe",)),
}
"""Each step: what it does, where it leads, and where that may be. LangGraph checks every route against these."""


def build(services: Services, checkpointer: BaseCheckpointSaver[str] | None = None) -> EvolutionGraph:
    """Compile the graph.

    Args:
        services: What its nodes work with.
        checkpointer: Where its state is kept; None inherits the checkpointer of a parent graph or server.
    """
    graph = StateGraph(EvolutionState, input_schema=EvolutionInput, output_schema=EvolutionOutput)
    graph.add_node("begin", partial(begin, services))
    for name, (node, route, targets) in _STEPS.items():
        graph.add_node(name, partial(_guarded, name, node, services))
        graph.add_conditional_edges(name, routes.unless_failed(route), [*targets, "heal", "report"])
    graph.add_node("heal", partial(_paused_by_budget, heal, services))
    graph.add_node("report", partial(report, services))
    graph.add_edge(START, "begin")
    graph.add_conditional_edges("begin", routes.after_begin, ["observe", "report"])
    graph.add_node("rollback", partial(rollback, services))
    graph.add_conditional_edges("heal", routes.after_heal, [*_STEPS, "rollback", "report"])
    graph.add_conditional_edges("rollback", routes.after_rollback, ["observe", "report"])
    graph.add_edge("report", END)
    return graph.compile(checkpointer=checkpointer, name="evolution")


def _paused_by_budget(node: Node, services: Services, state: EvolutionState) -> dict[str, Any]:
    """Run a node; where a model call fits no cap, interrupt the graph, and run it again when the graph is resumed."""
    while True:
        try:
            return node(services, state)
        except SpendExhausted as spent:
            interrupt({"budget": spent.message, "hint": spent.hint})


def _guarded(name: str, node: Node, services: Services, state: EvolutionState) -> dict[str, Any]:
    """Run a node; turn its failures into state that routes read: no evaluations left, or an incident for the healer.

    What only the caller can mend (bad input) is raised to the caller.
    """
    if (foreseen := services.foreseen(name, state)) is not None:
        return {"incident": foreseen}
    try:
        update = _paused_by_budget(node, services, state)
    except BudgetExhausted as spent:
        return {"status": "budget", "message": str(spent)}
    except EvolutionError as error:
        if isinstance(error, ReplayDiverged) or (isinstance(error, UsageError) and not isinstance(error, StoreError)):
            raise
        before = state.get("incident")
        attempts = before["attempts"] + 1 if before and before["node"] == name else 1
        kind: IncidentKind | None = "degraded" if isinstance(error, LiveGenesFailed) else None
        return {"incident": incident_of(error, node=name, attempts=attempts, kind=kind)}
    return update | {"incident": None} if state.get("incident") else update
