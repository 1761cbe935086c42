"""Rollback: earlier genes are live again, by a person's word or on evidence, on record, or nothing is changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.events import EventDraft
from bedrock_evolution.dna.genes import flag, integer, number
from bedrock_evolution.dna.genome import SystemDNA
from bedrock_evolution.dna.mutation import Mutation
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from bedrock_evolution.errors import IntegrityError, InvalidGene, UnknownRun, UsageError
from bedrock_evolution.governance.audit import verify
from bedrock_evolution.governance.rollback import (
    conclude,
    roll_back,
    roll_back_automatically,
    rollbacks_in_a_row,
    stable,
)
from bedrock_evolution.governance.safe_mode import SafeMode
from bedrock_evolution.settings import Safety
from tests.governance.conftest import APP, MOMENT

WHY = "live outcomes got worse"


def begun(database: Database) -> SQLiteDNAStore:
    """Return a store with a declaration and three changes, each with its event."""
    store = SQLiteDNAStore(database)
    dna = SystemDNA.declare(APP, {"x": number(0.5, low=0.0, high=1.0), "n": integer(0, low=0, high=9)})
    store.commit(None, dna, event("declared", dna))
    for n in range(1, 4):
        change(store, n=n)
    return store


def head_of(store: SQLiteDNAStore) -> SystemDNA:
    head = store.head(APP)
    assert head is not None
    return head


def change(store: SQLiteDNAStore, **values: Any) -> SystemDNA:
    """Apply a change as a run does."""
    head = head_of(store)
    mutation = Mutation(parent=head.checksum, changes=values, category="intelligence upgrade")
    dna = head.apply(mutation, fitness=head.generation / 10)
    return store.commit(head.checksum, dna, event("applied", dna))


def declare(store: SQLiteDNAStore, **genes: Any) -> SystemDNA:
    """Declare other genes as an application does that was changed."""
    head = head_of(store)
    declared = SystemDNA.declare(APP, {**head.genes, **genes})
    dna = declared.model_copy(
        update={"generation": head.generation + 1, "parent": head.checksum, "mutation": f"declare-{head.generation}"}
    )
    dna = SystemDNA(**{name: getattr(dna, name) for name in SystemDNA.model_fields})
    return store.commit(head.checksum, dna, event("declared", dna))


def event(kind: str, dna: SystemDNA) -> EventDraft:
    return EventDraft(
        app=APP, kind=kind, key=f"{kind}/{dna.checksum}", at=MOMENT, actor="rule", data={"dna": dna.checksum}
    )


@pytest.fixture
def store(database: Database) -> SQLiteDNAStore:
    return begun(database)


@pytest.fixture
def automatic(store: SQLiteDNAStore, clock: FixedClock) -> Callable[..., SystemDNA | None]:
    """Roll the live DNA, or another that is named, back without a person."""

    def roll(head: SystemDNA | None = None, **safety: Any) -> SystemDNA | None:
        return roll_back_automatically(
            store,
            head or head_of(store),
            why=WHY,
            evidence={"e_value": 99.5},
            actor="live outcomes",
            clock=clock,
            safety=Safety(**safety),
        )

    return roll


# -- by a person


def test_the_values_are_live_again_as_a_new_generation_and_the_record_says_who(
    store: SQLiteDNAStore, clock: FixedClock
) -> None:
    restored = roll_back(store, APP, 1, by=" Mara ", why="worse in practice", clock=clock)
    assert store.head(APP) == restored
    assert (restored.generation, restored.values) == (4, store.snapshot(APP, 1).values)
    assert (restored.fitness, restored.parent) == (store.snapshot(APP, 1).fitness, store.snapshot(APP, 3).checksum)
    *_, event = store.events(APP)
    assert (event.kind, event.actor, event.why, event.at) == ("restored", "Mara", "worse in practice", MOMENT)
    assert event.data == {"from": 3, "to": 1, "automatic": False, "evidence": {}, "dna": restored.checksum}
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
    alter(path, 1)
    with pytest.raises(IntegrityError, match="generation 1"):
        roll_back(store, APP, 1, by="Mara", why="", clock=clock)
    assert store.head(APP) == before


def alter(path: Path, generation: int) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE dna SET document = replace(document, '0.5', '0.9') WHERE generation = ?", [generation]
        )


def test_a_value_out_of_todays_bounds_is_not_made_live(store: SQLiteDNAStore, clock: FixedClock) -> None:
    declare(store, n=integer(3, low=2, high=9))
    with pytest.raises(InvalidGene, match=r"gene 'n' had 1 is out of bounds"):
        roll_back(store, APP, 1, by="Mara", why="", clock=clock)


def test_genes_that_are_locked_or_new_keep_their_values(store: SQLiteDNAStore, clock: FixedClock) -> None:
    declare(store, x=number(0.9, low=0.0, high=1.0, locked=True), careful=flag(True))
    restored = roll_back(store, APP, 1, by="Mara", why="", clock=clock)
    assert dict(restored.values) == {"x": 0.9, "n": 1, "careful": True}


# -- stable generations


def test_the_newest_generations_are_stable_and_every_one_can_be_live_again(
    store: SQLiteDNAStore, clock: FixedClock
) -> None:
    for n in range(4, 9):
        change(store, n=n)
    found = stable(store, APP, limit=8)
    assert [dna.generation for dna in found] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert found[:5] == stable(store, APP)
    for dna in found[1:]:
        assert roll_back(store, APP, dna.generation, by="Mara", why="", clock=clock).values == dna.values
    assert verify(store, APP).intact


def test_generations_with_equal_values_count_once(store: SQLiteDNAStore, clock: FixedClock) -> None:
    roll_back(store, APP, 1, by="Mara", why="", clock=clock)
    assert [dna.generation for dna in stable(store, APP)] == [4, 3, 2, 0]


def test_what_was_rolled_back_from_is_not_stable_unless_a_person_brings_it_back(
    store: SQLiteDNAStore, clock: FixedClock, automatic: Callable[..., SystemDNA | None]
) -> None:
    automatic()
    assert [dna.generation for dna in stable(store, APP)] == [4, 1, 0]
    roll_back(store, APP, 3, by="Mara", why="it was the network", clock=clock)
    assert [dna.generation for dna in stable(store, APP)] == [5, 4, 1, 0]


def test_an_unknown_application_has_no_stable_generation(store: SQLiteDNAStore) -> None:
    assert stable(store, "unheard of") == []


# -- without a person


def test_the_newest_stable_values_before_the_live_ones_are_live_again(
    store: SQLiteDNAStore, automatic: Callable[..., SystemDNA | None]
) -> None:
    before = head_of(store)
    restored = automatic()
    assert restored == head_of(store)
    assert restored is not None
    assert restored.values == store.snapshot(APP, 2).values
    [event] = store.recent(APP, ["restored"], limit=1)
    assert (event.actor, event.why) == ("live outcomes", WHY)
    assert event.data == {
        "from": 3,
        "to": 2,
        "automatic": True,
        "evidence": {"e_value": 99.5},
        "dna": restored.checksum,
    }
    assert restored.parent == before.checksum
    assert verify(store, APP).intact


def test_values_that_were_rolled_back_from_are_passed_over(
    store: SQLiteDNAStore, automatic: Callable[..., SystemDNA | None]
) -> None:
    automatic()  # from 3 to 2
    change(store, n=9)
    restored = automatic()
    assert restored is not None
    assert restored.values["n"] == 2
    assert automatic() is not None, "the values of 2 can be found wanting too"
    assert head_of(store).values["n"] == 1


def test_evidence_about_dna_that_is_no_longer_live_changes_nothing(
    store: SQLiteDNAStore, automatic: Callable[..., SystemDNA | None]
) -> None:
    worse = head_of(store)
    first = automatic(worse)
    assert first is not None
    assert automatic(worse) is None
    assert head_of(store) == first
    assert len(store.recent(APP, ["restored"], limit=9)) == 1


def test_evidence_about_dna_that_is_no_longer_live_is_no_reason_for_safe_mode(
    store: SQLiteDNAStore, clock: FixedClock, automatic: Callable[..., SystemDNA | None]
) -> None:
    worse = declare(store, n=integer(9, low=8, high=9))
    declare(store, n=integer(5, low=0, high=9))
    assert automatic(worse) is None
    assert SafeMode(store, clock).since(APP) is None


def test_values_that_todays_bounds_forbid_are_passed_over(
    store: SQLiteDNAStore, automatic: Callable[..., SystemDNA | None]
) -> None:
    change(store, n=9)
    declare(store, n=integer(9, low=3, high=9))
    restored = automatic()
    assert restored is not None
    assert restored.values["n"] == 3


def test_safe_mode_begins_at_once_where_there_is_nothing_to_go_back_to(
    store: SQLiteDNAStore, clock: FixedClock, automatic: Callable[..., SystemDNA | None]
) -> None:
    head = declare(store, n=integer(9, low=8, high=9))
    assert automatic() is None
    state = SafeMode(store, clock).since(APP)
    assert state is not None
    assert WHY in state.why
    assert "out of bounds" in state.why
    assert head_of(store) == head


def test_an_altered_generation_ends_in_safe_mode_and_is_not_made_live(
    store: SQLiteDNAStore, clock: FixedClock, path: Path, automatic: Callable[..., SystemDNA | None]
) -> None:
    head = head_of(store)
    alter(path, 2)
    assert automatic() is None
    state = SafeMode(store, clock).since(APP)
    assert state is not None
    assert "generation 2" in state.why
    assert head_of(store) == head


def test_a_record_that_is_not_intact_ends_in_safe_mode_after_the_rollback(
    store: SQLiteDNAStore, clock: FixedClock, path: Path, automatic: Callable[..., SystemDNA | None]
) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM events WHERE seq = 2")
    assert automatic() is not None
    state = SafeMode(store, clock).since(APP)
    assert state is not None
    assert state.actor == "audit"
    assert "event 2" in state.why


# -- too often


def test_rollbacks_without_a_change_that_lasts_lead_to_safe_mode(
    store: SQLiteDNAStore, clock: FixedClock, automatic: Callable[..., SystemDNA | None]
) -> None:
    safe_mode = SafeMode(store, clock)
    for n in (7, 8, 9):
        assert safe_mode.since(APP) is None
        change(store, n=n)
        assert automatic(max_rollbacks=3) is not None
    state = safe_mode.since(APP)
    assert state is not None
    assert state.why == f"3 automatic rollbacks without a change that lasted, the last one because {WHY}"

    assert automatic() is None, "in safe mode nothing changes"
    assert roll_back(store, APP, 1, by="Mara", why="", clock=clock) == head_of(store), "but a person may"


def test_a_lift_begins_the_count_anew(
    store: SQLiteDNAStore, clock: FixedClock, automatic: Callable[..., SystemDNA | None]
) -> None:
    safe_mode = SafeMode(store, clock)
    automatic(max_rollbacks=1)
    safe_mode.lift(APP, by="Mara", why="")
    conclude(store, APP, clock=clock, safety=Safety(max_rollbacks=1))
    assert safe_mode.since(APP) is None
    assert rollbacks_in_a_row(store, APP) == 0
    change(store, n=9)
    automatic(max_rollbacks=2)
    assert safe_mode.since(APP) is None
    assert rollbacks_in_a_row(store, APP) == 1


def test_a_change_that_lasts_begins_the_count_anew(
    store: SQLiteDNAStore, automatic: Callable[..., SystemDNA | None]
) -> None:
    change(store, n=7)
    automatic()
    assert rollbacks_in_a_row(store, APP) == 1
    change(store, n=8)
    assert rollbacks_in_a_row(store, APP) == 0, "it is live"
    automatic()
    assert rollbacks_in_a_row(store, APP) == 2, "it did not last"
    change(store, n=9)
    change(store, n=4)
    automatic()
    assert rollbacks_in_a_row(store, APP) == 1, "the change to 9 was replaced by another change"


def test_a_rollback_by_a_person_is_no_failure(
    store: SQLiteDNAStore, clock: FixedClock, automatic: Callable[..., SystemDNA | None]
) -> None:
    change(store, n=7)
    automatic()
    change(store, n=8)
    roll_back(store, APP, 0, by="Mara", why="", clock=clock)
    assert rollbacks_in_a_row(store, APP) == 1


def test_what_follows_a_rollback_is_made_up_for_after_a_crash(store: SQLiteDNAStore, clock: FixedClock) -> None:
    head = head_of(store)
    restored = head.successor({"n": 2}, mutation="restore-2")
    draft = event("restored", restored).model_copy(
        update={"data": {"from": 3, "to": 2, "automatic": True, "evidence": {}, "dna": restored.checksum}}
    )
    store.commit(head.checksum, restored, draft)  # and the process died here
    assert SafeMode(store, clock).since(APP) is None
    for _ in range(2):
        conclude(store, APP, clock=clock, safety=Safety(max_rollbacks=1))
        assert SafeMode(store, clock).since(APP) is not None
    assert len(store.recent(APP, ["safe_mode"], limit=9)) == 1
