"""Rollback: an earlier generation is live again, on record and by name, or nothing is changed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from bedrock_evolution.errors import IntegrityError, UnknownRun, UsageError
from bedrock_evolution.governance.audit import verify
from bedrock_evolution.governance.rollback import roll_back
from tests.governance.conftest import APP, MOMENT


def test_the_values_are_live_again_as_a_new_generation_and_the_record_says_who(
    store: SQLiteDNAStore, clock: FixedClock
) -> None:
    restored = roll_back(store, APP, 1, by=" Mara ", why="worse in practice", clock=clock)
    assert store.head(APP) == restored
    assert (restored.generation, restored.values) == (4, store.snapshot(APP, 1).values)
    *_, event = store.events(APP)
    assert (event.kind, event.actor, event.why, event.at) == ("restored", "Mara", "worse in practice", MOMENT)
    assert event.data == {"from": 3, "to": 1}
    assert verify(store, APP).intact


def test_a_rollback_can_be_rolled_back(store: SQLiteDNAStore, clock: FixedClock) -> None:
    for generation in (0, 3, 0):
        roll_back(store, APP, generation, by="Mara", why="", clock=clock)
    head = store.head(APP)
    assert head is not None
    assert (head.generation, head.values["n"]) == (6, 0)
    events = list(store.events(APP))[-3:]
    assert [event.data["to"] for event in events] == [0, 3, 0]
    assert events[0].why == "rolled back to generation 0"


@pytest.mark.parametrize(
    ("app", "generation", "by", "error", "said"),
    [
        (APP, 1, "  ", UsageError, "name of the person"),
        (APP, 9, "Mara", UnknownRun, "no generation 9"),
        (APP, -1, "Mara", UnknownRun, "no generation -1"),
        ("unheard of", 0, "Mara", UnknownRun, "'unheard of' has no DNA"),
    ],
)
def test_what_cannot_be_rolled_back_changes_nothing(
    store: SQLiteDNAStore, clock: FixedClock, app: str, generation: int, by: str, error: type[Exception], said: str
) -> None:
    before, events = store.head(APP), list(store.events(APP))
    with pytest.raises(error, match=said):
        roll_back(store, app, generation, by=by, why="", clock=clock)
    assert store.head(APP) == before
    assert list(store.events(APP)) == events


def test_an_altered_generation_is_not_made_live(store: SQLiteDNAStore, clock: FixedClock, path: Path) -> None:
    before = store.head(APP)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE dna SET document = replace(document, '0.5', '0.9') WHERE generation = 1")
    with pytest.raises(IntegrityError, match="generation 1"):
        roll_back(store, APP, 1, by="Mara", why="", clock=clock)
    assert store.head(APP) == before
