"""What is measured is what happened: changes add up to totals, decisions are those on record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.events import EventDraft
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from bedrock_evolution.errors import StoreError
from bedrock_evolution.monitoring.measures import Measures
from bedrock_evolution.monitoring.outcomes import Outcomes
from bedrock_evolution.monitoring.points import Point
from bedrock_evolution.monitoring.seen import Begun, Called, Depth, Ended, Seen, Stepped, Totals, What
from bedrock_evolution.monitoring.work_file import WorkFile
from tests.monitoring.conftest import APP, MOMENT, Progress, Result


def measures(path: Path = Path("nowhere.db")) -> Measures:
    return Measures(APP, Outcomes(WorkFile(path), APP))


def told(by: Measures, *handed_in: What) -> list[Point]:
    """Return the points of what is handed in, one second after the other."""
    return [
        point
        for second, what in enumerate(handed_in)
        for point in by.of(Seen(round(1000 * MOMENT.timestamp()) + 1000 * second, float(second), what))
    ]


def sums(points: Iterable[Point]) -> Counter[str]:
    found: Counter[str] = Counter()
    for point in points:
        found[point.metric.name] += round(1_000_000 * point.value)
    return found


COUNTS = st.integers(0, 10**9)
STANDINGS = st.lists(
    st.builds(Progress, trials=COUNTS, evaluations=COUNTS, cost_usd=COUNTS.map(lambda micro: micro / 1e6)), max_size=8
)
TOTALS = st.builds(Totals, COUNTS, COUNTS, COUNTS)


@given(TOTALS, STANDINGS, STANDINGS)
def test_changes_add_up_to_the_totals_also_where_a_run_goes_on_in_another_process(
    before: Totals, first: list[Progress], second: list[Progress]
) -> None:
    last = ([*first, *second] or [Progress("run-1", "", 0, None, before.trials, before.evaluations)])[-1]
    stopped = first[-1] if first else None
    between = before
    if stopped is not None:
        between = Totals(stopped.trials, stopped.evaluations, round(stopped.cost_usd * 1e6))
    found = sums(
        [
            *told(measures(), Begun("run-1", before), *map(Stepped, first)),
            *told(measures(), Begun("run-1", between), *map(Stepped, second)),
        ]
    )
    assert found["Trials"] == 1_000_000 * (last.trials - before.trials)
    assert found["Evaluations"] == 1_000_000 * (last.evaluations - before.evaluations)
    if first or second:
        assert found["SpendUsd"] == round(last.cost_usd * 1e6) - before.micro_usd


def test_a_run_that_nobody_announced_counts_from_its_first_step() -> None:
    found = told(measures(), Stepped(Progress(trials=7, evaluations=70)), Stepped(Progress(trials=9, evaluations=80)))
    assert sums(found)["Trials"] == 2_000_000
    assert sums(found)["Evaluations"] == 10_000_000
    assert [point.value for point in found if point.metric.name == "StepLatency"] == [1000.0]


def test_a_reservation_that_is_given_back_lowers_the_spend() -> None:
    steps = [Stepped(Progress(cost_usd=cost)) for cost in (0.5, 0.125, 0.25)]
    found = told(measures(), Begun("run-1", Totals()), *steps)
    assert [point.value for point in found if point.metric.name == "SpendUsd"] == [0.5, -0.375, 0.125]


def test_fitness_is_told_once_a_generation_and_when_it_changes() -> None:
    steps = [("observe", 0.5), ("govern", 0.5), ("advise", 0.5), ("apply", 0.75), ("observe", 0.75), ("trial", 0.75)]
    handed_in = [Stepped(Progress(step=step, fitness=fitness)) for step, fitness in steps if step != "apply"]
    found = told(measures(), *handed_in, Ended(Result(fitness=0.875)))
    assert [point.value for point in found if point.metric.name == "Fitness"] == [0.5, 0.75, 0.875]


def test_the_latency_of_a_step_is_the_time_since_the_one_before() -> None:
    by = measures()
    by.of(Seen(0, 10.0, Begun("run-1", Totals())))
    found = [*by.of(Seen(0, 10.25, Stepped(Progress(step="advise"))))]
    found += by.of(Seen(0, 12.25, Stepped(Progress(step="trial"))))
    latencies = {point.dimensions["Step"]: point.value for point in found if point.metric.name == "StepLatency"}
    assert latencies == {"advise": 250.0, "trial": 2000.0}


def test_incidents_model_calls_the_queue_and_ends_are_told_as_they_come() -> None:
    handed_in: list[What] = [
        Stepped(Progress(step="heal")),
        Called("run-1", "anthropic.claude", 812.0),
        Depth(3),
        Ended(Result(status="budget")),
    ]
    found = {point.metric.name: point for point in told(measures(), *handed_in)}
    assert found["Incidents"].value == 1
    assert (found["ModelCallLatency"].value, found["ModelCallLatency"].dimensions["Model"]) == (812, "anthropic.claude")
    assert found["QueueDepth"].value == 3
    assert found["RunsEnded"].dimensions["Status"] == "budget"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evolution.db"


def record(path: Path, *outcomes: tuple[str, int, str]) -> None:
    store = SQLiteDNAStore(Database(path))
    for run_id, generation, kind in outcomes:
        key = f"{run_id}/{generation}/{kind}"
        at = datetime(2026, 3, 1, tzinfo=UTC)
        store.append(EventDraft(app=APP, kind=kind, key=key, at=at, actor="rule", run_id=run_id))


def test_each_decision_is_told_by_its_verdict_when_its_generation_ends(path: Path) -> None:
    outcomes = [(1, "applied"), (2, "rejected"), (3, "deferred"), (4, "trialled"), (5, "lost")]
    record(path, *(("run-1", generation, kind) for generation, kind in outcomes), ("run-2", 1, "rejected"))
    steps = [("advise", 1), ("apply", 1), ("record", 2), ("record", 3), ("record", 4), ("apply", 5), ("record", 6)]
    by = measures(path)
    found = told(by, *(Stepped(Progress(step=step, generation=generation)) for step, generation in steps))
    verdicts = [point.dimensions["Verdict"] for point in found if point.metric.name == "Decisions"]
    assert verdicts == [kind for _, kind in outcomes]


def test_of_a_step_that_could_not_be_measured_no_count_is_lost(path: Path) -> None:
    path.write_text("no database " * 20)
    by = measures(path)
    assert told(by, Begun("run-1", Totals())) == []
    with pytest.raises(StoreError):
        told(by, Stepped(Progress(step="apply", trials=4)))
    assert sums(told(by, Stepped(Progress(step="observe", trials=5))))["Trials"] == 5_000_000
