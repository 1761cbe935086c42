"""The four agents, each asked once: how, what a well-behaved model says to it, and what its answer must be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bedrock_evolution.agents.advisor import Advice
from bedrock_evolution.agents.cost_governor import CostGovernor
from bedrock_evolution.agents.decision import BedrockDecisionEngine, DecisionResult
from bedrock_evolution.agents.healer import HealingPlan, SelfHealer
from bedrock_evolution.bedrock.gateway import ModelTask
from bedrock_evolution.bedrock.money.ledger import Pressure
from tests.support.model import Call
from tests.support.stage import CANDIDATE, INCIDENT, Stage, advisor_desk

_ATTEMPTS = 3
_MEASURES = {"fewer_candidates", "shorter_context", "local_models"}


@dataclass(frozen=True)
class Role:
    """An agent on a stage.

    Args:
        agent: Its name in the ledger and the settings.
        ask: Lets it work on its task and returns its answer.
        script: The answers of a model that does everything right.
        valid: Whether an answer can be used as it is.
    """

    agent: str
    ask: Callable[[Stage], Any]
    script: tuple[Call, ...]
    valid: Callable[[Any], bool]


def _advise(stage: Stage) -> tuple[Advice, set[str]]:
    desk = advisor_desk()
    return stage.advise(desk).answer, set(desk.accepted)


def _advised(answer: tuple[Advice, set[str]]) -> bool:
    advice, accepted = answer
    return isinstance(advice, Advice) and bool(accepted) and set(advice.strategy.ordered()) <= accepted


def _decide(stage: Stage) -> DecisionResult:
    engine = BedrockDecisionEngine(stage.gateway, attempts=_ATTEMPTS)
    return engine.decide(CANDIDATE, task=ModelTask("decision", "run-1")).answer


def _heal(stage: Stage) -> HealingPlan:
    return SelfHealer(stage.gateway, attempts=_ATTEMPTS).plan(INCIDENT, task=ModelTask("healer", "run-1")).answer


def _govern(stage: Stage) -> list[str]:
    governor = CostGovernor(stage.gateway, attempts=_ATTEMPTS)
    return list(governor.govern(Pressure(0.85, "run", 3), task=ModelTask("cost_governor", "run-1")))


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
        "healer",
        _heal,
        (
            ("read_incident", {}),
            ("HealingPlan", {"action": "stop", "confidence": 0.8, "reasoning": "A person should look."}),
        ),
        lambda answer: isinstance(answer, HealingPlan) and 0 <= answer.confidence <= 1,
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
ROLES: Mapping[str, Role] = {role.agent: role for role in _ALL}
