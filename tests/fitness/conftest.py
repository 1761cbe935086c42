"""A run's parts, put together around an evaluator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.fitness.cases import Cases, split_cases
from bedrock_evolution.fitness.evaluator import Evaluator
from bedrock_evolution.fitness.journal import Journal
from bedrock_evolution.fitness.panels import plan_panels
from bedrock_evolution.fitness.scorer import Scorer
from bedrock_evolution.fitness.workers import Workers

RUN = "run-1"
CASES = split_cases({"train": range(40), "validation": range(100, 140), "test": range(200, 210)})


@dataclass
class Bench:
    """Builds scorers on one journal."""

    journal: Journal

    def scorer(
        self,
        function: Callable[..., Any],
        *,
        run_id: str = RUN,
        cases: Cases = CASES,
        limit: int | None = None,
        reserve: int = 0,
        workers: int = 2,
        executor: Executor | None = None,
        batch: bool = False,
        seed: int = 1,
        timeout_s: float | None = None,
    ) -> Scorer:
        return Scorer(
            run_id=run_id,
            seed=seed,
            evaluator=Evaluator.adapt(None if batch else function, function if batch else None, None),
            cases=cases,
            panels=plan_panels(cases.sizes, max_evaluations=None, seed=seed),
            journal=self.journal,
            workers=Workers(executor, workers, timeout_s),
            limit=limit,
            reserve=reserve,
        )


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    database = Database(tmp_path / "evolution.db")
    yield Journal(database, FixedClock(datetime(2026, 3, 1, 12, tzinfo=UTC)))
    database.close()


@pytest.fixture
def bench(journal: Journal) -> Bench:
    return Bench(journal)
