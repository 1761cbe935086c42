"""Money: what a call may cost under budget pressure, and where a cheaper model would have done as well."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...errors import UnknownPrice
from ...settings import MICRO
from ..models.catalog import Catalog
from ..models.prices import Tokens
from .performance import Evidence, RoutingState
from .task import TaskContext, role_of

EASE_FROM, EASE_TO = 0.8, 1.0
"""Shares of the budget between which routing turns from what an answer is worth to what it costs."""
LEAST_ACCURACY = 0.2
"""Share of a task's accuracy need that is left when the budget is spent."""
_MARGIN = 0.05
"""A success rate that is credibly less than this below another counts as equal to it."""
_Z = 1.2815515655446004
"""Normal quantile of the one-sided 90 % bounds."""


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """What a model was used for and what that cost.

    Args:
        task: A task family, or a role: then all its families.
        model: The model.
        calls: How many calls.
        input_tokens: What was sent, in all of them.
        output_tokens: What was answered, in all of them.
        micro_usd: What they cost.
    """

    task: str
    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    micro_usd: int


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A cheaper model that would have done as well.

    Args:
        task: As in the usage.
        model: The model that was used.
        instead: The model to use instead.
        saving_micro_usd: What it would have saved on this usage.
        why: One sentence with the figures.
    """

    task: str
    model: str
    instead: str
    saving_micro_usd: int
    why: str


class CostOptimizer:
    """Weighs money against answers; pure functions of their arguments and the price list.

    Args:
        catalog: Knows the prices.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def adjust(self, context: TaskContext, pressure: float) -> TaskContext:
        """Return what matters in a task when the budget runs out.

        Up to 0.8 of the budget nothing changes. From there to 1.0 cost sensitivity rises to 1, and the accuracy need
        falls to a fifth, both along a curve without a jump or a kink (smoothstep, 3t² - 2t³).

        Args:
            context: The task.
            pressure: Share of the tightest budget that is spent or held; 1 and above: all of it.
        """
        t = min(1.0, max(0.0, (pressure - EASE_FROM) / (EASE_TO - EASE_FROM)))
        ease = t * t * (3 - 2 * t)
        if ease == 0.0:
            return context
        return replace(
            context,
            cost_sensitivity=context.cost_sensitivity + (1 - context.cost_sensitivity) * ease,
            accuracy=context.accuracy * (1 - (1 - LEAST_ACCURACY) * ease),
        )

    def recommend(self, usage: Sequence[ModelUsage], state: RoutingState) -> list[Recommendation]:
        """Find cheaper models with credibly equal success, the largest saving first.

        Equal means: with 90 % confidence its success rate is less than 5 points lower (Newcombe's interval for the
        difference of two proportions, method 10, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I).
        The saving is what the same tokens would have cost.

        Args:
            usage: What was used.
            state: What was learned of the models' outcomes.
        """
        found = [best for used in usage if (best := self._instead(used, state)) is not None]
        return sorted(found, key=lambda it: (-it.saving_micro_usd, it.task, it.model))

    def _instead(self, used: ModelUsage, state: RoutingState) -> Recommendation | None:
        rates = _evidence(used.task, state)
        present = rates.get(used.model)
        if present is None:
            return None
        options = [
            Recommendation(used.task, used.model, other, saving, _why(used, other, saving, present, rate))
            for other, rate in rates.items()
            if other != used.model and _as_good(rate, present) and (saving := self._saving(used, other)) > 0
        ]
        return min(options, key=lambda option: (-option.saving_micro_usd, option.instead), default=None)

    def _saving(self, used: ModelUsage, other: str) -> int:
        # Call by call, since some prices rise with the length of a prompt.
        mean = Tokens(math.ceil(used.input_tokens / used.calls), math.ceil(used.output_tokens / used.calls))
        try:
            return used.micro_usd - used.calls * self._catalog.cost_micro_usd(other, mean)
        except UnknownPrice:
            # Evidence may be older than the list of models; what has no price cannot be recommended.
            return 0


@dataclass(frozen=True, slots=True)
class _Rate:
    calls: float
    successes: float

    @property
    def share(self) -> float:
        return self.successes / self.calls

    def bounds(self) -> tuple[float, float]:
        """Return Wilson's one-sided bounds (https://doi.org/10.1080/01621459.1927.10502953)."""
        middle = self.share + _Z * _Z / (2 * self.calls)
        half = _Z * math.sqrt(self.share * (1 - self.share) / self.calls + (_Z / (2 * self.calls)) ** 2)
        scale = 1 + _Z * _Z / self.calls
        return (middle - half) / scale, (middle + half) / scale


def _as_good(other: _Rate, present: _Rate) -> bool:
    below, above = other.share - other.bounds()[0], present.bounds()[1] - present.share
    return other.share - present.share - math.hypot(below, above) > -_MARGIN


def _evidence(task: str, state: RoutingState) -> dict[str, _Rate]:
    families = [state[task]] if task in state else [state[name] for name in sorted(state) if role_of(name) == task]
    cells: dict[str, list[Evidence]] = {}
    for family in families:
        for model, cell in family.items():
            cells.setdefault(model, []).append(cell)
    return {
        model: _Rate(math.fsum(cell["calls"] for cell in its), math.fsum(cell["successes"] for cell in its))
        for model, its in sorted(cells.items())
    }


def _why(used: ModelUsage, other: str, saving: int, present: _Rate, rate: _Rate) -> str:
    return (
        f"{other} succeeded in {rate.share:.0%} of {rate.calls:.0f} calls and {used.model} in {present.share:.0%} of"
        f" {present.calls:.0f}; it would have saved ${saving / MICRO:.4f} of ${used.micro_usd / MICRO:.4f}."
    )
