"""approve: wait for a person, durably; the answer may come from the command line, from Python, the SDK or Studio."""

from __future__ import annotations

from typing import Any

from langgraph.types import interrupt

from ..dna.genome import SystemDNA
from ..dna.mutation import Mutation
from ..errors import UsageError
from ..governance.approvals import Approval, Verdict
from .records import released
from .services import Services
from .state import EvolutionState, Release

_VERDICTS: dict[str, Verdict] = {"approve": "approve", "reject": "reject"}
_BECOMES = {"approved": "APPROVE", "expired": "EXPIRED", "void": "VOID"}


def approve(services: Services, state: EvolutionState) -> dict[str, Any]:
    """Wait for a person's answer."""
    release, decision = state["release"], state["decision"]
    if release is None or decision is None:
        return {}
    head = services.snapshot(state["head"]["generation"])
    _, mutation = released(services, state, release)
    # Asking is idempotent, so this node may run again from the top when it is resumed.
    approval = services.approvals.ask(
        app=services.app,
        run_id=state["run_id"],
        generation=state["generation"],
        mutation_id=mutation.id,
        dna=head.checksum,
        question=question_of(head, mutation, release, decision),
    )
    approval = _answered(services, approval)
    return {
        "decision": decision
        | {
            "verdict": _BECOMES.get(approval.status, "REJECT"),
            "by": approval.by or "policy",
            "why": approval.why or f"{approval.status} by {approval.by}",
            "approval_id": approval.approval_id,
            "asked": decision["why"],
        }
    }


def question_of(head: SystemDNA, mutation: Mutation, release: Release, decision: dict[str, Any]) -> dict[str, Any]:
    """Return what a person is asked, and an approval is bound to."""
    return {
        "dna": head.checksum,
        "changes": {name: {"from": head.values[name], "to": value} for name, value in mutation.changes.items()},
        "rationale": mutation.rationale,
        "evidence": release["evidence"],
        "risk": decision["risk"],
        "why": decision.get("asked", decision["why"]),
    }


def _answered(services: Services, approval: Approval) -> Approval:
    problem = ""
    while (approval := services.approvals.settle(approval.approval_id)).status == "pending":
        answer = interrupt(
            {
                "approval_id": approval.approval_id,
                "mutation_id": approval.mutation_id,
                **approval.question,
                "expires_at": approval.expires_at,
                "answer_with": {"verdict": "approve | reject", "by": "your name", "why": "optional"},
                **({"problem": problem} if problem else {}),
            }
        )
        approval = services.approvals.settle(approval.approval_id)
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
