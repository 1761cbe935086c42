"""heal, rollback, diagnose: what to do when a step fails, or when the live genes do."""

from __future__ import annotations

from typing import Any

from ..dna.genome import SystemDNA
from ..governance.rollback import conclude, roll_back_automatically, stable
from ..healing.incident import allowed
from .records import event_of, incident_name, key_of
from .services import Services, model_task, step_of
from .state import EvolutionState

_HEALER = "healer"


def heal(services: Services, state: EvolutionState) -> dict[str, Any]:
    """Let the healer choose among what is allowed, and put the incident on record.

    A choice that is on record already is not made again.
    """
    incident = state["incident"]
    if incident is None:
        return {}
    head = services.store.head(services.app)
    # The live generation too: after a rollback a step that fails again is another incident.
    what = incident_name(state, incident["node"], incident["attempts"], live=head.generation if head else 0)
    known = services.store.event(services.app, key_of(state, what))
    healed = known.data if known else _healed(services, state, incident, head, what)
    # Named by it, so that a rollback that is done twice changes nothing the second time.
    incident = incident | {"action": healed["action"], "dna": healed["dna"]}
    if healed["action"] == "stop":
        message = f"{incident['message']} {incident['hint']}".strip()
        return {"status": "failed", "message": message, "incident": incident}
    return {"incident": incident}


def _healed(
    services: Services, state: EvolutionState, incident: dict[str, Any], head: SystemDNA | None, what: str
) -> dict[str, Any]:
    within = allowed(incident, can_roll_back=head is not None and _can_roll_back(services, head))
    healing = services.healer.plan(incident, allowed=within, task=model_task(_HEALER, state, what))
    answer = healing.reply.answer
    data = {
        "incident": incident,
        "allowed": list(within),
        "action": healing.action,
        "confidence": answer.confidence,
        "dna": head.checksum if head else None,
    }
    with services.database.transaction("incident.record"):
        services.calls.save(state["run_id"], step := step_of(_HEALER, state, what), healing.reply.calls)
        services.store.append(
            event_of(
                services,
                state,
                "incident",
                what=what,
                why=answer.reasoning,
                actor=_HEALER,
                reply=healing.reply,
                step=step,
                data=data,
            )
        )
    return data


def _can_roll_back(services: Services, head: SystemDNA) -> bool:
    return services.evolved(head) and len(stable(services.store, services.app, limit=2)) > 1


def rollback(services: Services, state: EvolutionState) -> dict[str, Any]:
    """Make the newest stable genes live again, on record; after too many rollbacks nothing changes any more."""
    incident, head = state["incident"], services.store.head(services.app)
    if incident is None or head is None:
        return {}
    if head.checksum == incident["dna"]:
        roll_back_automatically(
            services.store,
            head,
            why=incident["message"],
            evidence={"incident": incident},
            actor=_HEALER,
            clock=services.clock,
            safety=services.settings.safety,
        )
    # A process may have died right after the rollback, before what follows from it.
    conclude(services.store, services.app, clock=services.clock, safety=services.settings.safety)
    return {"incident": None, **_stopped_by_safe_mode(services)}


def _stopped_by_safe_mode(services: Services) -> dict[str, Any]:
    state = services.safe_mode.since(services.app)
    return {"status": "failed", "message": f"safe mode: {state.why}"} if state else {}


def diagnose(services: Services, state: EvolutionState) -> dict[str, Any]:
    """Let the decision engine look for the root cause of an automatic rollback, and put it on record."""
    what = f"diagnosed/{state['degraded']}"
    if services.store.event(services.app, key_of(state, what)) is not None:
        return {"degraded": 0}
    [restored] = services.store.events_from(services.app, state["degraded"], limit=1)
    undone = services.snapshot(restored.data["from"])
    before = services.snapshot(restored.data["to"])
    changed = {
        name: {"from": before.values.get(name), "to": value}
        for name, value in undone.values.items()
        if before.values.get(name) != value
    }
    degradation = {"why": restored.why, "evidence": restored.data["evidence"], "undone": changed}
    reply = services.decision.diagnose(degradation, task=model_task("decision", state, what))
    answer = reply.answer
    with services.database.transaction("decision.record"):
        services.calls.save(state["run_id"], step := step_of("decision", state, what), reply.calls)
        services.store.append(
            event_of(
                services,
                state,
                "diagnosed",
                what=what,
                why=answer.reasoning,
                actor="decision engine",
                reply=reply,
                step=step,
                data={"degradation": degradation, "diagnosis": answer.model_dump(mode="json")},
            )
        )
    return {"degraded": 0}
