"""Degradation: are live results worse than before a change, judged as they come in and with bounded error?

Outcomes are ranked: each new one among the reference and the new ones before it. As long as nothing changed all orders
are equally likely, so these ranks are independent and uniform, whatever the outcomes' distribution; ties are broken by
a draw from a seed. A bettor who starts with 1 bets on low ranks: his capital is a conformal test martingale, and *ever*
reaches 1/a with probability at most a (Ville's inequality), so looking after each outcome is allowed (Vovk, Gammerman &
Shafer, "Algorithmic Learning in a Random World", 2nd edition 2022, chapter 8; Volkhonskiy et al., "Inductive conformal
martingales for change-point detection", COPA 2017).

New outcomes are ranked among each other too, so after a change their ranks drift back to the middle. The bets therefore
know how much of the pool is reference: each is the likelihood ratio of a rank, for an outcome with logistic noise that
fell by some standard deviations, in a pool mixed of both kinds. Its mean over uniform ranks is exactly one, so the
guarantee needs no such outcomes; only the power is tuned to them.

Where the reference holds nothing but 0 and 1, ranks are mostly ties and see little. There Fisher's exact test is made
at a few fixed numbers of outcomes, which share the error between them (error spending as in Lan & DeMets, "Discrete
sequential boundaries for clinical trials", Biometrika 1983, with a union bound in place of a normal approximation).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_DROPS: FloatArray = np.array([0.4, 0.75, 1.1, 1.8])
"""Falls that are bet on, in standard deviations of an outcome."""
_WEIGHTS: FloatArray = np.array([0.15, 0.3, 0.4, 0.15])
_LOOKS = {10: 0.05, 20: 0.1, 40: 0.2, 70: 0.2, 100: 0.2, 200: 0.1, 400: 0.05, 1000: 0.05, 2000: 0.05}
"""When 0/1 outcomes are looked at, by their number, and the share of the error each look may make."""
_LOGISTIC_DEVIATION = math.pi / math.sqrt(3)
_LEAST_RANK = 1e-12
_LOG_CERTAIN = 690.0
"""Evidence is capped here, so that evidence stays a finite, JSON-plain number."""


@dataclass(frozen=True, slots=True)
class Degradation:
    """What live outcomes say of a change.

    Args:
        outcomes: How many outcomes since the change were looked at.
        mean_before: Mean of the reference.
        mean_now: Mean of the outcomes since the change; None where there are none.
        e_value: The evidence against them: as long as nothing changed, it ever reaches x with probability at most 1/x.
        threshold: The evidence that is needed.
        at: Number of the outcome, from 1, at which it was reached; None where it was not.
    """

    outcomes: int
    mean_before: float
    mean_now: float | None
    e_value: float
    threshold: float
    at: int | None

    @property
    def degraded(self) -> bool:
        """Whether the outcomes are credibly worse; once they were, more outcomes do not change it."""
        return self.at is not None


def threshold_of(change: int, *, alpha: float) -> float:
    """Return the evidence that is needed against change number `change` (from 1) of an application.

    Alpha is spent as alpha / (k (k + 1)), which sums to alpha over any number of changes.
    """
    return change * (change + 1) / alpha


def assess(reference: Sequence[float], outcomes: Sequence[float], *, threshold: float, seed: int) -> Degradation:
    """Compare the outcomes since a change, in their order, with those before it.

    The probability that outcomes which come from where the reference came from are ever found worse, however many
    there will be, is at most 1 / threshold. Only outcomes that are 0 and 1 in the whole reference by chance, and
    otherwise something else, could make it twice as much.

    Args:
        reference: Outcomes before the change, in any order; at least one.
        outcomes: Outcomes since the change; the first ones must stay the same when more are added.
        threshold: Evidence that is needed, from `threshold_of`.
        seed: Breaks ties; the same for the whole life of a change.
    """
    mean_before = float(np.mean(reference))
    if not outcomes:
        return Degradation(0, mean_before, None, 1.0, threshold, None)
    means = np.cumsum(outcomes) / np.arange(1, len(outcomes) + 1)
    # Ranks see most outcomes fall; where few rose so much that the mean did not fall, nothing got worse.
    evidence = np.where(means < mean_before, _evidence(reference, outcomes, seed), 1.0)
    reached = np.flatnonzero(evidence >= threshold)
    return Degradation(
        outcomes=len(outcomes),
        mean_before=mean_before,
        mean_now=float(means[-1]),
        e_value=float(max(1.0, evidence.max())),
        threshold=threshold,
        at=int(reached[0]) + 1 if reached.size else None,
    )


def _evidence(reference: Sequence[float], outcomes: Sequence[float], seed: int) -> FloatArray:
    """Return the evidence after each outcome."""
    if set(reference) <= {0.0, 1.0}:
        return _exact_tests(np.asarray(reference) >= 1, np.asarray(outcomes) >= 1)
    return _capital(_ranks(reference, outcomes, seed), len(reference))


def _exact_tests(reference: npt.NDArray[np.bool_], outcomes: npt.NDArray[np.bool_]) -> FloatArray:
    evidence = np.ones(len(outcomes))
    for look, share in _LOOKS.items():
        if look <= len(outcomes):
            chance = _chance_of_so_few(int(reference.sum()), len(reference), int(outcomes[:look].sum()), look)
            evidence[look - 1] = share / max(chance, math.exp(-_LOG_CERTAIN))
    return evidence


def _chance_of_so_few(before: int, reference: int, now: int, outcomes: int) -> float:
    """Return the probability that so few of all successes fall on the new outcomes, in a random order of all."""
    successes = before + now
    counts = np.arange(max(0, successes - reference), now + 1)
    logs = _log_choose(outcomes, counts) + _log_choose(reference, successes - counts)
    return float(np.exp(logs - _log_choose(reference + outcomes, np.asarray(successes))).sum())


def _log_choose(whole: int, part: npt.NDArray[np.int_]) -> FloatArray:
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, whole + 1)))])
    logs: FloatArray = factorials[whole] - factorials[part] - factorials[whole - part]
    return logs


def _ranks(reference: Sequence[float], outcomes: Sequence[float], seed: int) -> FloatArray:
    """Return each outcome's place among all before it and itself, in (0, 1); uniform if nothing changed."""
    pool = sorted(reference)
    below, equal = np.empty(len(outcomes)), np.empty(len(outcomes))
    for place, outcome in enumerate(outcomes):
        first = bisect_left(pool, outcome)
        below[place], equal[place] = first, bisect_right(pool, outcome, lo=first) - first + 1
        insort(pool, outcome)
    draws = np.random.default_rng(seed).random(len(outcomes))
    sizes = len(reference) + np.arange(1, len(outcomes) + 1)
    ranks: FloatArray = np.clip((below + draws * equal) / sizes, _LEAST_RANK, 1 - _LEAST_RANK)
    return ranks


def _capital(ranks: FloatArray, reference: int) -> FloatArray:
    """Return the capital after each rank of a bettor who split it over the drops."""
    share = reference / (reference + np.arange(len(ranks), dtype=np.float64))
    logs = np.cumsum(np.log(_bets(ranks, share, _DROPS[:, None])), axis=1)
    top = logs.max(axis=0)
    mixed = top + np.log(_WEIGHTS @ np.exp(logs - top))
    capital: FloatArray = np.exp(np.minimum(mixed, _LOG_CERTAIN))
    return capital


def _bets(ranks: FloatArray, share: FloatArray, drop: FloatArray) -> FloatArray:
    """Return what one unit on a drop becomes at each rank, in a pool whose `share` is reference.

    The pool's distribution is G(x) = share F(x) + (1 - share) F(x + d) with the logistic F. A fallen outcome has the
    density f(x + d), so its rank G(x) has the density f(x + d) / g(x), which integrates to one.
    """
    fall = np.exp(-drop * _LOGISTIC_DEVIATION)
    # G(x) = rank is a quadratic equation in y = exp(-x), with one positive root.
    square, constant = ranks * fall, ranks - 1
    linear = ranks * (1 + fall) - share * fall - (1 - share)
    root = np.sqrt(linear**2 - 4 * square * constant)
    # Of the two forms of the root the one that subtracts no equal numbers.
    y = np.where(linear > 0, -2 * constant / (linear + root), (root - linear) / (2 * square))
    bets: FloatArray = 1 / (1 - share + share * (1 + fall * y) ** 2 / (fall * (1 + y) ** 2))
    return bets
