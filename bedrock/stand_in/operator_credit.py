"""Which operator to ask next: what each achieved in the window, on top of what is believed of it beforehand."""

from __future__ import annotations

import math

from .trials import Past

# Prior belief in each operator: its chance to beat all earlier trials, and how many trials it is worth.
_PRIOR = {
    "model": (0.6, 12.0),
    "tpe": (0.55, 12.0),
    "flip": (0.3, 8.0),
    "local": (0.15, 6.0),
    "cross": (0.3, 8.0),
    "fill": (0.05, 8.0),
    "mixed": (0.25, 6.0),
    "text:batch16": (0.65, 4.0),
    "text:batch8": (0.45, 4.0),
    "text:batch4": (0.3, 4.0),
    "text:batch2": (0.2, 4.0),
    "text:add16": (0.3, 4.0),
    "text:add8": (0.3, 4.0),
    "text:phrase": (0.4, 4.0),
    "text:drop": (0.4, 4.0),
    "text:keep": (0.4, 4.0),
    "text:undo": (0.3, 4.0),
    "text:borrow16": (0.3, 5.0),
    "text:move": (0.05, 10.0),
    "text:repeat": (0.05, 10.0),
}
_UNKNOWN = (0.2, 5.0)
"""The same for every other operator."""
_MEMORY = 0.97
"""What a trial counts for after one more trial: operators wear out, and what paid early may not pay now."""


class OperatorCredit:
    """How often, and by how much, each operator beat all generations before its own."""

    def __init__(self, past: Past) -> None:
        self._wins: dict[str, float] = {}
        self._tries: dict[str, float] = {}
        self._gain: dict[str, float] = {}
        best, before, generation = -math.inf, -math.inf, None
        for age, (trial, score) in enumerate(zip(past.trials, past.fitness.tolist(), strict=True)):
            if trial.generation != generation:
                before, generation = best, trial.generation
            best = max(best, score)
            if before > -math.inf:
                gain = 0.0 if trial.fitness is None else score - before
                self._count(trial.origin, gain, _MEMORY ** (len(past) - age))

    def _count(self, operator: str, gain: float, weight: float) -> None:
        self._tries[operator] = self._tries.get(operator, 0.0) + weight
        if gain > 0.0:
            self._wins[operator] = self._wins.get(operator, 0.0) + weight
            self._gain[operator] = self._gain.get(operator, 0.0) + weight * gain

    def beta(self, operator: str) -> tuple[float, float]:
        """Return the parameters of the Beta belief about the operator's success."""
        mean, strength = _PRIOR.get(operator, _UNKNOWN)
        wins, tries = self._wins.get(operator, 0.0), self._tries.get(operator, 0.0)
        return mean * strength + wins, (1.0 - mean) * strength + tries - wins

    def expect(self, operator: str) -> tuple[float, float]:
        """Return the estimated probability of success and the mean gain it would bring."""
        good, bad = self.beta(operator)
        wins, total = self._wins.get(operator, 0.0), sum(self._wins.values())
        own, all_gains = self._gain.get(operator, 0.0), sum(self._gain.values())
        gain = own / wins if wins else all_gains / total if total else 0.0
        return good / (good + bad), gain
