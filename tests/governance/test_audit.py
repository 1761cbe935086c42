"""Audit: whatever is done to the record behind the store's back is found, and the first place is named."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.events import EvolutionEvent
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from bedrock_evolution.governance.audit import verify
from tests.governance.conftest import APP, draft


def altered(path: Path, *statements: tuple[str, tuple[Any, ...]]) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement, parameters in statements:
            connection.execute(statement, parameters)


def document(path: Path, seq: int) -> dict[str, Any]:
    with closing(sqlite3.connect(path)) as connection:
        [row] = connection.execute("SELECT document FROM events WHERE seq = ?", (seq,)).fetchall()
    return dict(json.loads(row[0]))


def rewrite(path: Path, seq: int, content: dict[str, Any]) -> None:
    altered(path, ("UPDATE events SET document = ? WHERE seq = ?", (json.dumps(content), seq)))


def rechained(content: dict[str, Any]) -> dict[str, Any]:
    """Give an event a hash that fits its content, as a forger would."""
    event = EvolutionEvent.model_validate(content | {"hash": ""}, strict=False)
    body = event.model_dump(exclude={"hash", "seq", "previous"})
    made = EvolutionEvent.chain(type(draft("x"))(**body), seq=event.seq, previous=event.previous)
    return dict(json.loads(made.model_dump_json()))


def test_an_untouched_record_is_intact(store: SQLiteDNAStore) -> None:
    report = verify(store, APP)
    assert report.intact
    assert (report.checked, report.problems) == (5, ())


def test_an_application_without_a_record_is_intact(store: SQLiteDNAStore) -> None:
    assert verify(store, "unheard of").checked == 0


@pytest.mark.parametrize("seq", [1, 3, 5])
@pytest.mark.parametrize(
    "change",
    [
        {"why": "another"},
        {"at": "2026-03-02T12:00:00Z"},
        {"data": {"about": "x"}},
        {"cost_micro_usd": 1},
        {"actor": ""},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_altered_event_is_named(store: SQLiteDNAStore, path: Path, seq: int, change: dict[str, Any]) -> None:
    rewrite(path, seq, document(path, seq) | change)
    report = verify(store, APP)
    assert report.problems == (f"event {seq} was altered: its content does not match its hash",)
    assert report.checked == seq


def test_an_altered_event_with_a_fitting_hash_is_named(store: SQLiteDNAStore, path: Path) -> None:
    rewrite(path, 3, rechained(document(path, 3) | {"why": "another"}))
    assert verify(store, APP).problems == ("event 3 was altered: its content does not match its row",)


@pytest.mark.parametrize("seq", [1, 2, 4])
def test_a_removed_event_is_named(store: SQLiteDNAStore, path: Path, seq: int) -> None:
    altered(path, ("DELETE FROM events WHERE seq = ?", (seq,)))
    assert verify(store, APP).problems == (f"event {seq} is missing: the record goes on with event {seq + 1}",)


def test_a_removed_event_is_found_though_the_others_are_renumbered(store: SQLiteDNAStore, path: Path) -> None:
    altered(path, ("DELETE FROM events WHERE seq = 3", ()))
    for seq in (4, 5):
        rewrite(path, seq, rechained(document(path, seq) | {"seq": seq - 1}))
        altered(path, ("UPDATE events SET seq = ? WHERE seq = ?", (seq - 1, seq)))
    assert verify(store, APP).problems == ("event 3 does not follow from the event before it",)


@pytest.mark.parametrize(("one", "other"), [(1, 2), (2, 4)])
def test_swapped_events_are_named(store: SQLiteDNAStore, path: Path, one: int, other: int) -> None:
    first, second = document(path, one), document(path, other)
    rewrite(path, one, second)
    rewrite(path, other, first)
    assert verify(store, APP).problems == (f"event {one} is missing: the record goes on with event {other}",)


def test_swapped_contents_under_their_old_numbers_are_named(store: SQLiteDNAStore, path: Path) -> None:
    first, second = document(path, 2), document(path, 4)
    kept = ("seq", "previous", "hash")
    rewrite(path, 2, second | {name: first[name] for name in kept})
    rewrite(path, 4, first | {name: second[name] for name in kept})
    assert "event 2 was altered" in verify(store, APP).problems[0]


def test_a_duplicated_event_is_named(store: SQLiteDNAStore, path: Path) -> None:
    copy = json.dumps(document(path, 3))
    altered(path, ("INSERT INTO events (app, seq, key, hash, document) VALUES (?, 6, 'copy', 'copy', ?)", (APP, copy)))
    assert verify(store, APP).problems == ("event 6 is missing: the record goes on with event 3",)


def test_an_inserted_event_is_named(store: SQLiteDNAStore, path: Path) -> None:
    for seq in (5, 4, 3):
        rewrite(path, seq, rechained(document(path, seq) | {"seq": seq + 1}))
        altered(path, ("UPDATE events SET seq = ? WHERE seq = ?", (seq + 1, seq)))
    forged = rechained(document(path, 2) | {"seq": 3, "key": "forged", "previous": document(path, 2)["hash"]})
    altered(
        path,
        (
            "INSERT INTO events (app, seq, key, hash, document) VALUES (?, 3, 'forged', ?, ?)",
            (APP, forged["hash"], json.dumps(forged)),
        ),
    )
    assert verify(store, APP).problems == ("event 4 does not follow from the event before it",)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"app": "router"}'])
def test_an_event_that_cannot_be_read_is_named(store: SQLiteDNAStore, path: Path, content: str) -> None:
    altered(path, ("UPDATE events SET document = ? WHERE seq = 2", (content,)))
    assert "event 2 cannot be read" in verify(store, APP).problems[0]


# -- DNA


def test_an_altered_generation_is_named(store: SQLiteDNAStore, path: Path) -> None:
    altered(path, ("UPDATE dna SET document = replace(document, '0.2', '0.9') WHERE generation = 2", ()))
    assert "generation 2 of 'router' does not match its checksum" in verify(store, APP).problems[0]


@pytest.mark.parametrize("generation", [0, 1, 2])
def test_a_removed_generation_is_noticed_at_the_next(store: SQLiteDNAStore, path: Path, generation: int) -> None:
    altered(path, ("DELETE FROM dna WHERE generation = ?", (generation,)))
    assert verify(store, APP).problems == (f"generation {generation + 1} does not descend from the one before it",)


def test_a_forged_generation_with_a_fitting_checksum_is_noticed(store: SQLiteDNAStore, path: Path) -> None:
    forged = store.snapshot(APP, 1).successor({"n": 9}, mutation="forged")
    altered(
        path,
        (
            "UPDATE dna SET checksum = ?, document = ? WHERE generation = 2",
            (forged.checksum, json.dumps(forged.as_json())),
        ),
    )
    assert verify(store, APP).problems == ("generation 3 does not descend from the one before it",)


def test_both_the_events_and_the_dna_are_reported(store: SQLiteDNAStore, path: Path) -> None:
    altered(path, ("DELETE FROM dna WHERE generation = 1", ()), ("DELETE FROM events WHERE seq = 2", ()))
    assert len(verify(store, APP).problems) == 2


# -- weaknesses


def test_a_record_filed_under_another_application_is_found(store: SQLiteDNAStore, path: Path) -> None:
    altered(path, ("UPDATE events SET app = 'other'", ()), ("UPDATE dna SET app = 'other'", ()))
    assert not verify(store, "other").intact


@pytest.mark.parametrize("change", ["seq = 50", "hash = 'x'", "key = 'x'"])
def test_altered_columns_of_the_last_event_are_found(store: SQLiteDNAStore, path: Path, change: str) -> None:
    altered(path, (f"UPDATE events SET {change} WHERE seq = 5", ()))
    assert not verify(store, APP).intact


def test_it_reads_a_store_that_was_opened_anew(store: SQLiteDNAStore, path: Path) -> None:
    store.append(draft("one more"))
    assert verify(SQLiteDNAStore(Database(path)), APP).checked == 6
