"""The anchor: a line for each head, signed by one key; whoever finds it altered or gone signs nothing."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bedrock_evolution.dna.anchor import HeadAnchor, SignedHead
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.signing import KeyFile
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from bedrock_evolution.errors import IntegrityError, StoreError
from tests.dna.store_contract import APP, CHECKOUT, draft


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evolution.db"


@pytest.fixture
def store(path: Path) -> SQLiteDNAStore:
    return opened(path)


def opened(path: Path, **files: Path) -> SQLiteDNAStore:
    database = Database(path)
    return SQLiteDNAStore(database, HeadAnchor.beside(database, **files))


def beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}.{ending}")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in beside(path, "anchor.jsonl").read_text(encoding="utf-8").splitlines()]


def altered(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement).rowcount > 0


# -- signing


def test_each_event_leaves_a_signed_head_with_its_number_and_hash(store: SQLiteDNAStore, path: Path) -> None:
    events = [store.append(draft(f"{number}")) for number in range(3)]
    store.append(draft("1"))
    assert [(line["app"], line["count"], line["head"]) for line in lines(path)] == [
        (APP, event.seq, event.hash) for event in events
    ]


def test_a_signature_can_be_checked_by_what_the_documentation_says(store: SQLiteDNAStore, path: Path) -> None:
    store.append(draft("é 字").model_copy(update={"app": "é 字"}))
    [line] = lines(path)
    signature = bytes.fromhex(line.pop("signature"))
    public_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(beside(path, "key.pub").read_text()))
    message = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    public_key.verify(signature, message)
    with pytest.raises(InvalidSignature):
        public_key.verify(signature, message + b" ")


@pytest.mark.parametrize("name", ["app", "number", "head", "key", "signature"])
def test_a_signature_covers_every_field(store: SQLiteDNAStore, name: str) -> None:
    store.append(draft("note"))
    assert store.anchor is not None
    [(place, head)] = store.anchor.lines(APP)
    public_key = store.anchor.signer.public_key()
    assert head is not None
    assert public_key is not None
    assert place == 1
    assert head.genuine(public_key)
    other = {"number": 2}.get(name, "00" * 32)
    assert not head._replace(**{name: other}).genuine(public_key)


def test_events_are_signed_when_the_transaction_around_them_is_stored(store: SQLiteDNAStore, path: Path) -> None:
    with store._database.transaction("tables"):
        store.append(draft("one"))
        store.append(draft("two"))
        assert lines(path) == []
    assert [line["count"] for line in lines(path)] == [1, 2]


def test_what_is_not_stored_is_not_signed(store: SQLiteDNAStore, path: Path) -> None:
    def interrupted() -> None:
        with store._database.transaction("tables"):
            store.append(draft("one"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    store.append(draft("two"))
    assert [(line["count"], line["head"]) for line in lines(path)] == [(1, event.hash) for event in store.events(APP)]


def test_a_watcher_set_later_is_told_before_and_after_each_line(store: SQLiteDNAStore, path: Path) -> None:
    store.append(draft("zero"))
    told: list[tuple[str, str, int]] = []
    store._database.reached = lambda point, moment: told.append((point, moment, len(lines(path))))
    store.append(draft("one"))
    assert told == [
        ("event.append", "before", 1),
        ("event.append", "after", 1),
        ("anchor.sign", "before", 1),
        ("anchor.sign", "after", 2),
    ]


def test_the_files_may_lie_elsewhere(path: Path, tmp_path: Path) -> None:
    anchor, key = tmp_path / "other disk" / "heads.jsonl", tmp_path / "safe" / "key.pem"
    opened(path, anchor=anchor, key=key).append(draft("note"))
    assert anchor.is_file()
    assert key.with_name("key.pem.pub").is_file()
    assert not beside(path, "anchor.jsonl").exists()
    assert not beside(path, "key").exists()


def test_nothing_is_made_before_something_is_signed(store: SQLiteDNAStore, path: Path) -> None:
    store.sign_head(APP)
    assert store.anchor is not None
    assert store.anchor.newest(APP) is None
    assert store.anchor.signer.public_key() is None
    assert not list(path.parent.glob("*.key*"))
    assert not beside(path, "anchor.jsonl").exists()


# -- the key


def test_the_key_is_readable_by_its_owner_only_and_used_again(store: SQLiteDNAStore, path: Path) -> None:
    store.append(draft("one"))
    key = beside(path, "key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    opened(path).append(draft("two"))
    assert key.read_bytes() == before
    assert len({line["key"] for line in lines(path)}) == 1


MAKER = """
import sys
from pathlib import Path
from bedrock_evolution.dna.signing import KeyFile
signer = KeyFile(Path(sys.argv[1]))
print("ready", flush=True)
input()
print(signer.key_id, flush=True)
"""


def test_processes_that_make_a_key_at_once_end_with_one(tmp_path: Path) -> None:
    key = tmp_path / "key"
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", MAKER, str(key)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
        )
        for _ in range(4)
    ]
    for maker in makers:
        assert maker.stdout
        assert maker.stdout.readline() == "ready\n"
    for maker in makers:
        assert maker.stdin
        maker.stdin.write("\n")
        maker.stdin.flush()
    told = {maker.communicate(timeout=60)[0] for maker in makers}
    assert told == {f"{KeyFile(key).key_id}\n"}
    assert sorted(found.name for found in tmp_path.iterdir()) == ["key", "key.pub"]


def test_a_key_of_another_kind_is_refused_and_nothing_is_stored(store: SQLiteDNAStore, path: Path) -> None:
    pem = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content in (pem, b"", b"no key"):
        beside(path, "key").write_bytes(content)
        with pytest.raises(StoreError, match="key"):
            store.append(draft("note"))
        assert store.count(APP) == 0


def test_a_lost_private_key_is_not_replaced_in_silence(store: SQLiteDNAStore, path: Path) -> None:
    store.append(draft("one"))
    beside(path, "key").unlink()
    with pytest.raises(StoreError, match="is gone") as error:
        opened(path).append(draft("two"))
    assert "audit_key" in error.value.hint
    assert store.count(APP) == 1


def test_a_key_that_did_not_sign_the_anchor_is_refused(store: SQLiteDNAStore, path: Path, tmp_path: Path) -> None:
    store.append(draft("one"))
    opened(tmp_path / "other.db", key=tmp_path / "other.key").append(draft("makes the key"))
    other = opened(path, key=tmp_path / "other.key")
    with pytest.raises(StoreError, match=f"signed by key {lines(path)[0]['key']}, not by") as error:
        other.append(draft("two"))
    assert "audit_key" in error.value.hint
    with pytest.raises(StoreError, match="signed by key"):
        other.sign_head(APP)
    assert store.count(APP) == len(lines(path)) == 1


def test_a_store_without_its_key_is_refused_and_no_other_key_is_made(store: SQLiteDNAStore, path: Path) -> None:
    store.append(draft("one"))
    for half in (beside(path, "key"), beside(path, "key.pub")):
        half.unlink()
    with pytest.raises(StoreError, match="is gone") as error:
        opened(path).append(draft("two"))
    assert "audit_key" in error.value.hint
    assert not beside(path, "key").exists()


def test_a_store_that_lost_anchor_and_key_is_not_signed_anew_in_silence(store: SQLiteDNAStore, path: Path) -> None:
    store.append(draft("one"))
    for name in ("anchor.jsonl", "key", "key.pub"):
        beside(path, name).unlink()
    for attempt in (lambda: opened(path).append(draft("two")), lambda: opened(path).sign_head(APP)):
        with pytest.raises(StoreError, match="is gone"):
            attempt()
    assert not beside(path, "key").exists()


# -- the file


def test_an_anchor_that_was_removed_is_not_begun_anew_in_silence(store: SQLiteDNAStore, path: Path) -> None:
    store.append(draft("one"))
    beside(path, "anchor.jsonl").unlink()
    again = opened(path)
    for attempt in (lambda: again.append(draft("two")), lambda: again.sign_head(APP)):
        with pytest.raises(StoreError, match="is gone") as error:
            attempt()
        assert "empty file" in error.value.hint
    assert store.count(APP) == 1
    beside(path, "anchor.jsonl").touch()
    again.sign_head(APP)
    assert [line["count"] for line in lines(path)] == [1]


def test_a_store_that_never_had_an_anchor_is_signed_as_it_is_when_a_person_says_so(path: Path) -> None:
    plain = SQLiteDNAStore(Database(path))
    last = [plain.append(draft(f"{number}")) for number in range(3)][-1]
    with pytest.raises(StoreError, match="is gone"):
        opened(path).sign_head(APP)
    beside(path, "anchor.jsonl").touch()
    opened(path).sign_head(APP)
    assert [(line["count"], line["head"]) for line in lines(path)] == [(3, last.hash)]


def test_a_line_cut_short_is_not_continued(store: SQLiteDNAStore, path: Path) -> None:
    store.append(draft("one"))
    anchor = beside(path, "anchor.jsonl")
    anchor.write_bytes(anchor.read_bytes() * 2)
    os.truncate(anchor, anchor.stat().st_size - 20)
    opened(path).append(draft("two"))
    content = anchor.read_text().splitlines()
    assert len(content) == 3
    assert json.loads(content[2])["count"] == 2


def test_an_anchor_that_cannot_be_written_is_a_clear_error_and_nothing_is_stored(path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    store = opened(path, anchor=tmp_path / "file" / "heads.jsonl")
    with pytest.raises(StoreError, match="cannot be written") as error:
        store.append(draft("note"))
    assert "audit_anchor" in error.value.hint
    assert store.count(APP) == 0


def test_the_newest_head_is_the_highest_though_lines_are_out_of_order(store: SQLiteDNAStore, path: Path) -> None:
    for number in range(6):
        store.append(draft(f"{number}"))
        store.append(draft(f"{number}", app="other"))
    anchor = beside(path, "anchor.jsonl")
    content = anchor.read_bytes().splitlines(keepends=True)
    anchor.write_bytes(b"".join([*content[:-4], *content[:-5:-1]]))
    assert store.anchor is not None
    newest = store.anchor.newest(APP)
    assert newest is not None
    assert (newest.number, newest.app) == (6, APP)


def test_an_anchor_longer_than_what_is_read_at_once_is_read_backwards(store: SQLiteDNAStore, path: Path) -> None:
    store.append(draft("early", app="other"))
    with store._database.transaction("tables"):
        for number in range(600):
            store.append(draft(f"{number}"))
    assert store.anchor is not None
    assert beside(path, "anchor.jsonl").stat().st_size > 2 * (1 << 16)
    found = store.anchor.last(APP, 1000)
    assert [head.number for head in found] == list(range(600, 0, -1))
    newest = store.anchor.newest("other")
    assert newest is not None
    assert newest.number == 1


# -- making good what a process that died could not


def unsigned(path: Path, *keys: str) -> None:
    plain = SQLiteDNAStore(Database(path))
    for key in keys:
        plain.append(draft(key))


def test_what_was_stored_and_not_signed_is_signed_at_the_next_start(store: SQLiteDNAStore, path: Path) -> None:
    store.append(draft("one"))
    unsigned(path, "two", "three")
    opened(path).sign_head(APP)
    [*_, last] = store.events(APP)
    assert [line["count"] for line in lines(path)] == [1, 3]
    assert lines(path)[-1]["head"] == last.hash


def test_a_head_that_is_signed_is_not_signed_again(store: SQLiteDNAStore, path: Path) -> None:
    store.append(draft("one"))
    before = lines(path)
    opened(path).sign_head(APP)
    opened(path).sign_head("unheard of")
    assert lines(path) == before


KILLED = """
import os, sys
from pathlib import Path
from bedrock_evolution.dna.anchor import HeadAnchor
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from tests.dna.store_contract import draft
database = Database(Path(sys.argv[1]))
store = SQLiteDNAStore(database, HeadAnchor.beside(database))
if sys.argv[2] == "later":
    store.append(draft("zero"))
database.reached = lambda point, moment: os.kill(os.getpid(), 9) if (point, moment) == tuple(sys.argv[3:]) else None
store.append(draft("one"))
"""


@pytest.mark.parametrize("when", ["first", "later"])
@pytest.mark.parametrize("at", ["event.append before", "event.append after", "anchor.sign before", "anchor.sign after"])
def test_whenever_a_process_dies_the_next_start_signs_what_is_stored(path: Path, when: str, at: str) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path), when, *at.split()], check=False, cwd=CHECKOUT)
    assert ended.returncode == -9
    store = opened(path)
    store.sign_head(APP)
    stored = (when == "later") + (at != "event.append before")
    assert store.count(APP) == stored
    assert max((line["count"] for line in lines(path)), default=0) == stored
    store.append(draft("one"))
    store.append(draft("two"))
    assert [line["head"] for line in lines(path)] == [event.hash for event in store.events(APP)]


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DELETE FROM events WHERE seq >= 2", "2 events were signed, and event 2 is missing"),
        ("UPDATE events SET hash = 'x' WHERE seq = 2", "event 2 is not the one that was signed"),
        ("DELETE FROM events WHERE seq = 3", "event 3 is missing: the record goes on with event 4"),
        ("UPDATE events SET document = replace(document, 'rule', 'ruse') WHERE seq = 4", "event 4 was altered"),
        ("UPDATE events SET kind = 'other' WHERE seq = 3", "event 3 was altered"),
        ("UPDATE events SET seq = 'four' WHERE seq = 4", "1 of its records have no valid number"),
    ],
)
def test_what_does_not_go_on_from_the_newest_signed_head_is_not_signed(
    store: SQLiteDNAStore, path: Path, statement: str, told: str
) -> None:
    store.append(draft("one"))
    store.append(draft("two"))
    unsigned(path, "three", "four")
    altered(path, statement)
    before = lines(path)
    with pytest.raises(IntegrityError, match=told) as error:
        opened(path).sign_head(APP)
    assert "audit verify" in error.value.hint
    assert lines(path) == before


def test_a_forged_newest_head_is_not_built_on(store: SQLiteDNAStore, path: Path) -> None:
    store.append(draft("one"))
    [line] = lines(path)
    with beside(path, "anchor.jsonl").open("a") as file:
        file.write(json.dumps(line | {"count": 2, "head": "0" * 64}) + "\n")
    with pytest.raises(IntegrityError, match="signature"):
        opened(path).sign_head(APP)


def test_two_processes_may_sign_into_one_anchor(store: SQLiteDNAStore, path: Path) -> None:
    other = opened(path)
    for number in range(10):
        (store, other)[number % 2].append(draft(f"{number}"))
    assert [(line["count"], line["head"]) for line in lines(path)] == [
        (event.seq, event.hash) for event in store.events(APP)
    ]


def test_a_signed_head_is_written_as_it_is_read(store: SQLiteDNAStore, path: Path) -> None:
    store.append(draft("one"))
    [line] = lines(path)
    head = SignedHead(1, line["app"], line["count"], line["head"], line["key"], line["signature"])
    assert head.as_json() == line
