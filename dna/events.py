"""Events: what happened to an application's DNA, when, why and by whom, in a hash chain."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from .canonical import checksum

GENESIS = "0" * 64
"""What the first event of an application names as its predecessor."""


class EventDraft(BaseModel):
    """An event as its author writes it, before the store numbers and chains it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    app: str
    kind: str
    """declared, trialled, rejected, deferred, approved, applied, restored, feedback, incident, …"""
    key: str
    """Deduplication: an application holds at most one event of each key."""
    at: datetime
    actor: str
    """An agent, `rule`, or the name of a person."""
    why: str = ""
    run_id: str | None = None
    generation: int | None = None
    """Generation of the run, not of the DNA."""
    mutation_id: str | None = None
    model: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micro_usd: int = 0
    data: dict[str, Any] = Field(default_factory=dict)


class EvolutionEvent(EventDraft):
    """An event as it is stored: numbered from 1 and chained to its predecessor."""

    seq: int
    previous: str
    hash: str

    @classmethod
    def chain(cls, draft: EventDraft, *, seq: int, previous: str) -> EvolutionEvent:
        """Number a draft and chain it to the event before it."""
        body = draft.model_dump(mode="json") | {"seq": seq, "previous": previous}
        return cls(**draft.model_dump(), seq=seq, previous=previous, hash=checksum(body))

    def intact(self) -> bool:
        """Whether the hash is that of the content."""
        return self.hash == checksum(self.model_dump(mode="json", exclude={"hash"}))
