"""`SQLiteDNAStore` does what every store must, and keeps doing it over any sequence of calls."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bedrock_evolution.dna.canonical import canonical_json
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.events import GENESIS
from bedrock_evolution.dna.genome import SystemDNA
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from bedrock_evolution.errors import IntegrityError, StaleParent, StoreError
from tests.dna.store_contract import APP, Place, StoreContract, child, draft, first, grown


class TestSQLiteDNAStore(StoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        path = tmp_path / "evolution.db"

        def changed(statement: str, *parameters: Any) -> None:
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute(statement, parameters)

        def alter(generation: int, old: str, new: str) -> None:
            changed("UPDATE dna SET document = replace(document, ?, ?) WHERE generation = ?", old, new, generation)

        def fail() -> Callable[[], None]:
            changed("CREATE TRIGGER crash BEFORE INSERT ON events BEGIN SELECT raise(ABORT, 'disk gone'); END")
            return lambda: changed("DROP TRIGGER crash")

        program = f"""
            from pathlib import Path
            from bedrock_evolution.dna.database import Database
            from bedrock_evolution.dna.sqlite import SQLiteDNAStore
            store = SQLiteDNAStore(Database(Path({str(path)!r})))
        """
        return Place(lambda: SQLiteDNAStore(Database(path)), program, alter, fail)


@pytest.fixture
def store(tmp_path: Path) -> SQLiteDNAStore:
    return SQLiteDNAStore(Database(tmp_path / "evolution.db"))


def test_lineage_is_every_generation_oldest_first(store: SQLiteDNAStore) -> None:
    line = grown(store, 4)
    assert list(store.lineage(APP)) == line


def test_the_applications_of_a_file_are_listed(store: SQLiteDNAStore) -> None:
    assert store.apps() == []
    grown(store, 1)
    store.commit(None, first("another"), draft("declared", app="another"))
    assert store.apps() == ["another", APP]


def test_long_histories_are_read_page_by_page(store: SQLiteDNAStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bedrock_evolution.dna.sqlite._PAGE", 3)
    line = grown(store, 8)
    assert list(store.lineage(APP)) == line
    assert [event.seq for event in store.events(APP)] == list(range(1, 10))
    assert [event.seq for event in store.events(APP, after=4)] == list(range(5, 10))


def test_an_interruption_between_dna_and_event_leaves_neither(tmp_path: Path) -> None:
    database = Database(tmp_path / "evolution.db")
    store = SQLiteDNAStore(database)
    line = grown(store, 1)

    def commit() -> None:
        with database.transaction("tables") as connection:
            connection.set_trace_callback(seen.append)
            store.commit(line[1].checksum, child(line[1], 2), draft("applied/2"))
            raise KeyboardInterrupt

    seen: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        commit()
    assert any(statement.startswith("INSERT INTO dna") for statement in seen)
    assert any(statement.startswith("INSERT INTO events") for statement in seen)
    assert store.head(APP) == line[1]
    assert len(list(store.events(APP))) == 2


def test_a_second_generation_of_one_number_is_refused(store: SQLiteDNAStore) -> None:
    line = grown(store, 1)
    forged = SystemDNA(app=APP, generation=1, genes=line[1].genes, parent=line[1].checksum)
    with pytest.raises(StoreError, match="UNIQUE"):
        store.commit(line[1].checksum, forged, draft("forged"))
    assert store.head(APP) == line[1]
    assert len(list(store.events(APP))) == 2


@pytest.mark.parametrize(
    "change",
    ["document = replace(document, 'rule', 'ruse')", "document = '{'", "document = NULL", "hash = 'x'", "seq = 9"],
)
def test_an_altered_event_is_not_read(store: SQLiteDNAStore, tmp_path: Path, change: str) -> None:
    grown(store, 2)
    with closing(sqlite3.connect(tmp_path / "evolution.db")) as connection, connection:
        connection.execute(f"UPDATE events SET {change} WHERE seq = 2")
    with pytest.raises(IntegrityError, match=r"event [29]") as error:
        list(store.events(APP))
    assert "audit verify" in error.value.hint
    with pytest.raises(IntegrityError):
        store.event(APP, "applied/1")
    with pytest.raises(IntegrityError):
        store.recent(APP, ["applied"], limit=9)


def test_the_document_is_the_canonical_json_that_was_hashed(store: SQLiteDNAStore, tmp_path: Path) -> None:
    event = store.append(draft("note", why="é 字 \n"))
    with closing(sqlite3.connect(tmp_path / "evolution.db")) as connection:
        [row] = connection.execute("SELECT app, seq, kind, key, hash, document FROM events")
    assert row == (APP, 1, "applied", "note", event.hash, event.document())
    assert hashlib.sha256(row[-1].encode()).hexdigest() == event.hash
    assert row[-1] == canonical_json(json.loads(row[-1]))


def test_events_are_counted_and_read_from_a_number(store: SQLiteDNAStore) -> None:
    assert store.count(APP) == 0
    grown(store, 4)
    assert store.count(APP) == 5
    assert [event.seq for event in store.events_from(APP, 2, limit=3)] == [2, 3, 4]


@pytest.mark.parametrize("text", ["lone \ud800", "\udfff"])
def test_text_that_is_no_unicode_is_refused_and_nothing_is_written(store: SQLiteDNAStore, text: str) -> None:
    with pytest.raises((StoreError, ValueError)):
        store.append(draft("note", why=text))
    assert store.count(APP) == 0


class StoreMachine(RuleBasedStateMachine):
    """Any sequence of calls leaves the store as a plain list of generations and a plain list of keys would be."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "evolution.db"
        self.reopen()
        self.line: list[SystemDNA] = [self.store.commit(None, first(), draft("declared"))]
        self.keys = ["declared"]

    @rule()
    def reopen(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
        self.database = Database(self.path)
        self.store = SQLiteDNAStore(self.database)

    @rule(parent=st.integers(0, 5), n=st.integers(1, 4), key=st.integers(0, 9))
    def commit(self, parent: int, n: int, key: int) -> None:
        old = self.line[max(0, len(self.line) - 1 - parent)]
        new = child(old, n)
        known = [dna for dna in self.line if dna.mutation == new.mutation and dna.parent == old.checksum]
        event = draft(f"commit/{len(self.line)}/{key}")
        if known and (known[0] == self.line[-1] or event.key in self.keys):
            assert self.store.commit(old.checksum, new, event) == known[0]
            if event.key not in self.keys:
                self.keys.append(event.key)
        elif old == self.line[-1]:
            assert self.store.commit(old.checksum, new, event) == new
            self.line.append(new)
            if event.key not in self.keys:
                self.keys.append(event.key)
        else:
            with pytest.raises(StaleParent):
                self.store.commit(old.checksum, new, event)

    @rule(key=st.integers(0, 4))
    def append(self, key: int) -> None:
        event = self.store.append(draft(f"note/{key}"))
        if event.key not in self.keys:
            self.keys.append(event.key)
        assert event.seq == self.keys.index(event.key) + 1

    @invariant()
    def the_store_is_the_list(self) -> None:
        assert list(self.store.lineage(APP)) == self.line
        assert self.store.head(APP) == self.line[-1]
        events = list(self.store.events(APP))
        assert [event.key for event in events] == self.keys
        assert [event.previous for event in events] == [GENESIS, *(event.hash for event in events[:-1])]
        assert all(event.intact() for event in events)

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()


class TestStoreMachine(StoreMachine.TestCase):
    settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
