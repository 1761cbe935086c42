"""The problem every tool is given: what is scored, how candidates are varied, and the log of evaluations.

Standard library only, so that every environment and every worker process can import it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Sequence
from functools import cache

from tasks import Task

SIZE = 8
NULL_TRUE = 0.5
"""What every candidate is worth in the null test."""
_DECIMALS = 6
_STEP = 0.08
_MOVED = 2
"""Numbers that a proposal changes."""

Candidate = Sequence[float]


def first(task: Task) -> list[float]:
    """Return the candidate that every tool begins with."""
    drawn = _random("first", task.seed)
    return [round(drawn.uniform(0.05, 0.95), _DECIMALS) for _ in range(SIZE)]


def mutate(candidate: Candidate, number: int, seed: int) -> list[float]:
    """Return a candidate a small random step away: the model of every tool.

    Args:
        candidate: The numbers to begin from.
        number: Which proposal of the run it is, from 1; equal arguments give the equal step.
        seed: Of the run.
    """
    drawn = _random("mutate", name(candidate), number, seed)
    changed = [float(x) for x in candidate]
    for place in drawn.sample(range(SIZE), _MOVED):
        step = drawn.uniform(0.2, 1.0) * _STEP * drawn.choice((-1, 1))
        # Reflected, so that a step at a bound still is one.
        moved = abs(changed[place] + step)
        changed[place] = round(2 - moved if moved > 1 else moved, _DECIMALS)
    return changed


def evaluate(candidate: Candidate, case: int, task: Task) -> float:
    """Score a candidate on one case, higher is better, and leave its lines in the log."""
    hashed = name(candidate)
    _log(task, f"begin {hashed} {case}\n")
    if task.evaluator_s:
        time.sleep(task.evaluator_s)
    score = _score(candidate, hashed, case, task)
    _log(task, f"end {hashed} {case}\n")
    return score


def true_score(candidate: Candidate, task: Task) -> float:
    """Return what a candidate is worth: its mean over all cases, without noise."""
    if task.measure == "null":
        return NULL_TRUE
    return sum(_hill(candidate, case) for case in range(task.cases)) / task.cases


def name(candidate: Candidate) -> str:
    """Return a short hash of a candidate, as it stands in the log."""
    text = json.dumps([round(float(x), _DECIMALS) for x in candidate])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def model_call(task: Task) -> None:
    """Take as long as a model call takes; every call of a tool's model passes here once."""
    if task.model_s:
        time.sleep(task.model_s)


def _score(candidate: Candidate, hashed: str, case: int, task: Task) -> float:
    true = NULL_TRUE if task.measure == "null" else _hill(candidate, case)
    if not task.sigma:
        return true
    return true + _random("noise", task.seed, hashed, case).gauss(0.0, task.sigma)


def _hill(candidate: Candidate, case: int) -> float:
    """Return a smooth hill between 0 and 1 whose top is a little elsewhere for every case."""
    tilt = (case * 37 % 11 - 5) / 100
    far = sum((x - _TOP[place] - (tilt if place % 2 == 0 else -tilt)) ** 2 for place, x in enumerate(candidate))
    return 1.0 - far / SIZE


_TOP = (0.31, 0.72, 0.55, 0.18, 0.84, 0.43, 0.66, 0.27)


def _random(*what: object) -> random.Random:
    return random.Random(hashlib.sha256(json.dumps(what).encode()).digest())


def _log(task: Task, line: str) -> None:
    """Append a line in one write, so that lines of threads and processes never mix and a kill loses none."""
    if task.log:
        os.write(_opened(task.log), line.encode())


@cache
def _opened(log: str) -> int:
    return os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
