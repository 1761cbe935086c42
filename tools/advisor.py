"""The advisor's tools: read the evidence, propose mutations. It has no others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from ..bedrock import protocol
from ..bedrock.protocol import STAND_IN
from ..dna.canonical import storable
from ..errors import InvalidMutation
from .desk import AdvisorDesk
from .tool import Tool

Text = Annotated[str, AfterValidator(storable)]
Count = Annotated[int, Field(ge=0, le=1000)]


class Wanted(BaseModel):
    """How much of the evidence an advisor wants to read."""

    trials: Count
    failures: Count


class ProposedMutation(BaseModel):
    """A change of some genes, as an advisor words it."""

    changes: dict[Text, Any] = Field(description="New value of each gene to change, by gene name.")
    category: Text = Field(default="intelligence upgrade", description="One of the categories in the brief.")
    rationale: Text = Field(default="", description="One sentence: why this should raise the score.")
    predicted_gain: float = Field(default=0.0, allow_inf_nan=False, description="Expected change of the mean score.")
    probability: float = Field(default=0.5, ge=0, le=1, description="How likely it is an improvement.")
    origin: Text = Field(default="", description="Leave empty.")
    feedback: list[int] = Field(default_factory=list, description="Numbers of the remarks it answers.")


class Proposed(BaseModel):
    """Candidates, best first."""

    proposals: list[ProposedMutation]


def _evidence(desk: AdvisorDesk, wanted: Wanted) -> str:
    """Read the newest trials of a run and feedback on failed training cases."""
    evidence = desk.evidence(wanted.trials, wanted.failures)
    desk.remarks.update(remark["number"] for remark in evidence["feedback"] if "number" in remark)
    return json.dumps(evidence, ensure_ascii=False)


def _verdicts(desk: AdvisorDesk, proposed: Proposed) -> str:
    """Admit candidates to the desk, or say why not."""
    proposer = STAND_IN if desk.conversation.calls[-1].model == STAND_IN else "model"
    return json.dumps([_admitted(proposal, desk, proposer) for proposal in proposed.proposals], ensure_ascii=False)


def _admitted(proposal: ProposedMutation, desk: AdvisorDesk, proposer: str) -> dict[str, str]:
    if len(desk.accepted) >= desk.candidates:
        return {"rejected": f"this generation has its {desk.candidates} candidates already"}
    try:
        mutation = desk.engine.propose(
            desk.dna,
            proposal.changes,
            category=proposal.category,
            rationale=proposal.rationale,
            predicted_gain=proposal.predicted_gain,
            probability=proposal.probability,
            origin=f"{proposer}:{proposal.origin}" if proposal.origin else proposer,
        )
    except InvalidMutation as error:
        return {"rejected": str(error)}
    if reason := desk.refusal(mutation):
        return {"rejected": reason}
    if mutation.id in {m.id for m in desk.accepted.values()}:
        return {"rejected": "this mutation was accepted already"}
    proposal_id = f"p{len(desk.accepted) + 1}"
    desk.accepted[proposal_id] = mutation
    desk.answered[proposal_id] = tuple(sorted(desk.remarks.intersection(proposal.feedback)))
    return {"id": proposal_id}


ADVISOR_TOOLS: Sequence[Tool[AdvisorDesk, Any]] = (
    Tool(
        protocol.READ_EVIDENCE,
        "Read the newest trials of this run, and feedback on failed training cases by the gene it blames."
        " 10 trials and 20 pieces of feedback are plenty for a first look.",
        Wanted,
        _evidence,
    ),
    Tool(
        protocol.PROPOSE_MUTATIONS,
        "Propose candidates for trial, best first, all in one call."
        " Each is accepted with an id or rejected with the reason.",
        Proposed,
        _verdicts,
    ),
)
