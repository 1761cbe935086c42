"""Does a task with gepa (https://github.com/gepa-ai/gepa), through its front door `optimize_anything`.

Settings: `run folder` (all state is saved before every iteration), `memory only` (nothing is saved, so nothing can be
resumed) and `IndependentSampling` (a run folder, and eight proposals an iteration, each from a parent of its own).

Chosen in gepa's favour: standard pickle; no best outputs, no log texts and no objective frontier to keep; threads only
where scoring takes time; model calls of one iteration go out together; all cases are both training and validation, as
gepa's multi-task mode has it, so that its own score rests on as many cases as there are. For `utilisation` a minibatch
fills the workers. For `kill` every score is cached on disk as soon as it is there: without that a resumed run scores
again what it began with. The number of a proposal comes from the iteration that gepa saves, so a resumed run counts on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from itertools import pairwise
from typing import Any, cast

import problem
from gepa.core.callbacks import GEPACallback, IterationStartEvent, OptimizationEndEvent, ValsetEvaluatedEvent
from gepa.core.result import GEPAResult
from gepa.optimize_anything import EngineConfig, GEPAConfig, ReflectionConfig, TrackingConfig, optimize_anything
from gepa.strategies.proposal_sampling import IndependentSampling
from tasks import Answer, Task, answer

_MEMORY, _PARALLEL = "memory only", "IndependentSampling"
_SETTINGS = ("run folder", _MEMORY, _PARALLEL)
_AT_ONCE = 8
_GENE = "program"
_FENCE = "```"


class Recorder:
    """Receives gepa's events: notes when each iteration begins, and how often another candidate becomes the best."""

    def __init__(self) -> None:
        self.iteration = 0
        self.promotions = 0
        self.wall_s: list[float] = []
        self.cpu_s: list[float] = []

    def on_iteration_start(self, event: IterationStartEvent) -> None:
        """Note the time: from here to the next start is one iteration, and the save of what it found."""
        self.iteration = event["iteration"]
        self._mark()

    def on_valset_evaluated(self, event: ValsetEvaluatedEvent) -> None:
        """Count a new best; the candidate of iteration 0 is the one it begins with."""
        self.promotions += event["iteration"] > 0 and event["is_best_program"]

    def on_optimization_end(self, event: OptimizationEndEvent) -> None:
        """Note when the last iteration has ended and is saved."""
        self._mark()

    def _mark(self) -> None:
        self.wall_s.append(time.perf_counter())
        self.cpu_s.append(time.process_time())


class Model:
    """The language model: reads the candidate out of gepa's prompt and answers with a varied one.

    Args:
        task: Says how long a call takes, and the seed.
        recorder: Knows the iteration.
        at_once: Proposals an iteration.
    """

    def __init__(self, task: Task, recorder: Recorder, at_once: int) -> None:
        self._task, self._recorder, self._at_once = task, recorder, at_once
        self._threads = ThreadPoolExecutor(at_once)

    def __call__(self, prompt: str | list[dict[str, Any]]) -> str:
        """Answer the only prompt of an iteration, which is text unless it holds images."""
        return self._reply(0, str(prompt))

    def batch_complete(self, conversations: Sequence[Sequence[dict[str, str]]]) -> list[str]:
        """Answer all prompts of an iteration at the same time."""
        prompts = [messages[0]["content"] for messages in conversations]
        return list(self._threads.map(self._reply, range(len(prompts)), prompts))

    def _reply(self, place: int, prompt: str) -> str:
        problem.model_call(self._task)
        number = (self._recorder.iteration - 1) * self._at_once + place + 1
        varied = problem.mutate(json.loads(prompt.split(_FENCE, 2)[1]), number, self._task.seed)
        return f"{_FENCE}\n{json.dumps(varied)}\n{_FENCE}"


class Silent:
    """Drops gepa's log texts, which otherwise go to a file and the terminal."""

    def log(self, message: str) -> None:
        """Drop it."""


def work(task: Task) -> Answer:
    """Run gepa on a task.

    Raises:
        ValueError: The setting is none of gepa's.
    """
    if task.setting not in _SETTINGS:
        raise ValueError(f"unknown setting {task.setting!r}; choose one of {', '.join(_SETTINGS)}.")
    at_once = _AT_ONCE if task.setting == _PARALLEL else 1
    recorder = Recorder()
    config = _config(task, recorder, at_once)

    def score(candidate: dict[str, str], example: int) -> float:
        return problem.evaluate(json.loads(candidate[_GENE]), example, task)

    result: GEPAResult[Any, int] = optimize_anything(
        {_GENE: json.dumps(problem.first(task))}, evaluator=score, dataset=list(range(task.cases)), config=config
    )
    best = json.loads(result.candidates[result.best_idx][_GENE])
    return Answer(
        tool="gepa",
        version=version("gepa"),
        setting=_shown(config, at_once),
        ms_by_proposal=_ms_by_proposal(recorder.wall_s, at_once),
        cpu_ms_by_proposal=_ms_by_proposal(recorder.cpu_s, at_once),
        evaluations=result.total_metric_calls or 0,
        promotions=recorder.promotions,
        reported=result.val_aggregate_scores[result.best_idx],
        true=problem.true_score(best, task),
        best=best,
        notes=_notes(task, len(result.candidates)),
    )


def _config(task: Task, recorder: Recorder, at_once: int) -> GEPAConfig:
    iterations = None if task.evaluations else max(1, task.proposals // at_once)
    return GEPAConfig(
        engine=EngineConfig(
            run_dir=None if task.setting == _MEMORY else task.folder,
            seed=task.seed,
            use_cloudpickle=False,
            track_best_outputs=False,
            best_example_evals_k=1,
            frontier_type="instance",
            max_metric_calls=task.evaluations,
            max_candidate_proposals=iterations,
            parallel=task.evaluator_s > 0,
            max_workers=task.workers,
            cache_evaluation=task.measure == "kill",
            sampling_strategy=IndependentSampling(at_once) if at_once > 1 else None,
        ),
        reflection=ReflectionConfig(
            reflection_lm=Model(task, recorder, at_once),
            reflection_minibatch_size=task.workers if task.measure == "utilisation" else 3,
        ),
        tracking=TrackingConfig(logger=Silent()),
        # Of a listener gepa calls only the methods that are there.
        callbacks=[cast("GEPACallback", recorder)],
    )


def _ms_by_proposal(moments_s: list[float], at_once: int) -> list[float]:
    """Return milliseconds by proposal; those of one iteration share its time equally."""
    shares = [round(1000 * (after - before) / at_once, 3) for before, after in pairwise(moments_s)]
    return [share for share in shares for _ in range(at_once)]


def _shown(config: GEPAConfig, at_once: int) -> dict[str, Any]:
    """Return what was set, by gepa's own names."""
    engine = config.engine
    return {
        "run_dir": engine.run_dir is not None,
        "sampling_strategy": f"IndependentSampling({at_once})" if at_once > 1 else "SingleMutationSampling",
        "reflection_minibatch_size": config.reflection.reflection_minibatch_size,
        "valset": "all cases",
        "cache_evaluation": engine.cache_evaluation,
        "parallel": engine.parallel,
        "max_workers": engine.max_workers,
        "max_metric_calls": engine.max_metric_calls,
        "max_candidate_proposals": engine.max_candidate_proposals,
        "candidate_selection_strategy": engine.candidate_selection_strategy,
        "acceptance_criterion": engine.acceptance_criterion,
        "frontier_type": engine.frontier_type,
        "use_cloudpickle": engine.use_cloudpickle,
        "track_best_outputs": engine.track_best_outputs,
        "best_example_evals_k": engine.best_example_evals_k,
        "logger": "silent",
    }


def _notes(task: Task, candidates: int) -> str:
    notes = [f"{candidates - 1} proposals entered gepa's pool of candidates"]
    if task.setting == _MEMORY:
        notes.append("without a run folder gepa cannot resume")
    if task.evaluations:
        notes.append("max_metric_calls is looked at between iterations only")
    return "; ".join(notes) + "."


if __name__ == "__main__":
    answer(work)
