"""`SelfHealer`: chooses what to do about an incident, through tools whose bounds are code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

from ..bedrock.gateway import Gateway, ModelTask
from ..bedrock.protocol import brief_with
from ..healing.incident import Action
from ..tools.desk import HealerDesk
from ..tools.healer import HEALER_TOOLS
from .agent import Agent, Reply


class HealingPlan(BaseModel):
    """Finish: why you did this about the incident."""

    confidence: float = Field(ge=0, le=1)
    reasoning: str


@dataclass(frozen=True, slots=True)
class Healing:
    """What is to be done about an incident, and the plan behind it."""

    action: Action
    reply: Reply[HealingPlan]


class SelfHealer:
    """Chooses among what is allowed; the graph carries it out.

    Args:
        gateway: Where its model calls go.
        attempts: Tries a model gets at a usable answer.
    """

    def __init__(self, gateway: Gateway, *, attempts: int) -> None:
        self._agent = Agent(
            "healer", tools=HEALER_TOOLS, answer=HealingPlan, desk=HealerDesk, gateway=gateway, attempts=attempts
        )

    def plan(self, incident: dict[str, Any], *, allowed: Sequence[Action], task: ModelTask) -> Healing:
        """Choose what to do about an incident.

        Args:
            incident: What failed (`healing.incident.incident_of`).
            allowed: What may be done about it (`healing.incident.allowed`).
            task: The run to bill, and what the router knows.

        Returns:
            The last choice that was allowed; to stop, if there was none.

        Raises:
            SpendExhausted: A model call does not fit a cap.
        """
        brief = brief_with("A step failed. Choose what to do.", {"node": incident["node"]})
        desk = HealerDesk(task, incident | {"allowed": list(allowed)}, tuple(allowed))
        reply = self._agent.run(brief, desk)
        return Healing(desk.action or "stop", reply)
