"""The problems `search.py` measures on: of mixed kind, each instance drawn from a seed, each with a known optimum.

Numbers live in the unit cube for every method. A value is higher the better; at an optimum it is `Problem.optimum`.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bedrock_evolution import Gene, choice, flag, integer, number, text

Values = Mapping[str, Any]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """One instance of a problem.

    Args:
        name: Of the problem.
        kind: What is hard about it, in a word or two.
        genes: What may change; their values are where every method starts.
        truth: The value without noise; higher is better.
        optimum: The highest value there is.
        evaluations: How many a method may make.
        cases: How many cases an application of this kind has; 1 is a single deterministic objective.
        noise: Standard deviation of one evaluation.
        vocabulary: The words a text gene may be made of.
        hints: What an evaluator says of each gene; empty where it says nothing.
    """

    name: str
    kind: str
    genes: Mapping[str, Gene]
    truth: Callable[[Values], float]
    optimum: float
    evaluations: int
    cases: int = 1
    noise: float = 0.0
    vocabulary: tuple[str, ...] = ()
    hints: Callable[[Values], Mapping[str, str]] = field(default=lambda _: {})

    @property
    def start(self) -> dict[str, Any]:
        """The values every method begins with."""
        return {name: gene.value for name, gene in self.genes.items()}

    def regret(self, values: Values) -> float:
        """Return how far below the optimum some values truly are."""
        return max(0.0, self.optimum - self.truth(values))


def draw(name: str, seed: int) -> Problem:
    """Return one instance of a problem; equal arguments give equal instances."""
    return PROBLEMS[name](np.random.default_rng(_digest(name, seed)))


def noise_of(values: Values, case: int, repeat: int) -> float:
    """Return the standard normal noise of one evaluation; no two evaluations have the same.

    Args:
        values: What is evaluated.
        case: Its case.
        repeat: How often these values met this case before.
    """
    return float(np.random.default_rng(_digest(sorted(values.items()), case, repeat)).standard_normal())


def _digest(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")


# -- numbers


def _cube(rng: np.random.Generator, size: int) -> dict[str, Gene]:
    return {f"x{i}": number(round(float(rng.random()), 4), low=0.0, high=1.0) for i in range(size)}


def _point(values: Values) -> Array:
    return np.array([float(value) for value in values.values()])


def _rotation(rng: np.random.Generator, size: int) -> Array:
    return np.asarray(np.linalg.qr(rng.standard_normal((size, size)))[0])


def _branin(rng: np.random.Generator) -> Problem:
    """Branin's function, its axes turned round and exchanged (Dixon, Szegő, 1978)."""
    flipped, swapped = rng.random(2) < 0.5, bool(rng.random() < 0.5)

    def truth(values: Values) -> float:
        u = np.where(flipped, 1.0 - _point(values), _point(values))
        x, y = (u[::-1] if swapped else u) * 15.0 - (5.0, 0.0)
        bowl = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
        return -float(bowl**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10)

    return Problem("branin", "smooth", _cube(rng, 2), truth, -0.39788735772973816, evaluations=100)


_HARTMANN_WEIGHTS = np.array([1.0, 1.2, 3.0, 3.2])
_HARTMANN_SCALES = np.array(
    [
        [10.0, 3.0, 17.0, 3.5, 1.7, 8.0],
        [0.05, 10.0, 17.0, 0.1, 8.0, 14.0],
        [3.0, 3.5, 1.7, 10.0, 17.0, 8.0],
        [17.0, 8.0, 0.05, 10.0, 0.1, 14.0],
    ]
)
_HARTMANN_CENTRES = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def _hartmann(rng: np.random.Generator) -> Problem:
    """Hartmann's function of six numbers, its axes turned round and exchanged (Dixon, Szegő, 1978)."""
    flipped, order = rng.random(6) < 0.5, rng.permutation(6)

    def truth(values: Values) -> float:
        u = np.where(flipped, 1.0 - _point(values), _point(values))[order]
        far = (_HARTMANN_SCALES * (u - _HARTMANN_CENTRES) ** 2).sum(1)
        return float(_HARTMANN_WEIGHTS @ np.exp(-far))

    return Problem("hartmann6", "smooth", _cube(rng, 6), truth, 3.32236801141551, evaluations=150)


def _ackley(rng: np.random.Generator) -> Problem:
    """Ackley's function of five numbers in [-15, 15], shifted and rotated (Ackley, 1987)."""
    centre, turned = rng.uniform(0.2, 0.8, 5), _rotation(rng, 5)

    def truth(values: Values) -> float:
        z = turned @ (_point(values) - centre) * 30.0
        bowl, ripples = math.sqrt(float(z @ z) / 5), float(np.cos(2 * math.pi * z).mean())
        return 20 * math.exp(-0.2 * bowl) + math.exp(ripples) - 20 - math.e

    return Problem("ackley5", "rugged", _cube(rng, 5), truth, 0.0, evaluations=200)


def _rastrigin(rng: np.random.Generator) -> Problem:
    """Rastrigin's function of four numbers in [-2.5, 2.5], shifted (Rastrigin, 1974)."""
    centre = rng.uniform(0.2, 0.8, 4)

    def truth(values: Values) -> float:
        z = (_point(values) - centre) * 5.0
        return -float((z * z + 10 * (1 - np.cos(2 * math.pi * z))).sum())

    return Problem("rastrigin4", "rugged", _cube(rng, 4), truth, 0.0, evaluations=200)


def _ellipsoid(rng: np.random.Generator) -> Problem:
    """A rotated ellipsoid of thirty numbers whose axes differ a hundredfold in curvature."""
    centre, turned = rng.uniform(0.25, 0.75, 30), _rotation(rng, 30)
    curvature = 100.0 ** np.linspace(0.0, 1.0, 30)

    def truth(values: Values) -> float:
        z = turned @ (_point(values) - centre)
        return -float(curvature @ (z * z))

    return Problem("ellipsoid30", "30 numbers", _cube(rng, 30), truth, 0.0, evaluations=200)


def _levy(rng: np.random.Generator) -> Problem:
    """Levy's function of thirty numbers, 20 wide, shifted (Laguna, Martí, 2005)."""
    centre = rng.uniform(0.25, 0.75, 30)

    def truth(values: Values) -> float:
        w = 1.0 + (_point(values) - centre) * 20.0 / 4.0
        first = math.sin(math.pi * w[0]) ** 2
        middle = ((w[:-1] - 1) ** 2 * (1 + 10 * np.sin(math.pi * w[:-1] + 1) ** 2)).sum()
        last = (w[-1] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[-1]) ** 2)
        return -float(first + middle + last)

    return Problem("levy30", "30 numbers, rugged", _cube(rng, 30), truth, 0.0, evaluations=200)


# -- noise, choices, and all together


def _noisy(rng: np.random.Generator) -> Problem:
    """A hill of four numbers and a choice, seen through noise as large as a third of its height."""
    centre, scale = rng.uniform(0.2, 0.8, 4), rng.uniform(1.0, 4.0, 4)
    levels = (0.0, *rng.uniform(0.1, 0.3, 3))
    options = [str(place) for place in rng.permutation(4)]
    genes = _cube(rng, 4) | {"method": choice(options[int(rng.integers(4))], options=sorted(options))}

    def truth(values: Values) -> float:
        *numbers, method = values.values()
        far = np.array(numbers, dtype=float) - centre
        return float(np.exp(-(scale * far * far).sum())) - levels[options.index(method)]

    return Problem("noisy hill", "noisy", genes, truth, 1.0, evaluations=3000, cases=200, noise=0.3)


def _table(rng: np.random.Generator) -> Problem:
    """Ten choices of four levels: each is worth something alone, and with the next one in a chain."""
    size, levels = 10, 4
    alone, pairs = rng.normal(0.0, 1.0, (size, levels)), rng.normal(0.0, 0.7, (size - 1, levels, levels))
    order = rng.permutation(size)
    names = "abcd"
    genes: dict[str, Gene] = {
        f"c{i}": choice(names[int(rng.integers(levels))], options=list(names)) for i in range(size)
    }

    def truth(values: Values) -> float:
        at = np.array([names.index(value) for value in values.values()])[order]
        return float(alone[np.arange(size), at].sum() + sum(pairs[i, at[i], at[i + 1]] for i in range(size - 1)))

    best = alone[0]
    for i in range(size - 1):
        best = (best[:, None] + pairs[i]).max(0) + alone[i + 1]
    return Problem("choices", "categorical", genes, truth, float(best.max()), evaluations=150)


def _mixed(rng: np.random.Generator) -> Problem:
    """A pipeline: which settings are good depends on the algorithm, and flags matter only together."""
    tops, powers = rng.uniform(0.15, 0.85, (4, 3)), rng.integers(4, 28, 4)
    base = rng.permutation([0.0, 0.15, 0.3, 0.6])
    fits = rng.uniform(0.1, 0.5, (4, 3))
    fits[np.arange(4), rng.integers(3, size=4)] = 0.0
    algorithms, modes = ["tree", "line", "mesh", "ring"], ["low", "mid", "high"]
    genes: dict[str, Gene] = {
        **_cube(rng, 3),
        "depth": integer(int(rng.integers(1, 33)), low=1, high=32),
        "batch": integer(int(2 ** rng.integers(0, 9)), low=1, high=256, log=True),
        "algorithm": choice(algorithms[int(rng.integers(4))], options=algorithms),
        "mode": choice(modes[int(rng.integers(3))], options=modes),
        "cache": flag(bool(rng.integers(2))),
        "warm": flag(bool(rng.integers(2))),
    }

    def truth(values: Values) -> float:
        x0, x1, x2, depth, batch, algorithm, mode, cache, warm = values.values()
        which = algorithms.index(algorithm)
        far = (np.array([x0, x1, x2]) - tops[which]) @ np.diag([3.0, 1.5, 0.5])
        sizes = ((depth - powers[which]) / 32) ** 2 + (math.log2(batch / 32) / 8) ** 2
        flags = 0.0 if cache and warm else 0.25 if cache else 0.15 if not warm else 0.3
        return -float(far @ far + sizes + base[which] + fits[which, modes.index(mode)] + flags)

    return Problem("pipeline", "mixed", genes, truth, 0.0, evaluations=150)


# -- texts


_SYLLABLES = ("ba", "de", "fi", "go", "lu", "ma", "ne", "pi", "ro", "su", "ta", "ve")


def _words(rng: np.random.Generator, count: int) -> list[str]:
    every = ["".join(parts) + "x" for parts in itertools.product(_SYLLABLES, repeat=3)]
    return [every[i] for i in rng.choice(len(every), count, replace=False)]


def _text(rng: np.random.Generator, *, told: bool) -> Problem:
    """A text of known words: some help, some harm, some only in pairs, and each costs a little."""
    words = _words(rng, 36)
    worth = dict(zip(words, [*rng.uniform(0.4, 1.2, 10), *rng.uniform(-1.2, -0.4, 10), *[0.0] * 16], strict=True))
    pairs = [(words[i], words[i + 1], float(rng.uniform(0.6, 1.4))) for i in range(20, 26, 2)]
    cost = 0.05
    listed = tuple(sorted(words))
    began = " ".join(listed[i] for i in rng.choice(len(listed), 6, replace=False))
    genes = {"prompt": text(began, max_chars=400, description=" ".join(listed))}

    def truth(values: Values) -> float:
        has = set(values["prompt"].split()) & worth.keys()
        joint = sum(gain for one, other, gain in pairs if one in has and other in has)
        return sum(worth[word] for word in sorted(has)) + joint - cost * len(has)

    def hints(values: Values) -> dict[str, str]:
        has = set(values["prompt"].split())
        missing = [word for word in listed if worth[word] > 0 and word not in has][:2]
        harmful = [word for word in listed if worth[word] < 0 and word in has][:1]
        said = [f'is missing "{word}"' for word in missing] + [f'should not say "{word}"' for word in harmful]
        return {"prompt": "; ".join(said)} if said else {}

    best = sum(max(0.0, value - cost) for value in worth.values()) + sum(gain - 2 * cost for *_, gain in pairs)
    name, kind = ("words told", "text with feedback") if told else ("words", "text")
    given = {"hints": hints} if told else {}
    return Problem(name, kind, genes, truth, best, evaluations=150, vocabulary=listed, **given)


def _untold(rng: np.random.Generator) -> Problem:
    return _text(rng, told=False)


def _told(rng: np.random.Generator) -> Problem:
    return _text(rng, told=True)


PROBLEMS: Mapping[str, Callable[[np.random.Generator], Problem]] = {
    "branin": _branin,
    "hartmann6": _hartmann,
    "ackley5": _ackley,
    "rastrigin4": _rastrigin,
    "noisy hill": _noisy,
    "choices": _table,
    "pipeline": _mixed,
    "ellipsoid30": _ellipsoid,
    "levy30": _levy,
    "words": _untold,
    "words told": _told,
}
"""How an instance of each is drawn."""


def names(only: Sequence[str]) -> list[str]:
    """Return the names of some problems, or of all if none are named, in their order."""
    return [name for name in PROBLEMS if name in only or not only]
