"""The gateway against a live endpoint: one HTTP call a model call, the stand-in on failure, the money kept straight."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from bedrock_evolution import Evolution, number, text
from bedrock_evolution.agents.agent import Reply
from bedrock_evolution.agents.healer import HealingPlan, SelfHealer
from bedrock_evolution.bedrock.gateway import ModelTask
from bedrock_evolution.errors import BudgetExhausted, ExitCode, UnknownPrice
from bedrock_evolution.settings import MICRO, Budget
from tests.support.converse import ConverseRequest, Cut, Failure, Hang, Message
from tests.support.converse import Reply as WireReply
from tests.support.model import ScriptedModel, tool_use
from tests.support.stage import INCIDENT, Stage, always, answering, staged

READ_TIMEOUT_S = 0.4
# $ per million tokens of the healer's model.
HAIKU_IN, HAIKU_OUT, HAIKU_CACHE_READ, HAIKU_CACHE_WRITE = 1.0, 5.0, 0.1, 1.25

THE_PLAN = {"action": "retry", "confidence": 0.9, "reasoning": "It may pass."}


@pytest.fixture(scope="module")
def open_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("gateway"), read_timeout_s=READ_TIMEOUT_S) as stage:
        yield stage


@pytest.fixture
def stage(open_stage: Stage) -> Stage:
    open_stage.answer(answering())
    return open_stage


def heal(stage: Stage, *, run_id: str = "run-1") -> Reply[HealingPlan]:
    return SelfHealer(stage.gateway, attempts=1).plan(INCIDENT, run_id=run_id)


REFUSED = [
    "ThrottlingException",
    "ModelNotReadyException",
    "ServiceUnavailableException",
    "InternalServerException",
    "ModelTimeoutException",
    "ModelErrorException",
    "AccessDeniedException",
    "ExpiredTokenException",
    "UnrecognizedClientException",
    "ResourceNotFoundException",
    "ValidationException",
    "ServiceQuotaExceededException",
]


@pytest.mark.parametrize("code", REFUSED)
def test_an_error_response_costs_one_http_call_and_no_money_and_the_stand_in_answers(stage: Stage, code: str) -> None:
    stage.answer(answering(Failure(code)))
    reply = heal(stage)
    # The stand-in read the incident in the model's place; the model was asked once more, for the plan.
    assert len(stage.requests) == 2
    assert [call[:2] for call in stage.calls()] == [("void", code), ("settled", "")]
    assert stage.calls()[0][2:] == (0, 0)
    assert reply.answer.action == "stop"


@pytest.mark.parametrize(
    "message",
    [
        "Input is too long for requested model.",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "Too many tokens, please wait before trying again.",
    ],
)
def test_an_overflow_is_refused_and_billed_as_any_other_400(stage: Stage, message: str) -> None:
    stage.answer(answering(Failure("ValidationException", message)))
    heal(stage)
    assert [call[:2] for call in stage.calls()] == [("void", "ValidationException"), ("settled", "")]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Hang(seconds=5), "ReadTimeoutError"),
        (Hang(seconds=0), "ConnectionClosedError"),
        (Cut(Message([{"text": "The incident is"}]), after=1), ""),
    ],
    ids=["silence until the timeout", "connection closed", "body cut short"],
)
def test_a_lost_answer_costs_one_http_call_and_keeps_its_hold_as_it_may_be_billed(
    stage: Stage, reply: WireReply, error: str
) -> None:
    stage.answer(answering(reply))
    heal(stage)
    assert len(stage.requests) == 2
    (status, code, held, spent), after = stage.calls()
    assert status == "lost"
    assert code == error if error else code
    assert held == 0
    assert spent >= round(stage.settings.max_tokens * HAIKU_OUT)
    assert after[0] == "settled"


def test_a_service_that_fails_every_call_is_asked_once_a_call_and_the_run_goes_on(stage: Stage) -> None:
    stage.answer(always(Failure("ServiceUnavailableException")))
    assert heal(stage).answer.action == "retry"  # a storage failure may pass, says the stand-in's rule
    assert len(stage.requests) == 2
    assert {call[0] for call in stage.calls()} == {"void"}


def test_an_endpoint_that_is_gone_is_answered_by_the_stand_in(tmp_path: Path) -> None:
    with staged(tmp_path, endpoint_url="http://127.0.0.1:9") as stage:
        assert heal(stage).answer.action == "retry"
        assert [call[1] for call in stage.calls()] == ["EndpointConnectionError"] * 2


def test_a_call_that_was_never_sent_is_not_billed(tmp_path: Path) -> None:
    with staged(tmp_path, endpoint_url="http://127.0.0.1:9") as stage:
        heal(stage)
        assert {call[3] for call in stage.calls()} == {0}


def test_an_interrupted_call_keeps_its_hold(stage: Stage) -> None:
    def interrupted(model: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage.gateway.call(ModelTask("healer", "run-1"), [HumanMessage("hello")], interrupted)
    [(status, error, held, spent)] = stage.calls()
    assert (status, error, held) == ("lost", "interrupted", 0)
    assert spent > 0


def test_the_cost_is_usage_times_price_rounded_up_to_a_micro_dollar(stage: Stage) -> None:
    stage.answer(
        answering(
            Message([tool_use("t1", "read_incident", {})], input_tokens=1234, output_tokens=77),
            Message(
                [tool_use("t2", "HealingPlan", THE_PLAN)],
                input_tokens=1001,
                output_tokens=33,
                cache_read_tokens=5003,
                cache_write_tokens=401,
            ),
        )
    )
    before = stage.ledger.run_spend("priced").micro_usd
    heal(stage, run_id="priced")
    plain = 1234 * HAIKU_IN + 77 * HAIKU_OUT
    cached = 1001 * HAIKU_IN + 33 * HAIKU_OUT + 5003 * HAIKU_CACHE_READ + 401 * HAIKU_CACHE_WRITE
    assert [call[3] for call in stage.calls()] == [1619, 2168]
    assert plain == 1619
    assert 2167 < cached <= 2168
    assert stage.ledger.run_spend("priced").micro_usd - before == 1619 + 2168


def test_a_call_that_used_more_than_was_held_is_settled_at_what_it_used(stage: Stage) -> None:
    reply = Message([tool_use("t1", "HealingPlan", THE_PLAN)], input_tokens=10_000_000, output_tokens=1)
    stage.answer(answering(reply))
    heal(stage)
    assert [call[3] for call in stage.calls()] == [10 * MICRO + 5]


class TestBudget:
    def test_a_call_whose_worst_case_does_not_fit_is_not_sent(self, tmp_path: Path) -> None:
        with staged(tmp_path, budget=Budget(run_usd=0.001)) as stage:
            with pytest.raises(BudgetExhausted, match=r"the run budget of \$0.00 does not allow this call of healer"):
                heal(stage)
            assert stage.requests == []
            assert stage.calls() == []

    def test_the_next_call_is_not_sent_once_the_rest_does_not_fit(self, tmp_path: Path) -> None:
        reads = Message([tool_use("t1", "read_incident", {})], input_tokens=10_000, output_tokens=1)
        with staged(tmp_path, budget=Budget(daily_usd=0.03)) as stage:
            stage.answer(answering(reads))
            with pytest.raises(BudgetExhausted, match="the daily budget"):
                heal(stage)
            assert len(stage.requests) == 1
            assert [call[0] for call in stage.calls()] == ["settled"]
            assert stage.ledger.day_spend().micro_usd == 10_005

    @pytest.mark.parametrize("budget", [Budget(run_usd=0), Budget(daily_usd=0.01)], ids=["run", "day"])
    def test_a_run_whose_first_call_does_not_fit_sends_nothing_and_ends_with_status_budget(
        self, tmp_path: Path, budget: Budget
    ) -> None:
        with staged(tmp_path) as stage:
            evolution = Evolution(
                "demo",
                {"words": text("old"), "threshold": number(0.3, low=0, high=1)},
                evaluate=lambda genes, case: float(case % 3 > 0 or "new" in genes["words"]),
                cases=range(60),
                budget=budget,
                settings=stage.settings,
                store=f"sqlite:///{tmp_path / 'run.db'}",
            )
            result = evolution.run(3, seed=1, progress=False)
            assert stage.requests == []
        assert result.status == "budget"
        assert result.exit_code == ExitCode.STOPPED_BY_BUDGET
        assert result.model_calls == 0
        assert result.cost_usd == 0
        assert "does not allow this call of" in result.message


def _tokens(request: ConverseRequest, *, bytes_per_token: float) -> int:
    prompt = {name: request.body[name] for name in ("system", "messages", "toolConfig")}
    return int(len(json.dumps(prompt, ensure_ascii=False).encode()) / bytes_per_token)


def _holds_and_costs(stage: Stage, incident: dict[str, Any], *, bytes_per_token: float) -> list[tuple[int, float]]:
    """Return what was held while a call was out, and its worst cost at a tokenizer of this density."""
    seen = []
    model = ScriptedModel()

    def respond(request: ConverseRequest) -> WireReply:
        tokens = _tokens(request, bytes_per_token=bytes_per_token)
        worst = tokens * HAIKU_IN + stage.settings.max_tokens * HAIKU_OUT
        seen.append((stage.calls()[-1][2], worst))
        return model(request)

    stage.answer(respond)
    SelfHealer(stage.gateway, attempts=1).plan(incident, run_id="run-1")
    return seen


def test_the_hold_covers_the_worst_case_of_an_english_conversation(stage: Stage) -> None:
    incident = INCIDENT | {"message": "the disk is full of invoices and refunds. " * 400}
    seen = _holds_and_costs(stage, incident, bytes_per_token=3.0)
    assert len(seen) == 2
    assert all(held >= worst for held, worst in seen)


def test_the_hold_covers_the_worst_case_of_a_chinese_conversation(stage: Stage) -> None:
    incident = INCIDENT | {"message": "磁盘已满发票和退款" * 2000}
    seen = _holds_and_costs(stage, incident, bytes_per_token=2.5)  # 1.2 tokens a character
    assert all(held >= worst for held, worst in seen)


def test_the_hold_depends_on_what_is_sent_and_on_nothing_else(stage: Stage) -> None:
    def prompt(headers: dict[str, str]) -> list[Any]:
        return [
            HumanMessage("hello"),
            AIMessage("hi", response_metadata={"ResponseMetadata": {"HTTPHeaders": headers}}),
        ]

    def failing(model: Any) -> Any:
        raise ConnectionError

    for headers in ({}, {"date": "Sun, 01 Mar 2026 00:00:00 GMT", "server": "x" * 500}):
        with pytest.raises(ConnectionError):
            stage.gateway.call(ModelTask("healer", "run-1"), prompt(headers), failing)
    first, second = (call[3] for call in stage.calls())
    assert first == second


def test_a_model_without_a_known_price_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    refused = pytest.raises(UnknownPrice, match=r"no price is known for the model 'acme\.grand-v1'")
    with refused, staged(tmp_path, advisor_model="acme.grand-v1"):
        pass


def test_the_requests_of_an_agent_are_signed_with_the_credentials_of_the_environment(stage: Stage) -> None:
    heal(stage)
    for request in stage.requests:
        assert "AKIACANARY" in request.headers["authorization"]
        assert "canary" not in json.dumps(request.body)
