"""Noise promotes nothing; a real gain is found: whole runs, counted over many seeds."""

import hashlib
import json
import random

import pytest

from bedrock_evolution import Evolution, Settings, choice, flag, number

SEEDS = 200
SIGMA = 0.1
CASES = 200
GENERATIONS, CANDIDATES = 5, 10  # 50 proposals


def noise(*what: object) -> float:
    """Draw noise that is independent for every genes, case and run, yet the same when asked again."""
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).digest()
    return random.Random(digest).gauss(0, SIGMA)


def run(folder, seed: int, *, gain: float, cases: int):
    def evaluate_all(genes, batch):
        return [0.5 + gain * genes["better"] + noise(seed, genes, case) for case in batch]

    evolution = Evolution(
        "null",
        {
            "x": number(0.5, low=0.0, high=1.0),
            "y": number(0.5, low=0.0, high=1.0),
            "mode": choice("a", options=["a", "b", "c"]),
            "better": flag(False),
        },
        evaluate_all=evaluate_all,
        cases={part: [[part, i] for i in range(cases)] for part in ("train", "validation", "test")},
        settings=Settings(store=f"sqlite:///{folder}/{seed}.db", model="local", candidates=CANDIDATES),
        workers=1,
        timeout_s=None,
    )
    return evolution.run(GENERATIONS, seed=seed, progress=False)


@pytest.mark.slow
def test_equally_good_candidates_are_promoted_in_at_most_five_percent_of_runs(tmp_path):
    results = [run(tmp_path, seed, gain=0.0, cases=60) for seed in range(SEEDS)]
    assert all(result.trials == GENERATIONS * CANDIDATES for result in results)
    assert sum(result.dna_generation > 0 for result in results) <= 0.05 * SEEDS
    reported = sum(result.fitness for result in results) / SEEDS
    assert abs(reported - 0.5) < 0.005, "what is reported must not be the luckiest of many"


@pytest.mark.slow
def test_gain_of_half_a_sigma_over_200_cases_is_promoted_in_ninety_percent_of_runs(tmp_path):
    results = [run(tmp_path, seed, gain=SIGMA / 2, cases=CASES) for seed in range(SEEDS)]
    found = [result for result in results if any(change.gene == "better" for change in result.changes)]
    assert len(found) >= 0.9 * SEEDS
