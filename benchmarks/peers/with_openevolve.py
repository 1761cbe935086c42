"""Does a task with openevolve (https://github.com/algorithmicsuperintelligence/openevolve).

A setting reads `N workers`, and where it differs from the tool's own default `, population N` (else 1000) and
`, checkpoint every N` (else 100 iterations). The example "function minimization" of its authors has 50 and 10. What is
done since the last checkpoint is lost with the process; programs beyond the population are dropped.

Chosen in openevolve's favour: full rewrites; no cascade, no artifacts, no retries; neither prompts nor details logged;
its own five islands, which were faster than one. A worker process asks the model itself and waits for it. openevolve
knows no cases: an evaluation scores all of them, one after the other. It has no limit of evaluations either: the
iterations are set so that it keeps one. Begun again with the same folder, it resumes from the newest whole checkpoint.

This is also its evaluation file: every worker process loads it and calls `evaluate`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from functools import cache, partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import problem
from openevolve import OpenEvolve
from openevolve.config import Config, DatabaseConfig, EvaluatorConfig, LLMConfig, LLMModelConfig
from openevolve.database import Program, ProgramDatabase
from tasks import Answer, Task, answer

_SETTING = re.compile(r"(\d+) workers?(?:, population (\d+))?(?:, checkpoint every (\d+))?")
_PROGRAM = "# EVOLVE-BLOCK-START\nx = {}\n# EVOLVE-BLOCK-END\n"
_NUMBERS = re.compile(r"^x = (\[.*\])$", re.MULTILINE)
_SCORE = "combined_score"


def evaluate(program_path: str) -> dict[str, float]:
    """Score a program on all cases; openevolve calls this in its worker processes."""
    task = _task()
    numbers = _numbers_in(Path(program_path).read_text(encoding="utf-8"))
    return {_SCORE: sum(problem.evaluate(numbers, case, task) for case in range(task.cases)) / task.cases}


class Model:
    """The language model: reads the candidate out of openevolve's prompt and answers with a varied one.

    Args:
        task: Says how long a call takes, and the seed.
        config: What openevolve knows of the model.
    """

    def __init__(self, task: Task, config: LLMModelConfig) -> None:
        self.model = config.name
        self.last_usage: dict[str, int] | None = None
        self._task = task

    async def generate_with_context(self, _system_message: str, messages: list[dict[str, str]]) -> str:
        """Answer with a whole program; the one to vary is the last in the prompt."""
        problem.model_call(self._task)
        parent = _numbers_in(messages[-1]["content"])
        return f"```python\n{_program(problem.mutate(parent, self._number(), self._task.seed))}```"

    def _number(self) -> int:
        """Return which proposal of the run it is: prompts do not tell, so all workers count in one file."""
        file = os.open(Path(self._task.folder) / "proposals", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, b".")
            return os.lseek(file, 0, os.SEEK_CUR)
        finally:
            os.close(file)


class Recorder:
    """Stands before `ProgramDatabase.add`, which takes in the program of every iteration that has ended."""

    def __init__(self, database: ProgramDatabase) -> None:
        self.promotions = 0
        self.ended_s: list[float] = []
        self._database, self._add = database, database.add
        database.add = self

    def __call__(self, program: Program, iteration: int | None = None, target_island: int | None = None) -> str | None:
        """Add a program, note the time, and see whether it became the best."""
        before = self._database.best_program_id
        added: str | None = self._add(program, iteration, target_island)
        self.promotions += before not in (None, self._database.best_program_id)
        # The program it begins with and copies between islands come without an iteration.
        if iteration is not None:
            self.ended_s.append(time.perf_counter())
        return added


def work(task: Task) -> Answer:
    """Run openevolve on a task; on a folder with a checkpoint, go on from there."""
    folder = Path(task.folder)
    os.environ.update(ENABLE_ARTIFACTS="false", TMPDIR=task.folder)
    begin = folder / "first.py"
    begin.write_text(_program(problem.first(task)), encoding="utf-8")
    done, checkpoint = _newest_checkpoint(folder)
    config = _config(task, done)
    controller = OpenEvolve(str(begin), __file__, config, output_dir=task.folder)
    recorder = Recorder(controller.database)
    winner = asyncio.run(controller.run(checkpoint_path=checkpoint and str(checkpoint)))
    best = _numbers_in(winner.code)
    return Answer(
        tool="openevolve",
        version=version("openevolve"),
        setting=_shown(config),
        ms_by_proposal=[round(1000 * (after - before), 3) for before, after in pairwise(recorder.ended_s)],
        evaluations=(len(recorder.ended_s) + (checkpoint is None)) * task.cases,
        promotions=recorder.promotions,
        reported=winner.metrics[_SCORE],
        true=problem.true_score(best, task),
        best=best,
        notes=f"openevolve counts no evaluations; ids of programs are random, so that equal seeds give unequal runs; "
        f"{f'resumed after iteration {done}' if done else 'not resumed'}.",
    )


def _config(task: Task, done: int) -> Config:
    found = _SETTING.fullmatch(task.setting)
    if found is None:
        raise ValueError(f"unknown setting {task.setting!r}; write `8 workers, population 50, checkpoint every 10`.")
    workers, population, interval = (int(number) if number else None for number in found.groups())
    # The program it begins with is evaluated, too.
    iterations = max(1, task.evaluations // task.cases - 1) if task.evaluations else task.proposals
    return Config(
        max_iterations=iterations - done,
        checkpoint_interval=interval or 100,
        random_seed=task.seed,
        log_level="WARNING",
        language="python",
        diff_based_evolution=False,
        llm=LLMConfig(models=[LLMModelConfig(name="mutator", init_client=partial(Model, task))]),
        database=DatabaseConfig(population_size=population or 1000, log_prompts=False, max_snapshot_artifacts=0),
        evaluator=EvaluatorConfig(
            parallel_evaluations=workers, cascade_evaluation=False, enable_artifacts=False, max_retries=0
        ),
    )


def _shown(config: Config) -> dict[str, Any]:
    """Return what was set, by openevolve's own names."""
    return {
        "parallel_evaluations": config.evaluator.parallel_evaluations,
        "population_size": config.database.population_size,
        "archive_size": config.database.archive_size,
        "num_islands": config.database.num_islands,
        "checkpoint_interval": config.checkpoint_interval,
        "max_iterations": config.max_iterations,
        "diff_based_evolution": config.diff_based_evolution,
        "cascade_evaluation": config.evaluator.cascade_evaluation,
        "artifacts": False,
        "max_retries": config.evaluator.max_retries,
        "log_prompts": config.database.log_prompts,
        "log_level": config.log_level,
    }


def _newest_checkpoint(folder: Path) -> tuple[int, Path | None]:
    """Return the last iteration of the newest checkpoint that was written to its end, and its folder."""
    whole = (file.parent for file in folder.glob("checkpoints/checkpoint_*/best_program_info.json"))
    return max(((int(path.name.rpartition("_")[2]), path) for path in whole), default=(0, None))


@cache
def _task() -> Task:
    return Task.from_json(Path(sys.argv[1]).read_text(encoding="utf-8"))


def _program(numbers: list[float]) -> str:
    return _PROGRAM.format(json.dumps(numbers))


def _numbers_in(text: str) -> list[float]:
    """Return the numbers of the last program in a text."""
    numbers: list[float] = json.loads(_NUMBERS.findall(text)[-1])
    return numbers


if __name__ == "__main__":
    answer(work)
