"""`BedrockDecisionEngine`: a structured verdict on a mutation whose risk is too high for a rule."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from ..bedrock.gateway import ModelGateway, ModelTask
from ..bedrock.protocol import brief_with
from ..tools.desk import ReportDesk
from ..tools.reports import read_candidate
from .agent import Agent, Reply


class DecisionResult(BaseModel):
    """Finish: your verdict on the candidate, with the reasons for it."""

    verdict: Literal["APPROVE", "REJECT", "DEFER"]
    confidence: float = Field(ge=0, le=1)
    risks: dict[str, float] = Field(default_factory=dict, description="Risk from 0 to 1, by kind.")
    benefits: list[str] = Field(default_factory=list)
    drawbacks: list[str] = Field(default_factory=list)
    mitigations: list[str] = Field(default_factory=list)
    reasoning: str
    estimated_impact: float = Field(default=0.0, description="Expected change of the mean score once live.")


class BedrockDecisionEngine:
    """Judges; it can propose nothing and apply nothing.

    Args:
        gateway: Where its model calls go.
        attempts: Tries a model gets at a usable answer.
    """

    def __init__(self, gateway: ModelGateway, *, attempts: int) -> None:
        self._agent = Agent(
            "decision",
            tools=[read_candidate],
            answer=DecisionResult,
            desk=ReportDesk,
            gateway=gateway,
            attempts=attempts,
        )

    def decide(self, candidate: dict[str, Any], *, task: ModelTask) -> Reply[DecisionResult]:
        """Judge a candidate.

        Args:
            candidate: Its `mutation_id`, `changes`, `evidence` and `risk`.
            task: The run to bill, and what the router knows.

        Raises:
            SpendExhausted: A model call does not fit a cap.
        """
        brief = brief_with("Judge this candidate.", {"mutation_id": candidate["mutation_id"]})
        return self._agent.run(brief, ReportDesk(task, candidate))
