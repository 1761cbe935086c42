"""`ModelRouter`: ranks the models for a task by what their answers are worth and what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...settings import MICRO, ModelCard
from ..models.catalog import Catalog
from ..models.prices import Tokens
from .optimizer import CostOptimizer
from .performance import BORROWED_CALLS, Estimate, RoutingState, estimate
from .task import TaskContext, nearest_families

WORTH_USD = 0.25
"""What a usable answer is worth where accuracy is all that matters."""
LOST_PER_S = 0.002
"""Share of its worth that an answer loses with each second of waiting."""
EXPLORATION = 0.3
"""How much is added to an expected success for want of evidence."""
_SLOWEST_S = 30.0
"""Seconds that are expected of a model of speed 0, until its latency is known."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A model, and why it stands where it stands in the ranking.

    Args:
        model_id: As in the settings.
        reason: One sentence with the numbers that decided.
        score: What the call is worth less what it costs, in dollars.
    """

    model_id: str
    reason: str
    score: float


class ModelRouter:
    """Chooses by an upper confidence bound, with the models' cards as the prior.

    Args:
        catalog: Knows the models' windows, capabilities and prices.
        models: What may be chosen.
        optimizer: Shifts the weights under budget pressure.

    Raises:
        UnknownModel: The catalog does not hold one of the models.
        UnknownPrice: It holds no price of one.
    """

    def __init__(self, catalog: Catalog, models: Sequence[str], optimizer: CostOptimizer) -> None:
        self._catalog = catalog
        self._optimizer = optimizer
        self._cards = {model_id: catalog.card(model_id) for model_id in models}
        for model_id in self._cards:
            catalog.cost_micro_usd(model_id, Tokens(1, 1))

    def rank(self, context: TaskContext, state: RoutingState, *, pressure: float = 0.0) -> list[Choice]:
        """Rank the models for a task, the best first; a pure function of its arguments.

        A model's score is `WORTH_USD` x accuracy x (success + bonus - `LOST_PER_S` x seconds) - cost sensitivity x
        dollars. The bonus is `EXPLORATION` x sqrt(log(1 + N) / (n + `BORROWED_CALLS`)), with n calls of the model and N
        of all models in like tasks: UCB1 (Auer et al., https://doi.org/10.1023/A:1013689704352) over faded counts.

        Left out are models whose window cannot hold the task, which cannot write so long an answer, or which are known
        to be slower than the limit. If no model can hold it, the largest window is kept; if all are slower, all are.

        Args:
            context: The task.
            state: What was learned, as `ModelPerformanceTracker.snapshot` returns it.
            pressure: Share of the tightest budget that is spent or held.
        """
        task = self._optimizer.adjust(context, pressure)
        # Over all models, so that leaving one out moves no other's bonus.
        tried = math.fsum(
            weight * cell["calls"]
            for family, weight in nearest_families(task)
            for model_id, cell in state.get(family, {}).items()
            if model_id in self._cards
        )
        rated = [_rated(task, model_id, found, tried) for model_id, found in self._usable(task, state).items()]
        rated.sort(key=lambda it: (-it.score, it.model_id))
        place = f"of {len(rated)} at complexity {task.complexity:.2f} with {pressure:.0%} of the budget used"
        return [
            Choice(it.model_id, f"Number {number} {place}: {it.reason}", it.score)
            for number, it in enumerate(rated, start=1)
        ]

    def _usable(self, task: TaskContext, state: RoutingState) -> dict[str, _Expected]:
        fitting = [model_id for model_id, card in self._cards.items() if _fits(task, card)]
        if not fitting:
            largest = max(card.context_tokens for card in self._cards.values())
            fitting = [model_id for model_id, card in self._cards.items() if card.context_tokens == largest]
        expected = {model_id: self._expected(task, state, model_id) for model_id in fitting}
        limit_s = math.inf if task.latency_limit_s is None else task.latency_limit_s
        in_time = {model_id: it for model_id, it in expected.items() if (it.learned.latency_s or 0.0) <= limit_s}
        return in_time or expected

    def _expected(self, task: TaskContext, state: RoutingState, model_id: str) -> _Expected:
        card = self._cards[model_id]
        capability: float = getattr(card, task.kind)
        learned = estimate(state, task, model_id, lambda complexity: prior_success(capability, complexity))
        return _Expected(
            learned=learned,
            seconds=_SLOWEST_S * (1 - card.speed) if learned.latency_s is None else learned.latency_s,
            usd=self._catalog.cost_micro_usd(model_id, Tokens(task.input_tokens, task.output_tokens)) / MICRO,
        )


def prior_success(capability: float, complexity: float) -> float:
    """Return the success expected of a model before anything was learned.

    A capability is its success in tasks of middling complexity; in the simplest tasks it fails half as often, in the
    most complex ones half as often again. So capable models pull ahead as tasks get harder.
    """
    return min(1.0, max(0.0, 1 - (1 - capability) * (0.5 + complexity)))


def _fits(task: TaskContext, card: ModelCard) -> bool:
    holds = card.context_tokens - task.output_tokens >= task.input_tokens
    return holds and card.max_output_tokens >= task.output_tokens


@dataclass(frozen=True, slots=True)
class _Expected:
    learned: Estimate
    seconds: float
    usd: float


@dataclass(frozen=True, slots=True)
class _Rated:
    model_id: str
    expected: _Expected
    bonus: float
    score: float

    @property
    def reason(self) -> str:
        """The numbers that decided."""
        found = self.expected
        doubt = f", +{self.bonus:.2f} for want of more" if self.bonus else ""
        return (
            f"success {found.learned.success:.2f} (from {found.learned.calls:.0f} like calls{doubt}) for"
            f" ${found.usd:.4f} and {found.seconds:.1f} s is worth ${self.score:.4f}."
        )


def _rated(task: TaskContext, model_id: str, found: _Expected, tried: float) -> _Rated:
    bonus = EXPLORATION * math.sqrt(math.log1p(tried) / (found.learned.calls + BORROWED_CALLS))
    worth_usd = WORTH_USD * task.accuracy * (found.learned.success + bonus - LOST_PER_S * found.seconds)
    return _Rated(model_id, found, bonus, worth_usd - task.cost_sensitivity * found.usd)
