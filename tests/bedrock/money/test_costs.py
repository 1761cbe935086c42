"""Costs: where the money went, where it is going, what would save some of it, and the command that shows it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.bedrock.models.catalog import Catalog
from bedrock_evolution.bedrock.models.prices import Tokens
from bedrock_evolution.bedrock.money.costs import WINDOW_DAYS, CostTracker, Forecast, Saving, _forecast, _t_quantile
from bedrock_evolution.bedrock.money.ledger import Group, Ledger, Spend
from bedrock_evolution.bedrock.routing.performance import ModelPerformanceTracker, RoutingState
from bedrock_evolution.bedrock.routing.task import TaskContext
from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.settings import MICRO, ModelCard, ModelPrice
from tests.support.books import APP, opened

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
SONNET, HAIKU = "anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic.claude-haiku-4-5-20251001-v1:0"
CALLED_SONNET = f"global.{SONNET}"
OWN = "acme.grand-v1"


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOON)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def tracker(ledger: Ledger, clock: FixedClock, catalog: Catalog | None = None) -> CostTracker:
    return CostTracker(ledger, clock=clock, catalog=catalog or Catalog())


def pay(ledger: Ledger, usd: float, tokens: Tokens | None = None, **more: Any) -> None:
    """Make one call that costs this."""
    about = {"run_id": "run-1", "agent": "advisor", "model": CALLED_SONNET, "task": "advisor/7"} | more
    hold = ledger.reserve(micro_usd=round(usd * MICRO), **about)
    ledger.settle(hold, tokens=tokens or Tokens(1, 1), micro_usd=round(usd * MICRO))


def lose(ledger: Ledger, usd: float, error: str) -> None:
    hold = ledger.reserve(run_id="run-1", agent="advisor", model=CALLED_SONNET, micro_usd=round(usd * MICRO))
    ledger.keep(hold, error=error)


# -- where it went


def test_spend_and_tokens_are_told_by_whatever_is_asked(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock)
    pay(ledger, 0.5, Tokens(1000, 10, cache_read=300, cache_write=200))
    clock.moment += timedelta(days=30)
    pay(ledger, 0.2, Tokens(70, 7), agent="healer", task="healer/2", model=HAIKU, run_id="run-2")
    first = Spend(500_000, 1, 0, 1000, 10, cache_read_tokens=300, cache_write_tokens=200)
    second = Spend(200_000, 1, 0, 70, 7)
    costs = tracker(ledger, clock)
    for dimension, names in (
        ("agent", ("advisor", "healer")),
        ("model", (CALLED_SONNET, HAIKU)),
        ("task", ("advisor/7", "healer/2")),
        ("run", ("run-1", "run-2")),
    ):
        assert costs.by(dimension) == [Group((names[0],), first), Group((names[1],), second)]
    for dimension, names in (("day", ("2026-03-10", "2026-04-09")), ("month", ("2026-03", "2026-04"))):
        assert costs.by(dimension) == [Group((names[1],), second), Group((names[0],), first)]


# -- where it is going


def test_the_day_goes_on_at_the_mean_of_the_last_24_hours(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock)
    clock.moment = NOON - timedelta(hours=24)
    for usd in [0.1, 0.3] * 12:  # one call at the beginning of each hour, $4.8 in a day
        pay(ledger, usd)
        clock.moment += timedelta(hours=1)
    day, _ = tracker(ledger, clock).forecasts()
    assert day.spent_micro_usd == 2_400_000
    assert day.expected_micro_usd == 2_400_000 + 12 * 200_000
    assert day.low_micro_usd is not None
    assert day.high_micro_usd is not None
    # Twelve more hours with a standard deviation of $0.10, and an uncertain mean: $0.43 on either side, times 1.32.
    margin = day.high_micro_usd - day.expected_micro_usd
    assert margin == day.expected_micro_usd - day.low_micro_usd == pytest.approx(572_000, rel=0.01)
    assert day.method == (
        "Spent so far, plus the mean of the last 24 whole hours for each of the 12.0 hours left."
        " Low and high: 80 % prediction interval, if hours to come are like those."
    )


def test_the_month_goes_on_at_the_mean_of_the_last_28_days(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock)
    clock.moment = NOON - timedelta(days=40)
    for day in range(40):
        pay(ledger, 9.0 if day < 12 else 1.0)  # what is older than 28 days does not count
        clock.moment += timedelta(days=1)
    _, month = tracker(ledger, clock).forecasts()
    assert month.spent_micro_usd == 9 * MICRO
    assert month.expected_micro_usd == month.low_micro_usd == month.high_micro_usd == round(30.5 * MICRO)
    assert "28 whole days" in month.method


@pytest.mark.parametrize(
    ("now", "days_left"),
    [
        (datetime(2026, 12, 31, 18, tzinfo=UTC), "0.2"),
        (datetime(2028, 2, 28, 0, tzinfo=UTC), "2.0"),
        (datetime(2026, 1, 31, 12, tzinfo=UTC), "0.5"),
        (datetime(2026, 4, 1, 0, tzinfo=UTC), "30.0"),
    ],
    ids=["December", "leap year", "January", "the first"],
)
def test_a_month_ends_where_it_ends(path: Path, clock: FixedClock, now: datetime, days_left: str) -> None:
    ledger = opened(path, clock)
    clock.moment = now - timedelta(days=2)
    pay(ledger, 0.1)
    clock.moment = now
    _, month = tracker(ledger, clock).forecasts()
    assert f"for each of the {days_left} days left" in month.method


def test_nothing_is_forecast_from_too_little(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock)
    costs = tracker(ledger, clock)
    nothing = Forecast("day", 0, None, None, None, "No forecast: the calls cover no whole hour yet.")
    assert costs.forecasts()[0] == nothing
    pay(ledger, 0.1)
    clock.moment += timedelta(minutes=59)
    assert costs.forecasts()[0].expected_micro_usd is None
    assert costs.forecasts()[0].spent_micro_usd == 100_000
    clock.moment += timedelta(minutes=1)
    day, month = costs.forecasts()
    assert day.expected_micro_usd == 100_000 + 11 * 100_000
    assert day.low_micro_usd is day.high_micro_usd is None
    assert day.method.endswith("Too few hours for an interval.")
    assert month.expected_micro_usd is None


def test_a_forecast_is_never_below_what_is_spent() -> None:
    forecast = _forecast("day", Spend(500, 1, 0, 0, 0), [0, 0, 0, 100_000], "hours", 12.0)
    assert forecast.low_micro_usd == 500
    assert forecast.high_micro_usd is not None
    assert forecast.high_micro_usd > 500 + 12 * 25_000


@pytest.mark.parametrize(("blocks", "left"), [(3, 1.0), (5, 20.0), (24, 6.5)])
def test_four_of_five_intervals_hold_what_comes(blocks: int, left: float) -> None:
    chance, runs, inside = random.Random(7), 4000, 0
    for _ in range(runs):
        past = [round(chance.gauss(1e6, 1e5)) for _ in range(blocks)]
        forecast = _forecast("day", Spend(0, 0, 0, 0, 0), past, "hours", left)
        to_come = chance.gauss(1e6 * left, 1e5 * left**0.5)
        assert forecast.low_micro_usd is not None
        assert forecast.high_micro_usd is not None
        inside += forecast.low_micro_usd <= to_come <= forecast.high_micro_usd
    assert inside / runs == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(("freedom", "t"), [(2, 1.8856), (3, 1.6377), (5, 1.4759), (27, 1.3137)])
def test_the_quantiles_are_those_of_the_tables(freedom: int, t: float) -> None:
    assert _t_quantile(freedom) == pytest.approx(t, rel=0.002)


# -- what would save some of it


def learned(path: Path, clock: FixedClock, calls: int, **successes: int) -> RoutingState:
    performance = ModelPerformanceTracker(Database(path), app=APP, clock=clock)
    context = TaskContext("advisor/7", "creative", 0.75, 1000, 100)
    for model, count in (("sonnet", successes["sonnet"]), ("haiku", successes["haiku"])):
        for number_ in range(calls):
            name = {"sonnet": SONNET, "haiku": HAIKU}[model]
            performance.record(context, name, success=number_ < count, latency_ms=900, micro_usd=100)
    return performance.snapshot()


def test_a_cheaper_model_that_does_as_well_is_named_with_its_saving(path: Path, clock: FixedClock) -> None:
    ledger, catalog = opened(path, clock), Catalog()
    usage = Tokens(200_000, 40_000)
    cost = catalog.cost_micro_usd(CALLED_SONNET, usage)
    pay(ledger, cost / MICRO, usage)
    lose(ledger, 5.0, "ReadTimeoutError")  # nobody knows what it would have cost elsewhere
    state = learned(path, clock, 80, sonnet=78, haiku=78)
    [saving] = [it for it in tracker(ledger, clock).savings(state) if it.kind == "cheaper_model"]
    assert saving.micro_usd == cost - catalog.cost_micro_usd(HAIKU, usage) > 0
    assert saving.message.startswith(f"advisor/7: {HAIKU} succeeded in")
    assert saving.message.endswith("The setting `advisor_model` binds the agent to it.")


def test_a_cheaper_model_that_does_worse_is_not_named(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock)
    pay(ledger, 1.0, Tokens(200_000, 40_000))
    assert tracker(ledger, clock).savings(learned(path, clock, 80, sonnet=78, haiku=50)) == []
    assert tracker(ledger, clock).savings({}) == []


def own_card(*, caches: bool) -> Catalog:
    skills = dict.fromkeys(("reasoning", "code", "creative", "data", "speed"), 0.5)
    price = ModelPrice(input_usd=10.0, output_usd=20.0, cache_read_usd=1.0)
    card = ModelCard(context_tokens=10**6, max_output_tokens=4096, caches=caches, price=price, **skills)
    return Catalog({OWN: card})


def test_prompts_that_are_sent_anew_each_time_could_come_from_the_cache(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock)
    for _ in range(4):
        pay(ledger, 0.1, Tokens(10_000, 10, cache_read=1_000), model=OWN)
    [saving] = tracker(ledger, clock, own_card(caches=False)).savings({})
    assert saving == Saving(
        "prompt_caching",
        16_000 * 9,  # half of 40,000 tokens less the 4,000 that were read, at $9 a million less
        f"10% of the input of advisor to {OWN} came from the prompt cache; half of it would have saved $0.1440."
        " If the model takes cache points, write `caches = true` in a model card.",
    )
    assert tracker(ledger, clock, own_card(caches=True)).savings({}) == []
    assert tracker(ledger, clock).savings({}) == []  # of a model without card or price nothing is known


@pytest.mark.parametrize(
    "tokens", [Tokens(1_000, 10), Tokens(10_000, 10, cache_read=5_000)], ids=["short", "cached already"]
)
def test_caching_is_not_recommended_where_it_does_nothing(path: Path, clock: FixedClock, tokens: Tokens) -> None:
    ledger = opened(path, clock)
    pay(ledger, 0.1, tokens, model=OWN)
    assert tracker(ledger, clock, own_card(caches=False)).savings({}) == []


def test_lost_answers_are_told_by_their_reason_with_what_may_be_billed(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock, hold_ttl_s=60)
    for usd, error in ((0.1, "ReadTimeoutError"), (0.1, "ReadTimeoutError"), (0.3, "malformed answer"), (0.01, "Odd")):
        lose(ledger, usd, error)
    ledger.void(ledger.reserve(run_id="r", agent="a", model="m", micro_usd=10**6), error="ThrottlingException")
    ledger.reserve(run_id="r", agent="a", model="m", micro_usd=50_000)
    clock.moment += timedelta(minutes=2)
    pay(ledger, 0.1)
    savings = tracker(ledger, clock).savings({})
    assert [(saving.kind, saving.micro_usd) for saving in savings] == [
        ("lost_answers", 300_000),
        ("lost_answers", 200_000),
        ("lost_answers", 50_000),
        ("lost_answers", 10_000),
    ]
    assert savings[1].message == (
        "2 calls ended without a usable answer (ReadTimeoutError); up to $0.2000 may be billed for that."
        " Raise read_timeout_s, or lower max_tokens so that answers come sooner."
    )
    assert "a process died" in savings[2].message.lower()


def test_what_is_long_ago_is_not_recommended_about(path: Path, clock: FixedClock) -> None:
    ledger = opened(path, clock)
    lose(ledger, 0.1, "ReadTimeoutError")
    clock.moment += timedelta(days=WINDOW_DAYS)
    assert len(tracker(ledger, clock).savings({})) == 1
    clock.moment += timedelta(days=1)
    assert tracker(ledger, clock).savings({}) == []
