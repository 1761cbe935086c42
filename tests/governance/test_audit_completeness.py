"""P5 over whole runs with a model: what a decision read, why, how sure, by which model, at what cost, to what end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution import Autonomy, Budget, Evolution, number, text
from bedrock_evolution.bedrock.models.prices import Tokens
from bedrock_evolution.clock import CountedIds, FixedClock
from bedrock_evolution.dna.events import EvolutionEvent
from bedrock_evolution.settings import MICRO, Safety, Settings
from tests.support.bedrock_endpoint import BedrockEndpoint
from tests.support.converse import ConverseRequest, Failure, Reply
from tests.support.model import SLIPS, ScriptedModel
from tests.support.stage import with_dummy_aws

APP = "desk"
MODELS = ("anthropic.claude-sonnet-4-5-20250929-v1:0", "amazon.nova-lite-v1:0")
AGENTS = {"advised": "advisor", "decided": "decision", "diagnosed": "decision", "governed": "cost_governor"}
"""Whose calls an event of this kind is about, as the ledger names them."""
RELEASES = ("applied", "rejected", "deferred", "lost")


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[BedrockEndpoint]:
    with_dummy_aws(monkeypatch)
    with BedrockEndpoint(ScriptedModel(slips=SLIPS, restless=True)) as endpoint:
        yield endpoint


def scored(genes: Mapping[str, Any], case: int) -> float:
    return float(genes["threshold"] + genes["depth"] + 0.001 * case)


def application(
    folder: Path, url: str, *, budget: Budget | None = None, evaluate: Callable[[Any, Any], float] = scored
) -> Evolution:
    return Evolution(
        APP,
        {"words": text("old"), "threshold": number(0.1, low=0, high=1), "depth": number(0.1, low=0, high=1)},
        evaluate=evaluate,
        cases=range(40),
        budget=budget,
        # All that is credible is put to the engine.
        autonomy=Autonomy(engine_above=0.0, ask_above=1.0, min_confidence=0.0),
        settings=Settings(
            model="bedrock",
            endpoint_url=url,
            regions=("us-east-1",),
            models=MODELS,
            candidates=2,
            max_tokens=512,
            safety=Safety(reference=10),
            store=f"sqlite:///{folder / 'desk.db'}",
        ),
        clock=FixedClock(datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ids=CountedIds(),
    )


def events(app: Evolution, *kinds: str) -> list[EvolutionEvent]:
    return [event for event in app.store.events(APP) if event.kind in kinds]


def ledger(app: Evolution, run_id: str) -> Mapping[str, tuple[int, ...]]:
    """What the calls of each agent cost and used, as the ledger settled them."""
    rows = app._database.rows(
        "SELECT agent, sum(cost_micro_usd), sum(input_tokens), sum(output_tokens) FROM calls"
        " WHERE run_id = ? AND status = 'settled' GROUP BY agent",
        [run_id],
    )
    return {agent: tuple(sums) for agent, *sums in rows}


def on_record(app: Evolution, run_id: str) -> Mapping[str, tuple[int, ...]]:
    """The same, as the events of the run tell it."""
    sums: dict[str, Counter[str]] = {}
    for event in events(app, *AGENTS, "incident"):
        if event.run_id == run_id and event.cost_micro_usd:
            told = {"cost": event.cost_micro_usd, "in": event.input_tokens, "out": event.output_tokens}
            sums.setdefault(AGENTS.get(event.kind, "healer"), Counter()).update(told)
    return {agent: (told["cost"], told["in"], told["out"]) for agent, told in sums.items()}


def check_complete(app: Evolution, run_id: str) -> None:
    """Check every decision of a run."""
    answered = {(event.run_id, event.generation): event for event in events(app, "decided")}
    for event in events(app, *AGENTS, "incident"):
        recorded = app._services.calls.read(event.run_id or "", event.data["step"])
        assert event.model, event
        assert event.why, event
        assert event.data["calls"] == [call.digest for call in recorded] != [], "what was asked is on record"
        assert all(len(call.request) == 64 for call in recorded)
        assert event.model in {call.model for call in recorded}
        assert event.cost_micro_usd == sum(call.cost_micro_usd for call in recorded)
    for event in events(app, "advised"):
        assert 0 <= event.data["confidence"] <= 1
        assert event.data["head"]
    for event in events(app, "decided"):
        assert event.data["candidate"]["evidence"]["credible"]
        assert event.data["candidate"]["changes"]
        assert 0 <= event.data["decision"]["confidence"] <= 1
        outcomes = [each for each in events(app, *RELEASES) if each.generation == event.generation]
        assert [each.run_id for each in outcomes].count(event.run_id) == 1, "each decision has one outcome"
    for event in events(app, *RELEASES):
        decided = answered[event.run_id, event.generation]
        assert event.data["decision"] == decided.data["decision"]
        assert event.model == decided.model
    assert on_record(app, run_id) == ledger(app, run_id)
    assert app.audit().problems == ()


def test_the_cost_and_tokens_of_all_decisions_are_those_that_the_ledger_settled(
    tmp_path: Path, endpoint: BedrockEndpoint
) -> None:
    app = application(tmp_path, endpoint.url)
    result = app.run(6, seed=1, progress=False)
    assert result.status == "done"
    assert {event.kind for event in events(app, *AGENTS)} == {"advised", "decided"}
    check_complete(app, result.run_id)
    told = sum(cost for cost, *_ in on_record(app, result.run_id).values())
    assert told == round(result.cost_usd * MICRO) > 0
    answered = len(endpoint.requests)
    assert sum(len(event.data["calls"]) for event in events(app, *AGENTS)) == answered == result.model_calls
    app.close()


def test_it_is_so_when_calls_fail_and_the_stand_in_helps_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_dummy_aws(monkeypatch)
    model = ScriptedModel(slips=SLIPS, restless=True)

    def respond(request: ConverseRequest) -> Reply:
        return Failure("AccessDeniedException") if 6 <= request.number < 12 else model(request)

    with BedrockEndpoint(respond) as endpoint:
        app = application(tmp_path, endpoint.url)
        result = app.run(5, seed=1, progress=False)
    assert result.failed_model_calls > 0
    check_complete(app, result.run_id)
    assert "stand-in" in {event.model for event in events(app, *AGENTS)}
    assert len({event.model for event in events(app, *AGENTS)}) > 1
    app.close()


def test_what_the_cost_governor_decides_is_on_record_too(tmp_path: Path, endpoint: BedrockEndpoint) -> None:
    app = application(tmp_path, endpoint.url, budget=Budget(daily_usd=1.0))
    books = app._services.gateway.ledger
    before = books.reserve(run_id="before", agent="advisor", model=MODELS[0], micro_usd=830_000)
    books.settle(before, tokens=Tokens(1, 1), micro_usd=830_000)
    result = app.run(3, seed=1, progress=False)
    assert result.status == "done"
    governed = events(app, "governed")
    assert governed
    for event in governed:
        assert event.data["spend"]["pressure"]["share"] >= 0.8
        assert event.data["measures"]
    check_complete(app, result.run_id)
    app.close()


def test_what_follows_from_live_outcomes_is_on_record_with_its_cost(tmp_path: Path, endpoint: BedrockEndpoint) -> None:
    app = application(tmp_path, endpoint.url)
    feed(app, 5.0)
    assert app.run(1, seed=1, progress=False).dna_generation == 1
    feed(app, -5.0)
    [restored] = events(app, "restored")
    assert (restored.actor, restored.data["automatic"], restored.data["to"]) == ("live outcomes", True, 0)
    assert restored.data["evidence"]["e_value"] >= restored.data["evidence"]["threshold"]
    result = app.run(1, seed=2, progress=False)
    [diagnosed] = events(app, "diagnosed")
    assert diagnosed.data["degradation"]["why"] == restored.why
    assert diagnosed.data["degradation"]["undone"]
    assert 0 <= diagnosed.data["diagnosis"]["confidence"] <= 1
    assert diagnosed.cost_micro_usd > 0
    check_complete(app, result.run_id)
    app.close()


def feed(app: Evolution, mean: float) -> None:
    clock: Any = app._clock
    clock.moment += timedelta(seconds=1)
    for place in range(40):
        _ = app.genes
        app.record_outcome(mean + 0.01 * (place * 37 % 101))
    app.flush_outcomes()


def test_an_incident_is_on_record_with_its_cost(tmp_path: Path, endpoint: BedrockEndpoint) -> None:
    app = application(tmp_path, endpoint.url, evaluate=failing)
    result = app.run(1, seed=1, progress=False)
    assert result.status == "failed"
    incidents = events(app, "incident")
    assert incidents
    for event in incidents:
        assert event.data["incident"]["kind"] == "evaluator"
        assert event.data["action"] in event.data["allowed"]
        assert event.cost_micro_usd > 0
    check_complete(app, result.run_id)
    app.close()


def failing(genes: Mapping[str, Any], case: Any) -> float:
    raise RuntimeError("the application is out of order")
