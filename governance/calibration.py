"""Calibration: did what was decided without a person hold, as often and as much as was predicted?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from ..dna.events import EvolutionEvent
from ..dna.store import DNAStore

WINDOW = 200
"""Events that are looked back on, of either kind."""
LEAST_DECISIONS = 5
"""With fewer decisions nobody is called over-confident."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Predicted against actual, over the newest decisions that no person made and whose outcome is known.

    A decision held if what it made live was never undone, neither by automatic rollback nor by a person. The live
    generation is no outcome yet: it counts once something else is live.
    """

    decisions: int
    held: int
    mean_confidence: float | None
    """How sure the decisions were on average, from 0 to 1; None without any."""
    hold_rate: float | None
    """Which share of them held."""
    overconfidence: float
    """How much surer they were than right, beyond one standard error; 0 with fewer than five."""
    predicted_impact: float | None
    """Mean predicted change of the mean score by what was undone and measured; None where nothing was."""
    actual_impact: float | None
    """Mean change that live outcomes showed of the same."""

    def as_json(self) -> dict[str, Any]:
        """Return the form that is shown to the decision engine, and by `status --json`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Undoing:
    """One rollback, automatic or by a person, with the events of what it undid."""

    restored: EvolutionEvent
    applied: tuple[EvolutionEvent, ...]


def calibration(store: DNAStore, app: str) -> Calibration:
    """Compare what was predicted of applied mutations with what became of them, from the record alone."""
    line = _line(store, app)
    undone_by = _undoings(line)
    undone = {event.seq for undoing in undone_by for event in undoing.applied}
    # The last of the line is what is live now.
    outcomes = [
        (float(decision["confidence"]), event.seq not in undone)
        for event in line[:-1]
        if event.kind == "applied" and "confidence" in (decision := _own_decision(event))
    ]
    confidences, held = [sure for sure, _ in outcomes], sum(holds for _, holds in outcomes)
    predicted, actual = _impacts(undone_by)
    return Calibration(
        decisions=len(outcomes),
        held=held,
        mean_confidence=round(fmean(confidences), 6) if outcomes else None,
        hold_rate=round(held / len(outcomes), 6) if outcomes else None,
        overconfidence=overconfidence(confidences, held),
        predicted_impact=predicted,
        actual_impact=actual,
    )


def overconfidence(confidences: Sequence[float], held: int) -> float:
    """Return how much surer decisions were than right, beyond one standard error of the share that held.

    Args:
        confidences: How sure each of them was, from 0 to 1.
        held: How many of them held.
    """
    count = len(confidences)
    if count < LEAST_DECISIONS:
        return 0.0
    rate = held / count
    return round(max(0.0, fmean(confidences) - rate - math.sqrt(rate * (1.0 - rate) / count)), 6)


def undoings(store: DNAStore, app: str) -> list[Undoing]:
    """Return the newest rollbacks, oldest first, each with the applied generations it undid."""
    return _undoings(_line(store, app))


def _line(store: DNAStore, app: str) -> list[EvolutionEvent]:
    """Return the newest events that made DNA live, one for each generation, oldest first, without a gap."""
    applied = store.recent(app, ["applied"], limit=WINDOW)
    others = store.recent(app, ["restored", "declared"], limit=WINDOW)
    # Beyond the oldest of a list that is full, events of its kind are missing.
    first = max((events[-1].seq for events in (applied, others) if len(events) == WINDOW), default=0)
    line: dict[Any, EvolutionEvent] = {}
    for event in sorted([*applied, *others], key=lambda event: event.seq):
        if event.seq >= first:
            # Two runs that apply the very same mutation make one generation, and two events.
            line.setdefault(event.data.get("dna", event.seq), event)
    return list(line.values())


def _undoings(line: Sequence[EvolutionEvent]) -> list[Undoing]:
    """Return each rollback with the applied generations above its target which no rollback undid before."""
    found: list[Undoing] = []
    known: set[int] = set()
    for place, event in enumerate(line):
        if event.kind != "restored":
            continue
        above = int(event.data["from"]) - int(event.data["to"])
        passed = line[max(0, place - above) : place]
        applied = tuple(each for each in passed if each.kind == "applied" and each.seq not in known)
        known |= {each.seq for each in applied}
        found.append(Undoing(event, applied))
    return found


def _own_decision(applied: EvolutionEvent) -> Mapping[str, Any]:
    """Return a decision that no person made; what a person approved says nothing of how sure a rule or engine was."""
    decision: Mapping[str, Any] = applied.data.get("decision") or {}
    return {} if decision.get("approval_id") else decision


def _impacts(undone_by: Sequence[Undoing]) -> tuple[float | None, float | None]:
    pairs: list[tuple[float, float]] = []
    for undoing in undone_by:
        measured = undoing.restored.data.get("evidence") or {}
        before, now = measured.get("mean_before"), measured.get("mean_now")
        predicted = [event.data["impact"] for event in undoing.applied if event.data.get("impact") is not None]
        if before is not None and now is not None and predicted:
            pairs.append((sum(predicted), now - before))
    if not pairs:
        return None, None
    return round(fmean(p for p, _ in pairs), 9), round(fmean(a for _, a in pairs), 9)
