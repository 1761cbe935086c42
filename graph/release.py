"""apply and record: what becomes live, and what does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..dna.genome import SystemDNA
from ..dna.mutation import Mutation
from ..errors import SafeModeActive, StaleParent
from ..fitness.scorer import genes_key
from .approve import question_of
from .records import outcome_event, released
from .services import Services
from .state import EvolutionState, Release

_OUTCOMES = {"DEFER": "deferred", "EXPIRED": "deferred", "VOID": "deferred"}


def apply(services: Services, state: EvolutionState) -> dict[str, Any]:
    """Make the approved candidate live: the one place that changes DNA, in one transaction with its event."""
    release, decision = state["release"], state["decision"]
    if release is None or decision is None:
        return {}
    head = services.snapshot(state["head"]["generation"])
    trial, mutation = released(services, state, release)
    evidence = release["evidence"]
    dna = services.engine.apply(head, mutation, fitness=state["fitness"] + evidence["gain"])
    was = {name: head.values[name] for name in mutation.changes}
    data = {"dna": dna.checksum, "was": was, "impact": decision["impact"]}
    by = str(decision["by"])
    event = outcome_event(services, state, "applied", mutation, why=decision["why"], actor=by, data=data)

    def allowed() -> None:
        _refuse_forbidden(services, mutation, decision)
        _refuse_unapproved(services, head, mutation, release, decision)
        _refuse_untested(dna, evidence)
        services.safe_mode.check(services.app)

    services.store.ready()
    try:
        with services.database.transaction("dna.commit"):
            services.store.commit(head.checksum, dna, event, allowed=allowed)
            services.journal.record(state["run_id"], [replace(trial, status="promoted", evidence=evidence, reason="")])
    except (StaleParent, SafeModeActive) as lost:
        stale = outcome_event(services, state, "lost", mutation, why=lost.message, actor="store", data={})
        services.store.append(stale)
        return {"decision": decision | {"verdict": "STALE", "why": lost.message}, "release": None}
    return {"pool": _without(state, release)}


def record(services: Services, state: EvolutionState) -> dict[str, Any]:
    """Put on record what did not become live in this generation, and why."""
    release, decision = state["release"], state["decision"]
    if release is None or decision is None:
        why = "no candidate was released"
        services.store.append(outcome_event(services, state, "trialled", None, why=why, actor="rule", data={}))
        return {"release": None}
    trial, mutation = released(services, state, release)
    outcome, by, why = _OUTCOMES.get(decision["verdict"], "rejected"), str(decision["by"]), decision["why"]
    with services.database.transaction("trials.record"):
        services.store.append(outcome_event(services, state, outcome, mutation, why=why, actor=by, data={}))
        reason = f"{outcome} by {by}: {why}"
        services.journal.record(state["run_id"], [replace(trial, status="rejected", reason=reason)])
    return {"pool": _without(state, release)}


def _without(state: EvolutionState, release: Release) -> list[Any]:
    place = (release["generation"], release["slot"])
    return [entry for entry in state["pool"] if (entry["generation"], entry["slot"]) != place]


def _refuse_untested(dna: SystemDNA, evidence: Mapping[str, Any]) -> None:
    """Refuse DNA whose values are not the very ones that the evidence is about."""
    if genes_key(dna.values) != evidence["genes"]:
        raise StaleParent("the live genes are no longer those that the candidate was tested with.")


def _refuse_forbidden(services: Services, mutation: Mutation, decision: Mapping[str, Any]) -> None:
    """Refuse what a policy, which may be younger than the decision, forbids or wants a person for."""
    policy = services.autonomy.policy(mutation)
    if policy is not None and (policy.rule == "never" or "approval_id" not in decision):
        raise StaleParent(f"it was decided before this: {policy.told}.")


def _refuse_unapproved(
    services: Services, head: SystemDNA, mutation: Mutation, release: Release, decision: Mapping[str, Any]
) -> None:
    """Refuse what a person approved in another form: another mutation, DNA or evidence."""
    if "approval_id" not in decision:
        return
    approval = services.approvals.get(decision["approval_id"])
    question = question_of(head, mutation, release, dict(decision))
    reason = services.approvals.check(approval, dna=head.checksum, mutation_id=mutation.id, question=question)
    if reason:
        raise StaleParent(f"the approval {approval.approval_id} is void: {reason}")
