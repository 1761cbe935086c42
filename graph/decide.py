"""decide: a rule for low risk, the engine for high risk, a person beyond; never what the policy forbids."""

from __future__ import annotations

from typing import Any

from ..agents.conflicts import conflicts
from ..dna.genome import SystemDNA
from ..dna.mutation import Mutation
from ..governance.autonomy import gene_rollbacks
from ..governance.calibration import Calibration, calibration
from ..governance.rollback import undone
from .advise import transcript
from .records import event_of, key_of, released
from .services import Services, model_task, step_of
from .state import EvolutionState, Release

_ALTERNATIVES = 3


def decide(services: Services, state: EvolutionState) -> dict[str, Any]:
    """Decide on the released candidate."""
    release = state["release"]
    if release is None:
        return {"decision": None}
    head = services.snapshot(state["head"]["generation"])
    _, mutation = released(services, state, release)
    learned = calibration(services.store, services.app)
    rollbacks = gene_rollbacks(services.store, services.app)
    risk = services.autonomy.risk(head, mutation, release["evidence"], rollbacks=rollbacks)
    path = services.autonomy.path(mutation, risk, overconfidence=learned.overconfidence)
    decision: dict[str, Any] = {"risk": risk.as_json(), "model": None, "detail": {}}
    evidence, why = release["evidence"], ""
    if path in ("rule", "engine") and evidence["genes"] in undone(services.store, services.app):
        path, why = "person", "these very genes were live before, and were rolled back"
    if path == "rule":
        confidence, why = evidence["confidence"], "low risk, credible gain"
        decided = {"verdict": "APPROVE", "by": "rule", "confidence": confidence, "why": why}
        return {"decision": decision | decided | {"impact": evidence["gain"]}}
    if path != "engine":
        verdict = "REJECT" if path == "never" else "ASK"
        why = why or services.autonomy.reason(mutation, risk)
        decided = {"verdict": verdict, "by": "policy", "confidence": 1.0, "why": why, "impact": evidence["gain"]}
        return {"decision": decision | decided}
    candidate = _told(head, mutation) | {
        "rationale": mutation.rationale,
        "evidence": evidence,
        "risk": risk.as_json(),
    }
    return _engine(services, state, release, candidate, decision, learned)


def _engine(
    services: Services,
    state: EvolutionState,
    release: Release,
    candidate: dict[str, Any],
    decision: dict[str, Any],
    learned: Calibration,
) -> dict[str, Any]:
    if (known := services.store.event(services.app, key_of(state, "decided"))) is not None:
        return {"decision": known.data["decision"], "preferred": known.data["preferred"]}
    places, alternatives = _alternatives(services, state, release)
    remarks = [{"number": remark.number, "text": remark.text} for remark in services.remarks()]
    head = services.store.head(services.app)
    moved = head is None or head.checksum != state["head"]["checksum"]
    reply = services.decision.decide(
        candidate,
        alternatives=alternatives,
        conflicts=conflicts(candidate, alternatives, remarks, head_moved=moved),
        calibration=learned.as_json() if learned.decisions else {},
        task=model_task("decision", state),
    )
    answer = reply.answer
    unsure = answer.confidence < services.autonomy.min_confidence(learned.overconfidence)
    decision |= {
        "verdict": "ASK" if unsure else answer.verdict,
        "by": "decision engine",
        "model": reply.model,
        "confidence": answer.confidence,
        "why": f"the engine is unsure: {answer.reasoning}" if unsure else answer.reasoning,
        "detail": answer.model_dump(mode="json"),
        "impact": answer.estimated_impact,
    }
    # What it ranks before a candidate that it does not want is put to the promotion rule next.
    best = next(iter(answer.ranking), None)
    preferred = places.get(best) if best and decision["verdict"] in ("DEFER", "REJECT") else None
    with services.database.transaction("decision.record"):
        services.calls.save(state["run_id"], step := step_of("decision", state), reply.calls)
        services.store.append(
            event_of(
                services,
                state,
                "decided",
                why=decision["why"],
                actor="decision engine",
                reply=reply,
                step=step,
                data={"decision": decision, "preferred": preferred, "candidate": candidate},
            )
        )
    return {"decision": decision, "preferred": preferred, "transcript": transcript(reply.messages)}


def _alternatives(
    services: Services, state: EvolutionState, release: Release
) -> tuple[dict[str, list[int]], list[dict[str, Any]]]:
    """Return the best candidates of the pool that were not put to the promotion rule yet, and their places."""
    head = services.snapshot(state["head"]["generation"])
    waiting = [(entry["generation"], entry["slot"]) for entry in state["pool"] if not entry["gated"]]
    waiting = [place for place in waiting if place != (release["generation"], release["slot"])][:_ALTERNATIVES]
    places: dict[str, list[int]] = {}
    told: list[dict[str, Any]] = []
    for trial in services.journal.trials_at(state["run_id"], waiting):
        mutation = services.mutation_of(trial, head)
        risk = services.autonomy.risk(head, mutation, {}, rollbacks={})
        places[mutation.id] = [trial.generation, trial.slot]
        told.append(_told(head, mutation) | {"training_gain": trial.gain, "cases": trial.cases, "risk": risk.value})
    return places, told


def _told(head: SystemDNA, mutation: Mutation) -> dict[str, Any]:
    changes = {name: {"from": head.values[name], "to": value} for name, value in mutation.changes.items()}
    return {"mutation_id": mutation.id, "changes": changes}
