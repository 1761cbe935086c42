"""Evaluators: the application's own functions, called the same way whatever their shape."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..dna.genes import GeneValue
from ..errors import InvalidSetting
from .score import Outcome, as_outcome, failed

Values = Mapping[str, GeneValue]
EvaluateEach = Callable[..., Any]
"""`(genes, case) -> float | Score`, sync or async; with a parameter `seed` it is given one."""
EvaluateAll = Callable[..., Any]
"""`(genes, cases) -> list[float | Score]`, sync or async; with a parameter `seeds` it is given them."""

_MESSAGE_CHARS = 300


@dataclass(frozen=True, slots=True)
class Job:
    """Some cases to score with one set of gene values, in one call."""

    values: dict[str, GeneValue]
    cases: tuple[Any, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Evaluator:
    """An application's scoring function and how it wants to be called.

    It can be pickled when its function can, so that jobs run in other processes.
    """

    function: Callable[..., Any]
    batch: bool
    asynchronous: bool
    seeded: bool
    score_range: tuple[float, float] | None

    @classmethod
    def adapt(
        cls,
        evaluate: EvaluateEach | None,
        evaluate_all: EvaluateAll | None,
        score_range: tuple[float, float] | None,
    ) -> Evaluator:
        """Look at what the application gave.

        Raises:
            InvalidSetting: None or both of the functions, no function at all, or an empty score range.
        """
        if (evaluate is None) == (evaluate_all is None):
            raise InvalidSetting("give exactly one of `evaluate` and `evaluate_all`.")
        function = evaluate or evaluate_all
        if not callable(function):
            raise InvalidSetting(f"the evaluator {function!r} is not a function.", hint="Give (genes, case) -> float.")
        if score_range is not None and not -math.inf < score_range[0] < score_range[1] < math.inf:
            raise InvalidSetting(f"score_range={score_range!r} is empty or endless.", hint="Give (lowest, highest).")
        batch = evaluate_all is not None
        wanted = "seeds" if batch else "seed"
        try:
            seeded = wanted in inspect.signature(function).parameters
        except (TypeError, ValueError):
            seeded = False
        call = getattr(function, "__call__", None)  # noqa: B004  # an object with an async __call__ is async too
        asynchronous = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
        return cls(function, batch, asynchronous, seeded, score_range)

    def run(self, job: Job) -> list[Outcome]:
        """Score a job in this thread; whatever goes wrong is in the outcomes."""
        try:
            result = self._called(job)
            if inspect.isawaitable(result):
                result = asyncio.run(_awaited(result))
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the application may raise anything: it is the trial's reason
            return [raised(error)] * len(job.cases)
        return self.read(job, result)

    async def arun(self, job: Job) -> list[Outcome]:
        """Score a job on this event loop; whatever goes wrong is in the outcomes."""
        try:
            result = await self._called(job)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # as in `run`
            return [raised(error)] * len(job.cases)
        return self.read(job, result)

    def read(self, job: Job, result: Any) -> list[Outcome]:
        """Turn what the function returned into one outcome a case."""
        if not self.batch:
            return [as_outcome(result, self.score_range)]
        try:
            scores = None if isinstance(result, (str, bytes, Mapping)) else list(result)
        except TypeError:
            scores = None
        except Exception as error:  # noqa: BLE001  # a generator of the application may raise anything
            return [raised(error)] * len(job.cases)
        if scores is None or len(scores) != len(job.cases):
            count = "no list" if scores is None else f"{len(scores)} scores"
            return [failed(f"the evaluator returned {count} for {len(job.cases)} cases")] * len(job.cases)
        return [as_outcome(score, self.score_range) for score in scores]

    def _called(self, job: Job) -> Any:
        if self.batch:
            extra: dict[str, Any] = {"seeds": list(job.seeds)} if self.seeded else {}
            return self.function(dict(job.values), list(job.cases), **extra)
        extra = {"seed": job.seeds[0]} if self.seeded else {}
        return self.function(dict(job.values), job.cases[0], **extra)


def raised(error: BaseException) -> Outcome:
    """Record what an evaluator raised, in one bounded line."""
    text = " ".join(str(error).split())[:_MESSAGE_CHARS]
    return failed(
        f"the evaluator raised {type(error).__name__}: {text}"
        if text
        else f"the evaluator raised {type(error).__name__}"
    )


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result
