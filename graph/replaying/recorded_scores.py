"""Scores on record: what a replay gets instead of an evaluator's work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import ReplayDiverged
from ...fitness.cases import PARTS, Cases
from ...fitness.evaluator import Evaluator, Job
from ...fitness.journal import EvaluationKey
from ...fitness.score import Outcome
from ...fitness.scorer import Scorer
from ...fitness.workers import Finished, Workers


@dataclass(frozen=True, slots=True)
class Application:
    """What only the application itself can give: its cases, and what scores them."""

    evaluator: Evaluator
    cases: Cases
    workers: Workers


@dataclass(frozen=True, slots=True)
class RecordedScores:
    """The outcomes of a run.

    Args:
        outcomes: The attempts at each evaluation, in order.
        application: Whether an application is at hand to score what never was.
    """

    outcomes: Mapping[EvaluationKey, list[Outcome]]
    application: bool
    _given: Counter[EvaluationKey] = field(default_factory=Counter)

    def scorer(self, **given: Any) -> Scorer:
        """Make a scorer that gives them again."""
        return _RecordedScorer(self, **given)

    def again(self, key: EvaluationKey) -> Outcome:
        """Return the outcome of the next attempt at an evaluation."""
        attempts = self.outcomes[key]
        place = min(self._given[key], len(attempts) - 1)
        self._given[key] += 1
        return attempts[place]


class _RecordedScorer(Scorer):
    """Gives each evaluation the outcomes it had, attempt by attempt; evaluates what never was, if that is possible."""

    def __init__(self, scores: RecordedScores, **given: Any) -> None:
        super().__init__(**given)
        self._scores = scores

    def _evaluated(self, jobs: Sequence[Job], keys: Sequence[Sequence[EvaluationKey]]) -> Iterator[list[Finished]]:
        known: list[Finished] = []
        unknown: list[int] = []
        for place, group in enumerate(keys):
            if all(key in self._scores.outcomes for key in group):
                known.append((place, [self._scores.again(key) for key in group]))
            else:
                unknown.append(place)
        if unknown and not self._scores.application:
            raise _missing(next(key for key in keys[unknown[0]] if key not in self._scores.outcomes))
        if known:
            yield known
        if unknown:
            for finished in self._workers.run(self._evaluator, [jobs[place] for place in unknown]):
                yield [(unknown[place], outcomes) for place, outcomes in finished]


def _missing(key: EvaluationKey) -> ReplayDiverged:
    return ReplayDiverged(
        f"case {key.case} of the {key.part} cases was never scored with these genes.",
        step="evaluation",
        found=key.genes,
        hint="Name the application with --run APP, so that it can be scored now.",
    )


def recorded_application(request: Mapping[str, Any]) -> Application:
    """Return an application that has nothing but the sizes of its parts: all its scores are on record.

    Args:
        request: What the run was bound to.
    """
    sizes = request["sizes"]
    score_range = tuple(request["score_range"]) if request["score_range"] else None
    evaluator = Evaluator(_no_evaluator, batch=True, asynchronous=False, seeded=False, score_range=score_range)
    parts = {part: tuple(range(sizes[part])) for part in PARTS}
    return Application(evaluator, Cases(**parts, fingerprint=request["cases"]), Workers(None, 1, None))


def _no_evaluator(genes: Any, cases: Any) -> Any:  # noqa: ARG001  # what every evaluator is given
    raise AssertionError("a replay evaluates nothing")
