"""`CostTracker`: where the money went, where it is going, and what would save some of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Literal

from ...clock import Clock
from ...errors import UnknownModel, UnknownPrice
from ..models.catalog import Catalog
from ..models.model_ids import ModelId
from ..models.prices import Tokens
from ..routing.optimizer import CostOptimizer, ModelUsage
from ..routing.performance import RoutingState
from ..routing.task import role_of
from .caps import dollars
from .ledger import Alarm, Dimension, Group, Ledger, Spend

WINDOW_DAYS = 28
"""Recommendations and the month's forecast look back so far."""
_HOUR_S, _DAY_S = 3600, 86_400
_DAY_HOURS = 24
_BLOCKS_FOR_INTERVAL = 3
_Z = 1.2815515655446004
"""Normal quantile of a two-sided 80 % interval."""
_CACHED_SHARE = 0.5
"""Share of their input that agents read from the cache where caching works: each call repeats the one before it."""
_CACHEABLE_TOKENS = 1024
"""Bedrock caches no shorter prompt, whatever the model.

Source: https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html
"""
_REMEDIES = {
    "ReadTimeoutError": "Raise read_timeout_s, or lower max_tokens so that answers come sooner.",
    "expired": "A process died between a call and its answer: let runs end, or stop them with Ctrl-C.",
    "interrupted": "Runs were stopped in the middle of a call.",
    "no usage in the answer": "The service did not say what they used: compare with the bill.",
    "malformed answer": "The model wrote what cannot be read, and was asked again: bind the agent to another model.",
}


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a period will have cost when it ends.

    Args:
        period: `day` or `month`, in UTC.
        spent_micro_usd: Spent or held so far.
        expected_micro_usd: At its end; None while there is too little to go by.
        low_micro_usd: Lower end of the interval; None while there is too little to go by.
        high_micro_usd: Upper end of the interval.
        method: How it was calculated, and from what.
    """

    period: Literal["day", "month"]
    spent_micro_usd: int
    expected_micro_usd: int | None
    low_micro_usd: int | None
    high_micro_usd: int | None
    method: str


@dataclass(frozen=True, slots=True)
class Saving:
    """Something that would have saved money on the calls of the last 28 days.

    Args:
        kind: What it is about.
        micro_usd: How much.
        message: Where, why, and what to do.
    """

    kind: Literal["cheaper_model", "prompt_caching", "lost_answers"]
    micro_usd: int
    message: str


class CostTracker:
    """Reads the ledger of an application.

    Args:
        ledger: Its calls.
        clock: Tells how much of the day and month is left.
        catalog: Knows the prices.
    """

    def __init__(self, ledger: Ledger, *, clock: Clock, catalog: Catalog) -> None:
        self._ledger = ledger
        self._clock = clock
        self._catalog = catalog

    def by(self, *dimensions: Dimension, since: str = "") -> list[Group]:
        """Return the spend grouped by agent, model, task, day, month or run; see `Ledger.spend_by`."""
        return self._ledger.spend_by(*dimensions, since=since)

    def alarms(self) -> list[Alarm]:
        """Return the alarms, newest first."""
        return self._ledger.alarms()

    def forecasts(self) -> list[Forecast]:
        """Forecast the end of the day and the end of the month.

        What is spent so far, plus the mean of the last 24 whole hours (28 whole days) times the hours (days) left. The
        interval is an 80 % prediction interval for a sum of future values, given past ones that are alike and
        independent (Hahn and Meeker, Statistical Intervals, 1991, chapter 4). Calls that come in bursts, or work that
        is about to end, are not foreseen.
        """
        now = self._clock.now().astimezone(UTC)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        month_end = (now.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=32)).replace(day=1)
        hours = self._ledger.paces(block_s=_HOUR_S, blocks=_DAY_HOURS)
        days = self._ledger.paces(block_s=_DAY_S, blocks=WINDOW_DAYS)
        return [
            _forecast("day", self._ledger.day_spend(), hours, "hours", (midnight - now) / timedelta(hours=1)),
            _forecast("month", self._ledger.month_spend(), days, "days", (month_end - now) / timedelta(days=1)),
        ]

    def savings(self, learned: RoutingState) -> list[Saving]:
        """Recommend what would have saved money on the calls of the last 28 days, the largest saving first.

        Args:
            learned: What `ModelPerformanceTracker` knows of the models' outcomes.
        """
        since = f"{self._clock.now().astimezone(UTC) - timedelta(days=WINDOW_DAYS):%Y-%m-%d}"
        found = [*self._cheaper_models(learned, since), *self._caching(since), *self._lost_answers(since)]
        return sorted(found, key=lambda saving: (-saving.micro_usd, saving.message))

    def _cheaper_models(self, learned: RoutingState, since: str) -> Iterator[Saving]:
        usage = [
            ModelUsage(
                task=task,
                model=_as_learned(model, learned.get(task, {})),
                calls=group.spend.calls,
                input_tokens=group.spend.input_tokens,
                output_tokens=group.spend.output_tokens,
                # What is known to be paid: calls without an answer have no tokens to compare.
                micro_usd=group.spend.micro_usd - group.spend.unconfirmed_micro_usd - group.spend.held_micro_usd,
            )
            for group in self.by("task", "model", since=since)
            for task, model in [group.names]
        ]
        for found in CostOptimizer(self._catalog).recommend(usage, learned):
            bind = f"{role_of(found.task)}_model"
            said = f"{found.task}: {found.why} The setting `{bind}` binds the agent to it."
            yield Saving("cheaper_model", found.saving_micro_usd, said)

    def _caching(self, since: str) -> Iterator[Saving]:
        for group in self.by("agent", "model", since=since):
            (agent, model), spend = group.names, group.spend
            saving = self._cache_saving(model, spend)
            if saving > 0:
                share = spend.cache_read_tokens / spend.input_tokens
                said = (
                    f"{share:.0%} of the input of {agent} to {model} came from the prompt cache; half of it would have"
                    f" saved {dollars(saving)}. If the model takes cache points, write `caches = true` in a model card."
                )
                yield Saving("prompt_caching", saving, said)

    def _cache_saving(self, model: str, spend: Spend) -> int:
        """Return what reading half of the input from the cache saves, where it can be done and told; 0 otherwise."""
        answered = max(1, spend.calls - spend.failed_calls)
        # By the call, as prices may depend on its size.
        anew = round(spend.input_tokens * _CACHED_SHARE - spend.cache_read_tokens) // answered
        if anew <= 0 or spend.input_tokens < _CACHEABLE_TOKENS * answered:
            return 0
        try:
            if self._catalog.card(model).caches:
                return 0
            price = self._catalog.cost_micro_usd
            return answered * (price(model, Tokens(anew, 0)) - price(model, Tokens(anew, 0, cache_read=anew)))
        except (UnknownModel, UnknownPrice):
            # Calls on record may be older than the cards and prices of today.
            return 0

    def _lost_answers(self, since: str) -> Iterator[Saving]:
        for group in self.by("error", since=since):
            (error,), spend = group.names, group.spend
            if spend.unconfirmed_micro_usd:
                calls = "1 call" if spend.failed_calls == 1 else f"{spend.failed_calls} calls"
                remedy = _REMEDIES.get(error, "The service or the network failed in the middle of an answer.")
                said = (
                    f"{calls} ended without a usable answer ({error}); up to {dollars(spend.unconfirmed_micro_usd)}"
                    f" may be billed for that. {remedy}"
                )
                yield Saving("lost_answers", spend.unconfirmed_micro_usd, said)


def _as_learned(model: str, known: Iterable[str]) -> str:
    """Return the name under which a model's outcomes were learned: the ledger has the id that was called."""
    base = ModelId.parse(model).base
    return next((name for name in known if base and ModelId.parse(name).base == base), model)


def _forecast(period: Literal["day", "month"], spend: Spend, blocks: Sequence[int], unit: str, left: float) -> Forecast:
    """Forecast from past blocks of time, with `left` blocks to go."""
    spent, count = spend.micro_usd, len(blocks)
    if not count:
        return Forecast(period, spent, None, None, None, f"No forecast: the calls cover no whole {unit[:-1]} yet.")
    more = statistics.fmean(blocks) * left
    method = f"Spent so far, plus the mean of the last {count} whole {unit} for each of the {left:.1f} {unit} left."
    if count < _BLOCKS_FOR_INTERVAL:
        return Forecast(period, spent, round(spent + more), None, None, f"{method} Too few {unit} for an interval.")
    margin = _t_quantile(count - 1) * statistics.stdev(blocks) * math.sqrt(left + left**2 / count)
    low, high = round(spent + max(0.0, more - margin)), round(spent + more + margin)
    alike = f"Low and high: 80 % prediction interval, if {unit} to come are like those."
    return Forecast(period, spent, round(spent + more), low, high, f"{method} {alike}")


def _t_quantile(freedom: int) -> float:
    """Return Student's t at the ends of a two-sided 80 % interval (Abramowitz and Stegun 26.7.5)."""
    z = _Z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return z + sum(term / float(freedom) ** power for power, term in enumerate(terms, start=1))
