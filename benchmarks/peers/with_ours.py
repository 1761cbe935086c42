"""Does a task with bedrock-evolution: `python with_ours.py TASK.json`.

The setting begins with how many candidates a generation has, such as `4 candidates a generation`, and ends with
`, ahead` if the advisor thinks ahead. Cases are split 40/40/20 into training, validation and sealed test.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import problem
from tasks import Answer, Task, answer

from bedrock_evolution import Budget, Evolution, EvolutionResult, Progress, Settings, number

NAMES = [f"x{place}" for place in range(problem.SIZE)]
"""The genes: one for each number."""
AHEAD = ", ahead"
_UNTIL_THE_BUDGET_ENDS_IT = 10_000

Mark = tuple[float, float, int]
"""Wall time, CPU time, trials so far."""


def run(task: Task) -> Answer:
    """Do a task; where its folder holds a run already, resume that."""
    candidates = int(task.setting.split()[0])
    began = time.perf_counter()
    known = _store(task).exists()
    evolution = _evolution(task, candidates)
    if known:
        _install_mutator(evolution, task)
    marks: list[Mark] = []
    result = _followed(evolution, _items(evolution, task, candidates, known=known), task, marks)
    wall_s = time.perf_counter() - began
    best = [float(evolution.genes[name]) for name in NAMES]
    evolution.close()
    return Answer(
        tool="bedrock-evolution",
        version=version("bedrock-evolution"),
        setting={
            "candidates": candidates,
            "advise_ahead": evolution.settings.advise_ahead,
            "workers": task.workers,
            "executor": "threads",
            "durability": "every step and every score in SQLite, every event signed",
            "cases": ", ".join(f"{count} {part}" for part, count in result.cases.items()),
            "max_evaluations": task.evaluations,
        },
        ms_by_proposal=_by_proposal(marks, 0),
        cpu_ms_by_proposal=_by_proposal(marks, 1),
        wall_s=wall_s,
        evaluations=result.evaluations,
        promotions=result.dna_generation - result.baseline_generation,
        reported=result.fitness,
        sealed=result.test_fitness,
        true=problem.true_score(best, task),
        best=best,
        notes=f"Ended as {result.status} after {result.trials} trials{', resumed' if known else ''}.",
    )


def _followed(
    evolution: Evolution, items: Iterator[Progress | EvolutionResult], task: Task, marks: list[Mark]
) -> EvolutionResult:
    """Follow a run to its end; note the time at its first step, and whenever candidates have been trialled."""
    for item in items:
        if isinstance(item, EvolutionResult):
            if item.status not in {"done", "budget"}:
                raise RuntimeError(f"the run ended as {item.status}: {item.message}")
            if item.stand_in_trials:
                raise RuntimeError(f"the stand-in proposed {item.stand_in_trials} trials in the mutator's place")
            return item
        if not marks:
            _install_mutator(evolution, task)
        if not marks or item.trials > marks[-1][2]:
            marks.append((time.perf_counter(), time.process_time(), item.trials))
    raise RuntimeError("a run ended without a result")


def _install_mutator(evolution: Evolution, task: Task) -> None:
    """Put the model in its place.

    In a new run once its first step is done: no advisor was asked by then, and what models need is imported. Imported
    earlier, it would cost a start-up that no application has. A resumed run may begin with the advisor: there, at once.
    """
    from mutator import Mutator

    gateway = evolution._services.gateway  # noqa: SLF001  # no option of the product replaces the stand-in
    gateway.stand_in = Mutator(task=task)  # type: ignore[misc]  # read-only for those who only ask it


def _items(evolution: Evolution, task: Task, candidates: int, *, known: bool) -> Iterator[Progress | EvolutionResult]:
    if known and (begun := evolution._services.journal.runs()):  # noqa: SLF001  # as the command line's `--resume` does
        return evolution.stream_resumed(begun[0].run_id)
    generations = _UNTIL_THE_BUDGET_ENDS_IT if task.evaluations else max(1, task.proposals // candidates)
    return evolution.stream(generations, seed=task.seed)


def _store(task: Task) -> Path:
    return Path(task.folder) / "ours.db"


def _evolution(task: Task, candidates: int) -> Evolution:
    def evaluate(genes: Mapping[str, Any], case: int) -> float:
        return problem.evaluate([genes[name] for name in NAMES], case, task)

    start = dict(zip(NAMES, problem.first(task), strict=True))
    train, validation = round(0.4 * task.cases), round(0.8 * task.cases)
    every = list(range(task.cases))
    return Evolution(
        app="peers",
        genes={name: number(value, low=0.0, high=1.0) for name, value in start.items()},
        evaluate=evaluate,
        cases={"train": every[:train], "validation": every[train:validation], "test": every[validation:]},
        budget=Budget(max_evaluations=task.evaluations),
        workers=task.workers,
        settings=Settings(
            store=f"sqlite:///{_store(task)}",
            model="local",
            candidates=candidates,
            advise_ahead=task.setting.endswith(AHEAD),
        ),
    )


def _by_proposal(marks: list[Mark], which: int) -> list[float]:
    """Return the milliseconds of each proposal: an even share of those of its generation."""
    return [
        round(1000 * (after[which] - before[which]) / (after[2] - before[2]), 4)
        for before, after in itertools.pairwise(marks)
        for _ in range(after[2] - before[2])
    ]


if __name__ == "__main__":
    answer(run)
