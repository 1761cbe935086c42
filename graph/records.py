"""What the nodes put on record: events of a generation, and the model calls behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..agents.agent import Reply
from ..agents.role import Answer
from ..dna.events import EventDraft
from ..dna.mutation import Mutation
from ..fitness.journal import TrialRecord
from .services import Services
from .state import EvolutionState, Release


def key_of(state: EvolutionState, what: str) -> str:
    """Return the key of an event of this generation; a step that runs again finds its event by it."""
    return f"{state['run_id']}/{state.get('generation', 0)}/{what}"


def incident_name(state: EvolutionState, node: str, attempts: int, *, live: int) -> str:
    """Return the end of the key of an incident.

    Args:
        state: The run's.
        node: The step that failed.
        attempts: How often it has failed.
        live: Generation of the live DNA.
    """
    return f"incident/{state.get('visit', 1)}/{node}/{attempts}/{live}"


def event_of(  # noqa: PLR0913  # one for each field of an event
    services: Services,
    state: EvolutionState,
    kind: str,
    *,
    what: str = "",
    why: str,
    actor: str,
    mutation: Mutation | None = None,
    reply: Reply[Answer] | None = None,
    step: str = "",
    data: Mapping[str, Any],
) -> EventDraft:
    """Write an event of this generation.

    Args:
        services: The application.
        state: The run's.
        kind: Kind of the event.
        what: The end of its key, where a generation may have several of a kind.
        why: The reason.
        actor: Who decided or did it.
        mutation: The mutation it is about.
        reply: What an agent answered: its model, tokens and cost go on record, and checksums of its calls.
        step: What those calls are recorded under.
        data: Everything else.
    """
    told = {"step": step, "calls": [call.digest for call in reply.calls]} if reply else {}
    return EventDraft(
        app=services.app,
        kind=kind,
        key=key_of(state, what or kind),
        at=services.clock.now(),
        actor=actor,
        why=why,
        run_id=state["run_id"],
        generation=state.get("generation"),
        mutation_id=mutation.id if mutation else None,
        model=reply.model if reply else None,
        input_tokens=reply.input_tokens if reply else 0,
        output_tokens=reply.output_tokens if reply else 0,
        cost_micro_usd=reply.cost_micro_usd if reply else 0,
        data={**data, **told},
    )


def released(services: Services, state: EvolutionState, release: Release) -> tuple[TrialRecord, Mutation]:
    """Return the trial and the mutation that wait for a decision."""
    place = (release["generation"], release["slot"])
    [trial] = services.journal.trials_at(state["run_id"], [place])
    return trial, services.mutation_of(trial, services.snapshot(state["head"]["generation"]))


def outcome_event(
    services: Services,
    state: EvolutionState,
    kind: str,
    mutation: Mutation | None,
    *,
    why: str,
    actor: str,
    data: Mapping[str, Any],
) -> EventDraft:
    """Write what became of a generation: its trials, the evidence, the decision."""
    trials = services.journal.trials(state["run_id"], generation=state["generation"])
    told: dict[str, Any] = {
        "trials": [{"mutation": t.mutation, "status": t.status, "fitness": t.fitness} for t in trials]
    }
    if mutation is not None:
        told |= mutation.model_dump(mode="json", include={"changes", "category", "rationale", "origin"})
    if (gate := state["gate"]) is not None:
        told["evidence"] = gate
    if (decision := state["decision"]) is not None:
        told["decision"] = decision
    event = event_of(services, state, kind, why=why, actor=actor, mutation=mutation, data={**told, **data})
    return event.model_copy(update={"model": decision["model"]}) if decision else event
