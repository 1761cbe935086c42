"""`BedrockDecisionEngine`: judges a mutation whose risk is too high for a rule, and finds why live genes got worse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, Field

from ..bedrock.gateway import Gateway, ModelTask
from ..bedrock.protocol import brief_with
from ..tools.desk import ReportDesk
from ..tools.reports import read_candidate, read_degradation
from .agent import Agent, Reply

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Resolution(BaseModel):
    """Which side of a conflict to keep."""

    conflict: str
    keep: str = Field(description="One of its `between`.")
    reasoning: str = ""


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
    ranking: list[str] = Field(
        default_factory=list, description="Mutation ids of the candidate and its alternatives, best first."
    )
    resolutions: list[Resolution] = Field(default_factory=list, description="One for each conflict.")


class RootCause(BaseModel):
    """Finish: why the live genes did worse."""

    cause: str
    suspects: list[str] = Field(default_factory=list, description="Names of genes, likeliest first.")
    confidence: float = Field(ge=0, le=1)
    evidence: list[str] = Field(default_factory=list)
    recommendations: list[str] = Field(default_factory=list)
    reasoning: str


class BedrockDecisionEngine:
    """Judges; it can propose nothing and apply nothing.

    Args:
        gateway: Where its model calls go.
        attempts: Tries a model gets at a usable answer.
    """

    def __init__(self, gateway: Gateway, *, attempts: int) -> None:
        self._judge = Agent(
            "decision",
            tools=[read_candidate],
            answer=DecisionResult,
            desk=ReportDesk,
            gateway=gateway,
            attempts=attempts,
        )
        self._analyst = Agent(
            "diagnosis",
            tools=[read_degradation],
            answer=RootCause,
            desk=ReportDesk,
            gateway=gateway,
            attempts=attempts,
        )

    def decide(
        self,
        candidate: dict[str, Any],
        *,
        alternatives: Sequence[dict[str, Any]] = (),
        conflicts: Sequence[dict[str, Any]] = (),
        calibration: Mapping[str, Any] = _NOTHING,
        task: ModelTask,
    ) -> Reply[DecisionResult]:
        """Judge a candidate, rank it among its alternatives, and resolve the conflicts around it.

        Args:
            candidate: Its `mutation_id`, `changes`, `evidence` and `risk`.
            alternatives: Other mutations that wait, each with its `mutation_id`.
            conflicts: What `agents.conflicts.conflicts` found.
            calibration: How well earlier verdicts held.
            task: The run to bill, and what the router knows.

        Raises:
            SpendExhausted: A model call does not fit a cap.
        """
        more = {"alternatives": list(alternatives), "conflicts": list(conflicts), "calibration": dict(calibration)}
        report = candidate | {name: told for name, told in more.items() if told}
        ids = [candidate["mutation_id"], *(other["mutation_id"] for other in alternatives)]

        def unusable(result: DecisionResult) -> str:
            return _misranked(result.ranking, ids) or _unresolved(result.resolutions, conflicts)

        brief = brief_with("Judge this candidate.", {"mutation_id": candidate["mutation_id"]})
        return self._judge.run(brief, ReportDesk(task, report), unusable=unusable)

    def diagnose(self, degradation: dict[str, Any], *, task: ModelTask) -> Reply[RootCause]:
        """Find why live genes did worse than those before them.

        Args:
            degradation: `why` they were undone, the `evidence`, and what was `undone`: by gene, `from` and `to`.
            task: The run to bill, and what the router knows.

        Raises:
            SpendExhausted: A model call does not fit a cap.
        """

        def unusable(found: RootCause) -> str:
            unknown = _unknown(found.suspects, degradation["undone"])
            return f"these suspects are no genes that were undone: {unknown}" if unknown else ""

        brief = brief_with("Find the root cause.", {"genes": list(degradation["undone"])})
        return self._analyst.run(brief, ReportDesk(task, degradation), unusable=unusable)


def _misranked(ranking: Sequence[str], ids: Sequence[str]) -> str:
    if unknown := _unknown(ranking, ids):
        return f"the ranking names unknown ids: {unknown}"
    if len(ids) > 1 and sorted(ranking) != sorted(ids):
        return f"the ranking does not name each of these once: {list(ids)}"
    return ""


def _unresolved(resolutions: Sequence[Resolution], conflicts: Sequence[dict[str, Any]]) -> str:
    sides = {conflict["id"]: conflict["between"] for conflict in conflicts}
    if unknown := _unknown([resolution.conflict for resolution in resolutions], sides):
        return f"the resolutions name unknown conflicts: {unknown}"
    if sorted(resolution.conflict for resolution in resolutions) != sorted(sides):
        return f"there is not one resolution for each of these conflicts: {list(sides)}"
    strange = [resolution.keep for resolution in resolutions if resolution.keep not in sides[resolution.conflict]]
    return f"the resolutions keep what was not in conflict: {strange}" if strange else ""


def _unknown(named: Iterable[str], known: Iterable[str]) -> list[str]:
    known = set(known)
    return [name for name in named if name not in known]
