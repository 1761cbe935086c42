"""The methods `search.py` compares, each on one instance with one seed; every evaluation is counted by a `Meter`."""

from __future__ import annotations

import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from search_problems import Array, Problem, Values, noise_of

from bedrock_evolution import Budget, Evolution, Score
from bedrock_evolution.dna.genes import ChoiceGene, FlagGene, IntegerGene, TextGene

Curve: TypeAlias = list[tuple[int, float]]
"""Evaluations made, and the true regret of what the method would have ended with after them."""

CASES_A_CANDIDATE = {"random": 10, "tpe": 20, "cma": 10}
"""Cases of a noisy problem that a candidate is scored on: the best of 3, 5, 10, 30 and 100 for each method."""


class OverLimit(RuntimeError):
    """A method asked for more evaluations than it has."""


class Meter:
    """Evaluates, and counts what was evaluated; safe from any thread.

    Args:
        problem: What is evaluated.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._lock = threading.Lock()
        self._repeats: Counter[tuple[object, int]] = Counter()
        self.used = 0

    @property
    def left(self) -> int:
        """How many evaluations may still be made."""
        return self._problem.evaluations - self.used

    def score(self, values: Values, case: int) -> float:
        """Evaluate one case.

        Raises:
            OverLimit: There are no more evaluations to make.
        """
        key = (tuple(sorted(values.items())), case)
        with self._lock:
            if self.used >= self._problem.evaluations:
                raise OverLimit(f"{self._problem.name}: more than {self._problem.evaluations} evaluations.")
            self.used += 1
            repeat = self._repeats[key]
            self._repeats[key] += 1
        noise = self._problem.noise * noise_of(values, case, repeat) if self._problem.noise else 0.0
        return self._problem.truth(values) + noise


# -- ours


def ours(problem: Problem, seed: int) -> Curve:
    """Run bedrock-evolution as an application would: what is live at the end counts."""
    meter = Meter(problem)

    def evaluate(genes: Values, case: int) -> Score:
        return Score(meter.score(genes, case), gene_feedback=problem.hints(genes))

    with tempfile.TemporaryDirectory() as folder:
        evolution = Evolution(
            app="search",
            genes=problem.genes,
            evaluate=evaluate,
            cases=list(range(problem.cases)),
            budget=Budget(max_evaluations=problem.evaluations),
            store=f"sqlite:///{folder}/search.db",
            model="local",
            deterministic=not problem.noise,
        )
        curve, live = [(1, problem.regret(problem.start))], 0
        for item in evolution.stream(problem.evaluations, seed=seed):
            if item.dna_generation is not None and item.dna_generation != live:
                live = item.dna_generation
                curve.append((meter.used, problem.regret(evolution.genes)))
        curve.append((meter.used, problem.regret(evolution.genes)))
        evolution.close()
    return curve


# -- the others


@dataclass(frozen=True, slots=True)
class Variable:
    """One coordinate of what the others search: a number in [0, 1], a whole number, or a level.

    Args:
        name: Of the gene, or of the gene and a word of its text.
        levels: What a categorical coordinate chooses from; empty for numbers.
        whole: Lowest and highest whole number, and whether their scale is logarithmic.
    """

    name: str
    levels: tuple[Any, ...] = ()
    whole: tuple[int, int, bool] | None = None


class Space:
    """A problem's genes as variables; a text is one flag for each word of its vocabulary."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.variables = list(self._variables())

    def _variables(self) -> Iterator[Variable]:
        for name, gene in self._problem.genes.items():
            if isinstance(gene, ChoiceGene):
                yield Variable(name, levels=gene.options)
            elif isinstance(gene, FlagGene):
                yield Variable(name, levels=(False, True))
            elif isinstance(gene, IntegerGene):
                yield Variable(name, whole=(gene.low, gene.high, gene.log))
            elif isinstance(gene, TextGene):
                yield from (Variable(f"{name} {word}", levels=(False, True)) for word in self._problem.vocabulary)
            else:
                yield Variable(name)

    def start(self) -> dict[str, Any]:
        """Return the variables' values for the genes every method begins with."""
        begun = self._problem.start
        has = {word for value in begun.values() if isinstance(value, str) for word in value.split()}
        return {v.name: begun[v.name] if v.name in begun else v.name.split()[1] in has for v in self.variables}

    def values(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Return the genes' values for the variables' values."""
        made: dict[str, Any] = {}
        for name, gene in self._problem.genes.items():
            if isinstance(gene, TextGene):
                made[name] = " ".join(word for word in self._problem.vocabulary if found[f"{name} {word}"])
            else:
                made[name] = found[name]
        return made


class Incumbent:
    """Scores candidates, and keeps the one with the highest mean score: what the other methods end with."""

    def __init__(self, problem: Problem, cases: int) -> None:
        self._problem, self._cases = problem, cases if problem.cases > 1 else 1
        self._meter = Meter(problem)
        self._best = -np.inf
        self.curve: Curve = []

    def open(self) -> bool:
        """Whether there are evaluations left for a candidate."""
        return self._meter.left >= self._cases

    def score(self, values: Values) -> float:
        """Return a candidate's mean score."""
        mean = float(np.mean([self._meter.score(values, case) for case in range(self._cases)]))
        if mean > self._best:
            self._best = mean
            self.curve.append((self._meter.used, self._problem.regret(values)))
        return mean

    def ended(self) -> Curve:
        """Return the curve up to the last evaluation."""
        return [*self.curve, (self._meter.used, self.curve[-1][1])]


def random_search(problem: Problem, seed: int) -> Curve:
    """Draw candidates evenly."""
    space, incumbent = Space(problem), Incumbent(problem, CASES_A_CANDIDATE["random"])
    rng = np.random.default_rng([seed, 1])
    incumbent.score(problem.start)
    while incumbent.open():
        incumbent.score(space.values({v.name: _any(v, rng) for v in space.variables}))
    return incumbent.ended()


def _any(variable: Variable, rng: np.random.Generator) -> Any:
    if variable.levels:
        return variable.levels[int(rng.integers(len(variable.levels)))]
    unit = float(rng.random())
    return _whole(unit, *variable.whole) if variable.whole else unit


def _whole(unit: float, low: int, high: int, log: bool) -> int:
    """Return the whole number at a place of its range; each has the share of the range that is next to it."""
    if log:
        bottom, top = np.log(low - 0.5), np.log(high + 0.5)
        return int(min(max(round(float(np.exp(bottom + unit * (top - bottom)))), low), high))
    return min(low + int(unit * (high - low + 1)), high)


def tpe(problem: Problem, seed: int) -> Curve:
    """Ask optuna's multivariate TPE."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space, incumbent = Space(problem), Incumbent(problem, CASES_A_CANDIDATE["tpe"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(multivariate=True, seed=seed)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    study.enqueue_trial(space.start())
    while incumbent.open():
        trial = study.ask()
        study.tell(trial, incumbent.score(space.values({v.name: _suggested(trial, v) for v in space.variables})))
    return incumbent.ended()


def _suggested(trial: Any, variable: Variable) -> Any:
    if variable.levels:
        return trial.suggest_categorical(variable.name, variable.levels)
    if variable.whole:
        low, high, log = variable.whole
        return trial.suggest_int(variable.name, low, high, log=log)
    return trial.suggest_float(variable.name, 0.0, 1.0)


def cma(problem: Problem, seed: int) -> Curve:
    """Ask CMA-ES: pycma for numbers, CatCMA with margin where there are whole numbers and choices."""
    space, incumbent = Space(problem), Incumbent(problem, CASES_A_CANDIDATE["cma"])
    incumbent.score(problem.start)
    plain = all(not v.levels and not v.whole for v in space.variables)
    (_pycma if plain else _catcma)(space, incumbent, seed)
    return incumbent.ended()


_SIGMA = 0.3
"""First step size of CMA-ES, in units of the cube: the best of 0.1, 0.2 and 0.3."""


def _pycma(space: Space, incumbent: Incumbent, seed: int) -> None:
    import cma as library

    names = [v.name for v in space.variables]
    options = {"bounds": [0.0, 1.0], "seed": seed + 1, "verbose": -9}
    for restart in range(100):
        begun = [0.5] * len(names) if restart == 0 else np.random.default_rng([seed, restart]).random(len(names))
        strategy = library.CMAEvolutionStrategy(begun, _SIGMA, options | {"seed": seed + 1 + 1000 * restart})
        while not strategy.stop():
            points = strategy.ask()
            if not _told(
                points,
                lambda p: incumbent.score(space.values(dict(zip(names, map(float, p), strict=True)))),
                incumbent,
                strategy,
            ):
                return


def _told(points: Sequence[Array], score: Callable[[Array], float], incumbent: Incumbent, strategy: Any) -> bool:
    losses = []
    for point in points:
        if not incumbent.open():
            return False
        losses.append(-score(point))
    strategy.tell(points, losses)
    return True


def _catcma(space: Space, incumbent: Incumbent, seed: int) -> None:
    from cmaes import CatCMAwM

    numbers = [v for v in space.variables if not v.levels and not v.whole]
    wholes = [v for v in space.variables if v.whole]
    choices = [v for v in space.variables if v.levels]
    strategy = CatCMAwM(
        x_space=[[0.0, 1.0]] * len(numbers) or None,
        z_space=[_steps(v) for v in wholes] or None,
        c_space=[len(v.levels) for v in choices] or None,
        seed=seed,
    )
    while True:
        told = []
        for _ in range(strategy.population_size):
            if not incumbent.open():
                return
            found = strategy.ask()
            made = dict(zip((v.name for v in numbers), map(float, found.x if numbers else ()), strict=True))
            for v, z in zip(wholes, found.z if wholes else (), strict=True):
                made[v.name] = round(float(np.exp(z)) if v.whole[2] else float(z))
            for v, c in zip(choices, found.c if choices else (), strict=True):
                made[v.name] = v.levels[int(np.argmax(c))]
            told.append((found, -incumbent.score(space.values(made))))
        strategy.tell(told)


def _steps(variable: Variable) -> list[float]:
    low, high, log = variable.whole
    return [float(np.log(n)) if log else float(n) for n in range(low, high + 1)]


METHODS: Mapping[str, Callable[[Problem, int], Curve]] = {
    "ours": ours,
    "random": random_search,
    "tpe": tpe,
    "cma": cma,
}
"""How each method is run."""
