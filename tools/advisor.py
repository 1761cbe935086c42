"""The advisor's tools: read the evidence, propose mutations. It has no others."""

from __future__ import annotations

import json
from typing import Any

from langchain.tools import ToolRuntime, tool
from pydantic import BaseModel, Field

from ..bedrock import protocol
from ..errors import InvalidMutation
from .desk import AdvisorDesk


class ProposedMutation(BaseModel):
    """A change of some genes, as an advisor words it."""

    changes: dict[str, Any] = Field(description="New value of each gene to change, by gene name.")
    category: str = Field(default="intelligence upgrade", description="One of the categories in the brief.")
    rationale: str = Field(default="", description="One sentence: why this should raise the score.")
    predicted_gain: float = Field(default=0.0, description="Expected change of the mean score.")
    probability: float = Field(default=0.5, ge=0, le=1, description="How likely it is an improvement.")
    origin: str = Field(default="", description="Leave empty.")


@tool(protocol.READ_EVIDENCE)
def read_evidence(trials: int, failures: int, runtime: ToolRuntime[AdvisorDesk]) -> str:
    """Read the newest trials of this run and feedback on failed training cases.

    Args:
        trials: How many trials at most; 10 is plenty for a first look.
        failures: How many pieces of feedback at most; 20 is plenty for a first look.
        runtime: The advisor's desk.
    """
    return json.dumps(runtime.context.evidence(max(0, trials), max(0, failures)), ensure_ascii=False)


@tool(protocol.PROPOSE_MUTATIONS)
def propose_mutations(proposals: list[ProposedMutation], runtime: ToolRuntime[AdvisorDesk]) -> str:
    """Propose candidates for trial; each is accepted with an id or rejected with the reason.

    Args:
        proposals: The candidates, best first.
        runtime: The advisor's desk.
    """
    return json.dumps([_admitted(proposal, runtime.context) for proposal in proposals], ensure_ascii=False)


def _admitted(proposal: ProposedMutation, desk: AdvisorDesk) -> dict[str, str]:
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
            origin=f"{desk.origin}:{proposal.origin}" if proposal.origin else desk.origin,
        )
    except InvalidMutation as error:
        return {"rejected": str(error)}
    if desk.tried(mutation) or mutation.id in {m.id for m in desk.accepted.values()}:
        return {"rejected": "these gene values were tried before in this run"}
    proposal_id = f"p{len(desk.accepted) + 1}"
    desk.accepted[proposal_id] = mutation
    return {"id": proposal_id}


ADVISOR_TOOLS = [read_evidence, propose_mutations]
