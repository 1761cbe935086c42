"""Events: what happened to an application's DNA, when, why and by whom, in a hash chain."""

from __future__ import annotations

import json
from datetime import datetime
from hashlib import sha256
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from ..errors import IntegrityError
from .canonical import canonical_json

EventRow = tuple[int, bytes | None, bytes | None, bytes | None, bytes | None]
"""A row of the record as it is stored, unread: number, then kind, key, hash and document as their bytes."""

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
        return cls.sealed(draft, seq=seq, previous=previous)[0]

    @classmethod
    def read(cls, document: str, digest: str) -> EvolutionEvent:
        """Read an event from its document and the hash that is stored with it.

        Raises:
            ValueError: The document is no event.
        """
        body = json.loads(document)
        if not isinstance(body, dict):
            raise ValueError("the document is no JSON object")  # noqa: TRY004  # as for any other malformed document
        return cls.model_validate(body | {"hash": digest})

    @classmethod
    def sealed(cls, draft: EventDraft, *, seq: int, previous: str) -> tuple[EvolutionEvent, str]:
        """Number and chain a draft, and return the event with the document that is stored.

        Raises:
            ValueError: A text has a lone surrogate.
        """
        body = draft.model_dump(mode="json") | {"seq": seq, "previous": previous}
        document = canonical_json(body)
        # Checked when it was drafted; only the data has another form once it is stored.
        fields = {**draft.__dict__, "data": body["data"], "seq": seq, "previous": previous}
        return cls.model_construct(**fields, hash=digest_of(document)), document

    def document(self) -> str:
        """Return the bytes that the hash is taken over, as text: the canonical JSON of all but the hash."""
        return canonical_json(self.model_dump(mode="json", exclude={"hash"}))

    def intact(self) -> bool:
        """Whether the hash is that of the content."""
        return self.hash == digest_of(self.document())


def digest_of(document: str) -> str:
    """Return the SHA-256 of a document, as 64 hexadecimal digits."""
    return sha256(document.encode()).hexdigest()


def linked(row: EventRow, app: str, seq: int, previous: str) -> tuple[dict[str, Any], str]:
    """Return the body of a stored event and its hash, if it is whole, has this number, and follows the one before it.

    Args:
        row: The row as it is stored.
        app: The application whose record it is part of.
        seq: The number it must have.
        previous: The hash of the event before it.

    Raises:
        IntegrityError: Names what is wrong with it.
    """
    number, kind, key, digest, document = row
    try:
        found = sha256(document).hexdigest()  # type: ignore[arg-type]  # None is refused
        body = orjson.loads(document)  # type: ignore[arg-type]
        # One condition: an audit does this a hundred thousand times a second.
        if (
            number == seq == body["seq"]
            and found.encode() == digest
            and body["previous"] == previous
            and body["key"].encode() == key
            and body["kind"].encode() == kind
            and body["app"] == app
        ):
            return body, found
    except (ValueError, TypeError, KeyError, AttributeError):
        body = None
    raise IntegrityError(_broken(row, body, seq, previous))


def _broken(row: EventRow, body: Any, seq: int, previous: str) -> str:
    number, _, _, digest, document = row
    if number != seq:
        return f"event {seq} is missing: the record goes on with event {number}"
    if sha256(document or b"").hexdigest().encode() != digest:
        return f"event {seq} was altered: its content does not match its hash"
    if body is None:
        return f"event {seq} was altered: its content cannot be read"
    if body["seq"] != seq:
        return f"event {seq} was altered: it holds the content of event {body['seq']}"
    if body["previous"] != previous:
        return f"event {seq} does not follow from the event before it"
    return f"event {seq} was altered: its content does not match its row"
