"""Events: each is chained to the one before it by a hash over all that it says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from bedrock_evolution.dna.events import GENESIS, EventDraft, EvolutionEvent

DRAFT = EventDraft(
    app="router",
    kind="applied",
    key="applied/1",
    at=datetime(2026, 3, 1, 12, tzinfo=UTC),
    actor="rule",
    why="credible",
    run_id="run-1",
    generation=3,
    mutation_id="m-1",
    model="local",
    input_tokens=10,
    output_tokens=20,
    cost_micro_usd=30,
    data={"gain": 0.5},
)
OTHERS: dict[str, Any] = {
    "at": DRAFT.at + timedelta(microseconds=1),
    "data": {"gain": 0.6},
    "generation": 4,
    "input_tokens": 11,
    "output_tokens": 21,
    "cost_micro_usd": 31,
    "seq": 2,
    "previous": "1" * 64,
}


def test_a_chained_event_is_intact_and_names_its_predecessor() -> None:
    first = EvolutionEvent.chain(DRAFT, seq=1, previous=GENESIS)
    second = EvolutionEvent.chain(DRAFT, seq=2, previous=first.hash)
    assert first.intact()
    assert second.intact()
    assert second.previous == first.hash != second.hash


@pytest.mark.parametrize("name", sorted(set(EvolutionEvent.model_fields) - {"hash"}))
def test_the_hash_covers_every_field(name: str) -> None:
    event = EvolutionEvent.chain(DRAFT, seq=1, previous=GENESIS)
    assert not event.model_copy(update={name: OTHERS.get(name, "altered")}).intact()


def test_an_event_survives_json() -> None:
    event = EvolutionEvent.chain(DRAFT, seq=1, previous=GENESIS)
    again = EvolutionEvent.model_validate_json(event.model_dump_json())
    assert again == event
    assert again.intact()


def test_an_event_cannot_be_changed_or_extended() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        DRAFT.why = "another reason"
    with pytest.raises(ValidationError, match="Extra inputs"):
        EventDraft(**DRAFT.model_dump(), mood="good")


def test_an_event_is_read_from_its_document_and_hash() -> None:
    event = EvolutionEvent.chain(DRAFT, seq=1, previous=GENESIS)
    again = EvolutionEvent.read(event.document(), event.hash)
    assert again == event
    assert again.document() == event.document()


@pytest.mark.parametrize("document", ["", "[]", "7", "{}", '{"app": "router"}'])
def test_what_is_no_event_is_not_read(document: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|Expecting|validation"):
        EvolutionEvent.read(document, "")
