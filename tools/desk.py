"""What an agent has on its desk: the records of one task, handed to its tools and to nobody else's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..bedrock.conversation import Conversation
from ..bedrock.gateway import ModelTask
from ..dna.engine import MutationEngine
from ..dna.genome import SystemDNA
from ..dna.mutation import Mutation


@dataclass(slots=True)
class Desk:
    """The task an agent works on; every role's desk has it, since the gateway bills by it."""

    task: ModelTask
    conversation: Conversation = field(init=False)
    """The agent's conversation with its models, from when it begins to work."""


@dataclass(slots=True)
class AdvisorDesk(Desk):
    """The advisor's: the live DNA, what was tried, and the proposals accepted so far."""

    dna: SystemDNA
    engine: MutationEngine
    evidence: Callable[[int, int], dict[str, Any]]
    """Recent trials and failures, given how many of each."""
    tried: Callable[[Mutation], bool]
    """Whether a mutation's gene values were trialled in this run already."""
    candidates: int
    accepted: dict[str, Mutation] = field(default_factory=dict)


@dataclass(slots=True)
class ReportDesk(Desk):
    """Any other role's: one report to read."""

    report: dict[str, Any]
