"""A resumed run is the same run: one worker, the same rules, and only what was tested becomes live."""

import sqlite3
from contextlib import closing

import pytest

from bedrock_evolution import Autonomy, Budget, Evolution, Settings, UsageError, number
from bedrock_evolution.fitness.scorer import genes_key
from bedrock_evolution.results import EvolutionResult
from tests.garden import garden

CASES = list(range(60))
X, Z = number(0.1, low=0.0, high=1.0), number(0.5, low=0.0, high=1.0)


def climb(genes, case):
    return genes["x"] + 0.001 * case - genes.get("n", 0.0)


def app(folder, *, genes=None, **settings):
    chosen = Settings(store=f"sqlite:///{folder}/s.db", model="local", autonomy=Autonomy(always_ask=("*",)), **settings)
    return Evolution("resumed", genes or {"x": X, "z": Z}, evaluate=climb, cases=CASES, settings=chosen)


def test_a_run_is_worked_on_by_one_at_a_time(tmp_path):
    evolution = app(tmp_path)
    stream = evolution.stream(3, seed=1)
    run_id = next(stream).run_id
    with pytest.raises(UsageError, match="being worked on already"):
        app(tmp_path).resume(run_id, progress=False)
    stream.close()
    assert app(tmp_path).resume(run_id, progress=False).status == "waiting"
    assert not list(tmp_path.glob("*.lock"))


def test_a_run_that_died_between_its_report_and_the_last_checkpoint_is_done(tmp_path):
    evolution = app(tmp_path)
    evolution.settings = evolution.settings.model_copy(update={"autonomy": Autonomy()})
    whole = evolution.run(2, seed=1, progress=False)
    evolution.close()
    with closing(sqlite3.connect(tmp_path / "s.db")) as database, database:
        # What the report wrote stays; the checkpoint that takes it up was never made.
        database.execute("DELETE FROM checkpoints WHERE checkpoint_id = (SELECT max(checkpoint_id) FROM checkpoints)")
    again = app(tmp_path)
    resumed = again.resume(whole.run_id, progress=False)
    assert (resumed.status, resumed.dna_checksum) == ("done", whole.dna_checksum)
    [run] = again._services.journal.runs()
    assert run.status == "done"


def test_resuming_a_finished_run_uses_up_no_generation(tmp_path):
    evolution = app(tmp_path)
    evolution.settings = evolution.settings.model_copy(update={"autonomy": Autonomy()})
    run = evolution.run(2, seed=1, progress=False)
    for _ in range(3):
        assert evolution.resume(run.run_id, progress=False) == run
    evolution.resume(run.run_id, generations=4, progress=False)
    trials = evolution._services.journal.recent_trials(run.run_id, before=99, limit=999)
    assert {trial.generation for trial in trials} == {1, 2, 3, 4}


def test_other_rules_are_refused_and_nothing_is_changed(tmp_path):
    waiting = app(tmp_path).run(3, seed=1, progress=False)
    with pytest.raises(UsageError, match="alpha changed since run"):
        app(tmp_path, alpha=0.4).resume(waiting.run_id, progress=False)


@pytest.mark.parametrize(
    "genes",
    [
        {"x": X, "z": Z, "n": number(0.0, low=0.0, high=1.0)},
        {"x": number(0.1, low=0.0, high=0.2), "z": Z},
        {"x": X, "renamed": Z},
        {"x": X, "z": number(0.5, low=0.0, high=1.0, locked=True)},
    ],
    ids=["added", "narrowed", "renamed", "locked"],
)
def test_after_the_genes_changed_only_what_was_tested_becomes_live(tmp_path, genes):
    waiting = app(tmp_path).run(4, seed=1, progress=False)
    assert waiting.status == "waiting"
    app(tmp_path).answer(waiting.approval.approval_id, "reject", by="Ada")
    changed = app(tmp_path, genes=genes)
    result: EvolutionResult = changed.resume(waiting.run_id, progress=False)
    while result.status == "waiting":
        changed.answer(result.approval.approval_id, "approve", by="Ada")
        result = changed.resume(waiting.run_id, progress=False)
    assert result.status == "done"
    tested = [event.data["evidence"]["genes"] for event in changed.store.events("resumed") if event.kind == "applied"]
    lived = [genes_key(dna.values) for dna in changed.store.lineage("resumed")]
    assert set(tested) <= set(lived)
    assert result.fitness == pytest.approx(
        sum(climb(changed.genes, case) for case in changed._cases.validation) / len(changed._cases.validation)
    )


def test_a_raised_limit_of_evaluations_does_not_change_the_cases_that_a_run_scores(tmp_path):
    few = garden(tmp_path, budget=Budget(max_evaluations=160))
    first = few.run(6, seed=5, progress=False)
    assert first.status == "budget"
    scored = few._services.run(first.run_id).scorer.panels
    many = garden(tmp_path, budget=Budget(max_evaluations=2000))
    again = many.resume(first.run_id, progress=False)
    assert again.status == "done"
    assert again.evaluations > first.evaluations
    assert many._services.run(first.run_id).scorer.panels == scored
    assert many.replay(first.run_id).identical
