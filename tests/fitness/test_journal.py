"""The journal: what happened in a run, recorded once however often it is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.clock import SystemClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.errors import UnknownRun
from bedrock_evolution.fitness.journal import EvaluationKey, Journal, TrialRecord
from bedrock_evolution.fitness.score import Outcome, failed
from tests.fitness.conftest import RUN


def trial(generation: int, slot: int, **more: Any) -> TrialRecord:
    defaults: dict[str, Any] = {
        "mutation": f"m-{generation}-{slot}",
        "genes": f"g-{generation}-{slot}",
        "parent_generation": 0,
        "changes": {"x": 0.5, "prompt": "é", "on": True},
        "about": {"category": "a", "origin": "advisor"},
    }
    return TrialRecord(generation, slot, **defaults | more)


def test_a_run_is_recorded_before_anything_else_and_only_once(journal: Journal) -> None:
    journal.begin(RUN, app="router", seed=3, request={"generations": 5, "range": [0, 1]})
    journal.set_status(RUN, "interrupted")
    journal.begin(RUN, app="router", seed=99, request={})
    run = journal.run(RUN)
    assert (run.app, run.seed, run.status) == ("router", 3, "interrupted")
    assert run.request == {"generations": 5, "range": [0, 1]}
    assert run.started_at == "2026-03-01T12:00:00+00:00"


def test_a_run_that_is_not_there_is_named(journal: Journal) -> None:
    with pytest.raises(UnknownRun, match="there is no run 'run-9' in this store"):
        journal.run("run-9")


def test_runs_are_listed_newest_first_and_by_application(journal: Journal) -> None:
    for number, app in enumerate(["router", "other", "router"]):
        journal.begin(f"run-{number}", app=app, seed=0, request={})
    assert [run.run_id for run in journal.runs()] == ["run-2", "run-1", "run-0"]
    assert [run.run_id for run in journal.runs("router")] == ["run-2", "run-0"]
    assert [run.run_id for run in journal.runs("router", limit=1)] == ["run-2"]


def test_a_summary_replaces_the_earlier_one_and_stays_without_a_new_one(journal: Journal) -> None:
    journal.begin(RUN, app="router", seed=0, request={})
    journal.set_status(RUN, "budget", {"fitness": 0.5})
    journal.set_status(RUN, "running")
    assert (journal.run(RUN).status, journal.run(RUN).summary) == ("running", {"fitness": 0.5})
    journal.set_status(RUN, "done", {"fitness": 0.7})
    assert journal.run(RUN).summary == {"fitness": 0.7}


def test_a_trial_reads_back_as_it_was_written(journal: Journal) -> None:
    full = trial(
        1, 0, status="gated", fitness=0.5, gain=0.1, z=2.0, cases=8, evidence={"e_value": 41.0}, reason="not yet"
    )
    journal.record(RUN, [full, trial(1, 1)])
    assert journal.trials(RUN, generation=1) == [full, trial(1, 1)]


def test_recording_again_changes_what_became_of_a_trial_and_adds_none(journal: Journal) -> None:
    journal.propose(RUN, 1, [trial(1, 0), trial(1, 1)])
    for _ in range(2):
        journal.record(RUN, [trial(1, 0, status="promoted", gain=0.2)])
    assert [found.status for found in journal.trials(RUN, generation=1)] == ["promoted", "proposed"]
    assert [found.slot for found in journal.promoted(RUN)] == [0]
    assert journal.count_trials(RUN) == 1


def test_proposing_again_leaves_no_leftovers(journal: Journal) -> None:
    journal.propose(RUN, 1, [trial(1, slot) for slot in range(4)])
    journal.propose(RUN, 2, [trial(2, 0)])
    journal.propose(RUN, 1, [trial(1, slot) for slot in range(2)])
    journal.propose("run-2", 1, [])
    assert [found.slot for found in journal.trials(RUN, generation=1)] == [0, 1]
    assert len(journal.trials(RUN, generation=2)) == 1


def test_recent_trials_are_the_last_ones_oldest_first(journal: Journal) -> None:
    journal.record(RUN, [trial(generation, slot) for generation in range(1, 5) for slot in range(3)])
    places = [(found.generation, found.slot) for found in journal.recent_trials(RUN, before=4, limit=4)]
    assert places == [(2, 2), (3, 0), (3, 1), (3, 2)]
    assert journal.recent_trials("run-2", before=4, limit=4) == []


def test_trials_are_found_by_place_and_by_genes(journal: Journal) -> None:
    journal.record(RUN, [trial(generation, slot) for generation in range(1, 4) for slot in range(2)])
    found = journal.trials_at(RUN, [(3, 1), (9, 9), (1, 0)])
    assert [(one.generation, one.slot) for one in found] == [(3, 1), (1, 0)]
    assert journal.tried(RUN, "g-2-0", before=3)
    assert not journal.tried(RUN, "g-2-0", before=2)
    assert not journal.tried("run-2", "g-2-0", before=3)


def test_an_evaluation_is_kept_as_it_was_first_recorded(journal: Journal) -> None:
    key = EvaluationKey("g", "train", 4)
    for value in (0.5, 0.9):
        journal.record_outcomes(RUN, [(key, Outcome(value))])
    assert journal.outcomes(RUN, "g", "train") == {4: Outcome(0.5)}
    assert journal.count_evaluations(RUN) == 1


def test_a_failure_gives_way_to_a_new_attempt_and_both_are_counted(journal: Journal) -> None:
    key = EvaluationKey("g", "train", 4)
    for outcome in (failed("away"), failed("still away"), Outcome(0.5), Outcome(0.9), failed("away again")):
        journal.record_outcomes(RUN, [(key, outcome)])
    assert journal.outcomes(RUN, "g", "train") == {4: Outcome(0.5)}
    assert journal.count_evaluations(RUN) == 3


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(0.1 + 0.2),
        Outcome(-0.0),
        Outcome(1e-300, feedback="é\n", gene_feedback={"x": "too low"}, metrics={"ms": 3.5}),
        failed("the evaluator raised ValueError"),
    ],
    ids=["float", "minus zero", "everything", "failure"],
)
def test_an_outcome_reads_back_as_it_was_recorded(journal: Journal, outcome: Outcome) -> None:
    journal.record_outcomes(RUN, [(EvaluationKey("g", "train", 0), outcome)])
    assert journal.outcomes(RUN, "g", "train") == {0: outcome}


def test_runs_genes_parts_and_samples_are_kept_apart(journal: Journal) -> None:
    keys = [EvaluationKey("g", "train", 0), EvaluationKey("h", "train", 0), EvaluationKey("g", "test", 0)]
    keys += [EvaluationKey("g", "train", 0, sample=1)]
    journal.record_outcomes(RUN, [(key, Outcome(float(n))) for n, key in enumerate(keys)])
    journal.record_outcomes("run-2", [(keys[0], Outcome(9.0))])
    assert [journal.outcomes(RUN, key.genes, key.part, key.sample)[0].value for key in keys] == [0.0, 1.0, 2.0, 3.0]
    assert journal.count_evaluations(RUN) == 4


def test_a_resumed_run_finds_everything(tmp_path: Path) -> None:
    database = Database(tmp_path / "evolution.db")
    before = Journal(database, SystemClock())
    before.begin(RUN, app="router", seed=1, request={"generations": 2})
    before.propose(RUN, 1, [trial(1, 0)])
    before.record_outcomes(RUN, [(EvaluationKey("g-1-0", "train", 0), Outcome(0.5))])
    database.close()
    after = Journal(Database(tmp_path / "evolution.db"), SystemClock())
    assert after.run(RUN).status == "running"
    assert after.trials(RUN, generation=1) == [trial(1, 0)]
    assert after.outcomes(RUN, "g-1-0", "train") == {0: Outcome(0.5)}


def test_a_block_of_outcomes_is_recorded_as_a_whole_or_not_at_all(journal: Journal) -> None:
    rows = [(EvaluationKey("g", "train", n), Outcome(0.5)) for n in range(3)]
    broken = (EvaluationKey("g", "train", 3), replace(rows[0][1], metrics={"bad": object()}))  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        journal.record_outcomes(RUN, [*rows, broken])
    assert journal.count_evaluations(RUN) == 0
