"""Which model a call goes to: equal for equal context and state, learned from outcomes, thrifty under pressure."""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_evolution.bedrock.models.catalog import Catalog
from bedrock_evolution.bedrock.models.prices import Tokens
from bedrock_evolution.bedrock.routing.optimizer import CostOptimizer, ModelUsage
from bedrock_evolution.bedrock.routing.performance import KNOWN_CALLS, MEMORY_CALLS, Evidence, Outcome, after_call
from bedrock_evolution.bedrock.routing.router import ModelRouter, prior_success
from bedrock_evolution.bedrock.routing.task import BANDS, TaskContext, band_of, family_name
from bedrock_evolution.errors import UnknownModel, UnknownPrice
from bedrock_evolution.settings import MICRO, ModelCard, ModelPrice, Settings

POOL = Settings().models
SONNET, HAIKU, NOVA_PRO, NOVA_LITE = POOL
State = dict[str, dict[str, Evidence]]


def card(usd: float = 1.0, *, skill: float = 0.7, window: int = 100_000, output: int = 4000, priced: bool = True):
    price = ModelPrice(input_usd=usd, output_usd=usd) if priced else None
    skills = dict.fromkeys(("reasoning", "code", "creative", "data"), skill)
    return ModelCard(context_tokens=window, max_output_tokens=output, speed=0.5, price=price, **skills)


def routed(cards: Mapping[str, ModelCard]) -> ModelRouter:
    catalog = Catalog(cards)
    return ModelRouter(catalog, list(cards), CostOptimizer(catalog))


def context(complexity: float = 0.55, *, role: str = "advisor", **given: Any) -> TaskContext:
    family = family_name(role, band_of(complexity))
    return TaskContext(
        family,
        given.pop("kind", "reasoning"),
        complexity,
        given.pop("input_tokens", 2000),
        given.pop("output_tokens", 1000),
        **given,
    )


def evidence(calls: float, rate: float, *, latency_ms: float = 2000.0) -> Evidence:
    return Evidence(calls=calls, successes=calls * rate, latency_ms=calls * latency_ms, micro_usd=calls * 50.0)


def order(router: ModelRouter, task: TaskContext, state: State | None = None, *, pressure: float = 0.0) -> list[str]:
    return [choice.model_id for choice in router.rank(task, state or {}, pressure=pressure)]


OPTIMIZER = CostOptimizer(Catalog())
DEFAULT = ModelRouter(Catalog(), POOL, OPTIMIZER)
CARDS = {"cheap": card(1), "middling": card(5), "dear": card(25)}

contexts = st.builds(
    context,
    st.floats(0, 1),
    role=st.sampled_from(["advisor", "healer"]),
    kind=st.sampled_from(["reasoning", "code", "creative", "data"]),
    input_tokens=st.integers(1, 400_000),
    output_tokens=st.integers(1, 8000),
    latency_limit_s=st.none() | st.floats(0.1, 60),
    accuracy=st.floats(0, 1),
    cost_sensitivity=st.floats(0, 1),
)
cells = st.builds(evidence, st.floats(0.01, MEMORY_CALLS), st.floats(0, 1), latency_ms=st.floats(0, 60_000))


def states(models: Sequence[str]) -> st.SearchStrategy[State]:
    families = st.builds(family_name, st.sampled_from(["advisor", "healer"]), st.integers(0, BANDS - 1))
    return st.dictionaries(families, st.dictionaries(st.sampled_from(models), cells, max_size=4), max_size=10)


# -- equal for equal arguments (P3)


@given(contexts, states(POOL), st.floats(0, 1.5), st.randoms(use_true_random=False))
def test_equal_context_and_state_give_the_equal_ranking(task, state, pressure, chance):
    before = copy.deepcopy(state)
    ranking = DEFAULT.rank(task, state, pressure=pressure)
    families = list(state)
    chance.shuffle(families)
    mixed = json.loads(json.dumps({family: dict(reversed(state[family].items())) for family in families}))
    models = list(POOL)
    chance.shuffle(models)
    other = ModelRouter(Catalog(), models, CostOptimizer(Catalog()))
    assert other.rank(replace(task), mixed, pressure=pressure) == ranking
    assert state == before


def test_not_even_the_last_digit_of_a_score_depends_on_an_order():
    chance = random.Random(1)
    here = context()
    for _ in range(100):
        cells = [(model, evidence(chance.random() * 9, chance.random())) for model in POOL]
        one, other = ({family_name("advisor", band): dict(its) for band in (4, 5)} for its in (cells, cells[::-1]))
        assert DEFAULT.rank(here, one) == DEFAULT.rank(here, other)


def test_models_of_equal_score_are_ranked_by_name():
    equal = routed({"b": card(), "a": card(), "c": card()})
    assert order(equal, context()) == ["a", "b", "c"]


RANKING = """
import json, sys
from dataclasses import asdict
from bedrock_evolution.bedrock.models.catalog import Catalog
from bedrock_evolution.bedrock.routing.optimizer import CostOptimizer
from bedrock_evolution.bedrock.routing.router import ModelRouter
from bedrock_evolution.bedrock.routing.task import TaskContext

models, cases = json.load(sys.stdin)
router = ModelRouter(Catalog(), models, CostOptimizer(Catalog()))
ranked = [router.rank(TaskContext(**task), state, pressure=pressure) for task, state, pressure in cases]
print(json.dumps([[asdict(choice) for choice in ranking] for ranking in ranked]))
"""


def test_another_process_with_another_hash_seed_ranks_alike():
    chance = random.Random(1)
    cases = []
    for _ in range(50):
        task = context(
            chance.random(), input_tokens=chance.randrange(90_000), accuracy=chance.random(), latency_limit_s=20.0
        )
        state = {
            family_name("advisor", band): {
                model: evidence(chance.random() * 50, chance.random(), latency_ms=chance.random() * 40_000)
                for model in POOL
                if chance.random() < 0.7
            }
            for band in range(BANDS)
        }
        cases.append((task, state, chance.random() * 1.2))
    expected = [[asdict(it) for it in DEFAULT.rank(task, state, pressure=pressure)] for task, state, pressure in cases]
    assert len({ranking[0]["model_id"] for ranking in expected}) == len(POOL)
    sent = json.dumps([POOL, [(asdict(task), state, pressure) for task, state, pressure in cases]])
    for seed in ("0", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", RANKING],
            input=sent,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout) == expected


# -- what may be chosen


@given(contexts, states(POOL), st.floats(0, 1.5))
def test_every_model_is_ranked_once_at_most_and_the_best_is_first(task, state, pressure):
    ranking = DEFAULT.rank(task, state, pressure=pressure)
    names = [choice.model_id for choice in ranking]
    assert ranking
    assert len(set(names)) == len(names)
    assert set(names) <= set(POOL)
    assert [choice.score for choice in ranking] == sorted((choice.score for choice in ranking), reverse=True)
    assert all(math.isfinite(choice.score) for choice in ranking)


def test_all_usable_models_are_ranked_so_that_a_call_can_fall_back_along_them():
    assert sorted(order(DEFAULT, context())) == sorted(POOL)


def test_a_model_whose_window_is_too_small_is_left_out():
    router = routed({"small": card(window=8000), "large": card(50, window=200_000)})
    assert order(router, context(input_tokens=7000, output_tokens=1000)) == ["small", "large"]
    # What the answer takes is window that the input cannot have.
    assert order(router, context(input_tokens=7001, output_tokens=1000)) == ["large"]


def test_the_largest_window_is_kept_when_none_is_large_enough():
    router = routed({"small": card(window=8000), "large": card(50, window=200_000), "middling": card(window=50_000)})
    assert order(router, context(input_tokens=500_000)) == ["large"]


def test_a_model_that_cannot_write_so_long_an_answer_is_left_out():
    router = routed({"terse": card(output=2000), "verbose": card(50, output=64_000)})
    assert order(router, context(output_tokens=2000)) == ["terse", "verbose"]
    assert order(router, context(output_tokens=2001)) == ["verbose"]


def test_a_model_known_to_be_slower_than_the_limit_is_left_out():
    router = routed({"slow": card(1), "fast": card(5)})
    here = context(latency_limit_s=10.0)
    slow = {here.family: {"slow": evidence(50, 1.0, latency_ms=10_100), "fast": evidence(50, 0.5, latency_ms=900)}}
    assert order(router, here, slow) == ["fast"]
    assert order(router, replace(here, latency_limit_s=None), slow) == ["slow", "fast"]
    just = {here.family: {"slow": evidence(50, 1.0, latency_ms=10_000)}}
    assert set(order(router, here, just)) == {"slow", "fast"}
    too_few = {here.family: {"slow": evidence(KNOWN_CALLS * 0.9, 1.0, latency_ms=60_000)}}
    assert set(order(router, here, too_few)) == {"slow", "fast"}


def test_a_limit_that_no_model_keeps_leaves_none_out():
    here = context(latency_limit_s=1.0)
    slow = {here.family: {name: evidence(50, 1.0, latency_ms=9000) for name in CARDS}}
    assert set(order(routed(CARDS), here, slow)) == set(CARDS)


def test_of_two_models_that_do_equally_well_the_faster_wins():
    router = routed({"one": card(), "other": card()})
    here = context()
    state = {here.family: {"one": evidence(50, 0.8, latency_ms=20_000), "other": evidence(50, 0.8, latency_ms=1000)}}
    assert order(router, here, state) == ["other", "one"]


def test_a_model_without_card_or_price_is_refused_at_once():
    with pytest.raises(UnknownModel):
        ModelRouter(Catalog(), ["no.such-model-v1:0"], OPTIMIZER)
    with pytest.raises(UnknownPrice):
        routed({"unpriced": card(priced=False)})


# -- before anything was learned: the cards


def test_capable_models_pull_ahead_as_tasks_get_harder():
    gaps = [prior_success(0.9, step / 10) - prior_success(0.6, step / 10) for step in range(11)]
    assert gaps == sorted(gaps)
    assert prior_success(0.9, 0.5) == pytest.approx(0.9)


def test_simple_work_goes_to_a_cheaper_model_than_complex_work():
    tasks = [context(complexity, kind="creative", output_tokens=4096) for complexity in (0.1, 0.9)]
    assert [order(DEFAULT, task)[0] for task in tasks] == [HAIKU, SONNET]


def test_code_is_read_by_claude():
    for complexity in (0.3, 0.6, 0.9):
        assert order(DEFAULT, context(complexity, kind="code"))[0] in (SONNET, HAIKU)


def test_money_that_is_no_object_buys_the_most_capable_model():
    assert order(DEFAULT, context(accuracy=1.0, cost_sensitivity=0.0))[0] == SONNET


@given(contexts, states(list(CARDS)))
def test_answers_that_are_worth_nothing_go_to_the_cheapest_model(task, state):
    task = replace(task, accuracy=0.0, cost_sensitivity=1.0, latency_limit_s=None, input_tokens=500, output_tokens=500)
    assert order(routed(CARDS), task, state) == ["cheap", "middling", "dear"]


def test_the_reason_tells_the_numbers_that_decided():
    here = context(latency_limit_s=30.0)
    state = {here.family: {"cheap": evidence(40, 0.5)}}
    first, *_ = routed(CARDS).rank(here, state, pressure=0.5)
    usd = Catalog(CARDS).cost_micro_usd(first.model_id, Tokens(2000, 1000)) / MICRO
    assert first.reason == (
        "Number 1 of 3 at complexity 0.55 with 50% of the budget used: success 0.68 (from 0 like calls, +0.13 for want"
        f" of more) for ${usd:.4f} and 15.0 s is worth ${first.score:.4f}."
    )
    assert first.model_id == "middling"


# -- learning


def play(
    router: ModelRouter,
    tasks: Sequence[TaskContext],
    rates: Mapping[str, Mapping[str, float]],
    state: State,
    seed: int = 1,
) -> list[str]:
    """Let the router choose for each task and see how its choice ended; rates are by role and model."""
    chance = random.Random(seed)
    chosen = []
    for task in tasks:
        model = order(router, task, state)[0]
        outcome = Outcome(chance.random() < rates[task.role][model], latency_ms=2000)
        state[task.family] = after_call(state.get(task.family, {}), model, outcome)
        chosen.append(model)
    return chosen


def test_each_kind_of_task_finds_its_own_best_model():
    router = routed({"cheap": card(1), "dear": card(10)})
    rates = {"easy": {"cheap": 0.9, "dear": 0.9}, "hard": {"cheap": 0.2, "dear": 0.9}}
    tasks = [context(role=role) for role in ("easy", "hard") * 200]
    chosen = play(router, tasks, rates, {})
    late = list(zip(tasks, chosen, strict=True))[200:]
    assert sum(model == "cheap" for task, model in late if task.role == "easy") > 90
    assert sum(model == "dear" for task, model in late if task.role == "hard") > 90


def test_a_model_that_fails_is_left_in_spite_of_its_card():
    router = routed({"praised": card(1, skill=0.95), "humble": card(1, skill=0.6)})
    chosen = play(router, [context()] * 200, {"advisor": {"praised": 0.1, "humble": 0.8}}, {})
    assert chosen[0] == "praised"
    assert chosen[-50:].count("humble") > 45


def test_a_model_that_got_better_is_found_again():
    router = routed({"steady": card(), "fickle": card()})
    state: State = {}
    play(router, [context()] * 300, {"advisor": {"steady": 0.7, "fickle": 0.2}}, state)
    before = play(router, [context()] * 100, {"advisor": {"steady": 0.7, "fickle": 0.2}}, state)
    after = play(router, [context()] * 600, {"advisor": {"steady": 0.7, "fickle": 0.95}}, state)
    assert before.count("steady") > 80
    assert after[-100:].count("fickle") > 80


def test_a_family_without_calls_learns_from_its_role_and_not_from_others():
    router = routed({"cheap": card(1), "dear": card(10)})
    failing = {family_name("advisor", 2): {"cheap": evidence(100, 0.1), "dear": evidence(100, 0.9)}}
    assert order(router, context(0.95), {})[0] == "cheap"
    assert order(router, context(0.95), failing)[0] == "dear"
    assert order(router, context(0.95, role="decision"), failing)[0] == "cheap"


def test_a_model_that_was_tried_less_gets_the_larger_bonus():
    router = routed({"known": card(), "unknown": card()})
    here = context()
    # Both do as well as their cards say.
    state = {
        here.family: {
            "known": evidence(150, prior_success(0.7, 0.55)),
            "unknown": evidence(3, prior_success(0.7, 0.55)),
        }
    }
    assert order(router, here, state) == ["unknown", "known"]


# -- budget pressure


@given(contexts, st.floats(0, 0.8))
def test_below_80_percent_of_the_budget_nothing_changes(task, pressure):
    assert OPTIMIZER.adjust(task, pressure) == task


@given(contexts, st.floats(0, 2), st.floats(0, 2))
def test_pressure_raises_cost_sensitivity_and_lowers_accuracy(task, one, other):
    less, more = sorted((one, other))
    eased, pressed = OPTIMIZER.adjust(task, less), OPTIMIZER.adjust(task, more)
    assert task.cost_sensitivity - 1e-12 <= eased.cost_sensitivity <= pressed.cost_sensitivity + 1e-12 <= 1 + 2e-12
    assert task.accuracy + 1e-12 >= eased.accuracy >= pressed.accuracy - 1e-12 >= -2e-12
    assert replace(pressed, accuracy=task.accuracy, cost_sensitivity=task.cost_sensitivity) == task


@given(contexts)
def test_pressure_acts_smoothly_and_fully_at_the_whole_budget(task):
    steps = [OPTIMIZER.adjust(task, share / 1000) for share in range(780, 1021)]
    assert steps[-1].cost_sensitivity == steps[220].cost_sensitivity == pytest.approx(1.0)
    assert steps[-1].accuracy == steps[220].accuracy == pytest.approx(task.accuracy / 5)
    for one, next_one in itertools.pairwise(steps):
        assert abs(next_one.cost_sensitivity - one.cost_sensitivity) < 0.01
        assert abs(next_one.accuracy - one.accuracy) < 0.01


@given(contexts, states(list(CARDS)), st.floats(0, 1.2), st.floats(0, 1.2))
def test_more_pressure_never_buys_a_dearer_model(task, state, one, other):
    task = replace(task, input_tokens=3000, output_tokens=1000)
    less, more = (order(routed(CARDS), task, state, pressure=share)[0] for share in sorted((one, other)))
    prices = {name: its.price.input_usd for name, its in CARDS.items() if its.price}
    assert prices[more] <= prices[less]


def test_a_spent_budget_turns_the_default_pool_to_its_cheapest_model():
    for role in ("advisor", "decision", "healer", "cost_governor"):
        task = TaskContext.of(role, "Propose, weigh or mend: " * 100, input_tokens=3000, output_tokens=4096)
        assert order(DEFAULT, task)[0] != NOVA_LITE
        assert order(DEFAULT, task, pressure=1.0)[0] == NOVA_LITE


# -- recommendations


def usage(task: str = "advisor/5", model: str = "dear", calls: int = 100) -> ModelUsage:
    return ModelUsage(
        task, model, calls, 200_000, 50_000, micro_usd=Catalog(CARDS).cost_micro_usd(model, Tokens(200_000, 50_000))
    )


def recommend(state: State, *used: ModelUsage):
    return CostOptimizer(Catalog(CARDS)).recommend(used or [usage()], state)


def test_a_cheaper_model_that_does_as_well_is_recommended_with_what_it_saves():
    state = {"advisor/5": {"dear": evidence(100, 0.95), "middling": evidence(100, 0.95), "cheap": evidence(100, 0.4)}}
    [found] = recommend(state)
    assert (found.task, found.model, found.instead) == ("advisor/5", "dear", "middling")
    # 250,000 tokens at $25 and at $5 a million.
    assert found.saving_micro_usd == 6_250_000 - 1_250_000
    assert found.why == (
        "middling succeeded in 95% of 100 calls and dear in 95% of 100; it would have saved $5.0000 of $6.2500."
    )


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"advisor/5": {"dear": evidence(100, 0.95)}},
        {"advisor/5": {"middling": evidence(100, 0.95)}},
        {"advisor/5": {"dear": evidence(100, 0.95), "middling": evidence(100, 0.8)}},
        # As good so far, but too little is known of it.
        {"advisor/5": {"dear": evidence(100, 0.95), "middling": evidence(5, 1.0)}},
        {"decision/5": {"dear": evidence(100, 0.95), "middling": evidence(100, 0.95)}},
        # No price is known of it.
        {"advisor/5": {"dear": evidence(100, 0.95), "retired": evidence(100, 0.95)}},
    ],
    ids=["nothing", "no other", "not the one in use", "worse", "too few", "another role", "no price"],
)
def test_nothing_is_recommended_without_credible_evidence(state):
    assert recommend(state) == []


def test_a_dearer_model_is_never_recommended():
    state = {"advisor/5": {name: evidence(100, 0.5 if name == "cheap" else 0.99) for name in CARDS}}
    assert recommend(state, usage(model="cheap")) == []


def test_a_role_is_judged_by_all_its_families_and_the_largest_saving_comes_first():
    state = {
        f"{role}/{band}": {"dear": evidence(40, 0.95), "cheap": evidence(40, 0.95)}
        for role in ("advisor", "healer")
        for band in (3, 4, 5)
    }
    assert recommend(state, usage("advisor/3")) == []
    found = recommend(state, replace(usage("healer"), micro_usd=3_000_000), usage("advisor"))
    assert [(it.task, it.instead) for it in found] == [("advisor", "cheap"), ("healer", "cheap")]
    assert found[0].saving_micro_usd > found[1].saving_micro_usd > 0


def test_a_model_that_is_worse_by_the_margin_is_hardly_ever_recommended():
    # Exactly, over all outcomes of 60 calls of each model: one succeeds in 85 %, the cheaper one in 80 %.
    calls = 60
    chances = [
        [math.comb(calls, wins) * rate**wins * (1 - rate) ** (calls - wins) for wins in range(calls + 1)]
        for rate in (0.85, 0.80)
    ]
    wrong = 0.0
    for (good, likely), (poor, chance) in itertools.product(enumerate(chances[0]), enumerate(chances[1])):
        if likely * chance > 1e-6:
            state = {"advisor/5": {"dear": evidence(calls, good / calls), "cheap": evidence(calls, poor / calls)}}
            wrong += likely * chance * bool(recommend(state))
    assert 0.05 < wrong < 0.11
