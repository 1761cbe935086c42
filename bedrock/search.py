"""The stand-in's search: proposes what to try next from what was tried before, without a language model.

Numbers, choices and flags are searched with a Gaussian process, optuna's TPE and evolutionary moves; text
genes with the edits of `text_search`. Which of these operators is used more is learnt from history.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..clock import derive_seed
from ..dna.genes import ChoiceGene, FlagGene, Gene, GeneValue, IntegerGene, NumberGene
from ..errors import InvalidGene
from .text_search import TextSearch

Array: TypeAlias = NDArray[np.float64]
VectorGene: TypeAlias = NumberGene | IntegerGene | ChoiceGene | FlagGene

# Prior belief in each operator: its chance to beat all earlier trials, and how many trials it is worth.
_PRIOR = {
    "model": (0.6, 12.0),
    "tpe": (0.55, 12.0),
    "local": (0.15, 6.0),
    "cross": (0.3, 8.0),
    "fill": (0.05, 8.0),
    "mixed": (0.25, 6.0),
    "text:batch16": (0.6, 4.0),
    "text:batch8": (0.5, 4.0),
    "text:batch4": (0.4, 4.0),
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
_RATIONALES = {
    "model": "Moves to where a Gaussian process fitted to the trials expects the largest improvement.",
    "tpe": "Samples where good trials are dense and poor ones rare (TPE).",
    "local": "Changes a few values of a good trial by a random step.",
    "cross": "Recombines the values of good trials.",
    "fill": "Tries a combination far from all trials.",
}


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


def propose(
    genes: Mapping[str, Gene],
    live: Mapping[str, GeneValue],
    history: Sequence[Ancestor],
    feedback: Sequence[Feedback],
    *,
    count: int,
    seed: int,
) -> list[Proposal]:
    """Propose what to try next; equal arguments give equal proposals.

    Args:
        genes: Declarations of all genes; locked and code genes are left alone.
        live: The values the application runs with.
        history: Earlier trials, oldest first: a bounded window, with the best older ones.
        feedback: What the evaluator said of failed training cases of the best parent.
        count: How many proposals are wanted.
        seed: Derives every random choice; give another one each generation.

    Returns:
        At most `count` different proposals, none equal to the live genes or to a trial of the history; fewer
        if the space is exhausted.
    """
    return _Planner(genes, live, history, feedback, seed).run(count)


class _Planner:
    """Shares one generation's proposals among the operators, by Thompson sampling of their records."""

    def __init__(
        self,
        genes: Mapping[str, Gene],
        live: Mapping[str, GeneValue],
        history: Sequence[Ancestor],
        feedback: Sequence[Feedback],
        seed: int,
    ) -> None:
        self.genes, self.live, self.seed = genes, live, seed
        self.history = [a for a in history if genes.keys() <= a.values.keys()]
        self.fitness, self.trust = _fitness(self.history)
        self.record = _Record(self.history, self.fitness)
        self.space = _Space(genes)
        self.texts = TextSearch(genes, live, self.history, feedback, self.fitness, seed)
        self.names = [*self.space.names, *self.texts.names]
        self.seen = {self._key(live), *(self._key(a.values) for a in self.history)}
        self.rng = np.random.default_rng(derive_seed(seed, "share"))
        self.edits = self.texts.operators() if self.texts.names else {}
        self.moves = self._moves()
        self.order = np.argsort(-self.fitness, kind="stable").tolist()
        self._vector: _VectorSearch | None = None

    def _moves(self) -> list[str]:
        if not self.space.names:
            return []
        if not _modelled(self.fitness):
            return ["local", "fill"]
        # TPE costs as much as all the others together, and more with more genes: it is asked less often then.
        often = self.rng.random() < 8.0 / len(self.space.names)
        return ["model", "local", "cross", "fill", *(["tpe"] if often else [])]

    @property
    def vector(self) -> _VectorSearch:
        """The search of numbers and choices, made when it is first needed."""
        if self._vector is None:
            text = self.texts.distances()
            self._vector = _VectorSearch(self.space, self.live, self.history, self.fitness, self.trust, text, self.seed)
        return self._vector

    def run(self, count: int) -> list[Proposal]:
        """Fill the generation; an operator that has nothing new to offer loses its place to another."""
        found: list[Proposal] = []
        used: dict[str, int] = {}
        misses: dict[str, int] = {}
        while len(found) < count and (operators := self._open(count - len(found), used, misses)):
            operator = self._choose(operators, used)
            values, rationale, gain = self._make(operator)
            proposal = self._proposal(operator, values, rationale, gain)
            if proposal is None:
                misses[operator] = misses.get(operator, 0) + 1
            else:
                found.append(proposal)
                used[operator] = used.get(operator, 0) + 1
        return found + self._sweep(count - len(found))

    def _sweep(self, count: int) -> list[Proposal]:
        """List what is left of a small space that sampling no longer finds."""
        size = math.prod(self.space.sizes())
        if count <= 0 or not self.space.names or size > 4096:
            return []
        found: list[Proposal] = []
        base = self._values(None)
        for values in itertools.product(*self.space.grid()):
            point = dict(zip(self.space.names, values, strict=True))
            if proposal := self._proposal("fill", base | point, _RATIONALES["fill"], 0.0):
                found.append(proposal)
                if len(found) == count:
                    break
        return found

    def _open(self, left: int, used: Mapping[str, int], misses: Mapping[str, int]) -> list[str]:
        """The operators still worth asking; the last place goes to the kind of gene that has none yet."""
        mixed = ["mixed"] if self.moves and self.edits else []
        spent = "tpe" if "tpe" in used else ""
        every = [
            o
            for o in (*self.moves, *self.edits, *mixed)
            if o != spent and misses.get(o, 0) < (3 if o in self.edits else 6)
        ]
        if not mixed or left > 1 or sum(used.values()) == 0:
            return every
        has_text = any(o in self.edits for o in used)
        has_move = any(o in self.moves for o in used)
        rest = [o for o in every if (o in self.edits and not has_text) or (o in self.moves and not has_move)]
        return rest or every

    def _choose(self, operators: Sequence[str], used: Mapping[str, int]) -> str:
        start = not _modelled(self.fitness)
        draws = [
            self.rng.beta(*((1.0, 1.0) if start and o in self.moves else self.record.beta(o)))
            * (0.9 if o == "model" else 0.4) ** used.get(o, 0)
            for o in operators
        ]
        return operators[int(np.argmax(np.round(draws, 9)))]

    def _make(self, operator: str) -> tuple[dict[str, GeneValue], str, float]:
        """Return all values of a candidate, what was done, and the gain the model expects of it."""
        if operator in self.moves:
            point, gain = self.vector.draw(operator)
            base = self.vector.base
            return self._values(base) | self.space.decode(point), _RATIONALES[operator], gain
        values = self._values(self._parent())
        texts = {name: str(values[name]) for name in self.texts.names}
        edits = {o: e for o, e in self.edits.items() if not o.endswith(("move", "repeat"))} or self.edits
        edit = self._choose(list(edits), {}) if operator == "mixed" else operator
        rationale = self.edits[edit](texts)
        if operator == "mixed":
            values |= self.space.decode(self.vector.draw("model" if "model" in self.moves else "local")[0])
            rationale += " Moves numbers and choices where the model expects more."
        return values | texts, rationale, self.record.expect(operator)[1]

    def _parent(self) -> int | None:
        """One of the best trials, the best most often: fitness is noisy."""
        if not self.order:
            return None
        rank = int(self.rng.random() ** 3 * min(4, len(self.order)))
        return int(self.order[rank])

    def _values(self, trial: int | None) -> dict[str, GeneValue]:
        source = self.live if trial is None else self.history[trial].values
        return {name: source[name] for name in self.names}

    def _key(self, values: Mapping[str, GeneValue]) -> tuple[GeneValue, ...]:
        return tuple(values[name] for name in self.names)

    def _proposal(self, operator: str, values: Mapping[str, GeneValue], rationale: str, gain: float) -> Proposal | None:
        key = self._key(values)
        if key in self.seen or not all(_fits(self.genes[n], v) for n, v in values.items()):
            return None
        self.seen.add(key)
        changes = {n: v for n, v in values.items() if v != self.live[n]}
        probability, usual = self.record.expect(operator)
        return Proposal(changes, rationale, operator, gain or usual, min(max(probability, 0.0), 1.0))


class _Record:
    """What each operator achieved in the window: how often, and by how much, it beat all before it."""

    def __init__(self, history: Sequence[Ancestor], fitness: Array) -> None:
        self.wins: dict[str, float] = {}
        self.tries: dict[str, float] = {}
        self.gain: dict[str, float] = {}
        best, before, generation = -math.inf, -math.inf, None
        for age, (ancestor, score) in enumerate(zip(history, fitness.tolist(), strict=True)):
            if ancestor.generation != generation:
                before, generation = best, ancestor.generation
            best = max(best, score)
            if before == -math.inf:
                continue
            weight = 0.97 ** (len(history) - age)
            self.tries[ancestor.origin] = self.tries.get(ancestor.origin, 0.0) + weight
            if score > before and ancestor.fitness is not None:
                self.wins[ancestor.origin] = self.wins.get(ancestor.origin, 0.0) + weight
                self.gain[ancestor.origin] = self.gain.get(ancestor.origin, 0.0) + weight * (score - before)

    def beta(self, operator: str) -> tuple[float, float]:
        """Parameters of the Beta belief about the operator's success."""
        mean, strength = _PRIOR.get(operator, (0.2, 5.0))
        wins, tries = self.wins.get(operator, 0.0), self.tries.get(operator, 0.0)
        return mean * strength + wins, (1.0 - mean) * strength + tries - wins

    def expect(self, operator: str) -> tuple[float, float]:
        """Return the estimated probability of success and the mean gain it would bring."""
        good, bad = self.beta(operator)
        wins, total = self.wins.get(operator, 0.0), sum(self.wins.values())
        gain = self.gain.get(operator, 0.0) / wins if wins else sum(self.gain.values()) / total if total else 0.0
        return good / (good + bad), gain


def _fitness(history: Sequence[Ancestor]) -> tuple[Array, Array]:
    """Return fitness and trust (1 = scored on all cases); a failed trial counts as the worst seen."""
    known = [a.fitness for a in history if a.fitness is not None]
    worst = min(known, default=0.0)
    most = max((a.cases for a in history), default=1)
    fitness = np.array([worst if a.fitness is None else a.fitness for a in history], dtype=float)
    trust = np.array([min(1.0, max(a.cases, 0.02 * most, 0.02) / max(most, 1)) for a in history], dtype=float)
    # A trial that racing stopped early was poor on the cases it saw; its mean is pulled down, not believed.
    floor = float(np.quantile(fitness, 0.25)) if history else 0.0
    return trust * fitness + (1.0 - trust) * np.minimum(fitness, floor), trust


def _modelled(fitness: Array) -> bool:
    """Whether there is something to fit: a few trials that are not all alike."""
    return len(fitness) >= 3 and float(np.ptp(fitness)) > 0.0


def _fits(gene: Gene, value: GeneValue) -> bool:
    try:
        gene.check(value)
    except InvalidGene:
        return False
    return True


class _Space:
    """The number, integer, choice and flag genes as points of a unit cube; a choice is an index."""

    def __init__(self, genes: Mapping[str, Gene]) -> None:
        self.genes: dict[str, VectorGene] = {
            name: gene for name, gene in genes.items() if not gene.locked and isinstance(gene, VectorGene)
        }
        self.names = list(self.genes)
        self.levels = [self._options(gene) for gene in self.genes.values()]
        self.categorical = np.array([bool(levels) for levels in self.levels], dtype=bool)
        self.integer = [j for j, gene in enumerate(self.genes.values()) if isinstance(gene, IntegerGene)]
        self.limits = [
            (gene.low, gene.high, gene.log) if isinstance(gene, (NumberGene, IntegerGene)) else (0, 1, False)
            for gene in self.genes.values()
        ]

    @staticmethod
    def _options(gene: VectorGene) -> tuple[GeneValue, ...]:
        if isinstance(gene, ChoiceGene):
            return gene.options
        return (False, True) if isinstance(gene, FlagGene) else ()

    def encode(self, values: Mapping[str, GeneValue]) -> list[float]:
        return [self._unit(j, values[name]) for j, name in enumerate(self.names)]

    def _unit(self, j: int, value: GeneValue) -> float:
        if self.levels[j]:
            return float(self.levels[j].index(value)) if value in self.levels[j] else 0.0
        low, high, log = self.limits[j]
        value = low if isinstance(value, str) else min(max(value, low), high)
        if log:
            return (math.log(value) - math.log(low)) / ((math.log(high) - math.log(low)) or 1.0)
        if isinstance(value, int) and isinstance(low, int) and isinstance(high, int):
            return (value - low) / (high - low)  # exact for integers that no float can hold
        return (value / 2 - low / 2) / ((high / 2 - low / 2) or 1.0)  # halves: the range itself may overflow

    def value(self, j: int, unit: float) -> GeneValue:
        """Turn a coordinate into a value, rounded so that machines agree on it and people can read it."""
        if self.levels[j]:
            return self.levels[j][int(unit)]
        low, high, log = self.limits[j]
        unit = min(max(float(unit), 0.0), 1.0)
        integer = j in self.integer
        if log:
            found: float = math.exp(min(math.log(low) + unit * (math.log(high) - math.log(low)), 709.0))
            found = round(found) if integer else float(f"{found:.6g}")
        elif integer:
            found = int(low) + (round(unit * 2**52) * (int(high) - int(low)) + 2**51) // 2**52
        else:
            digits = 6 - math.floor(math.log10((high / 2 - low / 2) or 1.0))
            found = round(low * (1 - unit) + high * unit, digits)
        bounded = min(max(found, low), high)
        return int(bounded) if integer else float(bounded)

    def decode(self, point: Array) -> dict[str, GeneValue]:
        return {name: self.value(j, point[j]) for j, name in enumerate(self.names)}

    def sizes(self) -> list[float]:
        """How many values each gene can take."""
        return [
            len(levels) if levels else int(high) - int(low) + 1 if j in self.integer else math.inf
            for j, (levels, (low, high, _)) in enumerate(zip(self.levels, self.limits, strict=True))
        ]

    def grid(self) -> list[Sequence[GeneValue]]:
        """All values of each gene, of a space without real numbers."""
        return [
            levels or range(int(low), int(high) + 1)
            for levels, (low, high, _) in zip(self.levels, self.limits, strict=True)
        ]

    def snap(self, points: Array) -> Array:
        """Move points into the cube and onto the integers' grid."""
        number = ~self.categorical
        points[:, number] = points[:, number].clip(0.0, 1.0)
        for j in self.integer:
            points[:, j] = [self._unit(j, self.value(j, u)) for u in points[:, j]]
        return points

    def random(self, count: int, rng: np.random.Generator) -> Array:
        points = rng.random((count, len(self.names)))
        for j, levels in enumerate(self.levels):
            if levels:
                points[:, j] = np.floor(points[:, j] * len(levels))
        return self.snap(points)


class _VectorSearch:
    """Proposes points: one method per operator, all drawing from the same model of the history."""

    def __init__(
        self,
        space: _Space,
        live: Mapping[str, GeneValue],
        history: Sequence[Ancestor],
        fitness: Array,
        trust: Array,
        text: Array,
        seed: int,
    ) -> None:
        self.space, self.fitness, self.seed = space, fitness, seed
        self.rng = np.random.default_rng(derive_seed(seed, "vector"))
        self.points = np.array([space.encode(a.values) for a in history]).reshape(len(history), len(space.names))
        self.live = np.array([space.encode(live)])
        self.text = text
        self.order = np.argsort(-fitness, kind="stable")
        self.model: _Surrogate | None = None
        if _modelled(fitness):
            self.model = _Surrogate(space, self.points, text, _squash(fitness), trust)
            self.order = np.argsort(-np.round(self.model.mean, 6), kind="stable")
        self.pool = self.mean = self.variance = self.weights = np.empty((0,))
        self.goal = 0.0
        self.taken: list[Array] = []

    @property
    def base(self) -> int | None:
        """The trial with the best estimated fitness, if there is any."""
        return int(self.order[0]) if len(self.order) else None

    def draw(self, operator: str) -> tuple[Array, float]:
        """Return a point and its expected gain over the base, in units of fitness."""
        rules = {
            "model": self._model,
            "tpe": self._tpe,
            "local": self._local,
            "cross": self._cross,
            "fill": self._fill,
        }
        point, gain = rules[operator]()
        self.taken.append(point)
        return point, gain

    def _top(self, most: int) -> Array:
        return self.points[self.order[:most]] if len(self.order) else self.live

    def _fill(self) -> tuple[Array, float]:
        """Take the random point farthest from all trials (Mitchell's best candidate)."""
        points = self.space.random(48, self.rng)
        known = np.concatenate([self.points, self.live, *(p[None, :] for p in self.taken)])
        gaps = points[:, None, :] - known[None, :, :]
        nearest = np.where(self.space.categorical, gaps != 0.0, gaps * gaps).sum(2).min(1)
        return points[int(np.argmax(np.round(nearest, 9)))], 0.0

    def _local(self) -> tuple[Array, float]:
        return self._mutants(self._top(3), 1)[0], 0.0

    def _cross(self) -> tuple[Array, float]:
        return self._children(self._top(12), 1)[0], 0.0

    def _mutants(self, bases: Array, count: int) -> Array:
        """Move a few genes of good trials, by steps of all sizes."""
        d = self.points.shape[1]
        points = bases[self.rng.integers(len(bases), size=count)].copy()
        step = 10.0 ** self.rng.uniform(-2.5, -0.4, (count, 1))
        rate = np.exp(self.rng.uniform(math.log(1.0 / d), 0.0, (count, 1)))
        move = self.rng.random(points.shape) < rate
        move[np.arange(count), self.rng.integers(d, size=count)] = True
        noise = self.rng.standard_normal(points.shape) * step
        number = ~self.space.categorical
        points[:, number] += np.where(move, noise, 0.0)[:, number]
        flips = self.rng.random(points.shape)
        flip_rate = min(1.0, 1.5 / max(1, int((~number).sum())))
        for j in np.flatnonzero(~number).tolist():
            size = len(self.space.levels[j])
            flip = move[:, j] & (flips[:, j] < max(flip_rate, float(not number.any())))
            points[flip, j] = (points[flip, j] + 1 + np.floor(flips[flip, j] * 7919 % 1 * (size - 1))) % size
        for j in self.space.integer:
            gene = self.space.genes[self.space.names[j]]
            least = 1.0 / (gene.high - gene.low)
            points[:, j] += np.where(move[:, j], np.sign(noise[:, j]) * least * 0.5, 0.0)
        return self.space.snap(points)

    def _children(self, parents: Array, count: int) -> Array:
        """Cross good trials gene by gene, and step along their differences (differential evolution)."""
        pick = self.rng.integers(len(parents), size=(4, count))
        a, b, c, e = parents[pick[0]], parents[pick[1]], parents[pick[2]], parents[pick[3]]
        mask = self.rng.random(a.shape) < 0.5
        points = np.where(mask, a, b)
        number = ~self.space.categorical
        step = self.rng.uniform(0.0, 0.9, (count, 1)) * (self.rng.random((count, 1)) < 0.6)
        points[:, number] += (step * (c - e))[:, number]
        return self.space.snap(points)

    def _model(self) -> tuple[Array, float]:
        model = self.model
        assert model is not None
        if not len(self.pool):
            self._gather(model)
        deviation = np.sqrt(self.variance)
        score = _log_improvement((self.mean - self.goal) / deviation) + np.log(deviation)
        best = int(np.argmax(np.round(score, 6)))
        point = self.pool[best]
        gain = float(self.mean[best] - self.goal) * model.scale
        # What is proposed is as good as known: its neighbours lose the uncertainty that made them
        # attractive.
        among, _ = model.relate(self.pool, point[None, :])
        known, _ = model.relate(point[None, :], self.points, self.text_row(1))
        shared = (among[:, 0] - self.weights @ known[0]) * model.amplitude
        self.variance = np.maximum(
            self.variance - shared**2 / (self.variance[best] + model.noise * model.amplitude + 1e-9), 1e-10
        )
        return point, gain

    def text_row(self, count: int) -> Array:
        """Text distances of candidates that keep the texts of the base."""
        return np.broadcast_to(self.text[self.order[0]], (count, len(self.points)))

    def _gather(self, model: _Surrogate) -> None:
        """Fill the pool with random points, mutants, children and slopes of the mean; then refine it."""
        top = self._top(8)
        rows = [self.space.random(64, self.rng), self._mutants(top[:4], 128), self._children(top, 48)]
        if not self.space.categorical.all():
            starts = np.concatenate([top[:4], self._children(top, 4)])
            texts = self.text_row(len(starts))
            rows += [self.space.snap(model.climb(starts, texts, radius)) for radius in (0.2, 0.03)]
        pool = np.concatenate(rows)
        self.goal = float(model.mean.max())
        for _ in range(2):
            mean, variance, _w = model.predict(pool, self.text_row(len(pool)))
            deviation = np.sqrt(variance)
            score = _log_improvement((mean - self.goal) / deviation) + np.log(deviation)
            best = pool[np.argsort(-np.round(score, 6), kind="stable")[:6]]
            pool = np.concatenate([pool, self._mutants(best, 48)])
        known = {row.tobytes() for row in [*self.points, *self.taken]}
        fresh = [i for i, row in enumerate(pool) if row.tobytes() not in known]
        self.pool = pool[fresh] if fresh else pool
        self.mean, self.variance, self.weights = model.predict(self.pool, self.text_row(len(self.pool)))

    def _tpe(self) -> tuple[Array, float]:
        """Ask optuna's multivariate TPE, given the best and the latest trials."""
        import warnings

        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        seed = derive_seed(self.seed, "tpe", len(self.taken)) % 2**32
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(multivariate=True, n_startup_trials=0, seed=seed)

        class Unit(optuna.distributions.FloatDistribution):
            """A distribution never changes; the study's copies of it would be most of the cost."""

            def __deepcopy__(self, memo: dict[int, object]) -> Unit:
                return self

        class Level(optuna.distributions.CategoricalDistribution):
            """As above."""

            def __deepcopy__(self, memo: dict[int, object]) -> Level:
                return self

        ranges: dict[str, optuna.distributions.BaseDistribution] = {
            name: Level(range(len(levels))) if levels else Unit(0.0, 1.0)
            for name, levels in zip(self.space.names, self.space.levels, strict=True)
        }
        study = optuna.create_study(sampler=sampler, direction="maximize")
        keep = sorted({*self.order[:10].tolist(), *range(max(0, len(self.points) - 24), len(self.points))})
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params={
                        name: int(x) if levels else float(x)
                        for name, levels, x in zip(self.space.names, self.space.levels, self.points[i], strict=True)
                    },
                    distributions=ranges,
                    value=float(self.fitness[i]),
                )
                for i in keep
            ]
        )
        found = study.ask(ranges).params
        return self.space.snap(np.array([[float(found[name]) for name in self.space.names]]))[0], 0.0


class _Surrogate:
    """A Gaussian process (Matern 5/2, one scale per gene) over the trials.

    Source: Snoek, Larochelle, Adams, "Practical Bayesian Optimization", 2012; the prior of the scales grows
    with the number of genes as in Hvarfner, Hellsten, Nardi, "Vanilla Bayesian Optimization Performs Great in
    High Dimensions", 2024.
    """

    STEPS = 11

    def __init__(self, space: _Space, points: Array, text: Array, fitness: Array, trust: Array) -> None:
        self.space, self.points, self.text = space, points, text
        self.centre, self.scale = float(fitness.mean()), float(fitness.std()) or 1.0
        self.target = (fitness - self.centre) / self.scale
        self.spread = 1.0 / trust
        gaps = points[:, None, :] - points[None, :, :]
        gaps = np.where(space.categorical, gaps != 0.0, gaps * gaps)
        self.gaps = np.concatenate([gaps, text[:, :, None]], axis=2) if text.any() else gaps
        self._fit()
        self.mean = self.predict(points, text)[0]

    def _fit(self) -> None:
        n, d = len(self.points), self.gaps.shape[2]
        flat = self.gaps.reshape(n * n, d)
        categorical = np.append(self.space.categorical, True)[:d]
        prior = np.where(categorical, -math.log(d) - 0.5, 1.7 - math.log(d))
        theta = np.append(prior, -4.0)
        moment, second = np.zeros(d + 1), np.zeros(d + 1)
        for step in range(1, self.STEPS + 1):
            self._factor(theta, flat)
            share = np.outer(self.alpha, self.alpha) / self.amplitude - self.inverse
            slope = np.empty(d + 1)
            slope[:d] = 0.5 * ((share * self.kernel_slope).reshape(-1) @ flat) * np.exp(theta[:d])
            slope[d] = 0.5 * float(np.diag(share) @ self.spread) * math.exp(theta[d])
            slope[:d] -= (theta[:d] - prior) / 2.0
            slope[d] -= (theta[d] + 4.0) / 8.0
            moment = 0.7 * moment + 0.3 * slope
            second = 0.9 * second + 0.1 * slope * slope
            theta = theta + 0.35 * (moment / (1 - 0.7**step)) / (np.sqrt(second / (1 - 0.9**step)) + 1e-9)
            theta[d] = min(max(theta[d], -14.0), 2.0)
        self._factor(theta, flat)

    def _factor(self, theta: Array, flat: Array) -> None:
        n = len(self.points)
        self.weights, self.noise = np.exp(theta[:-1]), math.exp(theta[-1])
        kernel, self.kernel_slope = _matern((flat @ self.weights).reshape(n, n))
        self.inverse = np.linalg.inv(kernel + np.diag(self.noise * self.spread + 1e-8))
        self.alpha = self.inverse @ self.target
        self.amplitude = max(float(self.target @ self.alpha) / n, 1e-9)

    def relate(self, points: Array, others: Array, text: Array | None = None) -> tuple[Array, Array]:
        """Return the kernel between two sets of points and its derivative by squared distance."""
        d = len(self.space.names)
        w, number = self.weights[:d], ~self.space.categorical
        a, b = points[:, number] * np.sqrt(w[number]), others[:, number] * np.sqrt(w[number])
        square = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2.0 * a @ b.T
        for j in np.flatnonzero(~number):
            square += w[j] * (points[:, j][:, None] != others[:, j][None, :])
        if text is not None and len(self.weights) > d:
            square += self.weights[d] * text
        return _matern(np.maximum(square, 0.0))

    def predict(self, points: Array, text: Array) -> tuple[Array, Array, Array]:
        """Return mean, variance (of the fitness without noise) and the weights on the trials."""
        kernel, _ = self.relate(points, self.points, text)
        weights = kernel @ self.inverse
        return (
            kernel @ self.alpha,
            np.maximum(1.0 - (weights * kernel).sum(1), 1e-10) * self.amplitude,
            weights,
        )

    def climb(self, starts: Array, text: Array, radius: float) -> Array:
        """Follow the gradient of the mean from each start; every point passed is a candidate."""
        number = np.flatnonzero(~self.space.categorical)
        path, points = [], starts.copy()
        for step in range(10):
            _, slope = self.relate(points, self.points, text)
            pull = self.alpha * slope
            grad = 2.0 * (points[:, number] * pull.sum(1)[:, None] - pull @ self.points[:, number])
            grad *= self.weights[number]
            norm = np.sqrt((grad * grad).sum(1, keepdims=True)) + 1e-12
            points = points.copy()
            points[:, number] = (points[:, number] + grad / norm * radius * 0.75**step).clip(0.0, 1.0)
            path.append(points)
        return np.concatenate(path)


def _matern(square: Array) -> tuple[Array, Array]:
    """Return the Matern 5/2 kernel of squared distances, and its derivative by them."""
    root = np.sqrt(5.0 * square)
    fall = np.exp(-root)
    return (1.0 + root + root * root / 3.0) * fall, (-5.0 / 6.0) * (1.0 + root) * fall


def _squash(fitness: Array) -> Array:
    """Compress what lies below the median, so that a few terrible trials do not flatten the rest."""
    middle = float(np.median(fitness))
    unit = (float(fitness.max()) - middle) or float(np.ptp(fitness)) or 1.0
    return np.where(fitness < middle, middle - unit * np.log1p((middle - fitness).clip(0) / unit), fitness)


def _log_improvement(z: Array) -> Array:
    """Return log(phi(z) + z Phi(z)), the log of a unit normal's expected improvement, without underflow."""
    low = z < -6.0
    safe = np.where(low, 0.0, z)
    density = np.exp(-0.5 * safe * safe) / math.sqrt(2 * math.pi)
    below = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in safe.tolist()])
    with np.errstate(divide="ignore"):
        far = -0.5 * z * z - 0.5 * math.log(2 * math.pi) - 2.0 * np.log(np.maximum(np.abs(z), 1.0))
    return np.where(low, far, np.log(np.maximum(density + safe * below, 1e-300)))
