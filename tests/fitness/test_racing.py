"""Racing: little is spent on what is behind, and only what holds on the validation cases passes the gate."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedrock_evolution.errors import BudgetExhausted, EvaluationFailed, InvalidCases
from bedrock_evolution.fitness.cases import split_cases
from bedrock_evolution.fitness.journal import TrialRecord
from bedrock_evolution.fitness.promotion import PromotionRule
from bedrock_evolution.fitness.racing import CERTAIN_Z, HeadScores, Race, _rungs, mean, paired, weigh
from bedrock_evolution.fitness.scorer import genes_key
from tests.fitness.conftest import Bench

RULE = PromotionRule()
LIVE = {"x": 0.0}


def rough(genes: dict[str, Any], case: int) -> float:
    """The gene counts, and so does the case; how well they go together looks like noise."""
    return genes["x"] + random.Random(f"{case}").gauss(0, 1) + random.Random(f"{case}/{genes['x']}").gauss(0, 0.05)


def noisy(genes: dict[str, Any], case: int, seed: int) -> float:
    return genes["x"] + random.Random(seed).gauss(0, 1)


def candidate(x: float, slot: int = 0) -> tuple[TrialRecord, dict[str, Any]]:
    values = {"x": x}
    record = TrialRecord(1, slot, f"m-{slot}", genes_key(values), 0, values, {})
    return record, values


def race(
    bench: Bench, function: Callable[..., Any] = rough, *, deterministic: bool = True, **more: Any
) -> tuple[Race, HeadScores]:
    made = Race(bench.scorer(function, **more), RULE, deterministic=deterministic)
    return made, made.head(LIVE)


# -- arithmetic


def test_a_paired_difference_has_a_mean_and_a_z() -> None:
    center, z = paired([1.0, 2.0, 3.0])
    assert center == 2.0
    assert z == pytest.approx(2.0 / (1.0 / 3**0.5))
    assert paired([]) == (0.0, 0.0)
    assert paired([0.0] * 9) == (0.0, 0.0)
    assert paired([0.5]) == (0.5, CERTAIN_Z)
    assert paired([-0.1] * 7)[1] == -CERTAIN_Z


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30))
def test_swapping_both_sides_turns_the_sign_and_nothing_else(differences: list[float]) -> None:
    center, z = paired(differences)
    assert paired([-value for value in differences]) == (-center, -z)
    assert abs(z) <= CERTAIN_Z


def test_a_mean_does_not_depend_on_the_order() -> None:
    values = {n: random.Random(n).uniform(-1e9, 1e-9) for n in range(99)}
    assert mean(values) == mean(dict(reversed(values.items())))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 2000))
def test_rungs_grow_to_the_whole_panel(total: int) -> None:
    rungs = _rungs(total)
    assert rungs[-1] == total
    assert rungs == sorted(set(rungs))
    assert len(rungs) <= 4
    assert rungs[0] == total or rungs[0] >= 8


# -- the live DNA


def test_the_live_dna_is_scored_on_both_panels(bench: Bench) -> None:
    made, head = race(bench)
    assert (len(head.train), len(head.validation)) == (40, 40)
    assert head.fitness == pytest.approx(mean(head.validation))
    assert made.head(LIVE) == head


def test_a_live_dna_that_cannot_be_scored_names_case_and_reason(bench: Bench) -> None:
    def broken(genes: dict[str, Any], case: int) -> float:
        if case == 17:
            raise ValueError("no such ticket")
        return 1.0

    with pytest.raises(
        EvaluationFailed, match=r"train cases: case 17: the evaluator raised ValueError: no such ticket"
    ):
        race(bench, broken)


def test_a_noisy_live_dna_is_scored_with_draws_of_its_own(bench: Bench) -> None:
    made, head = race(bench, noisy, deterministic=False)
    [found] = made.screen(head, [candidate(0.0)], best_gain=0.0).trials
    assert found.gain != 0.0


# -- screening


def test_a_better_candidate_sees_all_cases_and_a_worse_one_few(bench: Bench) -> None:
    made, head = race(bench)
    trials = [candidate(0.5, 0), candidate(-0.5, 1), candidate(0.4, 2)]
    screening = made.screen(head, trials, best_gain=0.0)
    assert not screening.out_of_budget
    assert [found.status for found in screening.trials] == ["scored", "dropped", "scored"]
    assert [found.cases for found in screening.trials] == [40, 8, 40]
    better = screening.trials[0]
    assert better.gain == pytest.approx(0.5, abs=0.05)
    assert better.fitness == pytest.approx(head.train_fitness + (better.gain or 0.0))
    assert better.z is not None
    assert better.z > 10
    assert screening.trials[1].reason == "behind the live genes after 8 cases"


def test_a_candidate_far_behind_the_best_one_is_dropped_on_the_way(bench: Bench) -> None:
    made, head = race(bench)
    [found] = made.screen(head, [candidate(0.2)], best_gain=5.0).trials
    assert (found.status, found.cases) == ("dropped", 10)
    assert found.reason == "behind the best candidate after 10 cases"


def test_equal_genes_are_never_better_than_themselves(bench: Bench) -> None:
    made, head = race(bench)
    [found] = made.screen(head, [candidate(0.0)], best_gain=0.0).trials
    assert (found.gain, found.z) == (0.0, 0.0)


def test_a_candidate_that_fails_is_failed_with_its_reason_and_costs_no_more(bench: Bench) -> None:
    def fragile(genes: dict[str, Any], case: int) -> float:
        if genes["x"] == 9.0:
            raise RuntimeError("too much")
        return rough(genes, case)

    made, head = race(bench, fragile)
    bad, good = made.screen(head, [candidate(9.0, 0), candidate(0.5, 1)], best_gain=0.0).trials
    assert (bad.status, bad.cases, bad.gain, bad.fitness) == ("failed", 8, None, None)
    assert "RuntimeError: too much" in bad.reason
    assert good.status == "scored"


def test_the_order_of_the_candidates_is_kept_and_does_not_matter(bench: Bench) -> None:
    made, head = race(bench)
    trials = [candidate(x, slot) for slot, x in enumerate((0.3, -0.4, 0.1, 0.6))]
    forth = made.screen(head, trials, best_gain=0.0).trials
    back = made.screen(head, trials[::-1], best_gain=0.0).trials
    assert forth == back[::-1]
    assert [found.slot for found in forth] == [0, 1, 2, 3]


def test_a_race_ends_in_time_to_leave_the_gate_its_cases(bench: Bench) -> None:
    limit = 80 + 40 + 10
    made, head = race(bench, limit=limit)
    screening = made.screen(head, [candidate(0.5)], best_gain=0.0)
    assert screening.out_of_budget
    assert screening.trials[0].status == "dropped"
    assert screening.trials[0].reason == "cut by the evaluation budget after 10 cases"
    none = made.screen(head, [candidate(0.7)], best_gain=0.0)
    assert none.trials[0].reason == "cut by the evaluation budget before it was scored"


# -- the gate


def test_a_real_gain_passes_the_gate_with_its_evidence_on_record(bench: Bench) -> None:
    made, head = race(bench)
    record, values = candidate(0.5)
    trial, evidence = made.gate(head, record, values, test=1)
    assert evidence.credible
    assert evidence.gain == pytest.approx(0.5, abs=0.05)
    assert 0 < evidence.at_least < evidence.gain
    assert (trial.status, trial.reason) == ("gated", "")
    assert trial.evidence["genes"] == record.genes
    assert trial.evidence["live"] == genes_key(LIVE)
    assert trial.evidence["credible"] is True


def test_what_is_no_better_does_not_pass_and_costs_little(bench: Bench) -> None:
    made, head = race(bench)
    before = bench.journal.count_evaluations("run-1")
    record, values = candidate(-0.3)
    trial, evidence = made.gate(head, record, values, test=1)
    assert not evidence.credible
    assert bench.journal.count_evaluations("run-1") - before == 8
    assert "on 8 validation cases is not credible" in trial.reason


def test_the_same_gain_may_not_be_enough_for_a_later_proposal(bench: Bench) -> None:
    made, head = race(bench)
    record, values = candidate(0.08)
    verdicts = [made.gate(head, record, values, test=test)[1].credible for test in (1, 10**6)]
    assert verdicts == [True, False]


def test_a_candidate_that_fails_at_the_gate_is_failed(bench: Bench) -> None:
    def fragile(genes: dict[str, Any], case: int) -> float:
        if genes["x"] == 9.0 and case >= 100:
            raise RuntimeError("too much")
        return rough(genes, case)

    made, head = race(bench, fragile)
    trial, evidence = made.gate(head, *candidate(9.0), test=1)
    assert trial.status == "failed"
    assert "RuntimeError" in trial.reason
    assert not evidence.credible


def test_a_gate_that_cannot_be_paid_scores_nothing(bench: Bench) -> None:
    made, head = race(bench, limit=85)
    with pytest.raises(BudgetExhausted):
        made.gate(head, *candidate(0.5), test=1)
    assert bench.journal.count_evaluations("run-1") == 80


def test_only_a_clear_training_gain_is_put_to_the_gate(bench: Bench) -> None:
    made, head = race(bench)
    candidates = [candidate(0.5, 0), candidate(1e-6, 1)]
    [clear, faint] = made.screen(head, candidates, best_gain=0.0).trials
    assert made.promising(head, clear, candidates[0][1], test=1)
    assert not made.promising(head, faint, candidates[1][1], test=1)


def test_a_recorded_gain_is_paired_with_another_live_dna(bench: Bench) -> None:
    made, head = race(bench)
    record, values = candidate(0.5)
    [screened] = made.screen(head, [(record, values)], best_gain=0.0).trials
    assert made.paired_gain(head, values) == (screened.gain, screened.z, 40)
    assert made.paired_gain(made.head({"x": 0.5}), values) == (0.0, 0.0, 40)
    assert made.paired_gain(head, {"x": 123.0}) == (0.0, 0.0, 0)


def test_the_sealed_cases_may_use_the_reserve(bench: Bench) -> None:
    made, _ = race(bench, limit=90, reserve=10)
    assert made.test([{"x": 1.0}], sample=0) == [pytest.approx(1.0, abs=1.0)]
    assert bench.journal.count_evaluations("run-1") == 90


# -- weighing


def test_evidence_that_once_reached_the_threshold_counts() -> None:
    live = dict.fromkeys(range(80), 0.0)
    early = {case: 1.0 if case < 40 else -0.9 for case in range(80)}
    evidence = weigh(RULE, early, live, range(80), test=1)
    assert evidence.credible
    assert evidence.cases == 80
    whole = [early[case] for case in range(80)]
    assert not RULE.assess(whole, test=1).credible


def test_evidence_that_ends_with_a_loss_does_not_count() -> None:
    live = dict.fromkeys(range(80), 0.0)
    evidence = weigh(RULE, {case: 1.0 if case < 20 else -1.0 for case in range(80)}, live, range(80), test=1)
    assert evidence.gain < 0
    assert not evidence.credible


def test_only_whole_rungs_are_weighed() -> None:
    live = dict.fromkeys(range(80), 0.0)
    evidence = weigh(RULE, dict.fromkeys(range(33), 1.0), live, range(80), test=1)
    assert evidence.cases == 20
    assert weigh(RULE, {}, live, range(80), test=1).e_value == 1.0


# -- a single objective


def test_a_single_objective_passes_with_any_strict_gain(bench: Bench) -> None:
    made, head = race(bench, rough, cases=split_cases([1]))
    assert made.single
    for x, credible in ((1.0, True), (-1.0, False)):
        record, values = candidate(x)
        [screened] = made.screen(head, [(record, values)], best_gain=0.0).trials
        assert made.promising(head, screened, values, test=1) == credible
        assert made.gate(head, screened, values, test=1)[1].credible == credible
    assert made.test([{"x": 1.0}], sample=0) == [rough({"x": 1.0}, 1)]


def test_a_single_objective_that_is_noisy_is_refused(bench: Bench) -> None:
    with pytest.raises(InvalidCases, match="scored twice with the same genes"):
        race(bench, noisy, cases=split_cases([1]))
