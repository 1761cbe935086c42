"""A run that is killed with SIGKILL at any moment and resumed ends as the run that was never killed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kill_driver import WORKERS

POINTS = 24


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    root = tmp_path_factory.mktemp("kill")
    driver = subprocess.run(
        [sys.executable, "-m", "tests.kill_driver", str(root), str(POINTS)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert driver.returncode == 0, driver.stderr
    return json.loads(driver.stdout)


@pytest.mark.slow
def test_kills_are_spread_over_the_whole_run(told):
    killed = [run for run in told["runs"] if run["killed"]]
    assert len(killed) >= 20
    # Distinct amounts of recorded work show that the kills hit distinct moments.
    assert len({run["reached"] for run in killed}) >= 12
    assert len(killed) >= told["checkpoints"] > 0, "every single checkpoint is among them"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["status", "dna", "test_fitness", "evaluations", "trials", "events"])
def test_resumed_run_is_identical_to_one_never_killed(told, what):
    assert told["whole"]["status"] == "done"
    for run in told["runs"]:
        assert run["resumed"]
        assert run[what] == told["whole"][what]


@pytest.mark.slow
def test_only_work_in_flight_at_the_kill_is_done_again(told):
    assert told["whole"]["asked_again"] == 0
    assert all(run["asked_again"] <= WORKERS for run in told["runs"])
