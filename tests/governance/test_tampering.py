"""Claim: whatever is done to a log of 200 events is found, and the first bad record is named. Every case is tried."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.dna import heads
from bedrock_evolution.dna.anchor import HeadAnchor
from bedrock_evolution.dna.canonical import canonical_json, checksum
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.events import GENESIS, EventDraft
from bedrock_evolution.dna.genes import integer
from bedrock_evolution.dna.genome import SystemDNA
from bedrock_evolution.dna.mutation import Mutation
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from bedrock_evolution.governance.audit import AuditReport, verify
from tests.governance.conftest import APP, MOMENT

EVENTS = 200
NUMBERS = range(1, EVENTS + 1)
GENERATIONS = {1: 0, 40: 1, 80: 2}
"""The events that made a generation live."""
COPIES = (1, 2, 39, 40, 41, 100, 150, 198, 199)
"""Lengths at which a copy of the store is kept."""
KINDS = ("trialled", "decided", "asked", "answered", "feedback", "incident")


def event(number: int, dna: SystemDNA | None) -> EventDraft:
    """Draft an event; no two are alike, and together they hold every kind of JSON value."""
    data: dict[str, Any] = {
        "inputs": {"scores": [number / 7, -number, 0.0, 1e-9 * number], "none": None, "empty": [], "nothing": {}},
        "reasoning": f'because "{number}" \\ \n é 字 😀',
        "confidence": 1 / number,
        "outcome": [{"accepted": number % 2 == 0}, [number]],
    }
    kind = KINDS[number % len(KINDS)]
    if dna is not None:
        kind = "applied" if dna.generation else "declared"
        data["dna"] = dna.checksum
    return EventDraft(
        app=APP,
        kind=kind,
        key=f"{kind}/{number}",
        at=MOMENT + timedelta(seconds=number),
        actor="rule" if number % 3 else "a person",
        why=f"reason {number}",
        run_id=None if number % 5 == 0 else f"run-{number // 50}",
        generation=None if number % 4 == 0 else number,
        mutation_id=f"m-{number}" if number % 2 else None,
        model="model" if number % 2 else None,
        input_tokens=number,
        output_tokens=2 * number,
        cost_micro_usd=3 * number,
        data=data,
    )


class Log:
    """A log of 200 signed events, to tamper with."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "evolution.db"
        self.database = Database(self.path)
        self.anchor = HeadAnchor.beside(self.database)
        self.store = SQLiteDNAStore(self.database, self.anchor)
        self.copies: dict[int, Path] = {}
        dna: SystemDNA | None = None
        for number in NUMBERS:
            if number in GENERATIONS:
                parent = dna
                dna = self.next_dna(parent, number)
                self.store.commit(parent.checksum if parent else None, dna, event(number, dna))
            else:
                self.store.append(event(number, None))
            if number in COPIES:
                self.copies[number] = folder / f"copy-{number}.db"
                with closing(Database(self.copies[number])) as kept:
                    self.database._connection.backup(kept._connection)
        rows = self.database.rows("SELECT hash, document FROM events ORDER BY seq")
        self.hashes = [GENESIS, *(row[0] for row in rows)]
        self.bodies: list[dict[str, Any]] = [{}, *(json.loads(row[1]) for row in rows)]

    def next_dna(self, parent: SystemDNA | None, number: int) -> SystemDNA:
        if parent is None:
            return SystemDNA.declare(APP, {"n": integer(0, low=0, high=EVENTS)})
        made = Mutation(parent=parent.checksum, changes={"n": number}, category="intelligence upgrade")
        return parent.apply(made, fitness=number / EVENTS)

    @property
    def unanchored(self) -> SQLiteDNAStore:
        return SQLiteDNAStore(self.database)

    @contextmanager
    def altered(self, *statements: tuple[str, tuple[Any, ...]]) -> Iterator[None]:
        """Alter the store for a block."""
        connection = self.database._connection
        connection.execute("BEGIN")
        try:
            for statement, parameters in statements:
                assert connection.execute(statement, parameters).rowcount > 0
            yield
        finally:
            connection.execute("ROLLBACK")

    def put(self, bodies: list[dict[str, Any]], start: int) -> list[tuple[str, tuple[Any, ...]]]:
        """Return what replaces the events from a number on, each chained anew to the one before it."""
        statements: list[tuple[str, tuple[Any, ...]]] = [("DELETE FROM events WHERE seq >= ?", (start,))]
        previous = self.hashes[start - 1]
        for number, body in enumerate(bodies, start):
            chained = body | {"seq": number, "previous": previous}
            previous = checksum(chained)
            row = (APP, number, chained["kind"], chained["key"], previous, canonical_json(chained))
            statements.append(("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", row))
        return statements


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return Log(tmp_path_factory.mktemp("log"))


@pytest.fixture
def newest_signature_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an audit check one signature where it would check 256: it finds no less, and takes a tenth of the time."""
    monkeypatch.setattr(heads, "_NEWEST", 1)


def named(report: AuditReport) -> int:
    """Return the number of the event that the first problem names."""
    assert not report.intact
    found = re.match(r"event (\d+) ", report.problems[0])
    assert found, report.problems
    return int(found.group(1))


def flipped(body: Any) -> Iterator[Any]:
    """Yield a copy for every leaf, with that leaf changed."""
    for container, place in list(leaves(body)):
        kept = container[place]
        container[place] = other(kept)
        yield copy.deepcopy(body)
        container[place] = kept


def leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    for place in value if isinstance(value, dict) else range(len(value)):
        if isinstance(value[place], (dict, list)) and value[place]:
            yield from leaves(value[place])
        else:
            yield value, place


def other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value[:-1] + chr(ord(value[-1]) ^ 1)
    return 0 if value is None else [None]


def test_an_untouched_log_is_intact(log: Log) -> None:
    report = verify(log.store, APP)
    assert report.problems == ()
    assert (report.checked, report.signed, report.unsigned, report.head) == (EVENTS, EVENTS, 0, log.hashes[-1])
    assert verify(log.unanchored, APP).intact


@pytest.mark.slow
def test_every_flipped_field_of_every_event_is_found(log: Log) -> None:
    tried = 0
    store = log.unanchored
    for number in NUMBERS:
        for body in flipped(log.bodies[number]):
            document = canonical_json(body)
            with log.altered(("UPDATE events SET document = ? WHERE seq = ?", (document, number))):
                assert named(verify(store, APP)) == number
            tried += 1
    assert tried > 20 * EVENTS


@pytest.mark.slow
def test_every_flipped_field_is_found_though_its_hash_was_made_to_fit(log: Log, newest_signature_only: None) -> None:
    for number in NUMBERS:
        for body in flipped(log.bodies[number]):
            row = (canonical_json(body), checksum(body), body["kind"], body["key"], number)
            with log.altered(
                ("UPDATE events SET document = ?, hash = ?, kind = ?, key = ? WHERE seq = ?", row),
            ):
                assert named(verify(log.store, APP)) == number


def test_every_flipped_bit_of_a_document_is_found(log: Log) -> None:
    document, store = canonical_json(log.bodies[7]).encode(), log.unanchored
    for place in range(len(document)):
        for bit in (0, 7):
            changed = bytearray(document)
            changed[place] ^= 1 << bit
            with log.altered(("UPDATE events SET document = CAST(? AS TEXT) WHERE seq = 7", (bytes(changed),))):
                assert named(verify(store, APP)) == 7


@pytest.mark.parametrize(
    "change",
    [
        "app = app || 'x'",
        "app = NULL",
        "seq = seq + 1000",
        "seq = -seq",
        "seq = NULL",
        "seq = seq || 'th'",
        "kind = kind || 'x'",
        "kind = NULL",
        "key = key || 'x'",
        "key = CAST(key AS BLOB) || X'ff'",
        "hash = replace(hash, substr(hash, 9, 1), '_')",
        "hash = upper(hash) || ' '",
        "document = document || ' '",
        "document = NULL",
        "document = ''",
    ],
)
def test_every_flipped_column_of_every_event_is_found(log: Log, newest_signature_only: None, change: str) -> None:
    for number in NUMBERS:
        with log.altered((f"UPDATE events SET {change} WHERE seq = ?", (number,))):
            assert named(verify(log.store, APP)) == number


def test_every_removed_event_is_found(log: Log, newest_signature_only: None) -> None:
    for number in NUMBERS:
        with log.altered(("DELETE FROM events WHERE seq = ?", (number,))):
            assert named(verify(log.store, APP)) == number


def test_every_pair_of_swapped_events_is_found(log: Log) -> None:
    store = log.unanchored
    for number in NUMBERS:
        for partner in {number + 1, number + 2, EVENTS + 1 - number, EVENTS} & set(range(number + 1, EVENTS + 1)):
            with log.altered(
                ("UPDATE events SET seq = -1 WHERE seq = ?", (number,)),
                ("UPDATE events SET seq = ? WHERE seq = ?", (number, partner)),
                ("UPDATE events SET seq = ? WHERE seq = -1", (partner,)),
            ):
                assert named(verify(store, APP)) == number


def moved_up(number: int) -> list[tuple[str, tuple[Any, ...]]]:
    """Return what makes room for one more event after a number."""
    if number == EVENTS:
        return []
    return [
        ("UPDATE events SET seq = -seq - 1 WHERE seq > ?", (number,)),
        ("UPDATE events SET seq = -seq WHERE seq < 0", ()),
    ]


def test_every_duplicated_event_is_found(log: Log) -> None:
    store = log.unanchored
    again = "INSERT INTO events SELECT app, ?, kind, key || ' again', hash, document FROM events WHERE seq = ?"
    for number in NUMBERS:
        with log.altered((again, (EVENTS + 1, number))):
            assert named(verify(store, APP)) == EVENTS + 1
        with log.altered(*moved_up(number), (again, (number + 1, number))):
            assert named(verify(store, APP)) == number + 1


def forged(log: Log, number: int) -> dict[str, Any]:
    return log.bodies[number] | {"key": "forged", "why": "it never happened"}


def test_every_inserted_event_is_found(log: Log, newest_signature_only: None) -> None:
    for number in NUMBERS:
        body = forged(log, number) | {"seq": number + 1, "previous": log.hashes[number]}
        row = (APP, number + 1, body["kind"], "forged", checksum(body), canonical_json(body))
        with log.altered(*moved_up(number), ("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", row)):
            report = verify(log.store, APP)
        if number < EVENTS:
            assert named(report) == number + 1
        else:  # nobody signed it: it can be told from an event of a process that died by its absence from the anchor
            assert report.unsigned == 1


def test_a_tail_cut_at_any_length_is_found(log: Log, newest_signature_only: None) -> None:
    for length in range(EVENTS):
        with log.altered(("DELETE FROM events WHERE seq > ?", (length,))):
            assert named(verify(log.store, APP)) == length + 1


@pytest.mark.slow
def test_a_history_chained_anew_from_any_event_on_is_found(log: Log, newest_signature_only: None) -> None:
    for number in NUMBERS:
        later = log.bodies[number + 1 :]
        changed = {
            "altered": [log.bodies[number] | {"why": "another"}, *later],
            "removed": later,
            "inserted": [forged(log, number), log.bodies[number], *later],
            "swapped": [*later[:1], log.bodies[number], *later[1:]],
            "duplicated": [log.bodies[number] | {"key": "again"}, log.bodies[number], *later],
        }
        for how, bodies in changed.items():
            if bodies == log.bodies[number:]:
                continue  # the last event cannot be swapped with the next
            with log.altered(*log.put(bodies, number)):
                assert named(verify(log.store, APP)) == number, how


@pytest.mark.parametrize("length", COPIES)
def test_an_old_copy_that_was_put_back_is_found(log: Log, tmp_path: Path, length: int) -> None:
    path = tmp_path / "evolution.db"
    shutil.copy(log.copies[length], path)
    for beside in ("anchor.jsonl", "key", "key.pub"):
        shutil.copy(log.path.with_name(f"evolution.db.{beside}"), tmp_path)
    with closing(Database(path)) as database:
        store = SQLiteDNAStore(database, HeadAnchor.beside(database))
        assert verify(SQLiteDNAStore(database), APP).intact
        assert named(verify(store, APP)) == length + 1
        # The application goes on from it and signs what it does: that hides nothing.
        for number in range(EVENTS):
            store.append(event(1000 + number, None))
        assert named(verify(store, APP)) == length + 1
