"""The four agents, asked for each of their answers: how, what a well-behaved model says, what the answer must be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bedrock_evolution.agents.advisor import Advice
from bedrock_evolution.agents.conflicts import conflicts
from bedrock_evolution.agents.cost_governor import CostGovernor
from bedrock_evolution.agents.decision import BedrockDecisionEngine, DecisionResult, RootCause
from bedrock_evolution.agents.healer import Healing, HealingPlan, SelfHealer
from bedrock_evolution.bedrock.gateway import ModelTask
from bedrock_evolution.bedrock.money.ledger import Pressure
from tests.support.model import Call
from tests.support.stage import ALTERNATIVES, CANDIDATE, DEGRADATION, INCIDENT, Stage, advisor_desk

_ATTEMPTS = 3
_CONFLICTS = conflicts(CANDIDATE, ALTERNATIVES, [], head_moved=True)
_MEASURES = {"fewer_candidates", "shorter_context", "local_models"}


@dataclass(frozen=True)
class Role:
    """An agent on a stage.

    Args:
        name: Of the agent, and what it is asked for.
        ask: Lets it work on its task and returns its answer.
        script: The answers of a model that does everything right.
        valid: Whether an answer can be used as it is.
    """

    name: str
    ask: Callable[[Stage], Any]
    script: tuple[Call, ...]
    valid: Callable[[Any], bool]

    @property
    def agent(self) -> str:
        """Its name in the ledger and the settings."""
        return self.name.partition(" ")[0]


def _advise(stage: Stage) -> tuple[Advice, set[str]]:
    desk = advisor_desk()
    return stage.advise(desk).answer, set(desk.accepted)


def _advised(answer: tuple[Advice, set[str]]) -> bool:
    advice, accepted = answer
    return isinstance(advice, Advice) and bool(accepted) and set(advice.strategy.ordered()) <= accepted


def _decide(stage: Stage) -> DecisionResult:
    engine = BedrockDecisionEngine(stage.gateway, attempts=_ATTEMPTS)
    return engine.decide(CANDIDATE, task=ModelTask("decision", "run-1")).answer


def _rank(stage: Stage) -> DecisionResult:
    engine = BedrockDecisionEngine(stage.gateway, attempts=_ATTEMPTS)
    task = ModelTask("decision", "run-1")
    return engine.decide(CANDIDATE, alternatives=ALTERNATIVES, conflicts=_CONFLICTS, task=task).answer


def _ranked(answer: DecisionResult) -> bool:
    kept = {resolution.conflict: resolution.keep for resolution in answer.resolutions}
    return (
        sorted(answer.ranking) == ["m-1", "m-2", "m-3"]
        and len(kept) == len(answer.resolutions) == len(_CONFLICTS)
        and all(kept[conflict["id"]] in conflict["between"] for conflict in _CONFLICTS)
    )


def _diagnose(stage: Stage) -> RootCause:
    engine = BedrockDecisionEngine(stage.gateway, attempts=_ATTEMPTS)
    return engine.diagnose(DEGRADATION, task=ModelTask("decision", "run-1")).answer


def _diagnosed(answer: RootCause) -> bool:
    return set(answer.suspects) <= {"depth", "words"} and 0 <= answer.confidence <= 1


def _heal(stage: Stage) -> Healing:
    healer = SelfHealer(stage.gateway, attempts=_ATTEMPTS)
    return healer.plan(INCIDENT, allowed=("retry", "stop"), task=ModelTask("healer", "run-1"))


def _healed(healing: Healing) -> bool:
    plan = healing.reply.answer
    return isinstance(plan, HealingPlan) and 0 <= plan.confidence <= 1 and healing.action in ("retry", "stop")


def _govern(stage: Stage) -> list[str]:
    governor = CostGovernor(stage.gateway, attempts=_ATTEMPTS)
    return list(governor.govern(Pressure(0.85, "run", 3), task=ModelTask("cost_governor", "run-1"))[0])


_ALL = (
    Role(
        "advisor",
        _advise,
        (
            ("read_evidence", {"trials": 5, "failures": 5}),
            ("propose_mutations", {"proposals": [{"changes": {"words": "blue elephants"}}]}),
            ("Advice", {"analysis": {"confidence": 0.7}, "strategy": {"execution_order": ["p1"]}}),
        ),
        _advised,
    ),
    Role(
        "decision",
        _decide,
        (
            ("read_candidate", {}),
            ("DecisionResult", {"verdict": "REJECT", "confidence": 0.8, "reasoning": "The gain is not worth it."}),
        ),
        lambda answer: isinstance(answer, DecisionResult) and 0 <= answer.confidence <= 1,
    ),
    Role(
        "decision with alternatives",
        _rank,
        (
            ("read_candidate", {}),
            (
                "DecisionResult",
                {
                    "verdict": "APPROVE",
                    "confidence": 0.8,
                    "reasoning": "The gain holds.",
                    "ranking": ["m-1", "m-3", "m-2"],
                    "resolutions": [
                        {"conflict": conflict["id"], "keep": "m-1", "reasoning": "It is tested."}
                        for conflict in _CONFLICTS
                    ],
                },
            ),
        ),
        _ranked,
    ),
    Role(
        "decision on a degradation",
        _diagnose,
        (
            ("read_degradation", {}),
            ("RootCause", {"cause": "The new depth.", "suspects": ["depth"], "confidence": 0.8, "reasoning": "So."}),
        ),
        _diagnosed,
    ),
    Role(
        "healer",
        _heal,
        (
            ("read_incident", {}),
            ("HealingPlan", {"confidence": 0.8, "reasoning": "A person should look."}),
        ),
        _healed,
    ),
    Role(
        "cost_governor",
        _govern,
        (
            ("read_spend", {}),
            ("CostMeasures", {"measures": ["fewer_candidates"], "reasoning": "The budget is filling."}),
        ),
        lambda measures: "shorter_context" in measures and set(measures) <= _MEASURES,
    ),
)
ROLES: Mapping[str, Role] = {role.name: role for role in _ALL}
