"""What is measured: the points that follow from each step of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..settings import MICRO
from .outcomes import Outcomes
from .points import (
    DECISIONS,
    EVALUATIONS,
    FITNESS,
    INCIDENTS,
    MODEL_LATENCY,
    QUEUE_DEPTH,
    RUNS_ENDED,
    SPEND,
    STEP_LATENCY,
    TRIALS,
    Metric,
    Point,
    points,
)
from .seen import Begun, Called, Depth, Ending, Seen, Standing, Step, Stepped, Totals


@dataclass(frozen=True, slots=True)
class _Known:
    """What was last known of a run."""

    totals: Totals
    at_s: float | None
    fitness: float | None = None


@dataclass(slots=True)
class Measures:
    """Turns what is seen of an application's runs into points.

    Counts in what is seen are totals; what is published are their changes, whose sum over a run is the total again.
    A spend may shrink, as reservations are given back: its change is negative then.

    Args:
        app: The application.
        outcomes: Tells what was decided.
    """

    app: str
    outcomes: Outcomes
    _known: dict[str, _Known] = field(default_factory=dict)

    def of(self, seen: Seen) -> list[Point]:
        """Return the points of something that was seen; it must be given in the order of its time."""
        what = seen.what
        if isinstance(what, Begun):
            self._known[what.run_id] = _Known(what.totals, seen.at_s)
            return []
        if isinstance(what, Depth):
            return list(points(QUEUE_DEPTH, what.waiting, seen.at_ms, {"App": self.app}))
        if isinstance(what, Called):
            dimensions = {"App": self.app, "Run": what.run_id, "Model": what.model}
            return list(points(MODEL_LATENCY, what.latency_ms, seen.at_ms, dimensions))
        if isinstance(what, Stepped):
            return list(self._stepped(what.step, seen))
        return list(self._ended(what.ending, seen))

    def _stepped(self, now: Step, seen: Seen) -> Iterator[Point]:
        before = self._before(now)
        dimensions = {"App": self.app, "Run": now.run_id}
        if now.step == "observe" or now.fitness != before.fitness:
            yield from points(FITNESS, now.fitness, seen.at_ms, dimensions)
        yield from self._changes(before.totals, now, seen.at_ms)
        if before.at_s is not None:
            elapsed_ms = 1000 * (seen.at_s - before.at_s)
            yield from points(STEP_LATENCY, elapsed_ms, seen.at_ms, dimensions | {"Step": now.step})
        if now.step == "heal":
            yield from points(INCIDENTS, 1, seen.at_ms, dimensions)
        for verdict in self.outcomes.of(now.run_id, now.generation, now.step):
            yield from points(DECISIONS, 1, seen.at_ms, dimensions | {"Verdict": verdict})
        self._known[now.run_id] = _Known(_totals(now), seen.at_s, now.fitness)

    def _ended(self, now: Ending, seen: Seen) -> Iterator[Point]:
        before = self._before(now)
        dimensions = {"App": self.app, "Run": now.run_id}
        if now.fitness != before.fitness:
            yield from points(FITNESS, now.fitness, seen.at_ms, dimensions)
        yield from self._changes(before.totals, now, seen.at_ms)
        yield from points(RUNS_ENDED, 1, seen.at_ms, dimensions | {"Status": now.status})
        self._known.pop(now.run_id, None)

    def _before(self, now: Standing) -> _Known:
        if now.run_id not in self._known:
            # Nobody said what it began with, so what came before is not counted.
            self._known[now.run_id] = _Known(_totals(now), None)
        return self._known[now.run_id]

    def _changes(self, before: Totals, now: Standing, at_ms: int) -> Iterator[Point]:
        after = _totals(now)
        changes: tuple[tuple[Metric, float], ...] = (
            (TRIALS, after.trials - before.trials),
            (EVALUATIONS, after.evaluations - before.evaluations),
            (SPEND, (after.micro_usd - before.micro_usd) / MICRO),
        )
        for metric, change in changes:
            if change:
                yield from points(metric, change, at_ms, {"App": self.app, "Run": now.run_id})


def _totals(now: Standing) -> Totals:
    return Totals(now.trials, now.evaluations, round(now.cost_usd * MICRO))
