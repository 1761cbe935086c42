"""`CostGovernor`: makes work cheaper as a budget fills; the hard limit is the ledger's."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from ..bedrock.gateway import ModelGateway, ModelTask
from ..bedrock.protocol import brief_with
from ..settings import MICRO
from ..tools.desk import ReportDesk
from ..tools.reports import read_spend
from .agent import Agent

Measure = Literal["fewer_candidates", "shorter_context", "local_models"]
MEASURES_FROM = 0.8
"""Share of a budget from which measures are chosen; below it nothing is asked and nothing is spent on asking."""


class CostMeasures(BaseModel):
    """Finish: the measures to take for this generation."""

    measures: list[Measure] = Field(default_factory=list)
    reasoning: str


class CostGovernor:
    """A rule while spend is low, an agent above; it can spend nothing but its own calls and raise no budget.

    Args:
        gateway: Where its model calls go, and whose ledger it reads.
        attempts: Tries a model gets at a usable answer.
    """

    def __init__(self, gateway: ModelGateway, *, attempts: int) -> None:
        self._gateway = gateway
        self._agent = Agent(
            "cost_governor",
            tools=[read_spend],
            answer=CostMeasures,
            desk=ReportDesk,
            gateway=gateway,
            attempts=attempts,
        )

    def govern(self, *, run_id: str) -> list[Measure]:
        """Return the measures for the next generation.

        Raises:
            BudgetExhausted: Its own call does not fit a cap.
        """
        if self._gateway.local:
            return []
        share, scope, calls = self._spend(run_id)
        if share < MEASURES_FROM:
            return []
        report = {"share": round(share, 4), "scope": scope, "calls": calls}
        brief = brief_with("Spend has passed a threshold.", {"scope": scope})
        reply = self._agent.run(brief, ReportDesk(ModelTask("cost_governor", run_id), report))
        return list(dict.fromkeys(reply.answer.measures))

    def _spend(self, run_id: str) -> tuple[float, str, int]:
        """Return the share used of the budget closest to its limit, its name, and the calls so far."""
        ledger = self._gateway.ledger
        shares: list[tuple[float, str, int]] = [(0.0, "no", 0)]
        for scope, cap, spend in (
            ("daily", ledger.budget.daily_usd, ledger.day_spend()),
            ("run", ledger.budget.run_usd, ledger.run_spend(run_id)),
        ):
            if cap is not None:
                shares.append((spend.micro_usd / (cap * MICRO) if cap else 1.0, scope, spend.calls))
        return max(shares)
