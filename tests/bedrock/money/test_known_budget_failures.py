"""Budgets that were passed elsewhere: each failure reported of litellm, brought about here, where it must not happen.

Through the real gateway and client against a live endpoint, wherever it is about calls and not about sums.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage

from bedrock_evolution import Evolution, number, text
from bedrock_evolution.agents.healer import SelfHealer
from bedrock_evolution.bedrock.gateway import ModelTask
from bedrock_evolution.bedrock.models.catalog import Catalog
from bedrock_evolution.bedrock.models.prices import Tokens
from bedrock_evolution.clock import FixedClock
from bedrock_evolution.errors import BudgetExhausted, UnknownPrice
from bedrock_evolution.settings import AGENTS, MICRO, Budget, ModelCard
from tests.bedrock.money.ledger_driver import AMOUNT, CLOCK
from tests.support.books import added_up, ask, balances, opened, reserved_by
from tests.support.converse import ConverseRequest, Failure, Message, Reply
from tests.support.model import ScriptedModel
from tests.support.stage import INCIDENT, Stage, always, staged

PATIENCE_S = 60.0
OK = Message([{"text": "ok"}])
TIERED = "anthropic.claude-haiku-5-5"
"""Its prices are five times as high from 100,000 tokens of input on."""


@pytest.fixture(scope="module")
def open_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("budget"), models=(TIERED,), cost_governor_model=TIERED) as stage:
        yield stage


@pytest.fixture
def stage(open_stage: Stage) -> Iterator[Stage]:
    """One stage for all tests of this module; each has runs of its own, and the caps it sets."""
    open_stage.answer(always("ok"))
    yield open_stage
    open_stage.ledger.budget = Budget()


@pytest.fixture
def run(request: pytest.FixtureRequest) -> str:
    return f"run-{request.node.name}"


@pytest.fixture
def hold_usd(stage: Stage) -> float:
    """What is held for a call of the healer that says hello."""
    ask(stage, run="run-to-measure")
    stage.answer(always("ok"))
    return reserved_by(stage)[-1] / MICRO


def at_once(stage: Stage, runs: Sequence[str], *, text: str = "hello", agent: str = "healer") -> list[BudgetExhausted]:
    """Make one call for each run, all under way at the same time; return the refusals."""
    gate, start, refused = threading.Event(), threading.Barrier(len(runs)), []

    def respond(request: ConverseRequest) -> Message:
        gate.wait(PATIENCE_S)
        return OK

    def call(run: str) -> None:
        start.wait(PATIENCE_S)
        try:
            ask(stage, text, agent=agent, run=run)
        except BudgetExhausted as error:
            refused.append(error)

    stage.answer(respond)
    threads = [threading.Thread(target=call, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE_S
    # No call is answered before every other one has been sent or refused.
    while len(refused) + len(stage.requests) < len(runs) and time.monotonic() < deadline:
        time.sleep(0.002)
    gate.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    return refused


def test_litellm_34732_concurrent_calls_of_one_session_all_read_the_same_spend(
    stage: Stage, run: str, hold_usd: float
) -> None:
    stage.ledger.budget = Budget(run_usd=3.5 * hold_usd)
    refused = at_once(stage, [run] * 8)
    assert len(stage.requests) == 3
    assert len(refused) == 5
    assert stage.ledger.run_spend(run).calls == 3


def test_litellm_40095_the_first_calls_of_somebody_unknown_meet_no_budget(
    stage: Stage, run: str, hold_usd: float
) -> None:
    stage.ledger.budget = Budget(run_usd=0.9 * hold_usd)
    refused = at_once(stage, [run] * 8)
    assert stage.requests == []
    assert len(refused) == 8
    assert stage.ledger.run_spend(run).micro_usd == 0


@pytest.mark.parametrize("scope", ["daily_usd", "monthly_usd", "agent_daily_usd"])
def test_litellm_40095_nor_do_the_first_calls_of_a_period(tmp_path: Path, scope: str, hold_usd: float) -> None:
    cap = 2.5 * hold_usd
    budget = Budget(**{scope: {"healer": cap} if scope == "agent_daily_usd" else cap})
    with staged(tmp_path, budget=budget) as fresh:
        refused = at_once(fresh, [f"run-{number}" for number in range(6)])
        assert len(fresh.requests) == 2
        assert len(refused) == 4


@pytest.mark.parametrize("caching", [True, False])
def test_litellm_35524_nothing_is_reserved_for_a_model_of_unknown_cost(tmp_path: Path, caching: bool) -> None:
    card = ModelCard(
        context_tokens=100_000,
        max_output_tokens=4096,
        reasoning=0.5,
        code=0.5,
        creative=0.5,
        data=0.5,
        speed=0.5,
        caches=caching,
    )
    refused = pytest.raises(UnknownPrice, match=r"no price is known for the model 'acme\.grand-v1'")
    with refused, staged(tmp_path, models=("acme.grand-v1",), model_cards={"acme.grand-v1": card}):
        pass


def test_litellm_26672_calls_are_admitted_though_the_spend_is_over_the_budget(tmp_path: Path) -> None:
    dear = Message([{"text": "ok"}], input_tokens=2_000_000)
    with staged(tmp_path, budget=Budget(daily_usd=1.0)) as stage:
        stage.answer(lambda request: dear)
        ask(stage)
        assert stage.ledger.day_spend().micro_usd > MICRO
        for agent in AGENTS:
            with pytest.raises(BudgetExhausted):
                ask(stage, agent=agent, run="another run")
        assert len(stage.requests) == 1
    with staged(tmp_path, budget=Budget(daily_usd=1.0)) as started_again:
        with pytest.raises(BudgetExhausted):
            ask(started_again)
        assert started_again.requests == []


def test_litellm_38176_calls_of_some_endpoints_are_never_counted(stage: Stage, run: str) -> None:
    for agent in AGENTS:
        ask(stage, agent=agent, run=run)
    spend = stage.ledger.run_spend(run)
    assert len(stage.requests) == spend.calls == len(AGENTS)
    assert (spend.input_tokens, spend.output_tokens) == (10 * len(AGENTS), 5 * len(AGENTS))
    assert {group.names[0] for group in stage.ledger.spend_by("agent", "run") if group.names[1] == run} == set(AGENTS)


def test_litellm_38176_whatever_a_whole_run_sends_is_counted(stage: Stage, tmp_path: Path) -> None:
    model, sent = ScriptedModel(), []

    def respond(request: ConverseRequest) -> Reply:
        sent.append(model(request))
        return sent[-1]

    stage.answer(respond)
    evolution = Evolution(
        "demo",
        {"words": text("old"), "threshold": number(0.3, low=0, high=1)},
        evaluate=lambda genes, case: float(case % 3 > 0 or "new" in genes["words"]),
        cases=range(60),
        settings=stage.settings,
        store=f"sqlite:///{tmp_path / 'run.db'}",
    )
    result = evolution.run(2, seed=1, progress=False)
    ledger = evolution._services.gateway.ledger
    spend = ledger.run_spend(result.run_id)
    assert len(sent) == spend.calls == result.model_calls > 2
    used = [reply for reply in sent if isinstance(reply, Message)]
    assert spend.output_tokens == sum(reply.output_tokens for reply in used)
    assert spend.input_tokens == sum(
        reply.input_tokens + reply.cache_read_tokens + reply.cache_write_tokens for reply in used
    )
    assert spend.micro_usd == round(result.cost_usd * MICRO) > 0
    evolution.close()


def test_litellm_40002_long_prompts_are_reserved_at_the_price_of_short_ones(stage: Stage, run: str) -> None:
    long = "word " * 56_000  # 280 kB: more than 100,000 tokens by the gateway's measure
    used = Message([{"text": "ok"}], input_tokens=2000, cache_write_tokens=115_000, output_tokens=4000)
    stage.answer(lambda request: used)
    ask(stage, long, agent="cost_governor", run=run)
    spent, held = stage.ledger.run_spend(run).micro_usd, reserved_by(stage)[-1]
    catalog = Catalog()
    at_base_price = 2 * catalog.cost_micro_usd(TIERED, Tokens(50_000, 2000, cache_write=49_000))
    assert spent > 3 * at_base_price  # the endpoint's answer was billed at the higher tier
    assert held >= spent
    assert not [alarm for alarm in stage.ledger.alarms() if alarm.kind == "over_hold"]

    other = f"{run}-at-once"
    stage.ledger.budget = Budget(run_usd=2.5 * held / MICRO)
    refused = at_once(stage, [other] * 5, text=long, agent="cost_governor")
    assert len(stage.requests) == 2
    assert len(refused) == 3


tokens = st.integers(0, 400_000)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(Catalog().names), tokens, tokens, tokens, st.integers(0, 4096))
def test_litellm_40002_no_split_of_a_prompt_costs_more_than_what_is_reserved_for_it(
    model: str, fresh: int, read: int, written: int, output: int
) -> None:
    catalog = Catalog()
    caches = catalog.card(model).caches
    used = Tokens(fresh + read + written, output, read, written) if caches else Tokens(fresh + read + written, output)
    try:
        reserved = max(
            catalog.cost_micro_usd(model, Tokens(used.input, 4096, cache_write=written))
            for written in (0, used.input if caches else 0)
        )
    except UnknownPrice:
        return  # no call to it is ever admitted
    assert catalog.cost_micro_usd(model, used) <= reserved


def test_litellm_27509_one_call_under_way_reserves_all_that_is_left(stage: Stage, run: str, hold_usd: float) -> None:
    stage.ledger.budget = Budget(run_usd=10 * hold_usd)
    refused = at_once(stage, [run] * 10)
    assert refused == []
    assert len(stage.requests) == 10


def test_litellm_38647_a_burst_fills_the_budget_with_holds_for_good(stage: Stage, run: str, hold_usd: float) -> None:
    stage.ledger.budget = Budget(run_usd=4 * hold_usd)
    for round_ in range(1, 4):
        # Real costs are small beside the holds, so every burst finds almost all of the budget again.
        refused = at_once(stage, [run] * 6)
        admitted = 6 - len(refused)
        assert admitted == (4 if round_ == 1 else 3)
        spend = stage.ledger.run_spend(run)
        assert spend.held_micro_usd == 0
        assert spend.micro_usd == 35 * spend.calls
    assert all("are spent or held" in error.message for error in refused)


def test_litellm_38647_refused_and_cancelled_calls_leave_holds_behind(stage: Stage, run: str, hold_usd: float) -> None:
    stage.ledger.budget = Budget(run_usd=3.5 * hold_usd)
    stage.answer(always(Failure("ValidationException", "no")))
    for _ in range(3):
        SelfHealer(stage.gateway, attempts=1).plan(INCIDENT, allowed=("retry", "stop"), task=ModelTask("healer", run))
    assert {call[0] for call in stage.calls()} == {"void"}
    assert stage.ledger.run_spend(run).micro_usd == 0
    stage.answer(always("ok"))
    messages: list[Any] = [HumanMessage("hello")]

    def cancelled(model: Any, given: Any, settings: Any) -> Any:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        stage.gateway.open(ModelTask("healer", run), messages).call([], messages, cancelled)
    spend = stage.ledger.run_spend(run)
    assert spend.held_micro_usd == 0
    # It may be billed: it is spent, and said to be unconfirmed.
    assert spend.micro_usd == spend.unconfirmed_micro_usd == pytest.approx(hold_usd * MICRO, rel=0.01)
    ask(stage, run=run)
    assert stage.ledger.run_spend(run).held_micro_usd == 0


def test_litellm_budget_manager_admits_an_eleventh_call_under_a_cap_of_ten_on_one_thread(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "evolution.db", CLOCK, daily_usd=10 * AMOUNT / MICRO)
    admitted = 0
    for _ in range(200):
        try:
            hold = ledger.reserve(run_id="run-1", agent="advisor", model="model", micro_usd=AMOUNT)
        except BudgetExhausted:
            continue
        ledger.settle(hold, tokens=Tokens(1, 1), micro_usd=AMOUNT)
        admitted += 1
    assert admitted == 10
    assert ledger.day_spend().micro_usd == 10 * AMOUNT


async def test_litellm_projected_cost_admits_all_under_asyncio(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "evolution.db", FixedClock(CLOCK.moment), daily_usd=10 * AMOUNT / MICRO)

    def call() -> bool:
        try:
            hold = ledger.reserve(run_id="run-1", agent="advisor", model="model", micro_usd=AMOUNT)
        except BudgetExhausted:
            return False
        ledger.settle(hold, tokens=Tokens(1, 1), micro_usd=AMOUNT)
        return True

    admitted = await asyncio.gather(*(asyncio.to_thread(call) for _ in range(200)))
    assert sum(admitted) == 10
    assert ledger.day_spend().micro_usd == 10 * AMOUNT


async def test_litellm_projected_cost_nor_does_the_gateway_under_asyncio(
    stage: Stage, run: str, hold_usd: float
) -> None:
    stage.ledger.budget = Budget(run_usd=3 * hold_usd)

    async def call() -> bool:
        try:
            await asyncio.to_thread(ask, stage, run=run)
        except BudgetExhausted:
            return False
        return True

    before = stage.ledger.run_spend(run).micro_usd
    admitted = await asyncio.gather(*(call() for _ in range(12)))
    assert sum(admitted) == len(stage.requests)
    assert before + 35 * sum(admitted) == stage.ledger.run_spend(run).micro_usd <= 3 * hold_usd * MICRO
    assert balances(stage.database) == added_up(stage.database)
