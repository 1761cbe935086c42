from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from bedrock_evolution import Score
from bedrock_evolution.fitness.cases import split_cases

FOLDER = Path(__file__).parents[2] / "examples" / "noisy_thermostat"
MODULES = ("app", "room", "best")


@pytest.fixture(scope="module")
def best() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FOLDER))
    hidden = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    try:
        yield import_module("best")
    finally:
        sys.path.remove(str(FOLDER))
        for name in MODULES:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)


@pytest.fixture(scope="module")
def app(best: ModuleType) -> ModuleType:
    return sys.modules["app"]


@pytest.fixture(scope="module")
def room(best: ModuleType) -> ModuleType:
    return sys.modules["room"]


def declared(app: ModuleType) -> dict:
    return {name: gene.value for name, gene in app.GENES.items()}


@pytest.mark.parametrize("seed", [1, 2])
def test_a_short_run_closes_at_least_half_of_the_gap_to_the_best_answer_on_sealed_days(
    seed: int, app: ModuleType, best: ModuleType, tmp_path: Path
) -> None:
    evolution = app.evolution.using(store=f"sqlite:///{tmp_path / 'run.db'}", model="local")
    before = dict(evolution.genes)
    result = evolution.run(8, seed=seed, progress=False)
    sealed = split_cases(app.DAYS).test
    low, reached, high = (best.mean_score(genes, sealed, seeds=5) for genes in (before, evolution.genes, best.BEST))
    assert result.status == "done"
    assert result.trials <= 32
    assert (reached - low) / (high - low) >= 0.5
    assert (result.test_fitness - result.baseline_test_fitness) / (high - low) >= 0.5


def test_no_single_step_from_the_best_answer_improves_it(app: ModuleType, best: ModuleType) -> None:
    days = app.DAYS[::2]
    highest = best.mean_score(best.BEST, days)
    for neighbour in best.neighbours(best.BEST, share=1.0):
        assert best.mean_score(neighbour, days) <= highest + 0.002, neighbour


def test_the_best_answer_is_far_better_than_the_declared_settings(app: ModuleType, best: ModuleType) -> None:
    sealed = split_cases(app.DAYS).test
    assert best.mean_score(best.BEST, sealed) - best.mean_score(declared(app), sealed) > 0.3


def test_the_same_seed_gives_the_same_score_and_other_seeds_scatter(app: ModuleType) -> None:
    scores = [app.evaluate(declared(app), app.DAYS[0], seed=seed).value for seed in range(20)]
    assert scores[0] == app.evaluate(declared(app), app.DAYS[0], seed=0).value
    assert len(set(scores)) == 20
    assert max(scores) - min(scores) > 0.05


def test_scores_stay_in_the_declared_range_at_the_bounds_of_every_gene(app: ModuleType) -> None:
    for name, gene in app.GENES.items():
        bounds = (False, True) if gene.kind == "flag" else (gene.low, gene.high)
        for value in bounds:
            for compensated in (False, True):
                genes = {**declared(app), "weather_compensation": compensated, name: value}
                score = app.evaluate(genes, app.DAYS[1], seed=3)
                assert isinstance(score, Score)
                assert 0.0 <= score.value <= 1.0


def test_colder_days_take_more_electricity(app: ModuleType, room: ModuleType) -> None:
    day = app.DAYS[0]
    colder = {**day, "outside_c": [temperature - 5 for temperature in day["outside_c"]]}
    used = [
        room.simulate(declared(app), weather, seed=1).energy_share * room.plain_kwh(weather)
        for weather in (day, colder)
    ]
    assert used[1] > 1.1 * used[0]


def test_days_are_plain_json_and_always_the_same(app: ModuleType, room: ModuleType) -> None:
    assert json.loads(json.dumps(app.DAYS)) == app.DAYS
    assert room.make_days(len(app.DAYS), seed=7) == app.DAYS
    assert len({json.dumps(day, sort_keys=True) for day in app.DAYS}) == len(app.DAYS) >= 100
