"""What the router has learned: how often each model succeeds in each task family, how fast, and for how much."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Protocol, TypedDict, TypeVar

from ...clock import Clock
from ...dna.database import Database
from .task import TaskContext, complexity_in, nearest_families, role_of

MEMORY_CALLS = 200
"""Evidence of a family fades with its own calls: about so many of the newest ones count."""
_KEPT = 1 - 1 / MEMORY_CALLS
_FORGOTTEN_CALLS = 0.01
"""Less evidence than this is none."""
BORROWED_CALLS = 20.0
"""How many calls of its own a family needs until they count as much as what is borrowed from its role, and a role until
they count as much as the model's card."""
KNOWN_CALLS = 5.0
"""With fewer calls a model's latency is not known."""
MAX_FAMILIES, MAX_MODELS = 64, 16
"""What a snapshot holds at most; four roles have 40 families."""
_COLUMNS = "calls, successes, latency_ms, micro_usd"
_DIGITS = 6

Value = TypeVar("Value")


class Evidence(TypedDict):
    """Faded sums over the calls of a model in a family."""

    calls: float
    successes: float
    latency_ms: float
    micro_usd: float


@dataclass(frozen=True, slots=True)
class Family:
    """All that was learned of one family of tasks.

    Args:
        name: The family.
        models: Evidence by model.
        updated: When the last of it was added, ISO 8601 in UTC.
    """

    name: str
    models: Mapping[str, Evidence]
    updated: str


RoutingState = Mapping[str, Mapping[str, Evidence]]
"""Evidence by family and model; JSON-plain."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended."""

    success: bool
    latency_ms: int = 0
    micro_usd: int = 0


def after_call(family: Mapping[str, Evidence], model_id: str, outcome: Outcome) -> dict[str, Evidence]:
    """Return the evidence of a family after one more call.

    All its models' older evidence fades by the same factor, so that a model which is never chosen becomes uncertain
    and is tried again: discounted UCB (Garivier and Moulines, https://arxiv.org/abs/0805.3415).
    """
    faded = {model: _scaled(evidence) for model, evidence in family.items()}
    old = faded.get(model_id, Evidence(calls=0.0, successes=0.0, latency_ms=0.0, micro_usd=0.0))
    faded[model_id] = Evidence(
        calls=old["calls"] + 1,
        successes=old["successes"] + outcome.success,
        latency_ms=old["latency_ms"] + outcome.latency_ms,
        micro_usd=old["micro_usd"] + outcome.micro_usd,
    )
    return {model: evidence for model, evidence in faded.items() if evidence["calls"] >= _FORGOTTEN_CALLS}


def _scaled(evidence: Evidence) -> Evidence:
    return Evidence(
        calls=evidence["calls"] * _KEPT,
        successes=evidence["successes"] * _KEPT,
        latency_ms=evidence["latency_ms"] * _KEPT,
        micro_usd=evidence["micro_usd"] * _KEPT,
    )


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is expected of a model in a task.

    Args:
        success: Probability of a usable answer.
        calls: Calls in like tasks that this was learned from, faded.
        latency_s: Mean seconds it took in like tasks, or else in its role; None where too few were measured.
    """

    success: float
    calls: float
    latency_s: float | None


def estimate(state: RoutingState, context: TaskContext, model_id: str, prior: Callable[[float], float]) -> Estimate:
    """Estimate how a model will do in a task, from the narrowest evidence there is enough of.

    What is learned are deviations from the prior: first of the role as a whole, then of the families nearest in
    complexity from their role. Each is shrunk towards zero as if `BORROWED_CALLS` calls had shown none (a posterior
    mean with pseudo-counts), so that a family without calls has its role's, and a role without calls the prior.

    Args:
        state: What was learned.
        context: The task.
        model_id: The model.
        prior: Success expected of it at a complexity, before anything was learned.
    """
    cells = {
        family: models[model_id]
        for family, models in state.items()
        if model_id in models and role_of(family) == context.role
    }
    of_role = _deviation([(cell, prior(complexity_in(family))) for family, cell in cells.items()])
    near = [(family, weight) for family, weight in nearest_families(context) if family in cells]
    of_family = math.fsum(
        weight * _deviation([(cells[family], prior(complexity_in(family)) + of_role)]) for family, weight in near
    )
    return Estimate(
        success=min(1.0, max(0.0, prior(context.complexity) + of_role + of_family)),
        calls=math.fsum(weight * cells[family]["calls"] for family, weight in near),
        latency_s=_latency_s([cells[family] for family, weight in near if weight], list(cells.values())),
    )


def _deviation(cells: Sequence[tuple[Evidence, float]]) -> float:
    """Return how much more often calls succeed than expected, shrunk. Exact sums: no order of a dict shows."""
    surplus = math.fsum(cell["successes"] - cell["calls"] * expected for cell, expected in cells)
    return surplus / (math.fsum(cell["calls"] for cell, _ in cells) + BORROWED_CALLS)


def _latency_s(*narrow_to_wide: Sequence[Evidence]) -> float | None:
    for cells in narrow_to_wide:
        calls = math.fsum(cell["calls"] for cell in cells)
        if calls >= KNOWN_CALLS:
            return math.fsum(cell["latency_ms"] for cell in cells) / calls / 1000
    return None


class PerformanceTracker(Protocol):
    """Learns how models do, wherever it keeps what it learned."""

    def record(self, context: TaskContext, model_id: str, *, success: bool, latency_ms: int, micro_usd: int) -> None:
        """Add the outcome of one call.

        Args:
            context: What the call was for.
            model_id: The model that was called, as the router named it.
            success: Whether its answer was usable.
            latency_ms: Milliseconds until the answer, or the failure, was there.
            micro_usd: What the call cost.
        """
        ...

    def snapshot(self) -> dict[str, dict[str, Evidence]]:
        """Return what was learned: the families with most evidence, and their models with most of it.

        At most `MAX_FAMILIES` families of `MAX_MODELS` models, in the order of their names, rounded to six digits:
        JSON-plain, to be kept with a run's state.
        """
        ...

    def families(self) -> list[Family]:
        """Return all that was learned.

        Raises:
            StoreError: It cannot be read.
            IntegrityError: It was altered.
        """
        ...

    def adopt(self, family: Family) -> bool:
        """Take over what another tracker knows of a family, unless what is known here is as new; whether it did.

        Raises:
            StoreError: It cannot be written.
        """
        ...


class ModelPerformanceTracker:
    """Keeps what was learned in the application's file, where all its processes add to it.

    Args:
        database: The application's file.
        app: The application's name.
        clock: Tells when evidence was last added.
    """

    def __init__(self, database: Database, *, app: str, clock: Clock) -> None:
        self._database = database
        self._app = app
        self._clock = clock
        with database.tables() as tables:
            tables.table("model_performance").create(
                {
                    "app": str,
                    "family": str,
                    "model": str,
                    "calls": float,
                    "successes": float,
                    "latency_ms": float,
                    "micro_usd": float,
                    "updated": str,
                },
                pk=("app", "family", "model"),
                if_not_exists=True,
            )

    def record(self, context: TaskContext, model_id: str, *, success: bool, latency_ms: int, micro_usd: int) -> None:
        """Add the outcome of one call, in one transaction; see `PerformanceTracker.record`."""
        now = self._clock.now().astimezone(UTC).isoformat(timespec="seconds")
        outcome = Outcome(success, latency_ms, micro_usd)
        with self._database.transaction("routing.learn") as connection:
            known = connection.execute(
                f"SELECT model, {_COLUMNS} FROM model_performance WHERE app = ? AND family = ?",  # noqa: S608  # ours
                [self._app, context.family],
            ).fetchall()
            models = after_call({model: evidence_of(sums) for model, *sums in known}, model_id, outcome)
            self._put(connection, Family(context.family, models, now))

    def _put(self, connection: sqlite3.Connection, family: Family) -> None:
        connection.execute("DELETE FROM model_performance WHERE app = ? AND family = ?", [self._app, family.name])
        connection.executemany(
            "INSERT INTO model_performance VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                [self._app, family.name, model, *evidence.values(), family.updated]
                for model, evidence in family.models.items()
            ],
        )

    def snapshot(self) -> dict[str, dict[str, Evidence]]:
        """Return what was learned; see `PerformanceTracker.snapshot`."""
        state: dict[str, dict[str, Evidence]] = {}
        for family, model, *sums in self._database.rows(
            f"SELECT family, model, {_COLUMNS} FROM model_performance WHERE app = ? ORDER BY family, model",  # noqa: S608
            [self._app],
        ):
            state.setdefault(family, {})[model] = evidence_of(sums)
        return most_known(state)

    def families(self) -> list[Family]:
        """Return all that was learned; see `PerformanceTracker.families`."""
        found: dict[str, tuple[dict[str, Evidence], str]] = {}
        for family, model, updated, *sums in self._database.rows(
            f"SELECT family, model, updated, {_COLUMNS} FROM model_performance WHERE app = ? ORDER BY family, model",  # noqa: S608
            [self._app],
        ):
            found.setdefault(family, ({}, updated))[0][model] = evidence_of(sums)
        return [Family(name, models, updated) for name, (models, updated) in found.items()]

    def adopt(self, family: Family) -> bool:
        """Take over what is known of a family elsewhere; see `PerformanceTracker.adopt`."""
        newest = "SELECT max(updated) FROM model_performance WHERE app = ? AND family = ?"
        with self._database.transaction("store.pull") as connection:
            [known] = connection.execute(newest, [self._app, family.name]).fetchone()
            if known is not None and known >= family.updated:
                return False
            self._put(connection, family)
        return True


def most_known(state: Mapping[str, Mapping[str, Evidence]]) -> dict[str, dict[str, Evidence]]:
    """Return the families with most evidence and their models with most of it, in the order of their names."""
    kept = _most(state, MAX_FAMILIES, lambda models: math.fsum(cell["calls"] for cell in models.values()))
    return {family: _most(models, MAX_MODELS, lambda cell: cell["calls"]) for family, models in kept.items()}


def evidence_of(sums: Sequence[float]) -> Evidence:
    """Return stored sums, in the order of `Evidence`, as they are told: rounded to six digits."""
    calls, successes, latency_ms, micro_usd = (round(value, _DIGITS) for value in sums)
    return Evidence(calls=calls, successes=successes, latency_ms=latency_ms, micro_usd=micro_usd)


def _most(table: Mapping[str, Value], limit: int, evidence: Callable[[Value], float]) -> dict[str, Value]:
    kept = sorted(table, key=lambda name: (-evidence(table[name]), name))[:limit]
    return {name: table[name] for name in sorted(kept)}
