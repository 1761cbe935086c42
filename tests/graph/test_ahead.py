"""Thinking ahead: the next candidates are asked for during a trial, and no timing changes what comes of it."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from bedrock_evolution import Budget, Evolution, EvolutionResult, Progress, Score
from bedrock_evolution.clock import CountedIds, FixedClock
from bedrock_evolution.fitness.journal import TrialRecord
from bedrock_evolution.graph.replay import replay
from bedrock_evolution.settings import Settings
from tests.garden import garden, grow
from tests.graph.recorded import BEGAN
from tests.support.bedrock_endpoint import BedrockEndpoint
from tests.support.converse import ConverseRequest, Reply
from tests.support.model import ScriptedModel
from tests.support.stage import with_dummy_aws

AHEAD = Settings(advise_ahead=True)
GENERATIONS = 5


def thoughtful(folder: Path, **options: Any) -> Evolution:
    folder.mkdir(parents=True, exist_ok=True)
    given: dict[str, Any] = {"settings": AHEAD, "clock": FixedClock(BEGAN), "ids": CountedIds()}
    return garden(folder, **(given | options))


def told(app: Evolution) -> list[tuple[str, Mapping[str, Any]]]:
    return [(event.key, event.data) for event in app.store.events(app.app)]


def ahead(app: Evolution, run_id: str) -> set[int]:
    """Return the generations that were advised ahead."""
    keys = [key for key, _ in told(app) if key.startswith(run_id) and key.endswith("/ahead")]
    return {int(key.split("/")[1]) for key in keys}


def hesitant(genes: Mapping[str, Any], case: Mapping[str, Any], seed: int) -> Score:
    """Score a plot as `grow` does, after a while that nobody can foresee."""
    time.sleep(random.random() / 200)
    return grow(genes, case, seed)


def test_no_timing_changes_what_comes_of_it(tmp_path: Path) -> None:
    runs = []
    for name, options in (("a", {}), ("b", {"evaluate": hesitant, "workers": 7}), ("c", {"workers": 1})):
        app = thoughtful(tmp_path / name, **options)
        result = app.run(GENERATIONS, seed=5, progress=False)
        runs.append((result.dna_checksum, result.trials, result.evaluations, told(app)))
        assert ahead(app, result.run_id) == set(range(2, GENERATIONS + 1))
    assert runs[0] == runs[1] == runs[2]


def test_what_was_advised_for_other_genes_is_carried_over(tmp_path: Path) -> None:
    app = thoughtful(tmp_path)
    result = app.run(GENERATIONS, seed=5, progress=False)
    events = {event.key.removeprefix(f"{result.run_id}/"): event for event in app.store.events(app.app)}
    promoted = [generation for generation in range(1, GENERATIONS) if f"{generation}/applied" in events]
    assert promoted, "the run shows nothing otherwise"
    assert {int(key.split("/")[0]) for key in events if key.endswith("/advised")} == {1, *(g + 1 for g in promoted)}
    for generation in promoted:
        ahead, carried = events[f"{generation + 1}/advised/ahead"], events[f"{generation + 1}/advised"]
        live = app.store.snapshot(app.app, trials(app, result, generation + 1)[0].parent_generation)
        assert (carried.actor, carried.model, carried.data["head"]) == ("rule", None, live.checksum)
        assert live.checksum == events[f"{generation}/applied"].data["dna"] != ahead.data["head"]
        named = [candidate["mutation_id"] for candidate in carried.data["candidates"]]
        assert named == [trial.mutation for trial in trials(app, result, generation + 1)]
        assert carried.data["strategy"] == ahead.data["strategy"]
        assert set(named).isdisjoint(candidate["mutation_id"] for candidate in ahead.data["candidates"])


def trials(app: Evolution, result: EvolutionResult, generation: int) -> list[TrialRecord]:
    return app._services.journal.trials(result.run_id, generation=generation)


def test_a_replay_does_the_same(tmp_path: Path) -> None:
    app = thoughtful(tmp_path)
    result = app.run(GENERATIONS, seed=5, progress=False)
    report = replay(app._database, result.run_id)
    assert report.identical, str(report.difference)


@pytest.mark.parametrize("steps", [3, 4, 5, 6, 8])
def test_a_run_that_was_stopped_goes_on_to_the_same_end(tmp_path: Path, steps: int) -> None:
    straight = thoughtful(tmp_path / "straight").run(GENERATIONS, seed=5, progress=False)
    app = thoughtful(tmp_path / "stopped")
    result: EvolutionResult | None = None
    for done, item in enumerate(app.stream(GENERATIONS, seed=5), start=1):
        result = item if isinstance(item, EvolutionResult) else None
        if done == steps and isinstance(item, Progress):
            app.stop()
    assert result is not None
    assert result.status == "interrupted"
    result = app.resume(result.run_id, progress=False)
    assert (result.dna_checksum, result.trials, result.evaluations) == (
        straight.dna_checksum,
        straight.trials,
        straight.evaluations,
    )


def test_feedback_waits_for_its_turn(tmp_path: Path) -> None:
    app = thoughtful(tmp_path)
    for item in app.stream(3, seed=5):
        if isinstance(item, Progress) and (item.generation, item.step) == (1, "advise"):
            app.feedback("Everything is dry, use more water.", source="Bob")
    keys = [key for key, _ in told(app)]
    assert not any(key.endswith("/2/advised/ahead") for key in keys)
    assert any(key.endswith("/2/advised") for key in keys)


# -- with a model


def on_bedrock(folder: Path, url: str, **options: Any) -> Evolution:
    settings = Settings(
        model="bedrock", endpoint_url=url, regions=("us-east-1",), candidates=2, max_tokens=512, advise_ahead=True
    )
    return thoughtful(folder, model=None, settings=settings, **options)


def test_the_model_is_asked_while_candidates_are_on_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_dummy_aws(monkeypatch)
    model, asked, waited = ScriptedModel(), Event(), Event()

    def respond(request: ConverseRequest) -> Reply:
        if "Generation 2 of" in str(request.body):
            asked.set()
        return model(request)

    def evaluate(genes: Mapping[str, Any], case: Mapping[str, Any], seed: int) -> Score:
        if dict(genes) != dict(live) and not waited.is_set():
            assert asked.wait(20), "nobody was asked while this candidate was on trial"
            waited.set()
        return grow(genes, case, seed)

    with BedrockEndpoint(respond) as endpoint:
        app = on_bedrock(tmp_path, endpoint.url, evaluate=evaluate)
        live = app.dna.values
        result = app.run(3, seed=5, progress=False)
        assert result.status == "done"
        assert waited.is_set()
        report = replay(app._database, result.run_id)
    assert report.identical, str(report.difference)


@pytest.mark.parametrize("usd", [0.0015, 0.002])
def test_a_call_that_no_budget_allows_is_met_in_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, usd: float
) -> None:
    with_dummy_aws(monkeypatch)
    with BedrockEndpoint(ScriptedModel()) as endpoint:
        app = on_bedrock(tmp_path, endpoint.url, ids=None, budget=Budget(run_usd=usd))
        result = app.run(GENERATIONS, seed=5, progress=False)
        assert result.status == "budget"
        assert 0 < result.generations < GENERATIONS
        rich = on_bedrock(tmp_path, endpoint.url, ids=None, budget=Budget(run_usd=5))
        result = rich.resume(result.run_id, progress=False)
        assert (result.status, result.generations) == ("done", GENERATIONS)
        report = replay(rich._database, result.run_id)
    assert report.identical, str(report.difference)
