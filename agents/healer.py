"""`SelfHealer`: a plan for a failed step, inside bounds that are code."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from ..bedrock.gateway import ModelGateway, ModelTask
from ..bedrock.protocol import brief_with
from ..tools.desk import ReportDesk
from ..tools.reports import read_incident
from .agent import Agent, Reply


class HealingPlan(BaseModel):
    """Finish: what to do about the incident."""

    action: Literal["retry", "stop"]
    confidence: float = Field(ge=0, le=1)
    reasoning: str


class SelfHealer:
    """Plans; the graph carries out what is within bounds.

    Args:
        gateway: Where its model calls go.
        attempts: Tries a model gets at a usable answer.
    """

    def __init__(self, gateway: ModelGateway, *, attempts: int) -> None:
        self._agent = Agent(
            "healer", tools=[read_incident], answer=HealingPlan, desk=ReportDesk, gateway=gateway, attempts=attempts
        )

    def plan(self, incident: dict[str, Any], *, task: ModelTask) -> Reply[HealingPlan]:
        """Plan for an incident (`healing.incident.incident_of`).

        Args:
            incident: What failed.
            task: The run to bill, and what the router knows.

        Raises:
            SpendExhausted: A model call does not fit a cap.
        """
        brief = brief_with("A step failed. Plan what to do.", {"node": incident["node"]})
        return self._agent.run(brief, ReportDesk(task, incident))
