"""Every command on a real store: one JSON object each, and the exit codes 0 to 4."""

import re
import signal
import time
from datetime import UTC, datetime

import pytest

from bedrock_evolution.bedrock.failures import Target
from bedrock_evolution.clock import FixedClock, SystemClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from bedrock_evolution.fitness.journal import Journal
from bedrock_evolution.governance.approvals import Approvals
from bedrock_evolution.governance.feedback import FeedbackQueue
from bedrock_evolution.healing.breaker import CircuitBreaker
from tests.apps import APPS
from tests.cli.command import PATIENCE_S, Running, execute

CLIMBER, ASKER, SLOW, FRUGAL = (
    f"{APPS / name}.py:evolution" for name in ("climber", "asker", "slow_climber", "frugal")
)
STORE = ["--store", "sqlite:///store.db"]
RUN_KEYS = {
    "run_id",
    "status",
    "generations",
    "evaluations",
    "baseline_fitness",
    "fitness",
    "baseline_test_fitness",
    "test_fitness",
    "cost_usd",
    "model_calls",
    "dna_checksum",
}


def run(cli, app, *options):
    return cli("run", app, "--json", *STORE, *options)


@pytest.fixture(scope="module")
def evolved(tmp_path_factory):
    """A store with a finished run; its folder and what the run told."""
    folder = tmp_path_factory.mktemp("evolved")
    answer = execute(folder, "run", CLIMBER, "--generations", "5", "--seed", "1", "--json", *STORE)
    assert answer.code == 0, answer.err
    return folder, answer.json


def test_run_prints_one_object_with_the_keys_that_are_promised(evolved):
    _, result = evolved
    assert set(result) >= RUN_KEYS
    assert result["status"] == "done"
    assert result["generations"] == 5
    assert result["fitness"] > result["baseline_fitness"]
    assert result["test_fitness"] == result["fitness"]
    assert (result["cost_usd"], result["model_calls"]) == (0.0, 0)


def test_every_command_works_on_the_store_and_prints_one_object(cli, evolved, monkeypatch):
    folder, result = evolved
    monkeypatch.chdir(folder)
    newest = result["dna_generation"]

    status = cli("status", "--json", *STORE).json
    assert status["app"] == "climber"
    assert status["live"]["checksum"] == result["dna_checksum"]
    assert [run["run_id"] for run in status["runs"]] == [result["run_id"]]
    assert status["approvals"] == status["resting"] == []
    assert status["feedback"] == {"queued": 0}
    assert status["safe_mode"] is None
    assert status["calibration"]["decisions"] == status["calibration"]["held"] == newest - 1
    assert status["calibration"]["overconfidence"] == 0.0

    generations = cli("history", "--json", *STORE).json["generations"]
    assert [row["generation"] for row in generations] == list(range(newest, -1, -1))
    assert [row["generation"] for row in cli("history", "--limit", "1", "--json", *STORE).json["generations"]] == [
        newest
    ]

    first, last = (cli("show", str(n), "--json", *STORE).json for n in (0, newest))
    assert first["genes"]["x"]["value"] == 0.1
    assert last["checksum"] == result["dna_checksum"]

    changes = cli("diff", "0", str(newest), "--json", *STORE).json["changes"]
    changed = {name for name in first["genes"] if first["genes"][name]["value"] != last["genes"][name]["value"]}
    assert {change["gene"] for change in changes} == changed
    assert cli("diff", "0", "0", "--json", *STORE).json["changes"] == []

    costs = cli("costs", "--json", *STORE).json
    assert (costs["app"], costs["spend"], costs["alarms"], costs["recommendations"]) == ("climber", [], [], [])
    assert cli("approvals", "--json", *STORE).json == {"approvals": []}
    assert cli("doctor", "--json", *STORE).json["checks"][0]["name"] == "settings"
    remark = cli("feedback", "Greet people by name.", "--source", "Ada", "--json", *STORE).json
    assert (remark["text"], remark["source"], remark["status"]) == ("Greet people by name.", "Ada", "queued")
    assert cli("status", "--json", *STORE).json["feedback"] == {"queued": 1}

    verified = cli("audit", "verify", "--json", *STORE).json
    assert verified["intact"]
    assert verified["checked"] > 5
    replayed = cli("audit", "replay", result["run_id"], "--json", *STORE).json
    assert replayed["identical"]
    assert replayed["evaluations"] == result["evaluations"]

    assert len(cli("audit", "export", "--json", *STORE).json["events"]) == verified["checked"]

    restored = cli("rollback", "--to", "0", "--by", "Ada", "--why", "too eager", "--json", *STORE).json
    assert restored["generation"] == newest + 1
    assert cli("show", str(newest + 1), "--json", *STORE).json["genes"] == first["genes"]
    assert cli("history", *STORE).out.splitlines()[1].split()[0] == str(newest + 1)
    assert cli("audit", "verify", *STORE).out.startswith("intact: ")


def test_every_command_takes_json(cli, evolved, monkeypatch):
    monkeypatch.chdir(evolved[0])
    assert cli("audit", "export", "--json", *STORE).json


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["status"], "DNA generation"),
        (["history"], "generation"),
        (["show", "0"], "greeting"),
        (["diff", "0", "1"], ":"),
        (["costs"], "the stand-in costs nothing"),
        (["status"], "decisions held, at a mean confidence of"),
        (["approvals"], "nothing waits for a person"),
        (["doctor"], "ok   store"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_every_command_tells_a_person_too(cli, evolved, monkeypatch, command, shown):
    monkeypatch.chdir(evolved[0])
    answer = cli(*command, *STORE)
    assert answer.code == 0
    assert shown in answer.out


def test_a_run_shows_what_changed_and_what_it_cost(cli):
    answer = cli("run", CLIMBER, "--generations", "5", "--seed", "1", *STORE)
    assert answer.code == 0
    for shown in ("what changed", "before -> after", "sealed test", "done · 5 generations", "$0.0000"):
        assert shown in answer.out
    assert "the stand-in (rules, no language model)" in answer.err


def test_status_names_what_is_left_alone_after_failures(cli, tmp_path):
    run(cli, CLIMBER, "--generations", "1")
    breaker = CircuitBreaker(Database(tmp_path / "store.db"), SystemClock())
    breaker.failed(Target("*", "us-east-1"), "EndpointConnectionError", limit=1)
    [resting] = cli("status", "--json", *STORE).json["resting"]
    assert (resting["model"], resting["region"], resting["error"]) == ("*", "us-east-1", "EndpointConnectionError")
    assert datetime.fromisoformat(resting["until"]) > datetime.now(UTC)
    assert "every model in us-east-1, after EndpointConnectionError" in cli("status", *STORE).out


def test_status_tells_a_run_that_died_from_one_at_work_and_how_to_resume_it(cli, tmp_path):
    running = Running(tmp_path, "run", SLOW, "--generations", "2", "--seed", "4", *STORE)
    try:
        wait_until_it_works(cli)
    finally:
        running.interrupt(signal.SIGKILL)
        running.end()
    [run] = cli("status", "--json", *STORE).json["runs"]
    assert run["status"] == "died"
    assert run["resume"] == f"bedrock-evolution run APP --store sqlite:///store.db --resume {run['run_id']}"
    assert f"died: {run['run_id']}; resume: {run['resume']}" in cli("status", *STORE).out


def wait_until_it_works(cli):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        told = cli("status", "--json", *STORE)
        if told.code == 0 and told.json["runs"]:
            assert [run["status"] for run in told.json["runs"]] == ["running"]
            return
        time.sleep(0.05)
    raise AssertionError("the run did not begin")


def test_a_run_goes_on_from_the_live_dna(cli):
    first = run(cli, CLIMBER, "--generations", "3", "--seed", "1").json
    second = run(cli, CLIMBER, "--generations", "1", "--seed", "2").json
    assert second["baseline_fitness"] == first["fitness"]
    assert second["baseline_generation"] == first["dna_generation"]


def test_resuming_a_finished_run_changes_nothing(cli):
    first = run(cli, CLIMBER, "--generations", "3", "--seed", "1").json
    again = run(cli, CLIMBER, "--resume", first["run_id"])
    assert again.code == 0
    assert again.json == first


def test_a_finished_run_is_lengthened(cli):
    first = run(cli, CLIMBER, "--generations", "2", "--seed", "1").json
    longer = run(cli, CLIMBER, "--resume", first["run_id"], "--generations", "5").json
    assert longer["run_id"] == first["run_id"]
    assert longer["generations"] == 5
    assert longer["trials"] > first["trials"]


def test_code_3_waits_until_another_process_approves(cli, tmp_path):
    waiting = execute(tmp_path, "run", ASKER, "--generations", "2", "--json", *STORE)
    assert waiting.code == 3, waiting.err
    result = waiting.json
    approval_id = result["approval"]["approval_id"]
    assert result["status"] == "waiting"
    assert result["dna_generation"] == 0

    # Resumed without an answer it waits for the same one.
    again = run(cli, ASKER, "--resume", result["run_id"])
    assert (again.code, again.json["approval"]["approval_id"]) == (3, approval_id)

    shown = cli("approvals", *STORE)
    assert approval_id in shown.out
    assert "policy asks for a person" in shown.out
    [pending] = cli("approvals", "--json", *STORE).json["approvals"]
    answer = execute(tmp_path, "approve", approval_id, "--by", "Ada", "--why", "looks right", "--json", *STORE)
    assert answer.code == 0
    assert (answer.json["status"], answer.json["by"], answer.json["why"]) == ("approved", "Ada", "looks right")

    resumed = run(cli, ASKER, "--resume", result["run_id"])
    assert resumed.json["dna_generation"] == 1
    live = cli("show", "1", "--json", *STORE).json["genes"]
    for gene, change in pending["question"]["changes"].items():
        assert live[gene]["value"] == change["to"]
    store = SQLiteDNAStore(Database(tmp_path / "store.db"))
    [applied] = store.recent("asker", ["applied"], limit=9)
    assert (applied.actor, applied.data["decision"]["approval_id"]) == ("Ada", approval_id)

    second = cli("reject", approval_id, "--by", "Bob", *STORE)
    assert second.code == 2
    assert "was approved by Ada" in second.err
    [refused] = store.recent("asker", ["answer_refused"], limit=9)
    assert (refused.actor, refused.data["verdict"]) == ("Bob", "reject")
    assert "approved by Ada at" in cli("approvals", "--all", *STORE).out


def question_of(mutation_id):
    return {
        "changes": {"x": {"from": 0.1, "to": 0.2}},
        "evidence": {"gain": 0.1, "at_least": None, "cases": 3},
        "risk": {"value": 0.9, "parts": {"kind": 0.3}},
        "why": f"about {mutation_id}",
    }


def test_what_expired_or_became_void_is_shown_with_its_reason_and_takes_no_answer(cli, tmp_path):
    run(cli, CLIMBER, "--generations", "1")
    database = Database(tmp_path / "store.db")
    store = SQLiteDNAStore(database)
    old = Approvals(database, store, FixedClock(datetime(2020, 1, 1, tzinfo=UTC)), hours=2.0)
    new = Approvals(database, store, SystemClock(), hours=2.0)
    head = store.head("climber")
    ids = [
        approvals.ask(
            app="climber", run_id="run-1", generation=1, mutation_id=name, dna=dna, question=question_of(name)
        ).approval_id
        for approvals, name, dna in (
            (old, "m-old", head.checksum),
            (new, "m-other", "f" * 64),
            (new, "m-new", head.checksum),
        )
    ]
    shown = cli("status", *STORE).out
    assert f"expired: {ids[0]} of run-1: nobody answered before 2020-01-01T02:00:00+00:00" in shown
    assert f"void: {ids[1]} of run-1: the live DNA changed: it was ffffffffffff" in shown
    assert f"waiting: {ids[2]} of run-1 until 2" in shown
    late = cli("approve", ids[0], "--by", "Ada", *STORE)
    assert (late.code, "expired at" in late.err) == (2, True)
    listed = {found["approval_id"]: found["status"] for found in cli("approvals", "--json", *STORE).json["approvals"]}
    assert listed == {ids[1]: "void", ids[2]: "pending"}
    [pending] = cli("approvals", "--json", *STORE).json["approvals"]
    assert pending["approval_id"] == ids[2]
    told = cli("approvals", "--all", *STORE).out
    assert "void by policy at" in told
    assert "expires 2020-01-01T02:00:00+00:00" in told
    assert "expired by policy at" in told


def test_feedback_is_listed_with_what_became_of_it(cli, tmp_path):
    assert cli("feedback", *STORE).code == cli("feedback", "both", "--list", *STORE).code == 2
    result = run(cli, CLIMBER, "--generations", "1", "--seed", "1").json
    assert cli("feedback", "--list", *STORE).out == "there is no feedback\n"
    for text in ("raise \x1b[1mx", "be nice", "later"):
        assert cli("feedback", text, "--source", "Ada", *STORE).code == 0
    database = Database(tmp_path / "store.db")
    [trial, *_] = Journal(database, SystemClock()).trials(result["run_id"], generation=1)
    FeedbackQueue(database, SQLiteDNAStore(database), SystemClock()).mark_read(
        "climber", [1, 2], run_id=result["run_id"], generation=1, answers={1: [trial.mutation]}, meanings={1: "x up"}
    )
    later, nice, raised = cli("feedback", "--list", "--json", *STORE).json["feedback"]
    assert (later["status"], later["trials"]) == ("queued", [])
    assert (nice["status"], nice["proposals"], nice["trials"]) == ("read", [], [])
    assert (raised["text"], raised["proposals"]) == ("raise [1mx", [trial.mutation])
    [told] = raised["trials"]
    assert (told["mutation"], told["status"], told["fitness"]) == (trial.mutation, trial.status, trial.fitness)
    shown = cli("feedback", "--list", *STORE).out
    assert "3  queued  Ada: 'later'" in shown
    assert f"1  read in {result['run_id']}, generation 1  Ada: 'raise [1mx'\n  understood: x up" in shown
    assert f"{trial.mutation}  {trial.status}  {trial.about['rationale']}" in shown
    assert "no proposal answers it" in shown
    assert "feedback: 1 queued for the advisor" in cli("status", *STORE).out


def test_a_rejected_mutation_is_not_applied(cli):
    result = run(cli, ASKER, "--generations", "1").json
    rejected = cli("reject", result["approval"]["approval_id"], "--by", "Ada", "--json", *STORE).json
    assert rejected["status"] == "rejected"
    resumed = run(cli, ASKER, "--resume", result["run_id"])
    assert resumed.code == 0
    assert resumed.json["dna_generation"] == 0
    assert resumed.json["dna_checksum"] == result["dna_checksum"]


def test_code_4_when_the_evaluations_are_spent(tmp_path):
    answer = execute(tmp_path, "run", FRUGAL, "--generations", "50", "--json", *STORE)
    assert answer.code == 4, answer.err
    result = answer.json
    assert result["status"] == "budget"
    assert "the evaluation budget ended the search" in result["message"]
    assert 0 < result["evaluations"] <= 70
    assert result["generations"] < 50
    # What was kept for it pays the sealed test.
    assert result["baseline_test_fitness"] is not None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminated"])
def test_a_signal_stops_after_the_step_says_how_to_resume_and_the_resumed_run_is_the_uninterrupted_one(
    cli, tmp_path, number
):
    (tmp_path / "whole").mkdir()
    options = ["--generations", "3", "--seed", "4", *STORE]
    whole = Running(tmp_path / "whole", "run", SLOW, "--json", *options)

    interrupted = Running(tmp_path, "run", SLOW, *options)
    interrupted.wait_for("scoring")
    interrupted.interrupt(number)
    answer = interrupted.end()
    assert answer.code == 1
    assert "stopping after the current step" in answer.err
    assert "Traceback" not in answer.err
    assert "interrupted" in answer.out
    [resume] = [line for line in answer.out.splitlines() if "--resume" in line]
    assert re.match(rf"resume: bedrock-evolution run {re.escape(SLOW)} --store \S+ --resume run-", resume.strip())
    run_id = resume.split()[-1]
    [listed] = cli("status", "--json", *STORE).json["runs"]
    assert (listed["run_id"], listed["status"]) == (run_id, "interrupted")

    resumed = run(cli, SLOW, "--resume", run_id)
    assert resumed.code == 0
    expected = whole.end().json
    for key in ("dna_checksum", "fitness", "trials", "generations", "evaluations"):
        assert resumed.json[key] == expected[key]
    assert cli("audit", "verify", *STORE).code == 0


def test_a_second_ctrl_c_stops_at_once_and_the_run_can_be_resumed(cli, tmp_path):
    running = Running(tmp_path, "run", SLOW, "--generations", "2", "--seed", "4", *STORE)
    running.wait_for("scoring")
    running.interrupt()
    running.wait_for("stopping after")
    running.interrupt()
    answer = running.end()
    assert answer.code not in (0, 2, 3, 4)
    assert "Traceback" not in answer.err
    [listed] = cli("status", "--json", *STORE).json["runs"]
    assert listed["status"] == "interrupted"
    assert run(cli, SLOW, "--resume", listed["run_id"]).code == 0
