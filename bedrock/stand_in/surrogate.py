"""A Gaussian process over the trials: what to expect of a point, and how surely."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .trials import Array
from .vector_space import VectorSpace

Indices: TypeAlias = NDArray[np.intp]

_FIT_STEPS = 11
"""Steps of the fit: from priors that already suit most problems, a few are enough."""
_FIT_RATE = 0.35
"""Size of a step in log scale."""
_FIT_LATEST, _FIT_BEST = 24, 24
"""How many trials the scales are fitted to; all trials then count for the prediction."""
_MOMENT, _SECOND = 0.7, 0.9
"""How long Adam remembers slopes and their squares: shorter than usual, as the steps are few."""
_NUMBER_PRIOR, _CHOICE_PRIOR = 1.7, -0.5
"""Log weight of one gene alone; it falls by the log of the number of genes."""
_NOISE_PRIOR = -4.0
"""Log variance of the noise, in units of the trials' own."""
_WEIGHT_VARIANCE, _NOISE_VARIANCE = 2.0, 8.0
"""How far weights and noise may stray from their priors, in log scale."""
_NOISE_RANGE = (-14.0, 2.0)
"""Beyond these the matrix is singular, or the trials tell nothing."""
_JITTER = 1e-8
"""Keeps the matrix invertible when two trials are alike."""
_LEAST_VARIANCE = 1e-10
_CLIMB_STEPS, _CLIMB_DECAY = 10, 0.75
"""Steps uphill, each shorter than the last by this factor."""
_FAR = -6.0
"""Standard deviations below the goal from where the tail's expansion is more exact than the formula."""
_ERFC = (
    *(0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807),
    *(-0.18628806, 0.09678418, 0.37409196, 1.00002368, -1.26551223),
)
"""Coefficients of the error function's expansion, highest power first."""
_UNIT_NORMAL = 1.0 / math.sqrt(2.0 * math.pi)


class Surrogate:
    """A Gaussian process (Matern 5/2, one scale per gene) over the trials.

    Source: Snoek, Larochelle, Adams, "Practical Bayesian Optimization", 2012; the prior of the scales grows
    with the number of genes as in Hvarfner, Hellsten, Nardi, "Vanilla Bayesian Optimization Performs Great in
    High Dimensions", 2024; the fit is Adam (Kingma, Ba, 2015) on the marginal likelihood.

    Args:
        space: What the coordinates mean.
        points: The trials, one row each.
        text: How far the trials' texts are apart, one row and one column each; all zero if there are none.
        fitness: The trials' fitness.
        trust: How surely each is known: 1 = scored on all cases.
    """

    def __init__(self, space: VectorSpace, points: Array, text: Array, fitness: Array, trust: Array) -> None:
        self._space, self._points = space, points
        self._has_text = bool(text.any())
        self.centre, self.scale = float(fitness.mean()), float(fitness.std()) or 1.0
        self._target = (fitness - self.centre) / self.scale
        self._spread = 1.0 / trust
        told = _most_telling(fitness)
        self._fit(told, _gaps(space, points[told], text[np.ix_(told, told)] if self._has_text else None))
        self._factor(np.arange(len(points)), self._theta, _gaps(space, points, text if self._has_text else None))
        self._known = self._embed(points)
        self.mean = self.predict(points, text)[0]

    def _fit(self, told: Indices, gaps: Array) -> None:
        """Find the weights of the genes and the noise, from their priors uphill."""
        genes = len(gaps)
        categorical = np.append(self._space.categorical, True)[:genes]
        prior = np.append(np.where(categorical, _CHOICE_PRIOR, _NUMBER_PRIOR) - math.log(genes), _NOISE_PRIOR)
        pull = np.append(np.full(genes, 1.0 / _WEIGHT_VARIANCE), 1.0 / _NOISE_VARIANCE)
        theta = prior.copy()
        moment, second = np.zeros(genes + 1), np.zeros(genes + 1)
        for step in range(1, _FIT_STEPS + 1):
            slope = self._slope(told, theta, gaps) - (theta - prior) * pull
            moment = _MOMENT * moment + (1.0 - _MOMENT) * slope
            second = _SECOND * second + (1.0 - _SECOND) * slope * slope
            ahead = moment / (1.0 - _MOMENT**step)
            theta = theta + _FIT_RATE * ahead / (np.sqrt(second / (1.0 - _SECOND**step)) + 1e-9)
            theta[-1] = min(max(theta[-1], _NOISE_RANGE[0]), _NOISE_RANGE[1])
        self._theta = theta

    def _slope(self, told: Indices, theta: Array, gaps: Array) -> Array:
        """Return the slope of the marginal likelihood by the log weights and the log noise."""
        by_distance = self._factor(told, theta, gaps)
        share = np.outer(self._alpha, self._alpha) / self.amplitude - self._inverse
        weights = 0.5 * (gaps @ (share * by_distance).reshape(-1)) * self._weights
        noise = 0.5 * float(np.diag(share) @ self._spread[told]) * self.noise
        return np.append(weights, noise)

    def _factor(self, told: Indices, theta: Array, gaps: Array) -> Array:
        """Take up these parameters for some of the trials; return the kernel's derivative by squared distance."""
        n, target = len(told), self._target[told]
        self._weights, self.noise = np.exp(theta[:-1]), math.exp(theta[-1])
        kernel, by_distance = _matern((self._weights @ gaps).reshape(n, n))
        kernel.flat[:: n + 1] += self.noise * self._spread[told] + _JITTER
        self._inverse = np.linalg.inv(kernel)
        self._alpha = self._inverse @ target
        self.amplitude = max(float(target @ self._alpha) / n, 1e-9)
        return by_distance

    def _embed(self, points: Array) -> Array:
        """Return points whose plain squared distances are the weighted ones: a choice becomes one column a level."""
        space = self._space
        root = np.sqrt(self._weights[: len(space.names)])
        columns = [points[:, space.numbers] * root[space.numbers]]
        for j in space.choices.tolist():
            levels = np.arange(len(space.levels[j]))
            columns.append((points[:, j, None] == levels) * (root[j] * math.sqrt(0.5)))
        return np.concatenate(columns, axis=1)

    def _kernel(self, a: Array, b: Array, text: Array | None) -> tuple[Array, Array]:
        square = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2.0 * a @ b.T
        if text is not None and self._has_text:
            square += self._weights[-1] * text
        return _matern(np.maximum(square, 0.0))

    def predict(self, points: Array, text: Array) -> tuple[Array, Array, Array]:
        """Return mean, variance (of the fitness without noise) and the weights on the trials.

        Args:
            points: One row each.
            text: The text distances of each to each trial.
        """
        kernel, _ = self._kernel(self._embed(points), self._known, text)
        weights = kernel @ self._inverse
        variance = np.maximum(1.0 - (weights * kernel).sum(1), _LEAST_VARIANCE) * self.amplitude
        return kernel @ self._alpha, variance, weights

    def covariance(self, points: Array, weights: Array, other: Array, text: Array) -> Array:
        """Return what is still unknown of points and of another one together, given the trials.

        Args:
            points: One row each.
            weights: Their weights on the trials.
            other: One point.
            text: The text distances of the other to each trial, as one row.
        """
        one = self._embed(other[None, :])
        among, _ = self._kernel(self._embed(points), one, None)
        known, _ = self._kernel(one, self._known, text)
        return np.asarray((among[:, 0] - weights @ known[0]) * self.amplitude)

    def climb(self, starts: Array, text: Array, radius: Array) -> Array:
        """Follow the slope of the mean from each start; every point passed is a candidate.

        Args:
            starts: One row each.
            text: The text distances of all of them to each trial, as one row.
            radius: Length of the first step of each, one row each.
        """
        numbers = self._space.numbers
        weights = self._weights[numbers]
        path, points = [], starts
        for step in range(_CLIMB_STEPS):
            _, by_distance = self._kernel(self._embed(points), self._known, text)
            pull = self._alpha * by_distance
            slope = points[:, numbers] * pull.sum(1)[:, None] - pull @ self._points[:, numbers]
            slope *= weights
            length = np.sqrt((slope * slope).sum(1, keepdims=True)) + 1e-12
            points = points.copy()
            moved = points[:, numbers] + slope * (radius * _CLIMB_DECAY**step / length)
            points[:, numbers] = moved.clip(0.0, 1.0)
            path.append(points)
        return np.concatenate(path)


def _most_telling(fitness: Array) -> Indices:
    """Return the latest trials and the best older ones: the scales are fitted to these, at a third of the cost."""
    latest = np.arange(max(0, len(fitness) - _FIT_LATEST), len(fitness))
    best = np.argsort(-fitness[: latest[0]], kind="stable")[:_FIT_BEST]
    return np.sort(np.concatenate([best, latest]))


def _gaps(space: VectorSpace, points: Array, text: Array | None) -> Array:
    """Return squared distances of all pairs, one row per gene and one for the texts."""
    n, d = points.shape
    gaps = points.T[:, :, None] - points.T[:, None, :]
    gaps = np.where(space.categorical[:, None, None], gaps != 0.0, gaps * gaps).reshape(d, n * n)
    return gaps if text is None else np.concatenate([gaps, text.reshape(1, n * n)])


def _matern(square: Array) -> tuple[Array, Array]:
    """Return the Matern 5/2 kernel of squared distances, and its derivative by them."""
    root = np.sqrt(5.0 * square)
    fall = np.exp(-root)
    linear = 1.0 + root
    return (linear + square * (5.0 / 3.0)) * fall, (-5.0 / 6.0) * linear * fall


def squash(fitness: Array) -> Array:
    """Compress what lies below the median, so that a few terrible trials do not flatten the rest."""
    middle = float(np.median(fitness))
    unit = (float(fitness.max()) - middle) or float(np.ptp(fitness)) or 1.0
    return np.where(fitness < middle, middle - unit * np.log1p((middle - fitness).clip(0) / unit), fitness)


def log_improvement(mean: Array, variance: Array, goal: float) -> Array:
    """Return the log of the expected improvement over a goal, without underflow.

    Source: Ament, Daulton, Eriksson, Balandat, Bakshy, "Unexpected Improvements to Expected Improvement", 2023.
    """
    deviation = np.sqrt(variance)
    z = (mean - goal) / deviation
    far = z < _FAR
    near = np.where(far, 0.0, z)
    density = np.exp(-0.5 * near * near) * _UNIT_NORMAL
    below = 0.5 * _erfc(-near * math.sqrt(0.5))
    tail = -0.5 * z * z + math.log(_UNIT_NORMAL) - 2.0 * np.log(np.maximum(np.abs(z), 1.0))
    close = np.log(np.maximum(density + near * below, 1e-300))
    return np.asarray(np.where(far, tail, close) + np.log(deviation))


def _erfc(x: Array) -> Array:
    """Return the complementary error function, exact to seven digits of itself.

    Source: Press, Teukolsky, Vetterling, Flannery, "Numerical Recipes", 1992, section 6.2.
    """
    size = np.abs(x)
    t = 1.0 / (1.0 + 0.5 * size)
    found = t * np.exp(np.polyval(_ERFC, t) - size * size)
    return np.asarray(np.where(x < 0.0, 2.0 - found, found))
