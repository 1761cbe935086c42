"""The promotion rule: a candidate becomes live only if its gain is credible, however many were tried.

Evidence is an e-process over paired score differences on the same cases: the capital of a bettor who starts
with 1 and bets on "the candidate is better". If it is not, the capital ever reaches 1/a with probability at
most a (Ville's inequality), so looking early, often and at any time is allowed (Waudby-Smith & Ramdas,
"Estimating means of bounded random variables by betting", JRSS-B 2024; Shafer, "Testing by betting", JRSS-A 2021).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_RANGE_BETS: FloatArray = np.array([0.05, 0.1, 0.2, 0.35, 0.55, 0.75, 0.98])
_RANGE_WEIGHTS: FloatArray = np.array([1, 1, 1, 1, 1, 1, 4]) / 10
_SIGN_BETS: FloatArray = np.array([0.1, 0.2, 0.35, 0.6, 1.0, 1.8, 3.0])
_SIGN_WEIGHTS: FloatArray = np.array([1, 2, 2, 2, 1, 1, 1]) / 10
_BISECTIONS = 60
_FAR_STEPS = 50.0
_LEAST_STEP = 1e-300
CERTAIN = 1e300
"""Capital is capped here, so that evidence stays a finite, JSON-plain number."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the validation cases say of a candidate against the live DNA.

    Args:
        gain: Mean paired difference of the scores.
        cases: How many pairs.
        e_value: The bettor's capital; 1 means no evidence either way.
        threshold: The capital this proposal has to reach.
        at_least: Lower bound of the gain that holds with confidence 1 - alpha; None where so few cases give none.
        test: How many proposals of the run, this one included, were put to the rule.
    """

    gain: float
    cases: int
    e_value: float
    threshold: float
    at_least: float | None
    test: int

    @property
    def credible(self) -> bool:
        """Whether the capital reached the threshold, and the gain on all cases seen is one."""
        return self.e_value >= self.threshold and self.gain > 0

    @property
    def confidence(self) -> float:
        """One minus the probability of as much evidence without a gain, corrected for all earlier tests."""
        return max(0.0, 1.0 - self.test * (self.test + 1) / self.e_value) if self.e_value > 0 else 0.0


@dataclass(frozen=True, slots=True)
class PromotionRule:
    """Decides whether a gain is credible, with an error rate that holds over a whole run.

    With a declared score range the null hypothesis is "the mean difference is not above zero", for any
    distribution on that range. Without one it is "the differences are symmetric about zero or lower", for any
    scale and any tail: given their sizes, signs are fair coins, and a bet of tanh(size) on each is fair.

    Args:
        alpha: Bound on the probability of *ever* promoting a mutation that is no improvement.
        score_range: Lowest and highest score the application declared, or None.
    """

    alpha: float = 0.05
    score_range: tuple[float, float] | None = None

    def threshold(self, test: int) -> float:
        """Return the capital that test number `test` (from 1) has to reach.

        Alpha is spent as alpha / (k (k + 1)), which sums to alpha over any number of tests.
        """
        return test * (test + 1) / self.alpha

    def strict(self, gain: float, *, test: int) -> Evidence:
        """Judge a single deterministic objective, where any gain above zero is a fact and no sample."""
        e_value = CERTAIN if gain > 0 else 0.0
        return Evidence(gain, cases=1, e_value=e_value, threshold=self.threshold(test), at_least=gain, test=test)

    def capital(self, differences: Sequence[float], *, scale: float = 0.0) -> float:
        """Return the capital that paired differences leave a bettor with; `assess` tells more, and takes longer.

        Args:
            differences: Candidate minus live, one per case, in any order.
            scale: Typical size of a difference, from `scale_of` the first look; 0 takes it from `differences`.
        """
        return self._capital(np.asarray(differences, dtype=np.float64), scale or scale_of(differences))

    def assess(self, differences: Sequence[float], *, test: int, scale: float = 0.0) -> Evidence:
        """Weigh paired differences, candidate minus live, over the same cases.

        Args:
            differences: One per case, in any order.
            test: Number of this proposal among all that were put to the rule, from 1.
            scale: Typical size of a difference, from `scale_of` the first look; 0 takes it from `differences`.
        """
        paired = np.asarray(differences, dtype=np.float64)
        scale = scale or scale_of(differences)
        gain = float(paired.mean()) if paired.size else 0.0
        return Evidence(
            gain=gain,
            cases=int(paired.size),
            e_value=self._capital(paired, scale),
            threshold=self.threshold(test),
            at_least=self._lower_bound(paired, scale, gain),
            test=test,
        )

    def _capital(self, paired: FloatArray, scale: float) -> float:
        if not paired.size or not paired.any():
            return 1.0
        if self.score_range:
            width = self.score_range[1] - self.score_range[0]
            logs = np.log1p(np.outer(_RANGE_BETS, paired / width)).sum(axis=1)
            return _mixture(logs, _RANGE_WEIGHTS)
        bets = np.outer(_SIGN_BETS, paired / scale)
        return _mixture((math.log(2.0) - np.logaddexp(0.0, -2.0 * bets)).sum(axis=1), _SIGN_WEIGHTS)

    def _lower_bound(self, paired: FloatArray, scale: float, gain: float) -> float | None:
        """Invert the test: the largest shift whose removal still leaves capital of 1 / alpha."""
        if not paired.size:
            return None
        width = self.score_range[1] - self.score_range[0] if self.score_range else math.inf
        low, high = -width, gain
        if not self.score_range:
            step = max(scale, float(np.ptp(paired)), abs(gain), _LEAST_STEP)
            low = float(paired.min()) - _FAR_STEPS * step
            if self._shifted_capital(paired, low, scale or step, width) < 1 / self.alpha:
                return None
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            if self._shifted_capital(paired, middle, scale, width) >= 1 / self.alpha:
                low = middle
            else:
                high = middle
        return low

    def _shifted_capital(self, paired: FloatArray, shift: float, scale: float, width: float) -> float:
        moved = paired - shift
        if self.score_range:
            # A shifted difference can be as low as -width - shift, so bets shrink to stay solvent.
            room = max(width + shift, 1e-12)
            return _mixture(np.log1p(np.outer(_RANGE_BETS, moved / room)).sum(axis=1), _RANGE_WEIGHTS)
        bets = np.outer(_SIGN_BETS, moved / scale) if scale else np.zeros((len(_SIGN_BETS), moved.size))
        return _mixture((math.log(2.0) - np.logaddexp(0.0, -2.0 * bets)).sum(axis=1), _SIGN_WEIGHTS)


def scale_of(differences: Sequence[float]) -> float:
    """Return the root mean square of the differences that are not zero, or 0 when all are.

    It depends on their sizes only, never on their signs, so fixing it at the first look keeps the bets fair.
    """
    sizes = np.asarray([abs(value) for value in differences if value], dtype=np.float64)
    if not sizes.size:
        return 0.0
    largest = float(sizes.max())
    # Divided first: squares of very small or very large differences would leave the range of floats.
    return largest * float(np.sqrt(np.mean((sizes / largest) ** 2)))


def _mixture(logs: FloatArray, weights: FloatArray) -> float:
    """Return the capital of a bettor who split it over several constant bets, without overflow."""
    top = float(logs.max())
    return float(min(math.exp(min(top, 700.0)) * float(np.dot(weights, np.exp(logs - top))), CERTAIN))
