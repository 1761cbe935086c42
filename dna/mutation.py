"""Mutations: proposed changes to the DNA."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from .canonical import checksum
from .frozen import FREEZE, THAW
from .genes import GeneValue

MUTATION_PREFIX = "m-"
"""What the id of every mutation begins with; those of declarations and rollbacks begin otherwise."""


class Mutation(BaseModel):
    """A set of gene values proposed to replace those of one particular DNA."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parent: str
    """Checksum of the DNA it was made for; it applies to no other."""
    changes: Annotated[Mapping[str, GeneValue], Field(min_length=1), FREEZE, THAW]
    category: str
    rationale: str = ""
    predicted_gain: float = 0.0
    probability: float = Field(default=0.5, ge=0.0, le=1.0)
    origin: str = ""
    """Who or what proposed it, such as `advisor:local:tpe`."""

    @cached_property
    def id(self) -> str:
        """A hash of parent and changes: the same proposal is the same mutation."""
        return MUTATION_PREFIX + checksum({"parent": self.parent, "changes": dict(self.changes)})[:20]
