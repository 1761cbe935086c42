"""report: what a run ends with."""

from __future__ import annotations

from typing import Any

from ..bedrock.protocol import STAND_IN
from ..dna.events import EventDraft
from ..dna.genome import SystemDNA
from ..errors import BudgetExhausted, EvaluationFailed
from ..settings import MICRO
from .records import event_of, incident_name, key_of
from .services import Services
from .state import EvolutionState


def report(services: Services, state: EvolutionState) -> dict[str, Any]:
    """Score the sealed test cases, once, and sum the run up."""
    status = "budget" if state.get("ending") == "budget" else state["status"]
    status = "done" if status == "running" else status
    tests: dict[str, Any] = {}
    stuck = services.foreseen("report", state) if status != "failed" else None
    if stuck is not None:
        tests = {"message": f"the sealed test could not be scored: {stuck['message']} {stuck['hint']}"}
    elif status != "failed":
        try:
            tests = _sealed_test(services, state)
        except (EvaluationFailed, BudgetExhausted) as error:
            # What was found stays found, though its last number is missing.
            tests = {"message": f"the sealed test could not be scored: {error}"}
    summary = summed_up(services, state) | {"status": status, **tests}
    what, why = f"ended/{state.get('visit', 1)}", summary["message"] or f"the run is {status}"
    with services.database.transaction("run.status"):
        services.journal.set_status(state["run_id"], status, summary)
        if stuck is not None:
            services.store.append(_stuck_event(services, state, stuck))
        if not _told_before(services, state, summary):
            services.store.append(
                event_of(services, state, "ended", what=what, why=why, actor="rule", data={"summary": summary})
            )
    return {"status": status, "summary": summary}


def _told_before(services: Services, state: EvolutionState, summary: dict[str, Any]) -> bool:
    """Whether a run that had ended was begun again and there was nothing left to do."""
    last = services.store.event(services.app, key_of(state, f"ended/{state.get('visit', 1) - 1}"))
    return last is not None and last.data["summary"] == summary


def _stuck_event(services: Services, state: EvolutionState, stuck: dict[str, Any]) -> EventDraft:
    head = services.store.head(services.app)
    what = incident_name(state, "report", stuck["attempts"], live=head.generation if head else 0)
    return event_of(
        services,
        state,
        "incident",
        what=what,
        why="The run ends without its sealed test, since what it found stays found.",
        actor="rule",
        data={"incident": stuck, "allowed": ["stop"], "action": "stop"},
    )


def _sealed_test(services: Services, state: EvolutionState) -> dict[str, float]:
    start = state.get("start")
    if start is None:
        return {}
    race, sample = services.run(state["run_id"]).race, 0 if services.deterministic else 1
    before, after = services.snapshot(start["generation"]), services.store.head(services.app)
    changed = [after.values] if after is not None and after.values != before.values else []
    fitness = race.test([before.values, *changed], sample=sample)
    return {"baseline_test_fitness": fitness[0], "test_fitness": fitness[-1]}


def summed_up(services: Services, state: EvolutionState) -> dict[str, Any]:
    """Return what is known of a run so far, JSON-plain, without scoring anything."""
    run_id = state["run_id"]
    head = services.store.head(services.app) or services.declared
    start = state.get("start") or {"generation": head.generation, "fitness": None}
    spend = services.gateway.ledger.run_spend(run_id)
    return {
        "run_id": run_id,
        "app": services.app,
        "message": state.get("message", ""),
        "generations": min(state.get("generation", 0), state.get("generations", 0)),
        "trials": services.journal.count_trials(run_id),
        "evaluations": services.run(run_id).scorer.used,
        "baseline_generation": start["generation"],
        "dna_generation": head.generation,
        "dna_checksum": head.checksum,
        "baseline_fitness": start["fitness"],
        "fitness": _fitness(state, head),
        "baseline_test_fitness": None,
        "test_fitness": None,
        "cost_usd": spend.micro_usd / MICRO,
        "model_calls": spend.calls,
        "failed_model_calls": spend.failed_calls,
        "stand_in_trials": services.journal.count_proposed_by(run_id, STAND_IN),
        "model": "local" if services.gateway.local else "bedrock",
        "cases": services.cases.sizes,
    }


def _fitness(state: EvolutionState, head: SystemDNA) -> float | None:
    """The live DNA's validation fitness: as it was observed, or as it was promoted since."""
    observed = state.get("head")
    return state.get("fitness") if observed is None or observed["checksum"] == head.checksum else head.fitness
