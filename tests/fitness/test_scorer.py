"""The scorer: everything is scored once, recorded, and never beyond the limit."""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedrock_evolution.clock import SystemClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.errors import BudgetExhausted, EvaluationFailed
from bedrock_evolution.fitness.journal import Journal
from bedrock_evolution.fitness.scorer import Request, genes_key
from tests.fitness.conftest import CASES, RUN, Bench
from tests.fitness.evaluators import doubled

REQUESTS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["train", "validation"]),
        st.lists(st.integers(0, 39), min_size=1, max_size=12, unique=True),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda item: item[:2],
)


class Counted:
    """An evaluator that knows how often it was really called."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[float, int]] = Counter()
        self._lock = threading.Lock()

    def __call__(self, genes: dict[str, Any], case: int) -> float:
        with self._lock:
            self.calls[genes["x"], case] += 1
        if case % 11 == 3:
            raise ValueError("this case fails")
        return genes["x"] * case

    @property
    def total(self) -> int:
        return self.calls.total()


class CountedBatch(Counted):
    def __call__(self, genes: dict[str, Any], cases: list[int]) -> list[float]:  # type: ignore[override]
        with self._lock:
            self.calls.update((genes["x"], case) for case in cases)
        return [genes["x"] * case for case in cases]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(REQUESTS, st.booleans()), max_size=6),
    st.integers(0, 80),
    st.integers(0, 20),
    st.integers(1, 4),
    st.sampled_from([Counted, CountedBatch]),
)
def test_the_limit_is_never_passed_and_nothing_is_scored_twice(
    rounds: list[tuple[list[Any], bool]], limit: int, reserve: int, workers: int, kind: type[Counted]
) -> None:
    function = kind()
    with tempfile.TemporaryDirectory() as folder, closing(Database(Path(folder) / "evolution.db")) as database:
        bench = Bench(Journal(database, SystemClock()))
        scorer = bench.scorer(function, limit=limit, reserve=reserve, workers=workers, batch=kind is CountedBatch)
        for wishes, final in rounds:
            requests = [Request({"x": float(x)}, part, tuple(cases)) for x, part, cases in wishes]
            before, missing = function.total, scorer.missing(requests)
            try:
                found = scorer.score(requests, final=final)
            except BudgetExhausted:
                assert function.total == before
                assert before + missing > limit - (0 if final else reserve)
                continue
            assert function.total == before + missing
            assert [list(outcomes) for outcomes in found] == [list(request.cases) for request in requests]
        assert function.total == scorer.used == bench.journal.count_evaluations(RUN) <= limit
        assert max(function.calls.values(), default=1) == 1
        assert scorer.left(final=True) == limit - function.total


def test_outcomes_are_those_of_the_named_cases(bench: Bench) -> None:
    [train, test] = bench.scorer(doubled).score(
        [Request({"shift": 0.5}, "train", (7, 3)), Request({"shift": 0.0}, "test", (0,))]
    )
    assert {case: outcome.value for case, outcome in train.items()} == {7: 14.5, 3: 6.5}
    assert {case: outcome.value for case, outcome in test.items()} == {0: 400.0}


def test_recorded_evaluations_are_read_by_a_later_scorer(bench: Bench) -> None:
    function = Counted()
    requests = [Request({"x": 2.0}, "train", tuple(range(10)))]
    first = bench.scorer(function).score(requests)
    again = bench.scorer(function)
    assert again.used == 10
    assert again.missing(requests) == 0
    assert again.score(requests) == first
    assert again.recorded(requests[0]) == first[0]
    assert function.total == 10


def test_equal_genes_are_the_same_whatever_their_order() -> None:
    assert genes_key({"a": 1, "b": 2}) == genes_key({"b": 2, "a": 1})
    assert genes_key({"a": 1, "b": 2}) != genes_key({"a": 2, "b": 1})


def test_another_run_or_another_sample_scores_anew(bench: Bench) -> None:
    function = Counted()
    bench.scorer(function).score([Request({"x": 1.0}, "train", (1, 2))])
    bench.scorer(function, run_id="run-2").score([Request({"x": 1.0}, "train", (1, 2))])
    bench.scorer(function).score([Request({"x": 1.0}, "train", (1, 2), sample=1)])
    assert set(function.calls.values()) == {3}


def test_a_failure_is_recorded_with_its_reason_and_not_scored_again(bench: Bench) -> None:
    function = Counted()
    request = Request({"x": 1.0}, "train", (3, 4))
    [found] = bench.scorer(function).score([request])
    assert found[3].error == "the evaluator raised ValueError: this case fails"
    assert (found[3].value, found[4].value) == (None, 4.0)
    assert bench.scorer(function).score([request]) == [found]
    assert function.total == 2


def test_failures_are_scored_again_when_asked_for_and_count_again(bench: Bench) -> None:
    broken = True

    def fragile(genes: dict[str, Any], case: int) -> float:
        if broken and case < 2:
            raise ConnectionError
        return case

    request = Request({"x": 1.0}, "train", (0, 1, 2, 3))
    scorer = bench.scorer(fragile, limit=7)
    scorer.score([request])
    broken = False
    [found] = scorer.score([request], again=True)
    assert [found[case].value for case in range(4)] == [0.0, 1.0, 2.0, 3.0]
    assert scorer.used == bench.journal.count_evaluations(RUN) == 6
    assert bench.scorer(fragile, limit=7).left() == 1


def test_failures_are_not_scored_again_beyond_the_limit(bench: Bench) -> None:
    scorer = bench.scorer(Counted(), limit=2)
    scorer.score([Request({"x": 1.0}, "train", (3, 14))])
    with pytest.raises(BudgetExhausted):
        scorer.score([Request({"x": 1.0}, "train", (3, 14))], again=True)
    assert scorer.used == 2


def test_the_message_says_how_many_are_made_and_kept(bench: Bench) -> None:
    scorer = bench.scorer(doubled, limit=20, reserve=5)
    scorer.score([Request({}, "train", tuple(range(10)))])
    with pytest.raises(BudgetExhausted, match=r"6 more evaluations would pass the limit of 20: 10 are made and 5 are"):
        scorer.score([Request({}, "validation", tuple(range(6)))])
    assert scorer.left() == 5
    assert len(scorer.score([Request({}, "test", tuple(range(10)))], final=True)[0]) == 10
    assert (scorer.left(), scorer.left(final=True)) == (0, 0)


def test_a_resumed_run_keeps_its_limit(bench: Bench) -> None:
    bench.scorer(doubled, limit=10).score([Request({}, "train", tuple(range(8)))])
    with pytest.raises(BudgetExhausted):
        bench.scorer(doubled, limit=10).score([Request({}, "train", tuple(range(20)))])


def seeded(genes: dict[str, Any], case: int, seed: int) -> float:
    return float(seed % 1_000_003)


def test_all_candidates_get_the_same_seed_on_a_case(bench: Bench) -> None:
    one, other = bench.scorer(seeded).score([Request({"x": n}, "train", tuple(range(20))) for n in range(2)])
    assert one == other
    assert len({outcome.value for outcome in one.values()}) == 20


def test_seeds_differ_between_runs_parts_and_samples(bench: Bench) -> None:
    requests = [Request({}, "train", (0,)), Request({}, "validation", (0,)), Request({}, "train", (0,), sample=1)]
    values = [found[0].value for found in bench.scorer(seeded).score(requests)]
    values += [bench.scorer(seeded, run_id="run-2", seed=2).score(requests[:1])[0][0].value]
    assert len(set(values)) == 4


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_outcomes_do_not_depend_on_the_workers(bench: Bench, workers: int) -> None:
    requests = [Request({"x": float(x)}, "train", tuple(range(40))) for x in range(3)]
    expected = [
        {case: None if case % 11 == 3 else x * CASES.train[case] for case in range(40)} for x in (0.0, 1.0, 2.0)
    ]
    found = bench.scorer(Counted(), workers=workers).score(requests)
    assert [{case: outcome.value for case, outcome in outcomes.items()} for outcomes in found] == expected


def test_what_was_scored_before_the_executor_broke_is_kept(bench: Bench) -> None:
    with ThreadPoolExecutor(1) as pool:
        hold = threading.Event()

        def hanging(genes: dict[str, Any], case: int) -> float:
            if case >= 2:
                hold.wait(20)
            return case

        scorer = bench.scorer(hanging, executor=pool, workers=1, timeout_s=0.2)
        with pytest.raises(EvaluationFailed):
            scorer.score([Request({}, "train", tuple(range(6)))])
        hold.set()
    kept = bench.scorer(doubled).recorded(Request({}, "train", ()))
    assert [kept[case].value for case in sorted(kept)] == [0.0, 1.0, None]
    assert scorer.used == bench.journal.count_evaluations(RUN) == 3


def test_feedback_that_utf8_cannot_hold_does_not_end_the_run(bench: Bench) -> None:
    from bedrock_evolution.fitness.score import Score

    [found] = bench.scorer(lambda genes, case: Score(0.5, feedback="\ud800")).score([Request({}, "train", (0,))])
    assert 0 in found
