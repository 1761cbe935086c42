"""An evaluator that breaks fails the trial with its reason; the run goes on, and stops when it keeps breaking."""

import sqlite3

import pytest

from tests.apps import APPS
from tests.cli.command import execute

BROKEN = f"{APPS / 'broken.py'}:evolution"
STORE = ["--store", "sqlite:///store.db"]

REASONS = {
    "raises": "the evaluator raised LookupError: no such ticket: 4711",
    "hangs": "the evaluator did not answer within 0.2 s",
    "nan": "the evaluator returned nan, not a finite number",
    "infinity": "the evaluator returned inf, not a finite number",
    "string": "the evaluator returned '0.5', not a number or a Score",
    "none": "the evaluator returned None, not a number or a Score",
    "too few": "the evaluator returned 1 scores for 8 cases",
    "no list": "the evaluator returned no list for 8 cases",
    "exits": "the evaluator raised SystemExit: 3",
    "array": "the evaluator returned",
    "huge": "the evaluator returned",
    "metrics": "the evaluator returned",
    "gene feedback": "the evaluator returned",
}


def failed_trials(folder):
    connection = sqlite3.connect(folder / "store.db")
    try:
        return connection.execute(
            "SELECT json_extract(document, '$.reason'), fitness FROM trials WHERE status = 'failed'"
        ).fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("kind", REASONS)
def test_trials_fail_with_the_reason_and_after_repeated_failures_the_run_stops(cli, tmp_path, monkeypatch, kind):
    monkeypatch.setenv("BROKEN_KIND", kind)
    monkeypatch.setenv("BEDROCK_EVOLUTION_MAX_FAILED_TRIALS", "3")
    monkeypatch.setenv("BEDROCK_EVOLUTION_CANDIDATES", "2")
    answer = cli("run", BROKEN, "--generations", "9", "--json", *STORE)
    assert answer.code == 1
    result = answer.json
    assert result["status"] == "failed"
    assert "trials in a row failed" in result["message"]
    assert REASONS[kind] in result["message"]
    assert "Mend the evaluator and resume the run." in result["message"]
    # Two generations of two: the first failures did not end the run.
    assert result["generations"] == 2
    failures = failed_trials(tmp_path)
    assert len(failures) == 4
    assert all(REASONS[kind] in reason and fitness is None for reason, fitness in failures)


def test_a_run_goes_on_past_trials_that_fail(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("BROKEN_KIND", "raises")
    monkeypatch.setenv("BROKEN_SHARE", "0.4")
    answer = cli("run", BROKEN, "--generations", "6", "--seed", "1", "--json", *STORE)
    assert answer.code == 0
    assert answer.json["generations"] == 6
    failures = failed_trials(tmp_path)
    assert 0 < len(failures) < answer.json["trials"]
    assert all(REASONS["raises"] in reason and fitness is None for reason, fitness in failures)
    assert answer.json["fitness"] >= answer.json["baseline_fitness"]


def test_a_stopped_run_goes_on_when_the_evaluator_is_mended(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("BROKEN_KIND", "nan")
    broken = cli("run", BROKEN, "--generations", "6", "--json", *STORE).json
    assert broken["status"] == "failed"
    (tmp_path / "mended").touch()
    answer = cli("run", BROKEN, "--resume", broken["run_id"], "--json", *STORE)
    assert answer.code == 0
    assert answer.json["generations"] == 6
    assert cli("audit", "verify", *STORE).code == 0


def test_live_genes_that_cannot_be_scored_stop_the_run_and_say_why(tmp_path):
    answer = execute(tmp_path, "run", BROKEN, "--json", *STORE, env={"BROKEN_KIND": "raises", "BROKEN_LIVE": "1"})
    assert answer.code == 1
    assert "the live genes cannot be scored" in answer.json["message"]
    assert REASONS["raises"] in answer.json["message"]
    assert "Traceback" not in answer.err
    assert answer.json["dna_generation"] == 0


def test_a_run_whose_live_genes_failed_goes_on_when_the_evaluator_is_mended(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("BROKEN_KIND", "raises")
    monkeypatch.setenv("BROKEN_LIVE", "1")
    broken = cli("run", BROKEN, "--generations", "1", "--json", *STORE).json
    assert broken["status"] == "failed"
    (tmp_path / "mended").touch()
    assert cli("run", BROKEN, "--resume", broken["run_id"], "--json", *STORE).code == 0


def test_an_app_that_is_told_nothing_works(cli):
    assert cli("run", BROKEN, "--generations", "1", "--json", *STORE).code == 0
