"""What each word added to or removed from a text was worth, as far as the earlier trials tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...dna.genes import GeneValue
from .trials import Array, Past
from .wording import word_set

_RIDGE = 0.3
"""Shrinks the worths, in units of the trials' mean variance: most edits never came alone."""
_LEAST_TRIALS = 3


class Edit(NamedTuple):
    """One word added to a gene's text, or removed from it, compared with the live text."""

    gene: str
    word: str
    added: bool


class EditWorth:
    """A ridge regression of fitness on the edits of the earlier trials.

    Args:
        names: The text genes.
        live: The live values.
        past: Earlier trials.
    """

    def __init__(self, names: Sequence[str], live: Mapping[str, GeneValue], past: Past) -> None:
        self._index: dict[str, dict[tuple[str, bool], int]] = {name: {} for name in names}
        self._count = 0
        old = {name: str(live[name]) for name in names}
        rows = [self._row(old, trial.values) for trial in past.trials]
        table = np.zeros((len(rows), self._count))
        for i, row in enumerate(rows):
            table[i, row] = 1.0
        self._both = table @ table.T
        self._worths = self._regress(table, past).tolist()
        self._unit = max(map(abs, self._worths), default=0.0)

    def _row(self, old: Mapping[str, str], values: Mapping[str, GeneValue]) -> list[int]:
        row: list[int] = []
        for name, was in old.items():
            now = str(values[name])
            if now != was:
                index = self._index[name]
                for edit in _edits(was, now):
                    number = index.get(edit)
                    if number is None:
                        number = index[edit] = self._count
                        self._count += 1
                    row.append(number)
        return row

    def __bool__(self) -> bool:
        """Whether any trial edited a text."""
        return self._count > 0

    def _regress(self, table: Array, past: Past) -> Array:
        spread = float(past.fitness.std()) if len(past) else 0.0
        if len(past) < _LEAST_TRIALS or not self._count or spread == 0.0:
            return np.zeros(self._count)
        centred = table - table.mean(0)
        gram = centred @ centred.T
        ridge = _RIDGE * float(np.trace(gram)) / len(past) + 1e-9
        target = (past.fitness - past.fitness.mean()) / spread
        return np.asarray(np.round(centred.T @ np.linalg.solve(gram + ridge * np.eye(len(past)), target), 9))

    def of(self, gene: str, word: str, *, added: bool = True) -> float:
        """Return the estimated worth of an edit, from -1 to 1; 0 if never tried."""
        index = self._index[gene].get((word, added))
        return 0.0 if index is None or not self._unit else self._worths[index] / self._unit

    def best(self) -> dict[Edit, float]:
        """Return the edits that went with good scores, with their worth."""
        return {
            Edit(name, word, added): self._worths[i] / self._unit
            for name, index in self._index.items()
            for (word, added), i in index.items()
            if self._worths[i] > 0.0
        }

    def distances(self) -> Array:
        """Return how far the trials' texts are apart: the share of edits they do not have in common."""
        if not self._count:
            return np.zeros_like(self._both)
        own = np.diag(self._both)
        return np.asarray(1.0 - (self._both + 0.5) / (own[:, None] + own[None, :] - self._both + 0.5))


@lru_cache(maxsize=4096)
def _edits(was: str, now: str) -> tuple[tuple[str, bool], ...]:
    """Return the words a text gained (True) and lost (False), sorted."""
    before, after = word_set(was), word_set(now)
    gained, lost = sorted(after - before), sorted(before - after)
    return (*((word, True) for word in gained), *((word, False) for word in lost))
