"""Panels: the cases a run scores, chosen so that its budget can decide something."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedrock_evolution.errors import BudgetExhausted, ExitCode
from bedrock_evolution.fitness.cases import MIN_VALIDATION, PARTS, Part
from bedrock_evolution.fitness.panels import plan_panels

SIZES: dict[Part, int] = {"train": 240, "validation": 240, "test": 120}
SOME_SIZES = st.fixed_dictionaries(
    {"train": st.integers(2, 300), "validation": st.integers(MIN_VALIDATION, 300), "test": st.integers(2, 150)}
)


def test_without_a_limit_every_case_is_on_its_panel() -> None:
    panels = plan_panels(SIZES, max_evaluations=None, seed=1)
    assert {part: sorted(panels.part(part)) for part in PARTS} == {part: list(range(SIZES[part])) for part in PARTS}


@settings(max_examples=80, deadline=None)
@given(SOME_SIZES, st.integers(1, 2000), st.integers(0, 5))
def test_a_limit_gives_panels_that_are_distinct_cases_of_their_part(
    sizes: dict[Part, int], limit: int, seed: int
) -> None:
    try:
        panels = plan_panels(sizes, max_evaluations=limit, seed=seed)
    except BudgetExhausted:
        assert limit < 2 * (4 + MIN_VALIDATION + 2)
        return
    scored = {part: len(panels.part(part)) for part in PARTS}
    assert all(1 <= scored[part] <= sizes[part] for part in PARTS)
    assert scored["validation"] >= MIN_VALIDATION
    for part in PARTS:
        assert len(set(panels.part(part))) == scored[part]
        assert set(panels.part(part)) <= set(range(sizes[part]))


def test_a_limit_leaves_room_for_the_live_dna_and_one_candidate() -> None:
    sizes: dict[Part, int] = {"train": 4, "validation": 6, "test": 100}
    panels = plan_panels(sizes, max_evaluations=24, seed=1)
    assert 2 * sum(len(panels.part(part)) for part in PARTS) <= 24


def test_a_larger_budget_never_gives_a_smaller_panel() -> None:
    scored = [len(plan_panels(SIZES, max_evaluations=limit, seed=1).validation) for limit in range(30, 3000, 30)]
    assert scored == sorted(scored)
    assert scored[-1] == SIZES["validation"]


def test_the_order_is_shuffled_by_the_seed_and_by_nothing_else() -> None:
    one = plan_panels(SIZES, max_evaluations=None, seed=1)
    assert one == plan_panels(SIZES, max_evaluations=None, seed=1)
    assert one != plan_panels(SIZES, max_evaluations=None, seed=2)
    assert list(one.train) != sorted(one.train)
    assert one.train != one.validation


def test_a_smaller_panel_is_the_beginning_of_a_larger_one() -> None:
    small = plan_panels(SIZES, max_evaluations=100, seed=3)
    large = plan_panels(SIZES, max_evaluations=None, seed=3)
    for part in PARTS:
        assert large.part(part)[: len(small.part(part))] == small.part(part)


def test_a_single_objective_has_one_place_in_each_part() -> None:
    sizes: dict[Part, int] = {"train": 1, "validation": 1, "test": 1}
    panels = plan_panels(sizes, max_evaluations=3, seed=1)
    assert (panels.train, panels.validation, panels.test) == ((0,), (0,), (0,))
    with pytest.raises(BudgetExhausted, match="takes 3"):
        plan_panels(sizes, max_evaluations=2, seed=1)


def test_a_budget_too_small_to_decide_anything_says_what_it_takes() -> None:
    with pytest.raises(BudgetExhausted) as error:
        plan_panels(SIZES, max_evaluations=23, seed=1)
    assert "a budget of 23 evaluations cannot decide anything" in error.value.message
    assert "max_evaluations=24" in error.value.hint
    assert error.value.exit_code == ExitCode.STOPPED_BY_BUDGET
    assert plan_panels(SIZES, max_evaluations=24, seed=1)
