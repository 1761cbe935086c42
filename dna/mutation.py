"""Mutations: proposed changes to the DNA."""

from __future__ import annotations

from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field

from .canonical import checksum
from .genes import GeneValue


class Mutation(BaseModel):
    """A set of gene values proposed to replace those of one particular DNA."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parent: str
    """Checksum of the DNA it was made for; it applies to no other."""
    changes: dict[str, GeneValue] = Field(min_length=1)
    category: str
    rationale: str = ""
    predicted_gain: float = 0.0
    probability: float = Field(default=0.5, ge=0.0, le=1.0)
    origin: str = ""
    """Who or what proposed it, such as `advisor:local:tpe`."""

    @cached_property
    def id(self) -> str:
        """A hash of parent and changes: the same proposal is the same mutation."""
        return "m-" + checksum({"parent": self.parent, "changes": self.changes})[:20]
