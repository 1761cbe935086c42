"""What can be handed in to be measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Standing(Protocol):
    """Where a run stands, counted from its beginning."""

    @property
    def run_id(self) -> str:
        """The run."""
        ...

    @property
    def fitness(self) -> float | None:
        """Validation fitness of the live DNA."""
        ...

    @property
    def trials(self) -> int:
        """Candidates that were decided on."""
        ...

    @property
    def evaluations(self) -> int:
        """Evaluations made."""
        ...

    @property
    def cost_usd(self) -> float:
        """Spent on models in dollars, reservations included."""
        ...


class Step(Standing, Protocol):
    """Where a run stands after a step of the graph: `results.Progress`."""

    @property
    def step(self) -> str:
        """The step that has ended."""
        ...

    @property
    def generation(self) -> int:
        """The generation it belongs to."""
        ...


class Ending(Standing, Protocol):
    """What a run ended with: `results.EvolutionResult`."""

    @property
    def status(self) -> str:
        """How it ended."""
        ...


@dataclass(frozen=True, slots=True)
class Totals:
    """What a run had used before it was looked at: nothing, unless it goes on from where another process stopped."""

    trials: int = 0
    evaluations: int = 0
    micro_usd: int = 0


@dataclass(frozen=True, slots=True)
class Begun:
    """A run begins, or goes on."""

    run_id: str
    totals: Totals


@dataclass(frozen=True, slots=True)
class Called:
    """A model has answered."""

    run_id: str
    model: str
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Depth:
    """So many operations wait in the store's outbox."""

    waiting: int


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step has ended."""

    step: Step


@dataclass(frozen=True, slots=True)
class Ended:
    """A run has ended, or pauses."""

    ending: Ending


What = Begun | Stepped | Called | Depth | Ended
"""What can be handed in."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Something that was handed in.

    Args:
        at_ms: When, in milliseconds since 1970 UTC.
        at_s: When, in seconds that never run backwards.
        what: What it was.
    """

    at_ms: int
    at_s: float
    what: What
