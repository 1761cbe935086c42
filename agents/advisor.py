"""`EvolutionAdvisor`: analyses the state of an application and proposes a strategy of mutations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from ..bedrock.gateway import Gateway
from ..bedrock.protocol import brief_with
from ..tools.advisor import ADVISOR_TOOLS
from ..tools.desk import AdvisorDesk
from .agent import Agent, Reply


class EvolutionAnalysis(BaseModel):
    """Where the application stands, as the advisor sees it."""

    strengths: list[str] = Field(default_factory=list)
    weaknesses: list[str] = Field(default_factory=list)
    opportunities: list[str] = Field(default_factory=list)
    threats: list[str] = Field(default_factory=list)
    focus: list[str] = Field(default_factory=list, description="Genes or themes to work on first.")
    confidence: float = Field(ge=0, le=1)
    reasoning: str = ""


class MutationStrategy(BaseModel):
    """Which accepted proposals to trial, in which order, and what to expect of them."""

    primary_mutations: list[str] = Field(default_factory=list, description="Ids of accepted proposals.")
    contingency_mutations: list[str] = Field(
        default_factory=list, description="Ids of accepted proposals to fall back on."
    )
    execution_order: list[str] = Field(default_factory=list, description="Ids in the order of trial.")
    success_criteria: list[str] = Field(default_factory=list)
    risk_mitigation: list[str] = Field(default_factory=list)
    expected_outcomes: list[str] = Field(default_factory=list)

    def ordered(self) -> list[str]:
        """Return every id once: the execution order, then what it forgot."""
        return list(dict.fromkeys([*self.execution_order, *self.primary_mutations, *self.contingency_mutations]))


class Advice(BaseModel):
    """Finish: your analysis, and a strategy that refers to accepted proposals by id."""

    analysis: EvolutionAnalysis
    strategy: MutationStrategy


class EvolutionAdvisor:
    """Proposes; it can approve nothing.

    Args:
        gateway: Where its model calls go.
        attempts: Tries a model gets at a usable answer.
    """

    def __init__(self, gateway: Gateway, *, attempts: int) -> None:
        self._agent = Agent(
            "advisor", tools=ADVISOR_TOOLS, answer=Advice, desk=AdvisorDesk, gateway=gateway, attempts=attempts
        )

    def advise(self, desk: AdvisorDesk, *, generation: int, seed: int, trend: Sequence[float]) -> Reply[Advice]:
        """Fill the desk with accepted proposals, and explain them.

        Args:
            desk: The live DNA and the records of the run.
            generation: Generation of the run that the proposals are for.
            seed: Seed of this generation's proposals.
            trend: Validation fitness of the live DNA in the newest generations, oldest first.

        Raises:
            SpendExhausted: A model call does not fit a cap.
        """

        def unusable(advice: Advice) -> str:
            if not desk.accepted:
                return "no proposal was accepted, so there is nothing to trial"
            unknown = [name for name in advice.strategy.ordered() if name not in desk.accepted]
            return f"the strategy names proposals that were not accepted: {unknown}" if unknown else ""

        text = (
            f"Generation {generation} of {desk.dna.app!r}. Propose at most {desk.candidates} candidates."
            f" Categories: {', '.join(desk.engine.categories)}."
        )
        return self._agent.run(brief_with(text, _situation(desk, generation, seed, trend)), desk, unusable=unusable)


def _situation(desk: AdvisorDesk, generation: int, seed: int, trend: Sequence[float]) -> dict[str, Any]:
    return {
        "app": desk.dna.app,
        "generation": generation,
        "seed": seed,
        "candidates": desk.candidates,
        "fitness_trend": [round(fitness, 4) for fitness in trend],
        # What is at its default is left out, to save tokens.
        "genes": {
            name: {"kind": gene.kind, **gene.model_dump(mode="json", exclude_defaults=True)}
            | ({"locked": True} if name in desk.forbidden else {})
            for name, gene in desk.dna.genes.items()
        },
    }
