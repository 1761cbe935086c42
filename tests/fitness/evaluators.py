"""Evaluators at module level, so that they can be sent to other processes."""

from __future__ import annotations

import os
import time
from typing import Any, NoReturn

from bedrock_evolution.fitness.evaluator import Job


def doubled(genes: dict[str, Any], case: float) -> float:
    return 2.0 * case + genes.get("shift", 0.0)


def fatal(genes: dict[str, Any], case: float) -> NoReturn:
    os._exit(3)


def late(genes: dict[str, Any], case: float) -> float:
    """Sleep for as many seconds as the case says."""
    time.sleep(case)
    return case


def jobs(*cases: Any, **values: Any) -> list[Job]:
    """Make one job for each case."""
    return [Job(dict(values), (case,), (index,)) for index, case in enumerate(cases)]
