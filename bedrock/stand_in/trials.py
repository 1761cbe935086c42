"""What the search is given and what it gives: earlier trials, feedback of failed cases, and proposals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...dna.genes import GeneValue

Array: TypeAlias = NDArray[np.float64]

_LEAST_TO_MODEL = 3
"""With fewer trials there is no trend to fit."""
_LEAST_TRUST = 0.02
"""A trial stopped after its first cases still counts for something."""


@dataclass(frozen=True, slots=True)
class Ancestor:
    """One earlier trial, or the live genes.

    Args:
        values: All genes' effective values.
        fitness: Mean score on the training cases, higher is better; None if the trial failed.
        cases: How many cases that mean is over.
        origin: The operator that made it.
        generation: When it was tried.
    """

    values: Mapping[str, GeneValue]
    fitness: float | None
    cases: int
    origin: str
    generation: int


@dataclass(frozen=True, slots=True)
class Feedback:
    """What the evaluator said of one failed training case of the best parent.

    Args:
        gene: The gene it is about; None if the evaluator named none.
        text: What it said; untrusted.
        weight: How much it counts.
    """

    gene: str | None
    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Proposal:
    """A combination to try.

    Args:
        changes: New values, relative to the live genes; never empty.
        rationale: What the rule did, in one sentence.
        origin: The operator that made it.
        predicted_gain: What it would gain over the best trial, in units of fitness; a guess.
        probability: The estimated chance that it beats all earlier trials.
    """

    changes: dict[str, GeneValue]
    rationale: str
    origin: str
    predicted_gain: float
    probability: float


class Past:
    """The window of earlier trials, and how good each may be taken to be.

    Args:
        history: Earlier trials, oldest first.
        names: The genes a trial must know to be of use.
    """

    def __init__(self, history: Sequence[Ancestor], names: AbstractSet[str]) -> None:
        self.trials = [trial for trial in history if names <= trial.values.keys()]
        self.fitness, self.trust = _fitness_and_trust(self.trials)
        self.order: list[int] = np.argsort(-self.fitness, kind="stable").tolist()
        """Indices of the trials, best first."""

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def modelled(self) -> bool:
        """Whether there is something to fit: a few trials that are not all alike."""
        return len(self.trials) >= _LEAST_TO_MODEL and float(np.ptp(self.fitness)) > 0.0


def _fitness_and_trust(trials: Sequence[Ancestor]) -> tuple[Array, Array]:
    """Return fitness and trust (1 = scored on all cases); a failed trial counts as the worst seen."""
    known = [trial.fitness for trial in trials if trial.fitness is not None]
    worst = min(known, default=0.0)
    most = max((trial.cases for trial in trials), default=1)
    fitness = np.array([worst if trial.fitness is None else trial.fitness for trial in trials], dtype=float)
    least = max(most, 1) * _LEAST_TRUST
    trust = np.array([min(1.0, max(trial.cases, least) / max(most, 1)) for trial in trials], dtype=float)
    # A trial that racing stopped early was poor on the cases it saw; its mean is pulled down, not believed.
    floor = float(np.quantile(fitness, 0.25)) if trials else 0.0
    return trust * fitness + (1.0 - trust) * np.minimum(fitness, floor), trust
