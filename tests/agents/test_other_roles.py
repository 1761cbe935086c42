"""The decision engine, the healer and the cost governor: one report to read, one answer to give."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bedrock_evolution.agents.agent import Reply
from bedrock_evolution.agents.cost_governor import CostGovernor, Measure
from bedrock_evolution.agents.decision import BedrockDecisionEngine, DecisionResult, RootCause
from bedrock_evolution.agents.healer import Healing, HealingPlan, SelfHealer
from bedrock_evolution.bedrock.gateway import ModelTask
from bedrock_evolution.bedrock.stand_in import STAND_IN
from bedrock_evolution.healing.incident import Action
from bedrock_evolution.settings import Budget
from tests.support.converse import Failure
from tests.support.model import Call
from tests.support.stage import (
    ALTERNATIVES,
    CANDIDATE,
    DEGRADATION,
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
CAUSE = {"cause": "The new depth.", "confidence": 0.7, "reasoning": "It changed last."}
PLAN = {"confidence": 0.8, "reasoning": "A person should look."}
CONFLICTS = [
    {"id": "c1", "kind": "same gene", "between": ["m-1", "m-2"], "about": "depth"},
    {"id": "c2", "kind": "concurrent change", "between": ["m-1", "live"], "about": "the live DNA"},
]
RANKING = ["m-1", "m-3", "m-2"]
RESOLUTIONS = [{"conflict": "c1", "keep": "m-1"}, {"conflict": "c2", "keep": "live"}]


def decide(stage: Stage) -> Reply[DecisionResult]:
    return BedrockDecisionEngine(stage.gateway, attempts=ATTEMPTS).decide(
        CANDIDATE, task=ModelTask("decision", "run-1")
    )


def rank(stage: Stage) -> Reply[DecisionResult]:
    return BedrockDecisionEngine(stage.gateway, attempts=ATTEMPTS).decide(
        CANDIDATE,
        alternatives=ALTERNATIVES,
        conflicts=CONFLICTS,
        calibration={"held": 3, "decisions": 4},
        task=ModelTask("decision", "run-1"),
    )


def diagnose(stage: Stage) -> Reply[RootCause]:
    return BedrockDecisionEngine(stage.gateway, attempts=ATTEMPTS).diagnose(
        DEGRADATION, task=ModelTask("decision", "run-1")
    )


def healing(stage: Stage, *allowed: Action) -> Healing:
    healer = SelfHealer(stage.gateway, attempts=ATTEMPTS)
    return healer.plan(INCIDENT, allowed=allowed, task=ModelTask("healer", "run-1"))


def heal(stage: Stage) -> Reply[HealingPlan]:
    return healing(stage, "retry", "stop").reply


def govern(stage: Stage) -> list[Measure]:
    task = ModelTask("cost_governor", "run-1")
    return CostGovernor(stage.gateway, attempts=ATTEMPTS).govern(stage.ledger.pressure("run-1"), task=task)[0]


def verdict(**changed: Any) -> Call:
    return "DecisionResult", VERDICT | changed


def ranked(**changed: Any) -> Call:
    return verdict(**({"ranking": RANKING, "resolutions": RESOLUTIONS} | changed))


def cause(**changed: Any) -> Call:
    return "RootCause", CAUSE | changed


def plan(**changed: Any) -> Call:
    return "HealingPlan", PLAN | changed


def without(call: Call, name: str) -> Call:
    return call[0], {key: value for key, value in call[1].items() if key != name}


@pytest.mark.parametrize(
    ("ask", "tools", "model"),
    [
        (decide, ["read_candidate", "DecisionResult"], SONNET),
        (diagnose, ["read_degradation", "RootCause"], SONNET),
        (heal, ["read_incident", "retry_step", "roll_back", "stop_run", "HealingPlan"], HAIKU),
    ],
    ids=["decision engine", "diagnosis", "healer"],
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


def test_what_there_is_nothing_of_is_not_in_the_report(stage: Stage) -> None:
    stage.answer(answering(("read_candidate", {}), verdict()))
    decide(stage)
    told = json.loads(heard(stage.requests[1]))
    assert told == CANDIDATE


def test_the_decision_engine_ranks_alternatives_and_resolves_conflicts(stage: Stage) -> None:
    stage.answer(answering(("read_candidate", {}), ranked()))
    answer = rank(stage).answer
    assert answer.ranking == RANKING
    assert [(found.conflict, found.keep) for found in answer.resolutions] == [("c1", "m-1"), ("c2", "live")]
    told = json.loads(heard(stage.requests[1]))
    assert told == CANDIDATE | {
        "alternatives": ALTERNATIVES,
        "conflicts": CONFLICTS,
        "calibration": {"held": 3, "decisions": 4},
    }


def test_the_decision_engine_reads_a_degradation_and_names_suspects(stage: Stage) -> None:
    stage.answer(answering(("read_degradation", {}), cause(suspects=["depth"])))
    reply = diagnose(stage)
    assert reply.answer.suspects == ["depth"]
    assert reply.model == SONNET
    assert json.loads(heard(stage.requests[1])) == DEGRADATION


def test_the_healer_reads_the_incident_with_what_is_allowed_and_chooses_by_a_tool(stage: Stage) -> None:
    stage.answer(answering(("read_incident", {}), ("retry_step", {}), plan()))
    found = healing(stage, "retry", "stop")
    assert found.action == "retry"
    assert found.reply.answer.reasoning == "A person should look."
    assert json.loads(heard(stage.requests[1])) == INCIDENT | {"allowed": ["retry", "stop"]}
    assert heard(stage.requests[2]) == "accepted"


@pytest.mark.parametrize(
    ("calls", "allowed", "action"),
    [
        ([], ("retry", "rollback", "stop"), "stop"),
        (["roll_back"], ("retry", "rollback", "stop"), "rollback"),
        (["roll_back"], ("retry", "stop"), "stop"),
        (["retry_step"], ("stop",), "stop"),
        (["retry_step", "roll_back"], ("retry", "stop"), "retry"),
        (["retry_step", "stop_run"], ("retry", "stop"), "stop"),
        (["stop_run", "retry_step"], ("retry", "stop"), "retry"),
    ],
    ids=["none", "allowed", "rollback refused", "retry refused", "refused later", "last counts", "last counts too"],
)
def test_the_last_choice_that_is_allowed_counts_and_without_one_the_run_stops(
    stage: Stage, calls: list[str], allowed: tuple[Action, ...], action: str
) -> None:
    stage.answer(answering(("read_incident", {}), *((name, {}) for name in calls), plan()))
    assert healing(stage, *allowed).action == action


def test_a_choice_that_is_refused_is_told_why(stage: Stage) -> None:
    stage.answer(answering(("roll_back", {}), plan()))
    healing(stage, "retry", "stop")
    assert heard(stage.requests[1]) == "refused: allowed are retry, stop"


def test_a_plan_that_claims_an_action_has_none(stage: Stage) -> None:
    stage.answer(answering(("HealingPlan", PLAN | {"action": "retry"})))
    assert healing(stage, "retry", "stop").action == "stop"


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
    "a ranking of unknown ids": (rank, ranked(ranking=[*RANKING, "m-9"]), "the ranking names unknown ids: ['m-9']"),
    "a ranking where none is due": (decide, verdict(ranking=["m-2"]), "the ranking names unknown ids: ['m-2']"),
    "no ranking": (rank, ranked(ranking=[]), "does not name each of these once: ['m-1', 'm-2', 'm-3']"),
    "a ranking with one twice": (rank, ranked(ranking=[*RANKING, "m-1"]), "does not name each of these once"),
    "an unknown conflict": (
        rank,
        ranked(resolutions=[*RESOLUTIONS, {"conflict": "c9", "keep": "m-1"}]),
        "unknown conflicts: ['c9']",
    ),
    "a conflict left open": (rank, ranked(resolutions=RESOLUTIONS[:1]), "one resolution for each of these conflicts"),
    "a side that is none": (
        rank,
        ranked(resolutions=[{"conflict": "c1", "keep": "m-3"}, RESOLUTIONS[1]]),
        "keep what was not in conflict: ['m-3']",
    ),
    "resolutions as text": (rank, ranked(resolutions=["keep m-1"]), "valid dictionary"),
    "an unknown suspect": (diagnose, cause(suspects=["depth", "moon"]), "no genes that were undone: ['moon']"),
    "a cause without reasoning": (diagnose, without(cause(), "reasoning"), "reasoning\n  Field required"),
    "a diagnosis as prose": (diagnose, "It was the depth.", "the tool RootCause was not called"),
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
    {},
    optional={
        "verdict": JSON,
        "confidence": JSON,
        "reasoning": JSON,
        "risks": JSON,
        "ranking": JSON | st.permutations(RANKING),
        "resolutions": JSON,
        "cause": JSON,
        "suspects": JSON,
    },
)
CALLS = st.tuples(
    st.sampled_from(
        [
            *("read_candidate", "DecisionResult", "read_degradation", "RootCause"),
            *("read_incident", "retry_step", "roll_back", "HealingPlan", "apply"),
        ]
    ),
    ARGUMENTS,
)


@pytest.mark.parametrize(
    "ask", [decide, rank, diagnose, heal], ids=["decision engine", "ranking", "diagnosis", "healer"]
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(CALLS | st.text() | st.lists(CALLS, max_size=3), max_size=4))
def test_no_json_value_crashes_a_role(stage: Stage, ask: Callable[[Stage], Reply[Any]], turns: list[Answer]) -> None:
    stage.answer(answering(*turns))
    answer = ask(stage).answer
    assert isinstance(answer, DecisionResult | HealingPlan | RootCause)
    assert 0 <= answer.confidence <= 1
