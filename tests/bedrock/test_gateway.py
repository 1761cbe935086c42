"""The gateway against a live endpoint: where calls go, what they cost, and what stays of a call that failed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from bedrock_evolution import Evolution, EvolutionResult, number, text
from bedrock_evolution.agents.healer import Healing, SelfHealer
from bedrock_evolution.bedrock.conversation import Conversation
from bedrock_evolution.bedrock.gateway import ModelTask
from bedrock_evolution.bedrock.stand_in import STAND_IN
from bedrock_evolution.errors import BudgetExhausted, ExitCode, UnknownModel, UnknownPrice
from bedrock_evolution.settings import MICRO, Budget, ModelCard
from tests.support.converse import ConverseRequest, Failure, Message
from tests.support.converse import Reply as WireReply
from tests.support.model import ScriptedModel, tool_use
from tests.support.stage import HAIKU, INCIDENT, SONNET, Stage, always, answering, staged

# $ per million tokens of the healer's model.
HAIKU_IN, HAIKU_OUT, HAIKU_CACHE_READ, HAIKU_CACHE_WRITE = 1.0, 5.0, 0.1, 1.25

THE_PLAN = {"confidence": 0.9, "reasoning": "It may pass."}


@pytest.fixture(scope="module")
def open_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("gateway")) as stage:
        yield stage


@pytest.fixture
def stage(open_stage: Stage) -> Stage:
    open_stage.answer(answering())
    return open_stage


def heal(stage: Stage, *, run_id: str = "run-1", incident: dict[str, Any] = INCIDENT) -> Healing:
    healer = SelfHealer(stage.gateway, attempts=1)
    return healer.plan(incident, allowed=("retry", "stop"), task=ModelTask("healer", run_id))


def open_healing(stage: Stage, messages: list[BaseMessage]) -> Conversation:
    return stage.gateway.open(ModelTask("healer", "run-1"), messages)


def test_where_every_model_refuses_the_stand_in_answers_and_nothing_is_billed(tmp_path: Path) -> None:
    with staged(tmp_path) as stage:
        stage.answer(always(Failure("AccessDeniedException")))
        assert heal(stage).action == "retry"  # a storage failure may pass, says the stand-in's rule
        # Each model was asked for the call it was the first choice of; now both rest.
        assert [request.model_id for request in stage.requests] == [HAIKU, SONNET]
        assert stage.calls() == [("void", "AccessDeniedException", 0, 0)] * 2
        assert heal(stage).reply.model == STAND_IN
        assert len(stage.requests) == 2


def test_an_endpoint_that_is_gone_is_answered_by_the_stand_in_and_not_billed(tmp_path: Path) -> None:
    with staged(tmp_path, endpoint_url="http://127.0.0.1:9") as stage:
        assert heal(stage).action == "retry"
        # After the third attempt the region is left alone.
        assert stage.calls() == [("void", "EndpointConnectionError", 0, 0)] * 3


def test_an_interrupted_call_keeps_its_hold(stage: Stage) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    messages: list[Any] = [HumanMessage("hello")]
    with pytest.raises(KeyboardInterrupt):
        open_healing(stage, messages).call([], messages, interrupted)
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
                cache_ttl="5m",
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

    @pytest.mark.parametrize("budget", [Budget(run_usd=0), Budget(daily_usd=0.01)], ids=["nothing", "too little"])
    def test_a_run_whose_first_call_does_not_fit_sends_nothing_and_ends_with_status_budget(
        self, tmp_path: Path, budget: Budget
    ) -> None:
        result = self.run_with(budget, tmp_path)
        assert result.status == "budget"
        assert result.exit_code == ExitCode.STOPPED_BY_BUDGET
        assert "does not allow this call of" in result.message

    def run_with(self, budget: Budget, folder: Path) -> EvolutionResult:
        """Run where no call fits the budget."""
        with staged(folder) as stage:
            evolution = Evolution(
                "demo",
                {"words": text("old"), "threshold": number(0.3, low=0, high=1)},
                evaluate=lambda genes, case: float(case % 3 > 0 or "new" in genes["words"]),
                cases=range(60),
                budget=budget,
                settings=stage.settings,
                store=f"sqlite:///{folder / 'run.db'}",
            )
            result = evolution.run(3, seed=1, progress=False)
            assert stage.requests == []
        assert result.model_calls == 0
        assert result.cost_usd == 0
        return result


def _tokens(request: ConverseRequest, *, bytes_per_token: float) -> int:
    prompt = {name: request.body[name] for name in ("system", "messages", "toolConfig")}
    return int(len(json.dumps(prompt, ensure_ascii=False).encode()) / bytes_per_token)


def _holds_and_costs(stage: Stage, incident: dict[str, Any], *, bytes_per_token: float) -> list[tuple[int, float]]:
    """Return what was held while a call was out, and its worst cost at a tokenizer of this density."""
    seen = []
    model = ScriptedModel()

    def respond(request: ConverseRequest) -> WireReply:
        tokens = _tokens(request, bytes_per_token=bytes_per_token)
        worst = tokens * HAIKU_CACHE_WRITE + stage.settings.max_tokens * HAIKU_OUT
        seen.append((stage.calls()[-1][2], worst))
        return model(request)

    stage.answer(respond)
    heal(stage, incident=incident)
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

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    for headers in ({}, {"date": "Sun, 01 Mar 2026 00:00:00 GMT", "server": "x" * 500}):
        messages = prompt(headers)
        with pytest.raises(KeyboardInterrupt):
            open_healing(stage, messages).call([], messages, interrupted)
    first, second = (call[3] for call in stage.calls())
    assert first == second


@pytest.mark.parametrize("given", [{"advisor_model": "acme.grand-v1"}, {"models": (HAIKU, "acme.grand-v1")}])
def test_a_model_without_a_card_or_a_price_is_refused_before_anything_is_sent(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    with pytest.raises(UnknownModel, match=r"model 'acme\.grand-v1' is not in the catalog"), staged(tmp_path, **given):
        pass
    card = ModelCard(
        context_tokens=9000, max_output_tokens=900, reasoning=1, code=1, creative=1, data=1, speed=1, bare=True
    )
    refused = pytest.raises(UnknownPrice, match=r"no price is known for the model 'acme\.grand-v1'")
    with refused, staged(tmp_path, **given, model_cards={"acme.grand-v1": card}):
        pass


def test_the_requests_of_an_agent_are_signed_with_the_credentials_of_the_environment(stage: Stage) -> None:
    heal(stage)
    for request in stage.requests:
        assert "AKIACANARY" in request.headers["authorization"]
        assert "canary" not in json.dumps(request.body)
