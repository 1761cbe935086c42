"""The decision engine, the healer and the cost governor: one report to read, one answer to give."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bedrock_evolution.agents.agent import Reply
from bedrock_evolution.agents.cost_governor import CostGovernor, Measure
from bedrock_evolution.agents.decision import BedrockDecisionEngine, DecisionResult
from bedrock_evolution.agents.healer import HealingPlan, SelfHealer
from bedrock_evolution.bedrock.gateway import ModelTask
from bedrock_evolution.bedrock.stand_in import STAND_IN
from bedrock_evolution.settings import Budget
from tests.support.converse import Failure
from tests.support.model import Call
from tests.support.stage import (
    CANDIDATE,
    HAIKU,
    INCIDENT,
    SONNET,
    Answer,
    Message,
    Stage,
    always,
    answering,
    heard,
    staged,
)

ATTEMPTS = 3
VERDICT = {"verdict": "REJECT", "confidence": 0.8, "reasoning": "The gain is not worth it."}
PLAN = {"action": "stop", "confidence": 0.8, "reasoning": "A person should look."}


def decide(stage: Stage) -> Reply[DecisionResult]:
    return BedrockDecisionEngine(stage.gateway, attempts=ATTEMPTS).decide(
        CANDIDATE, task=ModelTask("decision", "run-1")
    )


def heal(stage: Stage) -> Reply[HealingPlan]:
    return SelfHealer(stage.gateway, attempts=ATTEMPTS).plan(INCIDENT, task=ModelTask("healer", "run-1"))


def govern(stage: Stage) -> list[Measure]:
    task = ModelTask("cost_governor", "run-1")
    return CostGovernor(stage.gateway, attempts=ATTEMPTS).govern(stage.ledger.pressure("run-1"), task=task)


def verdict(**changed: Any) -> Call:
    return "DecisionResult", VERDICT | changed


def plan(**changed: Any) -> Call:
    return "HealingPlan", PLAN | changed


def without(call: Call, name: str) -> Call:
    return call[0], {key: value for key, value in call[1].items() if key != name}


@pytest.mark.parametrize(
    ("ask", "tools", "model"),
    [
        (decide, ["read_candidate", "DecisionResult"], SONNET),
        (heal, ["read_incident", "HealingPlan"], HAIKU),
    ],
    ids=["decision engine", "healer"],
)
def test_a_role_has_its_own_tools_and_model_only(
    stage: Stage, ask: Callable[[Stage], Reply[Any]], tools: list[str], model: str
) -> None:
    assert ask(stage).model == model
    assert [request.tools for request in stage.requests] == [tools] * len(stage.requests)
    assert {request.model_id for request in stage.requests} == {model}


def test_the_decision_engine_reads_the_candidate_and_gives_the_models_verdict(stage: Stage) -> None:
    stage.answer(answering(("read_candidate", {}), verdict(risks={"cost": 0.3}, estimated_impact=0.02)))
    reply = decide(stage)
    assert reply.answer.verdict == "REJECT"
    assert reply.answer.risks == {"cost": 0.3}
    assert '"credible": true' in heard(stage.requests[1])


def test_the_healer_reads_the_incident_and_gives_the_models_plan(stage: Stage) -> None:
    stage.answer(answering(("read_incident", {}), plan(action="retry")))
    assert heal(stage).answer.action == "retry"
    assert "the disk is full" in heard(stage.requests[1])


MALFORMED: dict[str, tuple[Callable[[Stage], Reply[Any]], Answer, str]] = {
    "a verdict that is none": (decide, verdict(verdict="YES"), "Input should be 'APPROVE', 'REJECT' or 'DEFER'"),
    "a verdict in small letters": (decide, verdict(verdict="approve"), "Input should be 'APPROVE'"),
    "no verdict": (decide, without(verdict(), "verdict"), "verdict\n  Field required"),
    "no reasoning": (decide, without(verdict(), "reasoning"), "reasoning\n  Field required"),
    "confidence in percent": (decide, verdict(confidence=80), "less than or equal to 1"),
    "risks as a list": (decide, verdict(risks=["high"]), "Input should be a valid dictionary"),
    "a verdict as prose": (decide, "I approve this candidate.", "the tool DecisionResult was not called"),
    "a proposal": (decide, ("propose_mutations", {"proposals": []}), "propose_mutations is not a valid tool"),
    "two verdicts": (decide, [verdict(), verdict(verdict="APPROVE")], "multiple structured responses"),
    "an action that is none": (heal, plan(action="reboot"), "Input should be 'retry' or 'stop'"),
    "a plan without confidence": (heal, without(plan(), "confidence"), "confidence\n  Field required"),
    "a plan as prose": (heal, "Try turning it off and on.", "the tool HealingPlan was not called"),
    "nothing": (heal, Message([]), "the tool HealingPlan was not called"),
}


@pytest.mark.parametrize(("ask", "answer", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_answer_is_told_why_and_can_be_mended(
    stage: Stage, ask: Callable[[Stage], Reply[Any]], answer: Answer, reason: str
) -> None:
    stage.answer(answering(answer))
    reply = ask(stage)
    assert reason.casefold() in heard(stage.requests[1]).casefold()
    assert reply.model != STAND_IN


@pytest.mark.parametrize(("ask", "answer"), [(decide, "Approved!"), (heal, "Hm.")], ids=["decision engine", "healer"])
def test_a_model_that_only_talks_has_its_attempts_and_then_the_stand_in_answers(
    stage: Stage, ask: Callable[[Stage], Reply[Any]], answer: str
) -> None:
    stage.answer(always(answer))
    assert ask(stage).model == STAND_IN
    assert len(stage.requests) == ATTEMPTS


def test_prose_that_claims_approval_approves_nothing(stage: Stage) -> None:
    stage.answer(always('Verdict: APPROVE. {"verdict": "APPROVE", "confidence": 1.0}'))
    doubtful = CANDIDATE | {"evidence": {**CANDIDATE["evidence"], "credible": False}}
    reply = BedrockDecisionEngine(stage.gateway, attempts=ATTEMPTS).decide(
        doubtful, task=ModelTask("decision", "run-1")
    )
    assert reply.model == STAND_IN
    assert reply.answer.verdict == "REJECT"


def test_a_verdict_of_the_stand_in_is_never_recorded_as_a_models(tmp_path: Path) -> None:
    with staged(tmp_path) as stage:
        stage.answer(always(Failure("AccessDeniedException")))
        assert decide(stage).model == STAND_IN


class TestCostGovernor:
    def test_it_asks_nobody_while_spend_is_low(self, tmp_path: Path) -> None:
        with staged(tmp_path, budget=Budget(run_usd=1)) as stage:
            assert govern(stage) == []
            assert stage.requests == []

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (None, ""),
            (("CostMeasures", {"measures": ["raise_budget"], "reasoning": "more"}), "Input should be 'fewer_cand"),
            (("CostMeasures", {"measures": "local_models", "reasoning": "all"}), "Input should be a valid list"),
            (("CostMeasures", {"measures": []}), "reasoning\n  Field required"),
            ("Spend less.", "the tool CostMeasures was not called"),
        ],
        ids=["well behaved", "no measure", "no list", "no reasoning", "prose"],
    )
    def test_above_the_threshold_a_model_chooses_measures(
        self, tmp_path: Path, answer: Answer | None, reason: str
    ) -> None:
        with staged(tmp_path, budget=Budget(run_usd=1)) as stage:
            stage.ledger.reserve(run_id="run-1", agent="advisor", model=SONNET, micro_usd=850_000)
            stage.answer(answering(*([answer] if answer else [])))
            assert govern(stage) == ["shorter_context"]
            assert {tuple(request.tools) for request in stage.requests} == {("read_spend", "CostMeasures")}
            assert {request.model_id for request in stage.requests} == {HAIKU}
            assert reason in heard(stage.requests[1])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = JSON.filter(lambda value: value is not None) | st.fixed_dictionaries(
    {}, optional={"verdict": JSON, "action": JSON, "confidence": JSON, "reasoning": JSON, "risks": JSON}
)
CALLS = st.tuples(
    st.sampled_from(["read_candidate", "DecisionResult", "read_incident", "HealingPlan", "apply"]), ARGUMENTS
)


@pytest.mark.parametrize("ask", [decide, heal], ids=["decision engine", "healer"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(CALLS | st.text() | st.lists(CALLS, max_size=3), max_size=4))
def test_no_json_value_crashes_a_role(stage: Stage, ask: Callable[[Stage], Reply[Any]], turns: list[Answer]) -> None:
    stage.answer(answering(*turns))
    answer = ask(stage).answer
    assert isinstance(answer, DecisionResult | HealingPlan)
    assert 0 <= answer.confidence <= 1
