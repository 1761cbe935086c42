"""One question to optuna's multivariate TPE: where are good trials dense and poor ones rare?"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from ...dna.genes import GeneValue
from .trials import Array


def ask_tpe(levels: Sequence[tuple[GeneValue, ...]], points: Array, fitness: Array, *, seed: int) -> Array:
    """Return one point of the unit cube.

    Source: Bergstra, Bardenet, Bengio, Kégl, "Algorithms for Hyper-Parameter Optimization", 2011, as optuna
    implements it.

    Args:
        levels: The levels of each gene; empty for a number.
        points: The trials, one row each.
        fitness: Their fitness.
        seed: Derives the sample.
    """
    # Importing optuna takes half a second, and many runs never ask it.
    import optuna

    class Unit(optuna.distributions.FloatDistribution):
        """A distribution never changes; the study's copies of it would be most of the cost."""

        def __deepcopy__(self, memo: dict[int, object]) -> Unit:
            return self

    class Level(optuna.distributions.CategoricalDistribution):
        """As above."""

        def __deepcopy__(self, memo: dict[int, object]) -> Level:
            return self

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(multivariate=True, n_startup_trials=0, seed=seed % 2**32)
    ranges: dict[str, optuna.distributions.BaseDistribution] = {
        f"{j:04d}": Level(range(len(options))) if options else Unit(0.0, 1.0) for j, options in enumerate(levels)
    }
    study = optuna.create_study(sampler=sampler, direction="maximize")
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={
                    name: int(x) if options else float(x)
                    for name, options, x in zip(ranges, levels, point, strict=True)
                },
                distributions=ranges,
                value=float(score),
            )
            for point, score in zip(points, fitness, strict=True)
        ]
    )
    found = study.ask(ranges).params
    return np.array([float(found[name]) for name in ranges])
