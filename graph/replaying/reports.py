"""What a replay and a fork come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .differences import Difference


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay did, and the first thing that differs from the record; None if nothing does."""

    run_id: str
    steps: int
    events: int
    model_calls: int
    evaluations: int
    dna_checksum: str
    seconds: float
    difference: Difference | None

    @property
    def identical(self) -> bool:
        """Whether every step, decision and event, and the DNA, came out as they are on record."""
        return self.difference is None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one generation, on record and in the fork; None where there is no such generation."""

    generation: int
    recorded: str | None
    forked: str | None


@dataclass(frozen=True, slots=True)
class ForkReport:
    """What would have happened.

    Args:
        run_id: The run that was forked.
        at: The first generation that was done otherwise.
        outcomes: What became of each generation from then on.
        recorded_dna: Checksum of the DNA that the run ended with.
        forked_dna: Checksum of the DNA that the fork ended with.
        recorded_fitness: Its validation fitness when it was promoted; None where it never was.
        forked_fitness: The same in the fork.
        genes: The gene values the fork ended with.
        stopped: Why the fork could not go on to its end; empty if it did.
    """

    run_id: str
    at: int
    outcomes: tuple[Outcome, ...]
    recorded_dna: str
    forked_dna: str
    recorded_fitness: float | None
    forked_fitness: float | None
    genes: dict[str, Any]
    stopped: str
