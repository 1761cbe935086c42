"""`CostGovernor`: makes work cheaper as a budget fills; the hard limit is the ledger's."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import BaseModel, Field

from ..bedrock.gateway import Gateway, ModelTask
from ..bedrock.money.ledger import Pressure
from ..bedrock.protocol import brief_with
from ..errors import SpendExhausted
from ..tools.desk import ReportDesk
from ..tools.reports import read_spend
from .agent import Agent, Reply

Measure = Literal["fewer_candidates", "shorter_context", "local_models"]
MEASURES_FROM = 0.8
"""Share of a budget from which measures are taken, and cheaper models preferred; below it nothing is asked, and nothing
is spent on asking."""


class CostMeasures(BaseModel):
    """Finish: the measures to take for this generation."""

    measures: list[Measure] = Field(default_factory=list)
    reasoning: str


class CostGovernor:
    """A rule while spend is low, an agent above; it can spend nothing but its own calls and raise no budget.

    Args:
        gateway: Where its model calls go.
        attempts: Tries a model gets at a usable answer.
    """

    def __init__(self, gateway: Gateway, *, attempts: int) -> None:
        self._agent = Agent(
            "cost_governor",
            tools=[read_spend],
            answer=CostMeasures,
            desk=ReportDesk,
            gateway=gateway,
            attempts=attempts,
        )

    def govern(self, pressure: Pressure, *, task: ModelTask) -> tuple[list[Measure], Reply[CostMeasures] | None]:
        """Return the measures for the next generation; some are taken whatever an agent says.

        Args:
            pressure: The budget closest to its limit.
            task: The run to bill, and what the router knows.

        Returns:
            The measures, and the answer of the agent; None where nobody was asked.
        """
        if pressure.share < MEASURES_FROM:
            return [], None
        report = {"share": round(pressure.share, 4), "scope": pressure.scope, "calls": pressure.calls}
        brief = brief_with("Spend has passed a threshold.", {"scope": pressure.scope})
        try:
            reply = self._agent.run(brief, ReportDesk(task, report))
        except SpendExhausted:
            # What is left does not pay for asking, and may pay for the cheaper work.
            reply = self._agent.run(brief, ReportDesk(replace(task, local_only=True), report))
        return list(dict.fromkeys([*reply.answer.measures, "shorter_context"])), reply
