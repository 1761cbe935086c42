"""Number, integer, choice and flag genes as points of a unit cube, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from ...dna.genes import ChoiceGene, FlagGene, Gene, GeneValue, IntegerGene, NumberGene
from .trials import Array

VectorGene: TypeAlias = NumberGene | IntegerGene | ChoiceGene | FlagGene

_GRID_LIMIT = 2**40
"""Ranges of integers wider than this are too fine for their grid to matter."""
_DIGITS = 6
"""Significant digits of a number, so that machines agree on it and people can read it."""


class VectorSpace:
    """The genes that are points of a cube: a number is its place in its range, a choice is an index.

    Args:
        genes: All genes; those locked, and those of text or code, are left out.
    """

    def __init__(self, genes: Mapping[str, Gene]) -> None:
        self.genes: dict[str, VectorGene] = {
            name: gene for name, gene in genes.items() if not gene.locked and isinstance(gene, VectorGene)
        }
        self.names = list(self.genes)
        self.levels = [_levels(gene) for gene in self.genes.values()]
        self.categorical = np.array([bool(levels) for levels in self.levels], dtype=bool)
        self.numbers = np.flatnonzero(~self.categorical)
        self.choices = np.flatnonzero(self.categorical)
        self.level_counts = np.array([len(levels) for levels in self.levels], dtype=float)
        self.limits = [_limits(gene) for gene in self.genes.values()]
        self.integers = [j for j, gene in enumerate(self.genes.values()) if isinstance(gene, IntegerGene)]
        self.steps = np.array([self._step(j) for j in range(len(self.names))])
        """The distance between neighbouring integers; 0 for other genes."""

    def _step(self, j: int) -> float:
        low, high, _ = self.limits[j]
        return 1.0 / (int(high) - int(low)) if j in self.integers and high > low else 0.0

    def encode(self, values: Mapping[str, GeneValue]) -> list[float]:
        """Return the point of some values."""
        return [self._unit(j, values[name]) for j, name in enumerate(self.names)]

    def _unit(self, j: int, value: GeneValue) -> float:
        if levels := self.levels[j]:
            return float(levels.index(value)) if value in levels else 0.0
        low, high, log = self.limits[j]
        number = low if isinstance(value, str) else min(max(value, low), high)
        if log:
            return (math.log(number) - math.log(low)) / ((math.log(high) - math.log(low)) or 1.0)
        if isinstance(number, int) and isinstance(low, int) and isinstance(high, int):
            return (number - low) / ((high - low) or 1)  # exact for integers that no float can hold
        return (number / 2 - low / 2) / ((high / 2 - low / 2) or 1.0)  # halves: the range itself may overflow

    def decode(self, point: Array) -> dict[str, GeneValue]:
        """Return the values of a point."""
        return {name: self._value(j, unit) for j, (name, unit) in enumerate(zip(self.names, point, strict=True))}

    def _value(self, j: int, unit: float) -> GeneValue:
        if levels := self.levels[j]:
            return levels[int(unit)]
        low, high, log = self.limits[j]
        unit = min(max(float(unit), 0.0), 1.0)
        integer = j in self.integers
        if log:
            found: float = math.exp(min(math.log(low) + unit * (math.log(high) - math.log(low)), 709.0))
            found = round(found) if integer else float(f"{found:.{_DIGITS}g}")
        elif integer:
            found = int(low) + (round(unit * 2**52) * (int(high) - int(low)) + 2**51) // 2**52
        else:
            digits = _DIGITS - math.floor(math.log10((high / 2 - low / 2) or 1.0))
            found = round(low * (1 - unit) + high * unit, digits)
        bounded = min(max(found, low), high)
        return int(bounded) if integer else float(bounded)

    def sizes(self) -> list[float]:
        """Return how many values each gene can take."""
        return [
            len(levels) if levels else int(high) - int(low) + 1 if j in self.integers else math.inf
            for j, (levels, (low, high, _)) in enumerate(zip(self.levels, self.limits, strict=True))
        ]

    def grid(self) -> list[Sequence[GeneValue]]:
        """Return all values of each gene, of a space without real numbers."""
        return [
            levels or range(int(low), int(high) + 1)
            for levels, (low, high, _) in zip(self.levels, self.limits, strict=True)
        ]

    def snap(self, points: Array) -> Array:
        """Move points into the cube and onto the integers' grid, in place."""
        points[:, self.numbers] = points[:, self.numbers].clip(0.0, 1.0)
        for j in self.integers:
            low, high, log = self.limits[j]
            width = int(high) - int(low)
            if not 0 < width < _GRID_LIMIT:
                continue
            if log:
                span = math.log(high / low)
                points[:, j] = np.log(np.round(low * np.exp(points[:, j] * span)) / low) / span
            else:
                points[:, j] = np.floor(points[:, j] * width + 0.5) / width
        return points

    def random(self, count: int, rng: np.random.Generator) -> Array:
        """Draw points evenly."""
        points = rng.random((count, len(self.names)))
        points[:, self.choices] = np.floor(points[:, self.choices] * self.level_counts[self.choices])
        return self.snap(points)


def _levels(gene: VectorGene) -> tuple[GeneValue, ...]:
    if isinstance(gene, ChoiceGene):
        return gene.options
    return (False, True) if isinstance(gene, FlagGene) else ()


def _limits(gene: VectorGene) -> tuple[float, float, bool]:
    return (gene.low, gene.high, gene.log) if isinstance(gene, NumberGene | IntegerGene) else (0, 1, False)
