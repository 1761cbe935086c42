"""Killed with SIGKILL just before and just after every commit, and then continued, a run ends as if never killed."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest

from bedrock_evolution.dna.commit_points import CommitPoint
from bedrock_evolution.dna.database import Database
from tests.crash_driver import SECOND_STORY
from tests.support.forked import in_child

pytestmark = pytest.mark.slow

NOT_BY_THEMSELVES = {
    **dict.fromkeys(("store.pull", "store.sent", "store.failed"), "only a cloud store has them"),
    "feedback.read": "what an advisor was shown is stored with its advice, in `advice.record`",
}
"""Points that no run commits by themselves, and why."""


def driven(root: Path, story: str) -> dict[str, Any]:
    driver = subprocess.run(
        [sys.executable, "-m", "tests.crash_driver", str(root), story],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert driver.returncode == 0, driver.stderr
    found = json.loads(driver.stdout)
    found["stderr"] = driver.stderr
    return found


@pytest.fixture(scope="module")
def stories(tmp_path_factory):
    """Kill just before and just after every time that a commit point is reached."""
    return {name: driven(tmp_path_factory.mktemp(name), name) for name in ("garden", "shop")}


@pytest.fixture
def garden(stories):
    return stories["garden"]


@pytest.fixture
def shop(stories):
    return stories["shop"]


def refuted(found: dict[str, Any], holds: Any) -> list[Any]:
    """Return the kills after which something does not hold, and how they ended."""
    return [(case["step"], case.get("failed"), found["stderr"]) for case in found["cases"] if not holds(case)]


# -- a garden: approval, rollback, safe mode, healing


def test_the_story_is_one_worth_killing(garden):
    kinds = Counter(kind for _, kind, *_ in garden["told"]["events"])
    assert kinds["advised"] == 3, "three generations"
    assert kinds["asked"] == 3
    assert kinds["answered"] == kinds["applied"] == 2
    for kind in ("feedback_read", "incident", "restored", "safe_mode", "safe_mode_lifted", "voided", "diagnosed"):
        assert kinds[kind] == 1, kind
    [[_, status, *_]] = garden["told"]["runs"]
    [problems, checked, _, signed, unsigned] = garden["told"]["audit"]
    assert (status, problems, unsigned) == ("done", [], 0)
    assert checked == signed == kinds.total()


def test_every_process_was_killed_at_its_point(garden):
    assert len(garden["cases"]) >= 20
    assert refuted(garden, lambda case: case.get("killed")) == []


def test_a_story_that_was_killed_and_continued_leaves_what_it_leaves_unkilled(garden):
    """Events with their hashes, DNA, trials, evaluations, approvals, outcomes, model calls, run, state and audit."""
    assert refuted(garden, lambda case: "failed" not in case) == []
    assert [(case["step"], case["differences"]) for case in garden["cases"] if case["differences"]] == []


def test_every_event_is_signed_in_the_end(garden):
    """What a process died before signing is signed by the one that goes on."""
    assert refuted(garden, lambda case: case.get("unsigned") == 0) == []


# -- a shop: model calls that cost money


def test_every_call_was_killed_at_its_point(shop):
    assert {case["step"][0] for case in shop["cases"]} == set(SECOND_STORY)
    assert refuted(shop, lambda case: case.get("killed")) == []


def test_a_run_whose_model_calls_were_killed_goes_on_to_its_end(shop):
    for found in (shop, *shop["cases"]):
        assert found["status"] == "done", found.get("step")
        assert found["generations"] == [1, 2, 3]
        assert found["audit"] == [[], 0]
        assert len(found["keys"]) == len(set(found["keys"]))
        assert {"begun", "1/advised", "2/advised", "3/advised", "3/ended/1"} <= set(found["keys"])


def test_no_killed_call_is_held_for_ever_or_counted_twice_or_not_at_all(shop):
    assert [status for status, _ in shop["calls"]].count("settled") == len(shop["billed"])
    for found in (shop, *shop["cases"]):
        assert found["balanced"], "the accounts are the sums over the calls"
        statuses = Counter(status for status, _ in found["calls"])
        assert statuses["held"] == 0
        settled = Counter(cost for status, cost in found["calls"] if status == "settled")
        given_up = [cost for status, cost in found["calls"] if status == "expired"]
        billed = Counter(found["billed"])
        assert settled <= billed
        # What the service bills and the process never got to write down is covered by what was held for it.
        unsettled = list((billed - settled).elements())
        assert len(unsettled) <= len(given_up) <= 1
        assert sum(unsettled) <= sum(given_up)
        assert 0 <= len(found["calls"]) - found["requests"] <= len(given_up)
        assert found["spent_micro_usd"] == sum(cost for _, cost in found["calls"])
        assert found["summary_usd"] == pytest.approx(found["spent_micro_usd"] / 1e6)


# -- a new file, before anybody can watch it


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_that_dies_while_it_makes_the_file_leaves_one_that_can_be_used(tmp_path, moment):
    switch = Database._switch_to_wal

    def fatal(database: Database) -> None:
        if moment == "after":
            switch(database)
        os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        Database._switch_to_wal = fatal  # type: ignore[method-assign]
        Database(tmp_path / "new.db")

    _, status = os.waitpid(in_child(work), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert (tmp_path / "new.db").exists()
    database = Database(tmp_path / "new.db")
    with database.tables() as tables:
        tables.table("notes").insert({"text": "whole"})
    assert Database(tmp_path / "new.db").rows("SELECT text FROM notes") == [("whole",)]


# -- all of them


def test_no_commit_point_is_left_out(stories):
    killed = {tuple(case["step"][:2]) for found in stories.values() for case in found["cases"]}
    met = {point for point, _ in killed}
    assert met | set(NOT_BY_THEMSELVES) == set(get_args(CommitPoint))
    assert not met & set(NOT_BY_THEMSELVES)


def test_every_commit_of_the_story_is_killed_before_and_after(garden):
    killed = {tuple(case["step"]) for case in garden["cases"]}
    reached = {tuple(step) for step in garden["steps"]}
    assert len(reached) >= 300
    moments = {moment for _, moment, _ in killed}
    if moments == {"after"}:
        assert killed == {step for step in reached if step[1:] == ("after", 1)}
    else:
        assert killed == reached
