"""Audit of a store in the cloud: whatever is done to record, digests or segments is found, and named."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.cli.audit import _one_object
from bedrock_evolution.dna.aws.calls import Clients, Service
from bedrock_evolution.dna.aws.sealing.anchor import CloudAnchor
from bedrock_evolution.dna.aws.sealing.digests import Entry
from bedrock_evolution.dna.canonical import canonical_json, checksum
from bedrock_evolution.dna.digest import Digest
from bedrock_evolution.dna.events import GENESIS
from bedrock_evolution.dna.signing import KeyFile, key_id
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from bedrock_evolution.errors import IntegrityError, StoreUnavailable
from bedrock_evolution.governance.audit import export, verify
from tests.dna.aws.sealing import (
    APP,
    anchor,
    apart,
    behind,
    digests,
    draft,
    grow,
    new_key,
    one_session,
    record,
    sealed,
    watched,
)
from tests.support.cloud import Cloud, cloud, opened
from tests.support.moto_server import moto_server

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "docs" / "verify_audit.py"
ENDS = (3, 5, 9)
"""Last events of the digests."""
EVENTS = 11


@pytest.fixture(scope="module")
def shared() -> Iterator[Cloud]:
    with moto_server() as running:
        yield cloud(running.url)


@pytest.fixture(scope="module")
def key(shared: Cloud) -> str:
    return new_key(shared)


@pytest.fixture
def there(shared: Cloud) -> Cloud:
    return apart(shared)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "work.db"


@pytest.fixture
def store(there: Cloud, key: str, path: Path) -> SQLiteDNAStore:
    """Eleven events, of which three digests cover nine."""
    made, signing = record(path, EVENTS), anchor(there, key)
    for upto in ENDS:
        signing.seal(APP, made, upto=upto)
    made.anchor = signing
    return made


def entries(there: Cloud) -> list[Entry]:
    return list(digests(there).entries(APP))


def put_item(there: Cloud, entry: Entry) -> None:
    pk, sk = f"{there.place.partition(APP)}/audit", f"digest#{entry.number:012d}"
    said = {"last": {"N": str(entry.last)}, "object": {"S": entry.object}, "sha256": {"S": entry.sha256}}
    behind(there, "dynamodb").put_item(TableName=there.site().table, Item={"pk": {"S": pk}, "sk": {"S": sk}, **said})


def remove_item(there: Cloud, number: int) -> None:
    keys = {"pk": {"S": f"{there.place.partition(APP)}/audit"}, "sk": {"S": f"digest#{number:012d}"}}
    behind(there, "dynamodb").delete_item(TableName=there.site().table, Key=keys)


def remove(there: Cloud, name: str) -> None:
    behind(there, "s3").delete_object(Bucket=there.site().bucket, Key=name)


def swap(there: Cloud, digest: Digest, *, item: bool = True) -> None:
    """Put another digest in the place of the one of its number, and let its item fit."""
    entry = entries(there)[digest.number - 1]
    digests(there).put(entry.object, digest.content(), None)
    if item:
        put_item(there, Entry.of(digest, entry.object))


def altered(path: Path, statement: str, *parameters: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement, parameters).rowcount > 0


def chained_anew(path: Path, number: int, why: str) -> None:
    """Alter an event, and chain it and all after it anew with fitting hashes."""
    with closing(sqlite3.connect(path)) as connection, connection:
        rows = connection.execute("SELECT seq, document FROM events WHERE seq >= ? ORDER BY seq", [number]).fetchall()
        before = connection.execute("SELECT hash FROM events WHERE seq = ?", [number - 1]).fetchone()
        previous = before[0] if before else GENESIS
        for seq, document in rows:
            body = json.loads(document) | {"previous": previous} | ({"why": why} if seq == number else {})
            previous = checksum(body)
            values = [canonical_json(body), previous, seq]
            connection.execute("UPDATE events SET document = ?, hash = ? WHERE seq = ?", values)


def test_an_untouched_record_is_intact_and_says_how_far_it_is_signed(store: SQLiteDNAStore, key: str) -> None:
    report = verify(store, APP)
    assert report.problems == ()
    assert (report.checked, report.signed, report.unsigned) == (EVENTS, 9, 2)
    assert store.anchor is not None
    assert report.key == store.anchor.signer.key_id


def test_a_record_that_is_not_signed_yet_is_intact_and_says_so(there: Cloud, key: str, path: Path) -> None:
    store = record(path, 2)
    store.anchor = anchor(there, key)
    report = verify(store, APP)
    assert (report.problems, report.checked, report.signed, report.unsigned) == ((), 2, 0, 2)
    assert verify(store, "unheard of").intact


def test_nothing_but_the_public_key_is_asked_of_kms(there: Cloud, key: str, store: SQLiteDNAStore) -> None:
    calls = watched(there)
    store.anchor = anchor(there, key, calls=calls)
    assert verify(store, APP).intact
    asked = calls.operations or []
    assert asked.count("get_public_key") == 1
    assert "sign" not in asked
    assert set(asked) == {"get_public_key", "get_item", "query", "get_object", "list_objects_v2"}


# -- the record


@pytest.mark.parametrize("number", [1, 4, 9])
def test_an_event_that_was_altered_in_the_mirror_is_named(store: SQLiteDNAStore, path: Path, number: int) -> None:
    altered(path, "UPDATE events SET document = replace(document, 'rule', 'ruse') WHERE seq = ?", number)
    assert verify(store, APP).problems == (f"event {number} was altered: its content does not match its hash",)


@pytest.mark.parametrize("number", [1, 3, 4, 8, 10])
def test_a_history_that_was_chained_anew_is_named_at_its_first_event(
    store: SQLiteDNAStore, path: Path, number: int
) -> None:
    chained_anew(path, number, "another")
    report = verify(store, APP)
    if number > ENDS[-1]:
        assert (report.problems, report.unsigned) == ((), 2)
    else:
        assert report.problems == (f"event {number} is not the one that was signed",)
        assert report.signed == max([0, *(end for end in ENDS if end < number)])


@pytest.mark.parametrize("length", [0, 4, 8])
def test_a_tail_that_was_cut_is_found(store: SQLiteDNAStore, path: Path, length: int) -> None:
    altered(path, "DELETE FROM events WHERE seq > ?", length)
    told = f"event {length + 1} is missing: 9 events were signed, and the record ends with event {length}"
    assert verify(store, APP).problems == (told,)


# -- segments


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_segment_that_was_removed_is_named(there: Cloud, store: SQLiteDNAStore, number: int) -> None:
    digest = sealed(there)[number - 1]
    remove(there, digest.segment)
    report = verify(store, APP)
    what = f"segment {digest.first}-{digest.last} of digest {number}"
    assert report.problems == (f"{what} is missing: {digest.segment} is not there",)
    assert report.signed == 9


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_segment_that_was_altered_is_named(there: Cloud, store: SQLiteDNAStore, number: int) -> None:
    digest = sealed(there)[number - 1]
    content = gzip.decompress(digests(there).content(digest.segment) or b"")
    for other in (gzip.compress(content.replace(b"rule", b"ruse", 1)), gzip.compress(content[:-1]), b"", b"no segment"):
        digests(there).put(digest.segment, other, None)
        [problem] = verify(store, APP).problems
        assert problem.startswith(f"segment {digest.first}-{digest.last} of digest {number} was altered: ")
    digests(there).put(digest.segment, gzip.compress(content, 1), None)
    assert verify(store, APP).intact, "how it was packed does not matter"


# -- digests


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_digest_that_was_removed_is_named(there: Cloud, store: SQLiteDNAStore, number: int) -> None:
    name = entries(there)[number - 1].object
    remove(there, name)
    report = verify(store, APP)
    assert report.problems == (f"digest {number} is missing: {name} is not there",)
    assert report.signed == (9 if number < 3 else 5)


def test_a_digest_that_was_altered_is_named_whether_or_not_its_item_was(there: Cloud, store: SQLiteDNAStore) -> None:
    digest, entry = sealed(there)[1], entries(there)[1]
    for name in Digest.model_fields.keys() - {"format"}:
        changed = digest.model_copy(update={name: 7 if name in {"number", "first", "last"} else "1" * 64})
        digests(there).put(entry.object, changed.content(), None)
        for item in (entry, Entry(2, changed.last, entry.object, Entry.of(changed, "").sha256)):
            put_item(there, item)
            [problem] = verify(store, APP).problems
            assert problem.startswith("digest 2 was ") or problem == "digest 2 is not signed by its key"
        put_item(there, entry)
    digests(there).put(entry.object, digest.content(), None)
    assert verify(store, APP).intact


def test_a_digest_that_another_key_signed_is_named(there: Cloud, store: SQLiteDNAStore, tmp_path: Path) -> None:
    assert store.anchor is not None
    signer = KeyFile(tmp_path / "key")
    for key in (signer.key_id, store.anchor.signer.key_id):
        unsigned = sealed(there)[1].model_copy(update={"key": key})
        swap(there, unsigned.model_copy(update={"signature": signer.sign(unsigned.message()).hex()}))
        [problem] = verify(store, APP).problems
        said = f"was signed by key {key}, and the public key is that of" if key == signer.key_id else "is not signed"
        assert problem.startswith(f"digest 2 {said}")


def test_digests_that_were_all_made_anew_with_another_key_are_named(
    there: Cloud, store: SQLiteDNAStore, path: Path
) -> None:
    forger = new_key(there)
    chained_anew(path, 2, "another")
    for entry in entries(there):
        remove_item(there, entry.number)
        remove(there, entry.object)
    for upto in ENDS:
        anchor(there, forger).seal(APP, store, upto=upto)
    report = verify(store, APP)
    assert [problem[:23] for problem in report.problems] == [f"digest {n} was signed by " for n in (1, 2, 3)]
    assert (report.signed, report.unsigned) == (0, EVENTS)


def test_a_genuine_digest_in_the_place_of_another_is_named(there: Cloud, key: str, store: SQLiteDNAStore) -> None:
    # It is of another store with the same key and another history.
    other, signing = apart(there), record(store._database.path.with_name("other.db"), 4)
    signing.append(draft(5, why="another"))
    for upto in (3, 5):
        anchor(other, key).seal(APP, signing, upto=upto)
    second = digests(other).content(entries(other)[1].object) or b""
    swap(there, Digest.read(second))
    problems = verify(store, APP).problems
    assert problems[0] == "event 5 is not the one that was signed; what was changed comes after event 3"
    assert problems[1].startswith("digest 2 does not follow from digest 1")
    assert problems[2].startswith("digest 3 does not follow from digest 2")


@pytest.mark.parametrize("number", [1, 2])
def test_an_item_that_was_removed_is_named(there: Cloud, store: SQLiteDNAStore, number: int) -> None:
    remove_item(there, number)
    report = verify(store, APP)
    assert report.problems == (f"digest {number} is missing: its item is not in the table",)
    assert report.signed == 9


def test_an_item_that_was_altered_is_named(there: Cloud, store: SQLiteDNAStore) -> None:
    for entry in entries(there):
        for change in ({"last": 99}, {"object": ""}, {"object": "elsewhere"}, {"sha256": "0" * 64}):
            put_item(there, replace(entry, **change))
            [problem] = verify(store, APP).problems
            assert problem.startswith(f"digest {entry.number} ")
        put_item(there, entry)
    assert verify(store, APP).intact


def test_items_that_nobody_signed_are_named(there: Cloud, store: SQLiteDNAStore) -> None:
    put_item(there, Entry(4, 11, "nowhere", GENESIS))
    assert verify(store, APP).problems == ("digest 4 is missing: nowhere is not there",)
    put_item(there, Entry(6, 11, "nowhere", GENESIS))
    assert verify(store, APP).problems[1] == "digest 5 is missing: its item is not in the table"


def test_newest_items_that_were_removed_do_not_hide_what_was_signed(
    there: Cloud, store: SQLiteDNAStore, path: Path
) -> None:
    remove_item(there, 2)
    remove_item(there, 3)
    report = verify(store, APP)
    assert (report.problems, report.signed, report.unsigned) == ((), 3, 8)
    altered(path, "DELETE FROM events WHERE seq > 6")
    told = "event 7 is missing: 9 events were signed, and the record ends with event 6"
    assert verify(store, APP).problems == (told,)


def test_a_history_that_was_signed_anew_by_the_same_key_after_items_were_removed_is_found(
    there: Cloud, key: str, store: SQLiteDNAStore, path: Path
) -> None:
    remove_item(there, 2)
    remove_item(there, 3)
    chained_anew(path, 4, "another")
    anchor(there, key).seal(APP, store, upto=11)
    assert verify(store, APP).problems[0] == "event 5 is one of two that were signed under this number"


def test_what_a_dead_process_left_behind_is_no_problem(
    there: Cloud, key: str, store: SQLiteDNAStore, path: Path
) -> None:
    def die(number: int, moment: str, operation: str) -> None:
        if operation == "transact_write_items":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        anchor(there, key, calls=watched(there, die)).seal(APP, store, upto=10)
    digests(there).put(f"{there.place.folder('audit', APP)}/digests/junk", b"anybody's", None)
    report = verify(store, APP)
    assert (report.problems, report.signed, report.unsigned) == ((), 9, 2)
    anchor(there, key).seal(APP, store, upto=11)
    assert (verify(store, APP).problems, verify(store, APP).signed) == ((), 11)


def test_another_applications_digests_say_nothing(there: Cloud, key: str, store: SQLiteDNAStore, path: Path) -> None:
    with store._database.transaction("tables"):
        store.append(draft(1).model_copy(update={"app": "other"}))
    anchor(there, key).seal("other", store, upto=1)
    assert verify(store, "other").signed == 1
    assert verify(store, APP).signed == 9
    [entry] = digests(there).entries("other")
    digests(there).put(
        f"{there.place.folder('audit', APP)}/digests/x", digests(there).content(entry.object) or b"", None
    )
    assert verify(store, APP).intact


# -- keys, and services that refuse


def test_without_the_public_key_nothing_is_confirmed(there: Cloud, store: SQLiteDNAStore) -> None:
    store.anchor = anchor(there, "00000000-0000-0000-0000-000000000000")
    told = "the signatures cannot be checked: there is no KMS key as `audit_kms_key` names it"
    assert verify(store, APP).problems == (told,)


class Denied(Clients):
    """Clients of somebody who may not do all."""

    def call(self, service: Service, region: str, operation: str, **arguments: Any) -> dict[str, Any]:
        if operation == "list_objects_v2" or "segments" in arguments.get("Key", ""):
            raise StoreUnavailable(f"{operation} is denied.", passing=False)
        return super().call(service, region, operation, **arguments)


def test_who_may_not_list_is_told_that_an_object_cannot_be_read(there: Cloud, key: str, store: SQLiteDNAStore) -> None:
    store.anchor = anchor(there, key, calls=Denied(one_session, there.endpoints))
    report = verify(store, APP)
    assert len(report.problems) == 3
    assert report.problems[0] == "segment 1-3 of digest 1 cannot be read, or is not there: get_object is denied."
    assert report.signed == 9


def test_a_cloud_that_cannot_be_reached_is_no_finding(there: Cloud, key: str, store: SQLiteDNAStore) -> None:
    away = Cloud(there.url, dict.fromkeys(there.endpoints, "http://127.0.0.1:9"))
    store.anchor = anchor(away, key)
    with pytest.raises(StoreUnavailable):
        verify(store, APP)


def test_events_that_another_machine_stored_and_sealed_meanwhile_are_no_finding(
    there: Cloud, key: str, tmp_path: Path
) -> None:
    ours, theirs = (opened(there, tmp_path / f"{name}.db") for name in ("ours", "theirs"))
    with closing(ours), closing(theirs):
        grow(ours, 2)
        assert ours.count(APP) == 2

        class Meanwhile(CloudAnchor):
            def testimony(self, app: str):
                theirs.append(draft(3 + theirs.count(APP)))
                signing.seal(APP, theirs, upto=theirs.count(APP))
                return super().testimony(app)

        signing = anchor(there, key)
        ours.anchor = Meanwhile(signing._regions, signing.signer, signing._clock)
        report = verify(ours, APP)
        assert (report.problems, report.checked, report.signed) == ((), 3, 3)


# -- export


@pytest.fixture(scope="module")
def export_of_all(shared: Cloud, key: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, there = tmp_path_factory.mktemp("exported"), apart(shared)
    store, signing = record(folder / "work.db", EVENTS), anchor(there, key)
    for upto in ENDS:
        signing.seal(APP, store, upto=upto)
    store.anchor = signing
    return written(store, folder)


@pytest.fixture
def exported(export_of_all: Path, tmp_path: Path) -> Path:
    return shutil.copy(export_of_all, tmp_path / "record.jsonl")


def written(store: SQLiteDNAStore, folder: Path) -> Path:
    file = folder / "record.jsonl"
    file.write_text("".join(f"{line}\n" for line in export(store, APP)), encoding="utf-8")
    return file


def verified(file: Path, *arguments: str, options: tuple[str, ...] = ("-I",)) -> subprocess.CompletedProcess[str]:
    """Run the script as somebody would who has not installed the package."""
    command = [sys.executable, *options, str(SCRIPT), str(file), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=file.parent)


def test_an_export_ends_with_the_digests_as_they_are_stored(
    there: Cloud, store: SQLiteDNAStore, tmp_path: Path
) -> None:
    header, *lines = written(store, tmp_path).read_bytes().splitlines()
    public_key = bytes.fromhex(json.loads(header)["public_key"])
    assert store.anchor is not None
    assert key_id(public_key) == store.anchor.signer.key_id
    assert lines[EVENTS:] == [b'{"digest":%b}' % digest.content() for digest in sealed(there)]


def test_an_export_can_be_verified_without_the_package(exported: Path) -> None:
    public_key = json.loads(exported.read_text(encoding="utf-8").splitlines()[0])["public_key"]
    for arguments in ((), (public_key,)):
        done = verified(exported, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert re.match(r"intact: 11 events; head \w{64}; last signed: 9\n", done.stdout)
        assert f"signatures checked with {public_key}" in done.stdout
    assert "SIGNATURES WERE NOT CHECKED" in verified(exported, options=("-I", "-S")).stdout


def test_one_object_holds_what_the_lines_hold(exported: Path) -> None:
    lines = exported.read_text(encoding="utf-8").splitlines()
    whole = json.loads(_one_object(lines))
    assert [event["seq"] for event in whole["events"]] == list(range(1, EVENTS + 1))
    assert [digest["last"] for digest in whole["digests"]] == list(ENDS)
    assert whole["signed_heads"] == []
    assert whole["public_key"] == json.loads(lines[0])["public_key"]


def test_an_export_that_another_key_signed_is_refused(there: Cloud, exported: Path) -> None:
    other = behind(there, "kms").get_public_key(KeyId=new_key(there))["PublicKey"]
    assert "InvalidSignature" in verified(exported, other.hex()).stderr


def digest_of(change: dict[str, Any], number: int) -> Callable[[list[str]], None]:
    def apply(lines: list[str]) -> None:
        digest = json.loads(lines[EVENTS + number])["digest"]
        lines[EVENTS + number] = canonical_json({"digest": digest | change})

    return apply


@pytest.mark.parametrize("options", [("-I",), ("-I", "-S", "-O")], ids=["with signatures", "chain only"])
@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (lambda lines: lines.__setitem__(4, lines[4].replace('"rule"', '"ruse"')), "event 4 was altered"),
        (lambda lines: lines.pop(4), "event 4 was altered, removed"),
        (lambda lines: lines.pop(EVENTS + 1), "digest 1 is missing"),
        (lambda lines: lines.pop(EVENTS + 2), "digest 2 is missing"),
        (lambda lines: lines.__delitem__(slice(8, EVENTS + 1)), "one of the events 6 to 9 is missing"),
        (digest_of({"head": "0" * 64}, 2), "one of the events 4 to 5 is missing"),
        (digest_of({"at": "yesterday"}, 2), "digest 3 is missing, or does not follow"),
        (digest_of({"segment_sha256": "0" * 64}, 3), "digest 3 was signed for another segment"),
    ],
)
def test_the_script_finds_what_was_done_to_an_export(
    exported: Path, tamper: Callable[[list[str]], object], named: str, options: tuple[str, ...]
) -> None:
    lines = exported.read_text(encoding="utf-8").splitlines()
    tamper(lines)
    exported.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    done = verified(exported, options=options)
    assert done.returncode == 1
    assert named in done.stderr or ("InvalidSignature" in done.stderr and "-S" not in options)


def test_the_script_finds_a_history_that_was_chained_anew(store: SQLiteDNAStore, path: Path, tmp_path: Path) -> None:
    chained_anew(path, 7, "another")
    assert verified(written(store, tmp_path)).stderr.startswith("one of the events 6 to 9 is missing, or is not")


def test_an_altered_digest_is_exported_as_it_is_and_a_missing_one_is_told(
    there: Cloud, store: SQLiteDNAStore, tmp_path: Path
) -> None:
    swap(there, sealed(there)[1].model_copy(update={"signature": "00" * 256}))
    assert "InvalidSignature" in verified(written(store, tmp_path)).stderr
    remove(there, entries(there)[1].object)
    with pytest.raises(IntegrityError, match=r"digest 2 of .* cannot be exported: .* is missing"):
        list(export(store, APP))


@pytest.mark.skipif(not (shutil.which("jq") and shutil.which("openssl")), reason="needs jq and openssl")
def test_a_digest_can_be_verified_as_the_documentation_says_without_python(
    there: Cloud, key: str, store: SQLiteDNAStore, tmp_path: Path
) -> None:
    first, second = entries(there)[:2]
    digest = sealed(there)[0]
    (tmp_path / "digest.json").write_bytes(digests(there).content(first.object) or b"")
    (tmp_path / "segment.jsonl.gz").write_bytes(digests(there).content(digest.segment) or b"")
    (tmp_path / "key.der").write_bytes(behind(there, "kms").get_public_key(KeyId=key)["PublicKey"])
    text = (SCRIPT.parent / "audit.md").read_text(encoding="utf-8")
    recipe = [
        line.strip() for line in text.splitlines() if "digest.json" in line or "openssl" in line or "gunzip" in line
    ]
    commands = [line for line in recipe if line.startswith(("jq", "openssl", "gunzip", "sha256sum"))]
    done = subprocess.run(
        ["bash", "-euc", "\n".join(commands)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    said = done.stdout.split()
    assert said[:2] == ["Verified", "OK"]
    assert said[2] == digest.segment_sha256
    assert said[-2] == sealed(there)[1].previous
    assert len(commands) == 5
    assert second.number == 2
