"""Degradation: a fall of one standard deviation is seen soon, and no fall is hardly ever taken for one."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from bedrock_evolution.governance.degradation import (
    _LOOKS,
    _bets,
    _chance_of_so_few,
    _ranks,
    assess,
    threshold_of,
)

ALPHA = 0.05
Draw = Callable[[np.random.Generator, int], np.ndarray]
DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "heavy tails": lambda rng, n: rng.standard_t(3, size=n) / math.sqrt(3),
    "0 and 1": lambda rng, n: (rng.random(n) < 0.8).astype(float),
    "five stars": lambda rng, n: rng.choice([1.0, 2.0, 3.0, 4.0, 5.0], size=n, p=[0.05, 0.05, 0.2, 0.3, 0.4]),
}


def detections(draw: Draw, *, reference: int, change: int, drop: float, runs: int) -> float:
    rng = np.random.default_rng(reference * 10 + change)
    found = [
        assess(
            list(draw(rng, reference)),
            list(draw(rng, 100) - drop),
            threshold=threshold_of(change, alpha=ALPHA),
            seed=run,
        ).degraded
        for run in range(runs)
    ]
    return sum(found) / runs


@pytest.mark.parametrize("distribution", ["normal", "heavy tails"])
@pytest.mark.parametrize("reference", [30, 50, 100, 500])
def test_a_fall_of_one_standard_deviation_is_seen_within_100_outcomes(distribution: str, reference: int) -> None:
    assert detections(DISTRIBUTIONS[distribution], reference=reference, change=1, drop=1.0, runs=300) >= 0.95


@pytest.mark.parametrize(("reference", "change"), [(50, 5), (100, 10), (500, 20)])
def test_later_changes_need_more_evidence_and_get_it(reference: int, change: int) -> None:
    assert detections(DISTRIBUTIONS["normal"], reference=reference, change=change, drop=1.0, runs=1000) >= 0.95


@pytest.mark.parametrize(("rate", "reference"), [(0.5, 30), (0.7, 50), (0.9, 100), (0.95, 500)])
def test_a_success_rate_that_falls_by_one_standard_deviation_is_seen_too(rate: float, reference: int) -> None:
    rng = np.random.default_rng(reference)
    fallen = rate - math.sqrt(rate * (1 - rate))
    found = [
        assess(
            list((rng.random(reference) < rate).astype(float)),
            list((rng.random(100) < fallen).astype(float)),
            threshold=threshold_of(1, alpha=ALPHA),
            seed=run,
        ).degraded
        for run in range(300)
    ]
    assert sum(found) >= 0.95 * 300


@pytest.mark.slow
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("reference", [30, 200])
def test_without_a_fall_few_applications_are_ever_rolled_back(distribution: str, reference: int) -> None:
    rng = np.random.default_rng(7)
    draw = DISTRIBUTIONS[distribution]
    runs = 250

    def ever(run: int) -> bool:
        return any(
            assess(
                list(draw(rng, reference)),
                list(draw(rng, 1000)),
                threshold=threshold_of(change, alpha=ALPHA),
                seed=run * 10 + change,
            ).degraded
            for change in range(1, 6)
        )

    assert sum(ever(run) for run in range(runs)) <= ALPHA * runs


def test_the_error_is_spent_over_all_changes_there_may_ever_be() -> None:
    spent = sum(1 / threshold_of(change, alpha=ALPHA) for change in range(1, 10_000))
    assert 0.99 * ALPHA < spent < ALPHA


@pytest.mark.parametrize("share", [1.0, 0.6, 0.1, 0.01])
@pytest.mark.parametrize("drop", [0.3, 1.0, 2.5])
def test_every_bet_is_fair_when_nothing_changed(share: float, drop: float) -> None:
    ranks = (np.arange(200_000) + 0.5) / 200_000
    bets = _bets(ranks, np.full_like(ranks, share), np.array(drop))
    assert bets.mean() == pytest.approx(1.0, abs=1e-5)
    assert (np.diff(bets) < 0).all(), "a lower rank must pay more"


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_ranks_are_uniform_and_independent_when_nothing_changed(distribution: str) -> None:
    rng, draw = np.random.default_rng(3), DISTRIBUTIONS[distribution]
    ranks = np.array([_ranks(list(draw(rng, 20)), list(draw(rng, 5)), seed) for seed in range(20_000)])
    places = np.arange(1, 20_001) / 20_000
    for column in ranks.T:
        assert np.abs(np.sort(column) - places).max() < 1.95 / math.sqrt(20_000)  # Kolmogorov's distance at 0.1 %
    correlations = np.corrcoef(ranks.T)[np.triu_indices(5, 1)]
    assert np.abs(correlations).max() < 0.03


def test_what_was_once_seen_is_seen_at_the_same_outcome_however_many_follow() -> None:
    rng = np.random.default_rng(5)
    before, after = list(rng.normal(size=60)), list(rng.normal(size=80) - 1.0)
    whole = assess(before, after, threshold=40.0, seed=1)
    assert whole.at is not None
    for count in range(len(after)):
        part = assess(before, after[:count], threshold=40.0, seed=1)
        assert part.at == (whole.at if count >= whole.at else None)
    recovered = assess(before, [*after, *(rng.normal(size=500) + 3.0)], threshold=40.0, seed=1)
    assert (recovered.at, recovered.degraded) == (whole.at, True)


def test_better_outcomes_are_no_degradation() -> None:
    rng = np.random.default_rng(6)
    found = assess(list(rng.normal(size=100)), list(rng.normal(size=500) + 1.0), threshold=2.0, seed=1)
    assert (found.degraded, found.at) == (False, None)
    assert found.mean_now is not None
    assert found.mean_now > found.mean_before


def test_where_most_fall_a_little_and_few_rise_a_lot_nothing_got_worse() -> None:
    before = [1.0 + place / 1000 for place in range(100)]
    after = [0.9 if place % 10 else 20.0 for place in range(200)]
    found = assess(before, after, threshold=40.0, seed=1)
    assert not found.degraded
    assert assess(before, [0.9] * 200, threshold=40.0, seed=1).degraded


@pytest.mark.parametrize(("scale", "shift"), [(1e-9, 0.0), (1e9, -5e9)])
def test_the_unit_of_the_outcomes_does_not_matter(scale: float, shift: float) -> None:
    rng = np.random.default_rng(8)
    before, after = rng.normal(size=50), rng.normal(size=100) - 1
    plain = assess(list(before), list(after), threshold=40.0, seed=1)
    scaled = assess(list(before * scale + shift), list(after * scale + shift), threshold=40.0, seed=1)
    assert (scaled.at, scaled.e_value) == (plain.at, plain.e_value)


@pytest.mark.parametrize("value", [0.0, 1.0, 7.5])
def test_outcomes_that_are_all_equal_are_no_evidence(value: float) -> None:
    found = assess([value] * 100, [value] * 2000, threshold=2.0, seed=1)
    assert (found.e_value, found.degraded) == (1.0, False)


@pytest.mark.parametrize(("before", "after"), [(7.5, 7.0), (1.0, 0.0)])
def test_a_constant_that_falls_is_seen_at_once(before: float, after: float) -> None:
    found = assess([before] * 50, [after] * 20, threshold=40.0, seed=1)
    assert found.at is not None
    assert found.at <= 20


def test_overwhelming_evidence_stays_a_finite_number() -> None:
    for reference in ([10.0, 11.0] * 250, [1.0] * 500):
        found = assess(reference, [0.0] * 2000, threshold=40.0, seed=1)
        assert math.isfinite(found.e_value)
        assert found.degraded


def test_nothing_is_said_before_the_first_outcome() -> None:
    found = assess([1.0, 3.0], [], threshold=40.0, seed=1)
    assert (found.outcomes, found.mean_before, found.mean_now, found.e_value, found.at) == (0, 2.0, None, 1.0, None)


@pytest.mark.parametrize(
    ("before", "reference", "now", "outcomes"), [(27, 30, 6, 10), (250, 500, 20, 100), (30, 30, 0, 10), (0, 30, 0, 10)]
)
def test_the_exact_test_counts_the_orders_of_all_outcomes(before: int, reference: int, now: int, outcomes: int) -> None:
    successes, everything = before + now, reference + outcomes
    orders = sum(
        math.comb(outcomes, count) * math.comb(reference, successes - count)
        for count in range(max(0, successes - reference), now + 1)
    )
    exact = Fraction(orders, math.comb(everything, successes))
    assert _chance_of_so_few(before, reference, now, outcomes) == pytest.approx(float(exact), rel=1e-9)


def test_the_looks_share_the_error_between_them() -> None:
    found = assess([1.0] * 27 + [0.0] * 3, [1.0] * 2 + [0.0] * 8, threshold=40.0, seed=1)
    assert found.e_value == pytest.approx(_LOOKS[10] / _chance_of_so_few(27, 30, 2, 10))
    assert sum(_LOOKS.values()) == pytest.approx(1.0)
    assert list(_LOOKS) == sorted(_LOOKS)
