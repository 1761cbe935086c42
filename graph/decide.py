"""decide, approve, apply, record: what becomes of a candidate that passed the promotion rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from langgraph.types import interrupt

from ..dna.events import EventDraft
from ..dna.genome import SystemDNA
from ..dna.mutation import Mutation
from ..errors import StaleParent, UsageError
from ..fitness.journal import TrialRecord
from ..fitness.scorer import genes_key
from ..governance.approvals import Approval, Verdict
from .advise import transcript
from .services import Services, model_task
from .state import EvolutionState, Release

_VERDICTS: dict[str, Verdict] = {"approve": "approve", "reject": "reject"}
_OUTCOMES = {"REJECT": "rejected", "DEFER": "deferred"}


def decide(services: Services, state: EvolutionState) -> dict[str, Any]:
    """Decide on the released candidate: a rule for low risk, the engine for high risk, a person beyond."""
    release = state["release"]
    if release is None:
        return {"decision": None}
    head = services.snapshot(state["head"]["generation"])
    _, mutation = _released(services, state, release)
    risk = services.autonomy.risk(head, mutation, release["evidence"])
    path = services.autonomy.path(mutation, risk)
    decision: dict[str, Any] = {"risk": risk.as_json(), "model": None, "detail": {}}
    if path == "rule":
        confidence = release["evidence"]["confidence"]
        return {
            "decision": decision
            | {"verdict": "APPROVE", "by": "rule", "confidence": confidence, "why": "low risk, credible gain"}
        }
    if path == "person":
        named = services.autonomy.named(mutation)
        why = f"policy asks for a person: {', '.join(named)}" if named else f"risk {risk.value:.2f} needs a person"
        return {"decision": decision | {"verdict": "ASK", "by": "policy", "confidence": 1.0, "why": why}}
    candidate = {
        "mutation_id": mutation.id,
        "changes": {name: {"from": head.values[name], "to": value} for name, value in mutation.changes.items()},
        "rationale": mutation.rationale,
        "evidence": release["evidence"],
        "risk": risk.as_json(),
    }
    reply = services.decision.decide(candidate, task=model_task("decision", state))
    answer = reply.answer
    unsure = answer.confidence < services.settings.autonomy.min_confidence
    return {
        "decision": decision
        | {
            "verdict": "ASK" if unsure else answer.verdict,
            "by": "decision engine",
            "model": reply.model,
            "confidence": answer.confidence,
            "why": f"the engine is unsure: {answer.reasoning}" if unsure else answer.reasoning,
            "detail": answer.model_dump(mode="json"),
        },
        "transcript": transcript(reply.messages),
    }


def approve(services: Services, state: EvolutionState) -> dict[str, Any]:
    """Wait for a person; the answer may come from the command line, from Python or from Studio."""
    release, decision = state["release"], state["decision"]
    if release is None or decision is None:
        return {}
    head = services.snapshot(state["head"]["generation"])
    _, mutation = _released(services, state, release)
    question = {
        "dna": head.checksum,
        "changes": {name: {"from": head.values[name], "to": value} for name, value in mutation.changes.items()},
        "rationale": mutation.rationale,
        "evidence": release["evidence"],
        "risk": decision["risk"],
        "why": decision["why"],
    }
    # Asking is idempotent, so this node may run again from the top when it is resumed.
    approval = services.approvals.ask(
        app=services.app, run_id=state["run_id"], mutation_id=mutation.id, question=question
    )
    approval = _answered(services, approval)
    return {
        "decision": decision
        | {
            "verdict": "APPROVE" if approval.status == "approved" else "REJECT",
            "by": approval.by,
            "why": approval.why or f"{approval.status} by {approval.by}",
            "approval_id": approval.approval_id,
        }
    }


def _answered(services: Services, approval: Approval) -> Approval:
    problem = ""
    while approval.status == "pending":
        answer = interrupt(
            {
                "approval_id": approval.approval_id,
                "mutation_id": approval.mutation_id,
                **approval.question,
                "answer_with": {"verdict": "approve | reject", "by": "your name", "why": "optional"},
                **({"problem": problem} if problem else {}),
            }
        )
        approval = services.approvals.get(approval.approval_id)
        if approval.status != "pending":
            break
        given = answer if isinstance(answer, dict) else {}
        verdict = _VERDICTS.get(str(given.get("verdict")))
        if verdict is None:
            problem = f"{answer!r} is no verdict"
            continue
        by, why = str(given.get("by") or ""), str(given.get("why") or "")
        try:
            approval = services.approvals.answer(approval.approval_id, verdict, by=by, why=why)
        except UsageError as error:
            problem = str(error)
    return approval


def apply(services: Services, state: EvolutionState) -> dict[str, Any]:
    """Make the approved candidate live: the one place that changes DNA, in one transaction with its event."""
    release, decision = state["release"], state["decision"]
    if release is None or decision is None:
        return {}
    head = services.snapshot(state["head"]["generation"])
    record, mutation = _released(services, state, release)
    evidence = release["evidence"]
    dna = services.engine.apply(head, mutation, fitness=state["fitness"] + evidence["gain"])
    event = _event(services, state, "applied", mutation, why=decision["why"], actor=str(decision["by"]))
    event = event.model_copy(update={"data": event.data | {"dna": dna.checksum, "was": _was(head.values, mutation)}})
    try:
        _refuse_untested(dna, evidence)
        services.store.commit(head.checksum, dna, event)
    except StaleParent as lost:
        stale = _event(services, state, "lost", mutation, why=lost.message, actor="store")
        services.store.append(stale)
        return {"decision": decision | {"verdict": "STALE", "why": lost.message}, "release": None}
    services.journal.record(state["run_id"], [replace(record, status="promoted", evidence=evidence, reason="")])
    place = (release["generation"], release["slot"])
    pool = [entry for entry in state["pool"] if (entry["generation"], entry["slot"]) != place]
    return {"pool": pool}


def record(services: Services, state: EvolutionState) -> dict[str, Any]:
    """Put on record what did not become live in this generation, and why."""
    release, decision = state["release"], state["decision"]
    if release is None or decision is None:
        services.store.append(_event(services, state, "trialled", None, why="no candidate was released", actor="rule"))
        return {}
    trial, mutation = _released(services, state, release)
    outcome = _OUTCOMES.get(decision["verdict"], "rejected")
    services.store.append(_event(services, state, outcome, mutation, why=decision["why"], actor=str(decision["by"])))
    reason = f"{outcome} by {decision['by']}: {decision['why']}"
    services.journal.record(state["run_id"], [replace(trial, status="rejected", reason=reason)])
    place = (release["generation"], release["slot"])
    return {"pool": [entry for entry in state["pool"] if (entry["generation"], entry["slot"]) != place]}


def _released(services: Services, state: EvolutionState, release: Release) -> tuple[TrialRecord, Mutation]:
    place = (release["generation"], release["slot"])
    [trial] = services.journal.trials_at(state["run_id"], [place])
    return trial, services.mutation_of(trial, services.snapshot(state["head"]["generation"]))


def _refuse_untested(dna: SystemDNA, evidence: Mapping[str, Any]) -> None:
    """Refuse DNA whose values are not the very ones that the evidence is about."""
    if genes_key(dna.values) != evidence["genes"]:
        raise StaleParent("the live genes are no longer those that the candidate was tested with.")


def _was(values: Mapping[str, Any], mutation: Mutation) -> dict[str, Any]:
    return {name: values[name] for name in mutation.changes}


def _event(
    services: Services, state: EvolutionState, kind: str, mutation: Mutation | None, *, why: str, actor: str
) -> EventDraft:
    decision = state["decision"]
    trials = services.journal.trials(state["run_id"], generation=state["generation"])
    data: dict[str, Any] = {
        "trials": [{"mutation": t.mutation, "status": t.status, "fitness": t.fitness} for t in trials]
    }
    if mutation is not None:
        data |= {"changes": dict(mutation.changes), "rationale": mutation.rationale, "origin": mutation.origin}
    if (gate := state["gate"]) is not None:
        data["evidence"] = gate
    if decision is not None:
        data["decision"] = decision
    return EventDraft(
        app=services.app,
        kind=kind,
        key=f"{state['run_id']}/{state['generation']}/{kind}",
        at=services.clock.now(),
        actor=actor,
        why=why,
        run_id=state["run_id"],
        generation=state["generation"],
        mutation_id=mutation.id if mutation else None,
        model=decision["model"] if decision else None,
        data=data,
    )
