"""Money in a run: measures from 80 % of a budget, a pause at 100 %, and routes that a replay finds again."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, SystemMessage

from bedrock_evolution import Budget, Evolution, EvolutionResult, number, text
from bedrock_evolution.bedrock.gateway import ModelTask
from bedrock_evolution.bedrock.models.prices import Tokens
from bedrock_evolution.cli.report import print_result
from bedrock_evolution.clock import FixedClock
from bedrock_evolution.errors import ExitCode
from bedrock_evolution.graph.replay import replay
from bedrock_evolution.prompts import prompt
from bedrock_evolution.settings import MICRO, Settings
from tests.support.bedrock_endpoint import BedrockEndpoint
from tests.support.converse import Failure
from tests.support.model import ScriptedModel
from tests.support.stage import with_dummy_aws

MODELS = ("anthropic.claude-sonnet-4-5-20250929-v1:0", "amazon.nova-lite-v1:0")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Any:
    with_dummy_aws(monkeypatch)
    with BedrockEndpoint(ScriptedModel()) as endpoint:
        yield endpoint


def application(
    folder: Path, endpoint: BedrockEndpoint, *, clock: FixedClock, budget: Budget, models: tuple[str, ...] = MODELS
) -> Evolution:
    settings = Settings(
        model="bedrock",
        endpoint_url=endpoint.url,
        regions=("us-east-1",),
        models=models,
        candidates=2,
        max_tokens=512,
        store=f"sqlite:///{folder / 'money.db'}",
    )
    return Evolution(
        "money",
        {"words": text("old"), "threshold": number(0.3, low=0, high=1)},
        evaluate=lambda genes, case: genes["threshold"] + 0.001 * case,
        cases=range(60),
        budget=budget,
        settings=settings,
        clock=clock,
    )


def test_a_spent_budget_pauses_the_run_where_it_is_and_the_next_day_it_goes_on(
    tmp_path: Path, endpoint: BedrockEndpoint
) -> None:
    clock = FixedClock(NOON)
    app = application(tmp_path, endpoint, clock=clock, budget=Budget(daily_usd=0.05), models=MODELS[:1])
    paused = app.run(6, seed=1, progress=False)
    assert (paused.status, paused.exit_code) == ("budget", ExitCode.STOPPED_BY_BUDGET)
    assert "does not allow this call of advisor" in paused.message
    assert 0 < paused.cost_usd <= 0.05
    again = app.resume(paused.run_id, progress=False)
    assert again.status == "budget", "the day is not over"
    for _ in range(10):
        clock.moment += timedelta(days=1)
        again = app.resume(paused.run_id, progress=False)
        if again.status == "done":
            break
    assert again.status == "done"
    days = app._database.rows("SELECT day, sum(cost_micro_usd) FROM calls GROUP BY day")
    assert len(days) >= 2
    assert all(spent <= 0.05 * MICRO for _, spent in days)
    assert generations_with_trials(app, again) == {1, 2, 3, 4, 5, 6}, "no generation was skipped by a pause"


def generations_with_trials(app: Evolution, result: EvolutionResult) -> set[int]:
    journal = app._services.journal
    return {trial.generation for trial in journal.recent_trials(result.run_id, before=99, limit=999)}


def test_a_raised_budget_goes_on_at_the_refused_call(tmp_path: Path, endpoint: BedrockEndpoint) -> None:
    small, large = Budget(run_usd=0.001), Budget(run_usd=5)
    paused = application(tmp_path, endpoint, clock=FixedClock(NOON), budget=small, models=MODELS[:1]).run(
        3, seed=1, progress=False
    )
    assert (paused.status, paused.model_calls) == ("budget", 0)
    app = application(tmp_path, endpoint, clock=FixedClock(NOON), budget=large, models=MODELS[:1])
    result = app.resume(paused.run_id, progress=False)
    assert result.status == "done"
    whole = application(tmp_path / "whole", endpoint, clock=FixedClock(NOON), budget=large, models=MODELS[:1]).run(
        3, seed=1, progress=False
    )
    assert (result.trials, result.dna_checksum) == (whole.trials, whole.dna_checksum)


def test_a_small_budget_buys_smaller_models_before_it_stops_the_run(tmp_path: Path, endpoint: BedrockEndpoint) -> None:
    app = application(tmp_path, endpoint, clock=FixedClock(NOON), budget=Budget(run_usd=0.02))
    result = app.run(3, seed=1, progress=False)
    assert (result.status, result.failed_model_calls) == ("done", 0)
    assert {model for (model,) in app._database.rows("SELECT model FROM calls")} == {f"us.{MODELS[1]}"}


def test_calls_of_a_process_that_died_count_as_spent_when_the_run_goes_on(
    tmp_path: Path, endpoint: BedrockEndpoint
) -> None:
    app = application(tmp_path, endpoint, clock=FixedClock(NOON), budget=Budget())
    result = app.run(1, seed=1, progress=False)
    ledger = app._services.gateway.ledger
    ledger.reserve(run_id=result.run_id, agent="advisor", model=MODELS[0], micro_usd=12_345)
    app.resume(result.run_id, progress=False)
    spend = ledger.run_spend(result.run_id)
    assert (spend.held_micro_usd, spend.unconfirmed_micro_usd) == (0, 12_345)


def test_a_run_tells_how_much_of_it_was_the_stand_ins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_dummy_aws(monkeypatch)
    results = {}
    for name, respond in (("well", ScriptedModel()), ("ill", lambda request: Failure("AccessDeniedException"))):
        with BedrockEndpoint(respond) as endpoint:
            app = application(tmp_path / name, endpoint, clock=FixedClock(NOON), budget=Budget())
            results[name] = app.run(1, seed=1, progress=False)
    assert results["well"].stand_in_trials == 0 < results["well"].trials
    assert results["ill"].stand_in_trials == results["ill"].trials > 0
    for result, said in ((results["well"], False), (results["ill"], True)):
        print_result(result, again="app.py", store="")
        assert ("The stand-in proposed" in capsys.readouterr().out) is said


def share(state: Mapping[str, Any]) -> float:
    return float((state.get("pressure") or {"share": 0.0})["share"])


def test_from_eighty_per_cent_on_work_gets_cheaper_and_it_is_said(tmp_path: Path, endpoint: BedrockEndpoint) -> None:
    app = application(tmp_path, endpoint, clock=FixedClock(NOON), budget=Budget(daily_usd=0.4))
    ledger = app._services.gateway.ledger
    before = ledger.reserve(run_id="before", agent="advisor", model=MODELS[0], micro_usd=305_000)
    ledger.settle(before, tokens=Tokens(1, 1), micro_usd=305_000)
    result = app.run(5, seed=1, progress=False)
    states = [state.values for state in app._runner.graph.get_state_history(app._runner.config(result.run_id, 5))]
    pressed = [state for state in states if share(state) >= 0.8]
    assert pressed, "the budget was made to fill"
    assert all("shorter_context" in state["measures"] for state in pressed)
    assert not any(state["measures"] for state in states if 0 < share(state) < 0.8)
    assert "measures" in {alarm.kind for alarm in ledger.alarms()}
    assert any(event.kind == "governed" for event in app.store.events(app.app)), "the governor was asked"
    report = replay(app._database, result.run_id)
    assert report.identical, str(report.difference)


def test_every_call_was_routed_by_what_its_checkpoint_holds(tmp_path: Path, endpoint: BedrockEndpoint) -> None:
    app = application(tmp_path, endpoint, clock=FixedClock(NOON), budget=Budget())
    result = app.run(5, seed=1, progress=False)
    history = [state.values for state in app._runner.graph.get_state_history(app._runner.config(result.run_id, 5))]
    known = [
        dict(routing) for routing in {repr(v["routing"]): v["routing"] for v in history if "routing" in v}.values()
    ]
    assert len(known) >= 5, "every generation knows more than the one before"
    calls = app._database.rows("SELECT DISTINCT model, reason FROM calls WHERE agent = 'advisor'")
    asked = [request.messages[0]["content"][0]["text"] for request in endpoint.requests if len(request.messages) == 1]
    # Another router, given what the checkpoints hold, finds the same models for the same reasons.
    again = set()
    for brief in asked:
        messages = [SystemMessage(prompt("advisor")), HumanMessage(brief)]
        for routing in known:
            conversation = app._services.gateway.open(ModelTask("advisor", result.run_id, routing=routing), messages)
            again.add((conversation.model, conversation.reason))
    assert {(catalog_name(model), reason) for model, reason in calls} <= again


def catalog_name(callable_id: str) -> str:
    return next(name for name in MODELS if name in callable_id)
