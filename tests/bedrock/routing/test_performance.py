"""What is learned from outcomes: evidence that fades, is shared between like tasks, and survives in the file."""

from __future__ import annotations

import itertools
import json
import math
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_evolution.bedrock.routing.dynamo_performance import DynamoPerformanceTracker
from bedrock_evolution.bedrock.routing.performance import (
    BORROWED_CALLS,
    KNOWN_CALLS,
    MAX_FAMILIES,
    MAX_MODELS,
    MEMORY_CALLS,
    Evidence,
    ModelPerformanceTracker,
    Outcome,
    PerformanceTracker,
    after_call,
    estimate,
)
from bedrock_evolution.bedrock.routing.task import BANDS, TaskContext, band_of, complexity_in, family_name
from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.aws.calls import Clients
from bedrock_evolution.dna.aws.regions import Regions
from bedrock_evolution.dna.database import Database
from tests.bedrock.money.places import TablePlace, shared_clients
from tests.support.cloud import REGIONS, session
from tests.support.faulty_proxy import FaultyProxy
from tests.support.moto_server import moto_server

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MODELS = ("a", "b", "c")


def context(complexity: float = 0.55, *, role: str = "advisor") -> TaskContext:
    return TaskContext(family_name(role, band_of(complexity)), "reasoning", complexity, 100, 100)


def middle(band: int) -> float:
    return complexity_in(family_name("advisor", band))


def evidence(calls: float, rate: float, *, latency_ms: float = 1000.0) -> Evidence:
    return Evidence(calls=calls, successes=calls * rate, latency_ms=calls * latency_ms, micro_usd=calls * 10.0)


def flat(_: float) -> float:
    return 0.6


def tracker(path: Path, *, app: str = "app") -> ModelPerformanceTracker:
    return ModelPerformanceTracker(Database(path), app=app, clock=FixedClock(NOON))


outcomes = st.lists(
    st.tuples(
        st.sampled_from(MODELS),
        st.builds(Outcome, st.booleans(), st.integers(0, 60_000), st.integers(0, 1_000_000)),
    ),
    max_size=30,
)
cells = st.builds(evidence, st.floats(0.01, MEMORY_CALLS), st.floats(0, 1), latency_ms=st.floats(0, 60_000))
states = st.dictionaries(
    st.builds(family_name, st.sampled_from(["advisor", "decision"]), st.integers(0, BANDS - 1)),
    st.dictionaries(st.sampled_from(MODELS), cells, max_size=3),
    max_size=12,
)


# -- evidence


@given(outcomes)
def test_evidence_is_bounded_and_no_model_has_more_successes_than_calls(calls):
    family: dict[str, Evidence] = {}
    for model, outcome in calls:
        family = after_call(family, model, outcome)
    total = sum(cell["calls"] for cell in family.values())
    assert math.isclose(total, MEMORY_CALLS * (1 - (1 - 1 / MEMORY_CALLS) ** len(calls)), abs_tol=1e-9)
    for model, cell in family.items():
        its = [outcome for name, outcome in calls if name == model]
        assert 0 <= cell["successes"] <= cell["calls"] <= len(its)
        assert cell["latency_ms"] <= sum(outcome.latency_ms for outcome in its) + 1e-6
        assert cell["micro_usd"] <= sum(outcome.micro_usd for outcome in its) + 1e-6


def test_newer_calls_count_more_and_old_ones_are_forgotten():
    family: dict[str, Evidence] = {}
    for success in [False] * MEMORY_CALLS + [True] * MEMORY_CALLS:
        family = after_call(family, "a", Outcome(success))
    assert 0.7 < family["a"]["successes"] / family["a"]["calls"] < 0.75
    for _ in range(10 * MEMORY_CALLS):
        family = after_call(family, "b", Outcome(success=True))
    assert "a" not in family


def test_what_was_given_is_left_alone():
    family = {"a": evidence(5, 0.5)}
    after_call(family, "a", Outcome(success=True))
    assert family == {"a": evidence(5, 0.5)}


# -- estimates


@given(states, st.floats(0, 1), st.floats(0, 1))
def test_an_expected_success_is_a_probability(state, complexity, prior):
    found = estimate(state, context(complexity), "a", lambda _: prior)
    assert 0 <= found.success <= 1
    assert found.calls >= 0


@given(states, st.floats(0, 1), st.randoms(use_true_random=False))
def test_the_order_of_a_state_does_not_show(state, complexity, chance):
    families = list(state)
    chance.shuffle(families)
    mixed = {family: dict(reversed(state[family].items())) for family in families}
    assert estimate(mixed, context(complexity), "a", flat) == estimate(state, context(complexity), "a", flat)


def test_without_evidence_the_prior_holds():
    assert estimate({}, context(), "a", flat).success == 0.6
    elsewhere = {
        family_name("decision", 5): {"a": evidence(100, 0.1)},
        family_name("advisor", 5): {"b": evidence(9, 0)},
    }
    assert estimate(elsewhere, context(), "a", flat).success == 0.6


def test_a_family_without_calls_has_the_success_of_its_role():
    far = {family_name("advisor", 0): {"a": evidence(BORROWED_CALLS, 0.2)}}
    # As many calls as are borrowed: half way from the prior to what was seen.
    assert estimate(far, context(0.95), "a", flat).success == pytest.approx(0.4)
    assert estimate(far, context(0.95), "a", flat).calls == 0


def test_own_calls_win_over_the_role_as_they_grow():
    role = {family_name("advisor", 0): {"a": evidence(MEMORY_CALLS, 0.2)}}
    expected = [
        estimate(
            {**role, family_name("advisor", 9): {"a": evidence(calls, 0.9)}}, context(middle(9)), "a", flat
        ).success
        for calls in (1, 10, 50, MEMORY_CALLS)
    ]
    assert expected == sorted(expected)
    assert expected[0] < 0.35
    assert 0.82 < expected[-1] < 0.9


def test_what_was_learned_in_one_band_changes_smoothly_towards_the_next():
    state = {family_name("advisor", band): {"a": evidence(150, 0.9 - 0.1 * band)} for band in (4, 5)}
    low, high = middle(4), middle(5)
    steps = [estimate(state, context(low + (high - low) * k / 20), "a", flat) for k in range(21)]
    successes = [step.success for step in steps]
    assert successes == sorted(successes, reverse=True)
    assert max(one - other for one, other in itertools.pairwise(successes)) < 0.01
    assert all(step.calls == pytest.approx(150) for step in steps)


def test_latency_is_that_of_like_tasks_then_of_the_role_then_unknown():
    few, many = evidence(KNOWN_CALLS / 2, 1.0, latency_ms=9000), evidence(KNOWN_CALLS, 1.0, latency_ms=2000)
    like, far = family_name("advisor", 5), family_name("advisor", 0)
    here = context(middle(5))
    assert estimate({like: {"a": few}}, here, "a", flat).latency_s is None
    assert estimate({like: {"a": many}, far: {"a": many}}, here, "a", flat).latency_s == pytest.approx(2.0)
    both = (KNOWN_CALLS / 2 * 9 + KNOWN_CALLS * 2) / (KNOWN_CALLS * 1.5)
    assert estimate({like: {"a": few}, far: {"a": many}}, here, "a", flat).latency_s == pytest.approx(both)


# -- the tracker


@pytest.fixture(scope="module")
def emulator() -> Iterator[tuple[str, Clients]]:
    with moto_server() as server:
        yield server.url, shared_clients(server.url)


@pytest.fixture
def place(emulator: tuple[str, Clients]) -> TablePlace:
    return TablePlace(*emulator)


def cloud_tracker(place: TablePlace, clients: Clients | None = None, *, app: str = "app") -> DynamoPerformanceTracker:
    clock = FixedClock(NOON)
    return DynamoPerformanceTracker(Regions(clients or place.clients, place.place, clock), app=app, clock=clock)


@pytest.fixture(params=["file", pytest.param("table", marks=pytest.mark.slow)])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., PerformanceTracker]:
    """Opens a tracker on what is learned in a file, and in DynamoDB."""
    if request.param == "file":
        return partial(tracker, tmp_path / "evolution.db")
    return partial(cloud_tracker, request.getfixturevalue("place"))


@given(outcomes)
def test_the_file_holds_what_the_pure_function_learns(calls):
    with tempfile.TemporaryDirectory() as folder:
        kept = tracker(Path(folder) / "evolution.db")
        family: dict[str, Evidence] = {}
        for model, outcome in calls[:8]:
            family = after_call(family, model, outcome)
            kept.record(
                context(),
                model,
                success=outcome.success,
                latency_ms=outcome.latency_ms,
                micro_usd=outcome.micro_usd,
            )
        state = kept.snapshot()
        assert set(state) == ({context().family} if calls else set())
        for model, cell in family.items():
            assert state[context().family][model] == pytest.approx(cell, abs=1e-4)


def test_a_snapshot_is_plain_json_and_the_same_in_the_next_process(opened: Callable[..., PerformanceTracker]):
    kept = opened()
    for model in ("b", "a", "b"):
        kept.record(context(0.9), model, success=True, latency_ms=1200, micro_usd=34)
    kept.record(context(0.1), "a", success=False, latency_ms=50, micro_usd=0)
    state = kept.snapshot()
    assert json.loads(json.dumps(state)) == state
    again = opened().snapshot()
    assert json.dumps(again) == json.dumps(state)
    assert list(state) == sorted(state)
    assert state["advisor/9"]["b"] == {
        "calls": 1.990025,
        "successes": 1.990025,
        "latency_ms": 2388.03,
        "micro_usd": 67.66085,
    }


def test_applications_in_one_place_learn_apart(opened: Callable[..., PerformanceTracker]):
    one, other = opened(), opened(app="other")
    one.record(context(), "a", success=True, latency_ms=1, micro_usd=1)
    assert other.snapshot() == {}


def test_what_another_tracker_knows_is_taken_over_unless_something_newer_is_known(
    opened: Callable[..., PerformanceTracker], tmp_path: Path
):
    source, target = tracker(tmp_path / "source.db"), opened()
    for model in ("a", "b", "a"):
        source.record(context(0.9), model, success=model == "a", latency_ms=3, micro_usd=2)
    source.record(context(0.1), "a", success=True, latency_ms=3, micro_usd=2)
    assert [target.adopt(family) for family in source.families()] == [True, True]
    assert target.families() == source.families()
    assert target.snapshot() == source.snapshot()
    assert [target.adopt(family) for family in source.families()] == [False, False]
    family = source.families()[0]
    older, newer = (replace(family, models={}, updated=f"{year}{family.updated[4:]}") for year in (2001, 2999))
    assert not target.adopt(older)
    assert target.adopt(replace(newer, models={"c": family.models["a"]}))
    assert set(target.snapshot()[family.name]) == {"c"}


def test_a_snapshot_is_bounded_and_keeps_what_most_is_known_of(tmp_path: Path):
    kept = tracker(tmp_path / "evolution.db")
    for number in range(MAX_MODELS + 4):
        for _ in range(1 + (number >= 4)):
            kept.record(context(), f"model-{number:02}", success=True, latency_ms=1, micro_usd=1)
    for number in range(MAX_FAMILIES + 4):
        kept.record(context(role=f"role-{number:02}"), "a", success=True, latency_ms=1, micro_usd=1)
    state = kept.snapshot()
    assert len(state) == MAX_FAMILIES
    assert sorted(state[context().family]) == [f"model-{number:02}" for number in range(4, MAX_MODELS + 4)]


RECORDING = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from bedrock_evolution.bedrock.routing.performance import ModelPerformanceTracker
from bedrock_evolution.bedrock.routing.task import TaskContext
from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.database import Database

clock = FixedClock(datetime(2026, 3, 1, tzinfo=UTC))
tracker = ModelPerformanceTracker(Database(Path(sys.argv[1])), app="app", clock=clock)
context = TaskContext("advisor/5", "reasoning", 0.55, 100, 100)
for _ in range(25):
    tracker.record(context, sys.argv[2], success=True, latency_ms=10, micro_usd=1)
"""


def test_processes_that_record_at_once_lose_nothing(tmp_path: Path):
    path = tmp_path / "evolution.db"
    tracker(path)
    at_once = [subprocess.Popen([sys.executable, "-c", RECORDING, str(path), model]) for model in ("a", "b", "a")]
    assert [process.wait(timeout=120) for process in at_once] == [0, 0, 0]
    family = tracker(path).snapshot()["advisor/5"]
    # Every call fades all older evidence by the same factor, so the total tells that all 75 were counted, in any order.
    total = sum(cell["calls"] for cell in family.values())
    assert total == pytest.approx(MEMORY_CALLS * (1 - (1 - 1 / MEMORY_CALLS) ** 75), abs=1e-3)


# -- what is learned in DynamoDB


@pytest.fixture
def proxy(emulator: tuple[str, Clients]) -> Iterator[FaultyProxy]:
    with FaultyProxy(emulator[0]) as proxy:
        yield proxy


def wire(proxy: FaultyProxy) -> Clients:
    return Clients(session, {REGIONS[0]: proxy.url}, clock=FixedClock(NOON))


def record(kept: PerformanceTracker, model: str = "a", *, success: bool = True) -> None:
    kept.record(context(), model, success=success, latency_ms=10, micro_usd=1)


@pytest.mark.slow
def test_a_table_and_a_file_learn_the_same(tmp_path: Path, place: TablePlace):
    file, table, chance = tracker(tmp_path / "evolution.db"), cloud_tracker(place), random.Random(5)
    for _ in range(20):
        model, complexity = chance.choice(MODELS), chance.choice([0.15, 0.55])
        told = {"success": chance.random() < 0.7, "latency_ms": chance.randrange(60_000), "micro_usd": 137}
        for kept in (file, table):
            kept.record(context(complexity), model, **told)
    assert table.snapshot() == file.snapshot()


@pytest.mark.slow
def test_machines_that_record_at_once_lose_nothing(place: TablePlace, proxy: FaultyProxy):
    start = threading.Barrier(3)

    def run(model: str) -> None:
        kept = cloud_tracker(place, wire(proxy))
        start.wait(60)
        for _ in range(8):
            record(kept, model)

    threads = [threading.Thread(target=run, args=(model,)) for model in ("a", "b", "a")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    total = sum(cell["calls"] for cell in cloud_tracker(place).snapshot()["advisor/5"].values())
    assert total == pytest.approx(MEMORY_CALLS * (1 - (1 - 1 / MEMORY_CALLS) ** 24), abs=1e-3)


@pytest.mark.slow
def test_an_outcome_whose_answer_is_lost_counts_once(place: TablePlace, proxy: FaultyProxy):
    kept = cloud_tracker(place, wire(proxy))
    record(kept)
    proxy.fail("reset_after", "dynamodb", "TransactWriteItems")
    record(kept)
    assert kept.snapshot()["advisor/5"]["a"]["calls"] == 1.995


@pytest.mark.slow
def test_an_outage_drops_outcomes_and_is_told_what_was_known(
    place: TablePlace, proxy: FaultyProxy, caplog: pytest.LogCaptureFixture
):
    clock = FixedClock(NOON)
    kept = DynamoPerformanceTracker(Regions(wire(proxy), place.place, clock), app="app", clock=clock)
    record(kept)
    known = kept.snapshot()
    proxy.down("dynamodb")
    record(kept, success=False)
    assert kept.snapshot() == known
    assert [text.split(" | ")[1][:22] for text in caplog.messages] == [
        "an outcome is dropped:",
        "what was learned is to",
    ]
    proxy.up()
    clock.moment += timedelta(minutes=5)
    record(kept)
    assert kept.snapshot()["advisor/5"]["a"]["successes"] == 1.995
