"""What an agent has on its desk: the records of one task, handed to its tools and to nobody else's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..bedrock.dialogue import Dialogue
from ..bedrock.gateway import ModelTask
from ..dna.engine import MutationEngine
from ..dna.genome import SystemDNA
from ..dna.mutation import Mutation
from ..healing.incident import Action


@dataclass(slots=True)
class Desk:
    """The task an agent works on; every role's desk has it, since the gateway bills by it."""

    task: ModelTask
    conversation: Dialogue = field(init=False)
    """The agent's conversation with its models, from when it begins to work."""


@dataclass(slots=True)
class AdvisorDesk(Desk):
    """The advisor's: the live DNA, what is refused, and the proposals accepted so far."""

    dna: SystemDNA
    engine: MutationEngine
    evidence: Callable[[int, int], dict[str, Any]]
    """Recent trials and failures, given how many of each."""
    refusal: Callable[[Mutation], str]
    """Says why a valid mutation is not put to trial, such as a policy or an earlier trial; empty if it is."""
    candidates: int
    forbidden: frozenset[str] = frozenset()
    """Genes that a policy forbids to change; the advisor is told that they are locked."""
    accepted: dict[str, Mutation] = field(default_factory=dict)
    answered: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Numbers of the remarks that an accepted proposal answers."""
    remarks: set[int] = field(default_factory=set)
    """Numbers of the remarks that were read."""


@dataclass(slots=True)
class ReportDesk(Desk):
    """Any other role's: one report to read."""

    report: dict[str, Any]


@dataclass(slots=True)
class HealerDesk(ReportDesk):
    """The healer's: the incident, what may be done about it, and what was chosen last."""

    allowed: tuple[Action, ...]
    action: Action | None = None
