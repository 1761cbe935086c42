"""Bad input gets one clear message that names the thing and the remedy, exit code 2, and leaves nothing behind."""

import ctypes
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from bedrock_evolution import Mutation, MutationEngine, SystemDNA, number
from bedrock_evolution.errors import InvalidMutation
from tests.apps import APPS
from tests.cli.command import COMMAND, bare_environment, execute

CLIMBER = str(APPS / "climber.py")
GENE = "genes={'x': number(0.1, low=0, high=1)}"
CASES = "cases=list(range(60))"
EVALUATE = "evaluate=lambda genes, case: genes['x']"


def app(*said: str) -> str:
    return f"from bedrock_evolution import *\nevolution = Evolution('bad', {', '.join(said)}, model='local')\n"


APPLICATIONS = {
    "initial value out of bounds": (
        app("genes={'x': number(2, low=0, high=1)}", CASES, EVALUATE),
        ["gene 'x'", "2 is out of bounds", "a number from 0 to 1"],
    ),
    "empty text with a minimum": (
        app("genes={'hello': text('', min_chars=5, max_chars=9)}", CASES, EVALUATE),
        ["gene 'hello'", "the text is empty", "5 to 9 characters"],
    ),
    "bounds the wrong way round": (
        app("genes={'x': integer(2, low=3, high=1)}", CASES, EVALUATE),
        ["gene 'x'", "low=3 is not below high=1"],
    ),
    "no genes": (app("genes={}", CASES, EVALUATE), ["no genes", "Declare at least one"]),
    "no cases": (app(GENE, "cases=[]", EVALUATE), ["no cases", "Give a list of cases"]),
    "too few cases to split": (
        app(GENE, "cases=[1, 2, 3]", EVALUATE),
        ["3 cases are too few to split", "Give more cases"],
    ),
    "cases that are no data": (app(GENE, "cases=[open, print]", EVALUATE), ["case 0", "JSON", "Give dicts"]),
    "no evaluator": (app(GENE, CASES), ["evaluate"]),
    "unknown model of the application": (
        app("genes={'x': flag(True)}", "cases=[1]", EVALUATE).replace("'local'", "'gpt'"),
        ["'model'", "'gpt'", "'bedrock' or 'local'", "Set it"],
    ),
    "no evolution in it": ("answer = 42\n", ["no attribute 'evolution'", "Assign an Evolution"]),
    "something else called evolution": ("evolution = 42\n", ["is a int, not an Evolution", "path/app.py:evolution"]),
    "source that does not parse": ("evolution = (\n", ["importing", "SyntaxError", "Mend the application"]),
    "an import that is missing": ("import no_such_module\n", ["importing", "no_such_module", "Mend the application"]),
    "code that raises": ("1 / 0\n", ["importing", "ZeroDivisionError", "Mend the application"]),
    "code that exits": ("raise SystemExit(0)\n", ["importing", "SystemExit", "Mend the application"]),
}


def files_in(folder: Path) -> dict[str, bytes]:
    """Return what is in a folder, save for what importing leaves and SQLite's shared memory, which holds no data."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".db-shm"
    }


def assert_refused(answer, *named: str) -> None:
    assert answer.code == 2, answer
    assert answer.out == ""
    [first, *hints] = answer.err.strip().splitlines()
    assert first.startswith("error: ")
    assert all(hint.startswith("  -> ") for hint in hints)
    assert len(hints) <= 1
    assert "Traceback" not in answer.err
    for name in named:
        assert name in answer.err


@pytest.mark.parametrize("what", APPLICATIONS)
def test_a_bad_application_is_refused_by_name_with_a_remedy(cli, tmp_path, what):
    source, named = APPLICATIONS[what]
    (tmp_path / "bad_app.py").write_text(source)
    before = files_in(tmp_path)
    assert_refused(cli("run", "bad_app.py:evolution", "--store", "sqlite:///new.db"), *named)
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("nowhere/app.py:evolution", ["there is no file nowhere/app.py", "Name it as"]),
        ("nowhere.module:evolution", ["importing nowhere.module failed", "No module named"]),
        (f"{CLIMBER}:nothing", ["no attribute 'nothing'", "Assign an Evolution"]),
        ("", ["importing", "failed"]),
    ],
)
def test_an_application_that_cannot_be_found_is_refused(cli, tmp_path, name, named):
    before = files_in(tmp_path)
    assert_refused(cli("run", name), *named)
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("url", ["mysql://host/db", "sqlite:///", "evolution.db", "sqlite://two-slashes.db"])
@pytest.mark.parametrize("command", [["run", CLIMBER], ["status"]])
def test_an_unknown_store_url_is_refused(cli, url, command):
    assert_refused(cli(*command, "--store", url), f"unknown store URL {url!r}", "Use sqlite:///relative/path.db")


def test_an_empty_store_url_is_refused(cli):
    assert_refused(cli("run", CLIMBER, "--store", ""), "store")


def test_a_refused_option_leaves_no_file_behind(cli, tmp_path):
    before = files_in(tmp_path)
    assert_refused(cli("run", CLIMBER, "--store", "mysql://host/db"))
    assert files_in(tmp_path) == before


def test_an_unknown_model_is_refused(cli, tmp_path):
    answer = cli("run", CLIMBER, "--model", "gpt", "--store", "sqlite:///new.db")
    assert_refused(answer, "'model'", "'gpt'", "'bedrock' or 'local'", "Set it")
    assert not (tmp_path / "new.db").exists()


def test_bedrock_without_credentials_is_refused(cli, tmp_path):
    answer = cli("run", CLIMBER, "--model", "bedrock", "--store", "sqlite:///new.db")
    assert_refused(answer, "needs AWS credentials", "model 'local'")


def test_the_model_option_wins_over_the_application(cli, tmp_path):
    (tmp_path / "app.py").write_text(app("genes={'x': flag(True)}", "cases=[1]", EVALUATE).replace("local", "bedrock"))
    assert cli("run", "app.py", "--model", "local", "--generations", "1").code == 0


def test_the_store_option_is_the_only_store_that_is_made(cli, tmp_path):
    assert cli("run", CLIMBER, "--store", "sqlite:///mine.db", "--generations", "1").code == 0
    assert [path.name for path in tmp_path.rglob("*.db")] == ["mine.db"]


def a_store(tmp_path: Path) -> Path:
    """Make a store with a run in it, closed and checkpointed."""
    assert execute(tmp_path, "run", CLIMBER, "--generations", "2", "--store", "sqlite:///good.db").code == 0
    return tmp_path / "good.db"


@pytest.fixture(scope="module")
def good_store(tmp_path_factory) -> Path:
    return a_store(tmp_path_factory.mktemp("good"))


def not_a_database(path: Path, _good: Path) -> None:
    path.write_text("Dear diary, this is no database at all. " * 200)


def of_another_program(path: Path, _good: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()


def from_the_future(path: Path, good: Path) -> None:
    shutil.copy(good, path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()


PAGE = 4096


def torn(path: Path, good: Path) -> None:
    whole = good.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 // PAGE * PAGE])


def scribbled_over(path: Path, good: Path) -> None:
    whole = bytearray(good.read_bytes())
    whole[4096:] = b"\xa5" * (len(whole) - 4096)
    path.write_bytes(whole)


def altered(path: Path, good: Path) -> None:
    shutil.copy(good, path)
    for beside in (".anchor.jsonl", ".key", ".key.pub"):
        shutil.copy(good.with_name(good.name + beside), path.with_name(path.name + beside))
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE dna SET document = replace(document, '\"polite\"', '\"rude\"')")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


DAMAGES = {
    not_a_database: ["not a database", "Choose another path"],
    of_another_program: ["a database of another program", "Choose another path"],
    from_the_future: ["newer version (schema 99)", "Upgrade"],
    torn: ["malformed", "restore it from a copy"],
    scribbled_over: ["damaged", "copy"],
}


@pytest.mark.parametrize(
    "damage",
    DAMAGES,
    ids=lambda damage: damage.__name__,
)
@pytest.mark.parametrize("command", [["run", CLIMBER], ["history"], ["feedback", "Be brief."]], ids=lambda c: c[0])
def test_a_store_that_is_not_ours_or_damaged_is_refused_and_not_touched(cli, tmp_path, good_store, damage, command):
    store = tmp_path / "bad.db"
    damage(store, good_store)
    before = store.read_bytes()
    answer = cli(*command, "--store", "sqlite:///bad.db")
    assert store.read_bytes() == before
    assert_refused(answer, "bad.db", *DAMAGES[damage])


@pytest.mark.parametrize("command", [["run", CLIMBER], ["history"]], ids=lambda c: c[0])
def test_a_store_whose_dna_was_altered_is_refused_and_not_touched(cli, tmp_path, good_store, command):
    store = tmp_path / "bad.db"
    altered(store, good_store)
    before = rows_of(store)
    answer = cli(*command, "--store", "sqlite:///bad.db")
    assert rows_of(store) == before
    assert_refused(answer, "does not match its checksum", "restore it from a copy")


def test_a_store_inside_a_file_is_refused(cli, tmp_path):
    (tmp_path / "file").write_text("x")
    assert_refused(cli("run", CLIMBER, "--store", "sqlite:///file/new.db"), "file/new.db", "Choose a writable path")
    assert (tmp_path / "file").read_text() == "x"


def test_a_folder_as_a_store_is_refused(cli, tmp_path):
    (tmp_path / "folder.db").mkdir()
    assert_refused(cli("run", CLIMBER, "--store", "sqlite:///folder.db"), "folder.db", "writable")
    assert list((tmp_path / "folder.db").iterdir()) == []


def drop_override() -> None:
    """Let file permissions bind root too, from the next exec on (`prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE)`)."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere root cannot be bound by permissions")
@pytest.mark.parametrize("locked", ["file", "folder"])
def test_a_store_that_is_not_writable_is_refused(tmp_path, good_store, locked):
    folder = tmp_path / "locked"
    folder.mkdir()
    store = folder / "store.db"
    if locked == "file":
        shutil.copy(good_store, store)
        store.chmod(0o444)
    folder.chmod(0o555)
    before = files_in(folder)
    answer = subprocess.run(
        [*COMMAND, "run", CLIMBER, "--store", f"sqlite:///{store}"],
        cwd=tmp_path,
        env=bare_environment(tmp_path),
        preexec_fn=drop_override,
        capture_output=True,
        text=True,
        check=False,
    )
    folder.chmod(0o755)
    assert answer.returncode == 2, answer.stderr
    assert str(store) in answer.stderr
    assert "writable" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert files_in(folder) == before


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["run", CLIMBER, "--resume", "run-1"], ["no run 'run-1'", "`bedrock-evolution status` lists"]),
        (["approve", "ap-1", "--by", "Ada"], ["no approval 'ap-1'", "`bedrock-evolution approvals` lists"]),
        (["reject", "ap-1", "--by", "Ada"], ["no approval 'ap-1'", "`bedrock-evolution approvals` lists"]),
        (["rollback", "--to", "99", "--by", "Ada"], ["no generation 99", "`bedrock-evolution history` lists"]),
        (["rollback", "--to", "0", "--by", " "], ["the name of the person", "--by NAME"]),
        (["show", "99"], ["no generation 99", "`bedrock-evolution history` lists"]),
        (["diff", "0", "99"], ["no generation 99", "`bedrock-evolution history` lists"]),
        (["feedback", " "], ["the feedback is 0 characters", "1 to 2000"]),
        (["feedback", "x" * 2001], ["the feedback is 2001 characters", "1 to 2000"]),
        (["audit", "replay", "run-1"], ["no run 'run-1'", "`bedrock-evolution status` lists"]),
        (["status", "--app", "other"], ["no application 'other'", "It holds: climber"]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value[0], str) and len(value) > 1 else None,
)
def test_what_the_store_does_not_hold_is_refused_and_the_store_unchanged(cli, tmp_path, good_store, command, named):
    store = tmp_path / "store.db"
    shutil.copy(good_store, store)
    before = rows_of(store)
    answer = cli(*command, "--store", "sqlite:///store.db")
    assert_refused(answer, *named)
    assert rows_of(store) == before


def rows_of(store: Path) -> list[str]:
    """Return everything a store holds, as SQL."""
    connection = sqlite3.connect(store)
    try:
        return [line for line in connection.iterdump() if '"approvals"' not in line and '"feedback"' not in line]
    finally:
        connection.close()


@pytest.mark.parametrize("command", ["status", "history", "costs", "approvals"])
def test_looking_at_a_store_that_does_not_exist_makes_none(cli, tmp_path, command):
    before = files_in(tmp_path)
    assert_refused(cli(command, "--store", "sqlite:///none.db"), "there is no store", "Run an application first")
    assert files_in(tmp_path) == before


def test_a_run_of_another_application_is_not_resumed(cli, good_store, tmp_path):
    store = tmp_path / "store.db"
    shutil.copy(good_store, store)
    [run] = cli("status", "--store", "sqlite:///store.db", "--json").json["runs"]
    answer = cli("run", str(APPS / "asker.py"), "--resume", run["run_id"], "--store", "sqlite:///store.db")
    assert_refused(answer, f"run {run['run_id']}", "'climber'", "'asker'")


def test_a_run_whose_cases_changed_is_not_resumed(cli, tmp_path):
    source = app(GENE, "cases=['one']", EVALUATE)
    (tmp_path / "app.py").write_text(source)
    run_id = cli("run", "app.py", "--generations", "1", "--json").json["run_id"]
    (tmp_path / "app.py").write_text(source.replace("'one'", "'another'"))
    assert_refused(cli("run", "app.py", "--resume", run_id), "the cases changed", "Restore the cases")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"z": 1}, ["unknown gene 'z'", "The genes are: x, y"]),
        ({"x": 7}, ["gene 'x'", "7 is out of bounds", "a number from 0 to 1"]),
        ({"x": "high"}, ["gene 'x'", "'high' is not a finite number"]),
        ({"y": 0.5}, ["gene 'y' is locked", "Only its owner"]),
    ],
)
def test_a_bad_mutation_is_refused_wherever_it_comes_from(changes, named):
    dna = SystemDNA.declare("app", {"x": number(0.1, low=0, high=1), "y": number(0.1, low=0, high=1, locked=True)})
    mutation = Mutation(parent=dna.checksum, changes=changes, category="intelligence upgrade")
    for refuse in (lambda: dna.apply(mutation), lambda: MutationEngine().propose(dna, changes)):
        with pytest.raises(InvalidMutation) as refused:
            refuse()
        for name in named:
            assert name in str(refused.value)


def test_a_budget_too_small_to_decide_anything_is_no_success(cli, tmp_path):
    (tmp_path / "poor.py").write_text(app(GENE, CASES, EVALUATE, "budget=Budget(max_evaluations=5)"))
    answer = cli("run", "poor.py", "--json")
    assert answer.code == 4
    assert answer.json["exit_code"] == 4
    assert "5 evaluations cannot decide anything" in answer.json["error"]
    assert "Give max_evaluations=24 or more" in answer.json["hint"]


def test_with_json_an_error_is_one_object_on_standard_output(cli):
    answer = cli("run", "nowhere.py", "--json")
    assert answer.code == 2
    assert set(answer.json) == {"error", "hint", "exit_code"}
    assert "nowhere.py" in answer.json["error"]


@pytest.mark.parametrize("arguments", [["run"], ["run", CLIMBER, "--generations", "0"], ["fly"], ["show", "first"]])
def test_bad_usage_is_refused_with_the_usage(cli, arguments):
    answer = cli(*arguments)
    assert answer.code == 2
    assert "Usage: " in answer.err
    assert "Error" in answer.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "nowhere.py"], "there is no file nowhere.py"),
        (["status", "--store", "mysql://host/db"], "unknown store URL"),
        (["run", CLIMBER, "--generations", "0"], "Usage: "),
    ],
)
def test_the_process_itself_ends_with_code_2(tmp_path, arguments, named):
    answer = execute(tmp_path, *arguments)
    assert answer.code == 2
    assert named in answer.err
    assert "Traceback" not in answer.err


def test_a_command_says_nothing_but_its_own_words(tmp_path):
    answer = execute(tmp_path, "run", CLIMBER, "--generations", "1", "--json")
    [told] = answer.err.splitlines()
    assert told.startswith("run run-")
