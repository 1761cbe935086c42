"""Panels: how many cases of each part a run scores, so that its evaluation budget can decide something."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from ..clock import derive_seed
from ..errors import BudgetExhausted
from .cases import MIN_VALIDATION, PARTS, Part

_STANDING_SHARE = 0.4
"""Share of a tight budget spent on scoring the live DNA and the sealed test; the rest is for candidates."""
_LEAST = {"train": 4, "validation": MIN_VALIDATION, "test": 2}
_SINGLE_LEAST = 3


@dataclass(frozen=True, slots=True)
class Panels:
    """Case indices of each part, in the order they are scored.

    The order is shuffled once a run, as the application's own order may be sorted by kind.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]

    def part(self, name: Part) -> tuple[int, ...]:
        """Return the panel of one part."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


def plan_panels(sizes: Mapping[Part, int], *, max_evaluations: int | None, seed: int) -> Panels:
    """Choose the panels of a run.

    Args:
        sizes: How many cases each part has; one of each is a single objective.
        max_evaluations: The run's hard limit; None for no limit, which takes every case.
        seed: The run's seed.

    Raises:
        BudgetExhausted: The limit is too small to score the live DNA and one candidate.
    """
    if set(sizes.values()) == {1}:
        _affords(_SINGLE_LEAST, max_evaluations)
        return Panels(train=(0,), validation=(0,), test=(0,))
    totals = dict(sizes)
    least = {part: min(sizes[part], _LEAST[part]) for part in PARTS}
    _affords(2 * (least["train"] + least["validation"] + least["test"]), max_evaluations)
    if max_evaluations is not None:
        # Every part gets its least first; the rest of the standing share is divided in proportion.
        rest = {part: totals[part] - least[part] for part in PARTS}
        wanted = max(1, _standing(rest))
        share = min(1.0, max(0.0, _STANDING_SHARE * max_evaluations - _standing(least)) / wanted)
        sizes = {part: least[part] + int(rest[part] * share) for part in PARTS}
    return Panels(**{part: _shuffled(totals[part], sizes[part], seed, part) for part in PARTS})


def _standing(sizes: Mapping[Part, int]) -> int:
    """What the live DNA costs: training and validation once, the test at the start and at the end of the run."""
    return sizes["train"] + sizes["validation"] + 2 * sizes["test"]


def _affords(needed: int, limit: int | None) -> None:
    if limit is not None and limit < needed:
        raise BudgetExhausted(
            f"a budget of {limit} evaluations cannot decide anything:"
            f" scoring the live genes and one candidate takes {needed}.",
            hint=f"Give max_evaluations={needed} or more; nothing was run.",
        )


def _shuffled(total: int, size: int, seed: int, part: Part) -> tuple[int, ...]:
    order = list(range(total))
    random.Random(derive_seed(seed, "panel", part)).shuffle(order)  # noqa: S311  # no secret: it must be repeatable
    return tuple(order[:size])
