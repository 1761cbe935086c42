"""What a trial costs does not grow with history: the overhead benchmark in its short form, and ratios only."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

OVERHEAD = Path(__file__).resolve().parents[1] / "benchmarks" / "overhead.py"
GENERATIONS = 150
LIMIT = 1.3
ATTEMPTS = 6


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["single", "multi"])
def test_a_trial_costs_no_more_after_hundreds_of_others(objective: str) -> None:
    command = [sys.executable, str(OVERHEAD), objective, "--generations", str(GENERATIONS)]
    ratios: list[float] = []
    # Other work on the machine comes and goes, mostly in the wall time; growth of our own cost is in every run.
    while len(ratios) < ATTEMPTS and (not ratios or min(ratios) > LIMIT):
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        assert found["generations"] == GENERATIONS
        assert found["trials"] > 3 * GENERATIONS
        ratios += [found["wall_last_over_first"], found["cpu_last_over_first"]]
    assert min(ratios) <= LIMIT
