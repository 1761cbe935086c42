"""Evaluators: any shape of function is called as it wants to be, and can do no harm by what it returns."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from bedrock_evolution.errors import InvalidSetting
from bedrock_evolution.fitness.evaluator import Evaluator, Job
from tests.fitness.evaluators import doubled

JOB = Job({"x": 1.5}, (10, 20, 30), (7, 8, 9))
ONE = Job({"x": 1.5}, (10,), (7,))


def each(function: Callable[..., Any], score_range: tuple[float, float] | None = None) -> Evaluator:
    return Evaluator.adapt(function, None, score_range)


def batch(function: Callable[..., Any], score_range: tuple[float, float] | None = None) -> Evaluator:
    return Evaluator.adapt(None, function, score_range)


def test_a_function_of_one_case_is_called_with_genes_and_case() -> None:
    [outcome] = each(lambda genes, case: genes["x"] + case).run(ONE)
    assert outcome.value == 11.5


def test_a_function_of_all_cases_is_called_once() -> None:
    calls: list[list[int]] = []

    def score(genes: dict[str, Any], cases: list[int]) -> list[float]:
        calls.append(cases)
        return [genes["x"] * case for case in cases]

    assert [outcome.value for outcome in batch(score).run(JOB)] == [15.0, 30.0, 45.0]
    assert calls == [[10, 20, 30]]


def test_a_function_that_asks_for_seeds_is_given_them() -> None:
    [outcome] = each(lambda genes, case, seed: seed).run(ONE)
    assert outcome.value == 7.0
    assert [o.value for o in batch(lambda genes, cases, *, seeds: seeds).run(JOB)] == [7.0, 8.0, 9.0]


def test_a_function_cannot_change_the_genes_of_others() -> None:
    def greedy(genes: dict[str, Any], case: int) -> float:
        genes["x"] = 99
        return 1.0

    each(greedy).run(ONE)
    assert ONE.values == {"x": 1.5}


async def awaited(genes: dict[str, Any], case: int) -> float:
    return genes["x"] + case


class Callable_:  # noqa: N801  # an object with an async `__call__`
    async def __call__(self, genes: dict[str, Any], case: int) -> float:
        return genes["x"] + case


@pytest.mark.parametrize(
    "function", [awaited, functools.partial(awaited), Callable_()], ids=["def", "partial", "object"]
)
async def test_async_functions_are_recognised_and_awaited(function: Callable[..., Any]) -> None:
    evaluator = each(function)
    assert evaluator.asynchronous
    [outcome] = await evaluator.arun(ONE)
    assert outcome.value == 11.5


def test_a_plain_function_that_returns_a_coroutine_is_awaited_too() -> None:
    evaluator = each(lambda genes, case: awaited(dict(genes), case))
    assert not evaluator.asynchronous
    assert evaluator.run(ONE)[0].value == 11.5


async def test_what_an_async_function_raises_is_the_reason() -> None:
    async def broken(genes: dict[str, Any], case: int) -> float:
        raise TimeoutError("the service is away")

    [outcome] = await each(broken).arun(ONE)
    assert outcome.error == "the evaluator raised TimeoutError: the service is away"


def test_what_a_function_raises_is_the_reason_of_every_case() -> None:
    def broken(genes: dict[str, Any], cases: list[int]) -> list[float]:
        raise ZeroDivisionError("no\n  cases\tleft")

    outcomes = batch(broken).run(JOB)
    assert [outcome.error for outcome in outcomes] == ["the evaluator raised ZeroDivisionError: no cases left"] * 3
    assert all(outcome.value is None for outcome in outcomes)


def test_a_reason_is_bounded_and_may_be_empty() -> None:
    def shouting(genes: dict[str, Any], case: int) -> float:
        raise ValueError("no " * 1000)

    def silent(genes: dict[str, Any], case: int) -> float:
        raise KeyError

    assert len(each(shouting).run(ONE)[0].error) < 400
    assert each(silent).run(ONE)[0].error == "the evaluator raised KeyError"


def test_a_function_with_the_wrong_parameters_fails_with_its_reason() -> None:
    [outcome] = each(lambda genes: 1.0).run(ONE)
    assert "TypeError" in outcome.error


@pytest.mark.parametrize(
    ("returned", "count"),
    [
        pytest.param([1.0, 2.0], "2 scores", id="too few"),
        pytest.param([1.0] * 4, "4 scores", id="too many"),
        pytest.param([], "0 scores", id="none"),
        pytest.param(0.5, "no list", id="a number"),
        pytest.param(None, "no list", id="nothing"),
        pytest.param("abc", "no list", id="text of the right length"),
        pytest.param({10: 1.0, 20: 2.0, 30: 3.0}, "no list", id="mapping of the right length"),
    ],
)
def test_a_wrong_number_of_scores_fails_every_case(returned: Any, count: str) -> None:
    outcomes = batch(lambda genes, cases: returned).run(JOB)
    assert [outcome.error for outcome in outcomes] == [f"the evaluator returned {count} for 3 cases"] * 3


@pytest.mark.parametrize(
    "returned",
    [(1, 2, 3), np.array([1.0, 2.0, 3.0]), range(1, 4), iter([1.0, 2.0, 3.0])],
    ids=["tuple", "numpy", "range", "iterator"],
)
def test_scores_may_come_as_any_sequence(returned: Any) -> None:
    assert [o.value for o in batch(lambda genes, cases: returned).run(JOB)] == [1.0, 2.0, 3.0]


def test_one_wrong_score_of_a_batch_fails_its_own_case_only() -> None:
    first, second, third = batch(lambda genes, cases: [0.5, float("nan"), 7.0], (0.0, 1.0)).run(JOB)
    assert first.value == 0.5
    assert "not a finite number" in second.error
    assert "score_range 0 to 1" in third.error


def test_a_generator_that_raises_is_a_failure() -> None:
    def scores(genes: dict[str, Any], cases: list[int]) -> Iterator[float]:
        yield 1.0
        raise ValueError("broken off")

    outcomes = batch(scores).run(JOB)
    assert ["broken off" in outcome.error for outcome in outcomes] == [True] * 3


def test_an_evaluator_that_wants_to_exit_is_a_failure() -> None:
    def leaving(genes: dict[str, Any], case: int) -> float:
        raise SystemExit(3)

    try:
        [outcome] = each(leaving).run(ONE)
    except SystemExit:
        pytest.fail("the evaluator ended the program")
    assert "SystemExit" in outcome.error


def test_it_can_be_sent_to_another_process() -> None:
    again = pickle.loads(pickle.dumps(each(doubled, (0.0, 100.0))))
    assert again.run(ONE)[0].value == 20.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param((None, None, None), "exactly one", id="none"),
        pytest.param((doubled, doubled, None), "exactly one", id="both"),
        pytest.param(("doubled", None, None), "'doubled' is not a function", id="no function"),
        pytest.param((doubled, None, (1.0, 1.0)), "is empty", id="empty range"),
        pytest.param((doubled, None, (1.0, 0.0)), "is empty", id="reversed range"),
        pytest.param((doubled, None, (0.0, float("nan"))), "is empty", id="range to nan"),
    ],
)
def test_what_is_no_evaluator_is_refused(arguments: Any, said: str) -> None:
    with pytest.raises(InvalidSetting, match=said):
        Evaluator.adapt(*arguments)


def test_an_infinite_range_is_refused() -> None:
    with pytest.raises(InvalidSetting):
        Evaluator.adapt(doubled, None, (0.0, float("inf")))
