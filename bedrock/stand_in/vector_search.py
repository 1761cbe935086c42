"""Operators of numbers, choices and flags: each proposes one point, from the same model of the past."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ...clock import derive_seed
from ...dna.genes import GeneValue
from .surrogate import Surrogate, log_improvement, squash
from .tpe import ask_tpe
from .trials import Array, Past
from .vector_space import VectorSpace

RATIONALES = {
    "model": "Moves to where a Gaussian process fitted to the trials expects the largest improvement.",
    "tpe": "Samples where good trials are dense and poor ones rare (TPE).",
    "flip": "Changes one setting of a good trial and nothing else.",
    "local": "Changes a few values of a good trial by a random step.",
    "cross": "Recombines the values of good trials.",
    "fill": "Tries a combination far from all trials.",
}

_MUTANT_STEPS = (-2.5, -0.4)
"""Powers of ten between which the size of a mutation is drawn, in units of a gene's range."""
_FLIPS = 1.5
"""How many choices a mutation that moves everything flips: more would be a random restart."""
_STRETCH, _STRETCHED = 0.9, 0.6
"""Longest step along the difference of two good trials, and the share of children that take one."""
_NUMBER_FLIPS = (-0.4, -0.2, 0.2, 0.4)
"""How far a flip moves a number, in units of its range: far enough to tell its direction."""
_CROSSED = 0.5
"""Share of genes a child takes from its first parent."""
_PARENTS, _MUTATED = 12, 3
"""How many of the best trials are crossed, and how many a single mutation starts from."""
_FILLERS = 48
"""How many random points compete to be the farthest from all trials."""
_RANDOMS, _MUTANTS, _CHILDREN = 64, 128, 48
"""Sizes of the pool the model chooses from."""
_CLIMB_RADII = (0.2, 0.03)
"""First steps along the slope of the mean: one to leave a hill, one to find its top."""
_REFINEMENTS, _REFINED, _REFINERS = 2, 6, 48
"""Rounds of mutating the pool's best, how many of them, and into how many."""
_TPE_BEST, _TPE_LATEST = 10, 24
"""TPE is told of this many trials: it costs by the trial, and only the best and the latest matter to it."""


class VectorSearch:
    """Proposes points; the model is fitted once and shared by all operators of a generation.

    Args:
        space: What the coordinates mean.
        live: The live values.
        past: Earlier trials.
        text: How far the trials' texts are apart.
        seed: Derives every random choice.
    """

    def __init__(self, space: VectorSpace, live: Mapping[str, GeneValue], past: Past, text: Array, seed: int) -> None:
        self._space, self._past, self._text, self._seed = space, past, text, seed
        self._rng = np.random.default_rng(derive_seed(seed, "vector"))
        self._points = np.array([space.encode(t.values) for t in past.trials]).reshape(len(past), len(space.names))
        self._live = np.array([space.encode(live)])
        self._order = past.order
        self._model: Surrogate | None = None
        if past.modelled:
            self._model = Surrogate(space, self._points, text, squash(past.fitness), past.trust)
            self._order = np.argsort(-np.round(self._model.mean, 6), kind="stable").tolist()
        self._pool: _Pool | None = None
        self._taken: list[Array] = []

    @property
    def base(self) -> int | None:
        """The trial with the best estimated fitness, if there is any."""
        return self._order[0] if self._order else None

    def draw(self, operator: str) -> tuple[Array, float]:
        """Return a point and its expected gain over the base, in units of fitness."""
        gain = 0.0
        if operator == "model" and self._model is not None:
            point, gain = self._expected_best(self._model)
        elif operator == "tpe":
            point = self._tpe()
        elif operator == "flip":
            point = self._flip()
        elif operator == "cross":
            point = self._children(self._top(_PARENTS), 1)[0]
        elif operator == "fill":
            point = self._farthest()
        else:
            point = self._mutants(self._top(_MUTATED), 1)[0]
        self._taken.append(point)
        return point, gain

    def _top(self, most: int) -> Array:
        return self._points[self._order[:most]] if self._order else self._live

    def _known(self) -> Array:
        return np.concatenate([self._points, self._live, *(point[None, :] for point in self._taken)])

    def _farthest(self) -> Array:
        """Take the random point farthest from all trials (Mitchell's best candidate)."""
        points = self._space.random(_FILLERS, self._rng)
        gaps = points[:, None, :] - self._known()[None, :, :]
        nearest = np.where(self._space.categorical, gaps != 0.0, gaps * gaps).sum(2).min(1)
        return np.asarray(points[int(np.argmax(np.round(nearest, 9)))])

    def untried(self) -> list[tuple[int, float]]:
        """Return (gene, level) of every choice and flag that no trial had yet."""
        known = self._known()
        seen = {j: set(known[:, j].tolist()) for j in self._space.choices.tolist()}
        return [(j, float(k)) for j in seen for k in range(len(self._space.levels[j])) if k not in seen[j]]

    def _flip(self) -> Array:
        """Change one gene of the best trial, levels never tried first: the cleanest comparison there is."""
        start: Array = self._top(1)[0]
        tried = {row.tobytes() for row in self._known()}
        levels = [(j, float(k)) for j in self._space.choices.tolist() for k in range(len(self._space.levels[j]))]
        moves = [(j, start[j] + step) for j in self._space.numbers.tolist() for step in _NUMBER_FLIPS]
        for changes in (self.untried(), levels, moves):
            points = np.repeat(start[None, :], len(changes), axis=0)
            for row, (j, value) in enumerate(changes):
                points[row, j] = value
            fresh = [row for row in self._space.snap(points) if row.tobytes() not in tried]
            if fresh:
                return np.asarray(fresh[int(self._rng.integers(len(fresh)))])
        return start

    def _mutants(self, bases: Array, count: int) -> Array:
        """Move a few genes of good trials, by steps of all sizes."""
        space, genes = self._space, len(self._space.names)
        points = bases[self._rng.integers(len(bases), size=count)].copy()
        size = 10.0 ** self._rng.uniform(*_MUTANT_STEPS, (count, 1))
        rate = np.exp(self._rng.uniform(math.log(1.0 / genes), 0.0, (count, 1)))
        moved = self._rng.random(points.shape) < rate
        moved[np.arange(count), self._rng.integers(genes, size=count)] = True
        step = self._rng.standard_normal(points.shape) * size
        # An integer moves by one at least.
        step += np.sign(step) * space.steps * 0.5
        numbers, choices = space.numbers, space.choices
        points[:, numbers] += np.where(moved, step, 0.0)[:, numbers]
        if len(choices):
            rate_of_flips = min(1.0, _FLIPS / len(choices)) if len(numbers) else 1.0
            flipped = moved[:, choices] & (self._rng.random((count, len(choices))) < rate_of_flips)
            levels = space.level_counts[choices]
            other = 1.0 + np.floor(self._rng.random((count, len(choices))) * (levels - 1.0))
            points[:, choices] = (points[:, choices] + flipped * other) % levels
        return space.snap(points)

    def _children(self, parents: Array, count: int) -> Array:
        """Cross good trials gene by gene, and step along their differences (differential evolution)."""
        pick = self._rng.integers(len(parents), size=(4, count))
        mother, father, ahead, behind = (parents[row] for row in pick)
        points = np.where(self._rng.random(mother.shape) < _CROSSED, mother, father)
        stretched = self._rng.random((count, 1)) < _STRETCHED
        step = self._rng.uniform(0.0, _STRETCH, (count, 1)) * stretched * (ahead - behind)
        points[:, self._space.numbers] += step[:, self._space.numbers]
        return self._space.snap(points)

    def _tpe(self) -> Array:
        latest = range(max(0, len(self._points) - _TPE_LATEST), len(self._points))
        told = sorted({*self._order[:_TPE_BEST], *latest})
        seed = derive_seed(self._seed, "tpe", len(self._taken))
        point = ask_tpe(self._space.levels, self._points[told], self._past.fitness[told], seed=seed)
        return np.asarray(self._space.snap(point[None, :])[0])

    def _expected_best(self, model: Surrogate) -> tuple[Array, float]:
        """Take the point of largest expected improvement."""
        if self._pool is None:
            self._pool = _Pool(model, self._text[self._order[0]])
            self._gather(self._pool)
        point, ahead = self._pool.take()
        return point, ahead * model.scale

    def _gather(self, pool: _Pool) -> None:
        """Fill the pool with random points, mutants, children and slopes of the mean; then refine it."""
        top = self._top(8)
        rows = [
            self._space.random(_RANDOMS, self._rng),
            self._mutants(top[:4], _MUTANTS),
            self._children(top, _CHILDREN),
        ]
        if len(self._space.numbers):
            starts = np.concatenate([top[:4], self._children(top, 4)])
            rows.append(self._space.snap(pool.climb(starts, _CLIMB_RADII)))
        pool.add(np.concatenate(rows))
        for _ in range(_REFINEMENTS):
            pool.add(self._mutants(pool.best(_REFINED), _REFINERS))
        pool.forget({row.tobytes() for row in [*self._points, *self._taken]})


class _Pool:
    """Candidate points with what the model expects of them.

    Args:
        model: The surrogate.
        text: The text distances of the base to each trial: candidates keep its texts.
    """

    def __init__(self, model: Surrogate, text: Array) -> None:
        self._model, self._text = model, text[None, :]
        self._goal = float(model.mean.max())
        self._points: list[Array] = []
        self._beliefs: list[tuple[Array, Array, Array]] = []

    def climb(self, starts: Array, radii: Sequence[float]) -> Array:
        """Return the points passed when following the model's mean uphill, once with each size of steps."""
        each = np.repeat(radii, len(starts))[:, None]
        return self._model.climb(np.concatenate([starts] * len(radii)), self._text, each)

    def add(self, points: Array) -> None:
        """Put points in."""
        self._points.append(points)
        self._beliefs.append(self._model.predict(points, self._text))

    def _merge(self) -> tuple[Array, Array, Array, Array]:
        points = np.concatenate(self._points)
        mean, variance, weights = (np.concatenate(parts) for parts in zip(*self._beliefs, strict=True))
        return points, mean, variance, weights

    def best(self, count: int) -> Array:
        """Return the points of largest expected improvement."""
        points, mean, variance, _ = self._merge()
        score = log_improvement(mean, variance, self._goal)
        return points[np.argsort(-np.round(score, 6), kind="stable")[:count]]

    def forget(self, known: set[bytes]) -> None:
        """Leave out what was tried, unless nothing else is left."""
        points, mean, variance, weights = self._merge()
        fresh = [i for i, row in enumerate(points) if row.tobytes() not in known] or list(range(len(points)))
        self._points = [points[fresh]]
        self._beliefs = [(mean[fresh], variance[fresh], weights[fresh])]

    def take(self) -> tuple[Array, float]:
        """Return the best point and its expected gain over the goal, in the model's units.

        What is taken is as good as known: its neighbours lose the uncertainty that made them attractive.
        """
        [points], [(mean, variance, weights)] = self._points, self._beliefs
        best = int(np.argmax(np.round(log_improvement(mean, variance, self._goal), 6)))
        shared = self._model.covariance(points, weights, points[best], self._text)
        certain = variance[best] + self._model.noise * self._model.amplitude + 1e-9
        left = np.maximum(variance - shared**2 / certain, 1e-10)
        self._beliefs = [(mean, left, weights)]
        return points[best], float(mean[best] - self._goal)
