"""Digests: one for each stretch of the record, signed once, whole or not there, whoever seals and whenever it dies."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.aws.sealing import anchor as module
from bedrock_evolution.dna.aws.sealing.anchor import CloudAnchor
from bedrock_evolution.dna.aws.sealing.digests import Digests
from bedrock_evolution.dna.digest import Digest, hashes_of, segment_of, unpacked
from bedrock_evolution.dna.events import GENESIS
from bedrock_evolution.dna.signing import KeyFile
from bedrock_evolution.errors import IntegrityError, StoreError, StoreUnavailable, WriterFenced
from bedrock_evolution.governance.audit import export
from tests.dna.aws.sealing import (
    APP,
    MOMENT,
    anchor,
    apart,
    behind,
    digests,
    draft,
    grow,
    holds,
    new_key,
    own_clients,
    record,
    sealed,
    watched,
)
from tests.dna.store_contract import CHECKOUT
from tests.support.cloud import REGIONS, Cloud, cloud, session
from tests.support.moto_server import moto_server

pytestmark = pytest.mark.slow

HERE, THERE = REGIONS


@pytest.fixture(scope="module")
def shared() -> Iterator[Cloud]:
    with moto_server() as running:
        yield cloud(running.url, running.url)


@pytest.fixture
def both(shared: Cloud) -> Cloud:
    return apart(shared)


@pytest.fixture
def there(both: Cloud) -> Cloud:
    """One region only."""
    return Cloud(both.url.partition("&replica")[0], both.endpoints)


@pytest.fixture(scope="module")
def key(shared: Cloud) -> str:
    return new_key(shared)


def names(there: Cloud, region: str = HERE) -> list[str]:
    bucket, prefix = there.site(region).bucket, f"{there.place.prefix}/"
    found = behind(there, "s3", region).list_objects_v2(Bucket=bucket, Prefix=prefix)
    return [item["Key"] for item in found.get("Contents", [])]


# -- what is stored


def test_a_digest_signs_the_head_and_the_segment_and_follows_the_one_before(
    there: Cloud, key: str, tmp_path: Path
) -> None:
    store, signing = record(tmp_path / "work.db", 3), anchor(there, key, clock=FixedClock(MOMENT))
    signing.seal(APP, store, upto=3)
    grow(store, 2)
    signing.seal(APP, store, upto=5)
    first, second = sealed(there)
    hashes = [event.hash for event in store.events(APP)]
    assert [(d.app, d.number, d.first, d.last, d.head) for d in (first, second)] == [
        (APP, 1, 1, 3, hashes[2]),
        (APP, 2, 4, 5, hashes[4]),
    ]
    assert first.previous == GENESIS
    [entry, _] = digests(there).entries(APP)
    assert second.previous == hashlib.sha256(digests(there).content(entry.object) or b"").hexdigest() == entry.sha256
    assert first.at == MOMENT.isoformat()
    public_key = signing.signer.public_key()
    assert public_key is not None
    assert first.genuine(public_key)
    assert second.genuine(public_key)
    assert first.key == signing.signer.key_id


def test_objects_lie_below_the_application_and_nothing_else_is_put(there: Cloud, key: str, tmp_path: Path) -> None:
    anchor(there, key).seal(APP, record(tmp_path / "work.db", 3), upto=3)
    [digest] = sealed(there)
    folder = f"{there.place.prefix}/audit/%C3%A9%20%E5%AD%97%2Frouter"
    said = hashlib.sha256(digest.content()).hexdigest()[:16]
    assert names(there) == [
        f"{folder}/digests/000000000001-{said}.json",
        f"{folder}/segments/000000000001-000000000003.jsonl.gz",
    ]


def test_a_segment_holds_the_events_as_they_are_exported(there: Cloud, key: str, tmp_path: Path) -> None:
    store = record(tmp_path / "work.db", 4)
    anchor(there, key).seal(APP, store, upto=4)
    [digest] = sealed(there)
    lines = gzip.decompress(digests(there).content(digest.segment) or b"")
    assert lines.decode().splitlines() == list(export(store, APP))[1:]
    assert hashlib.sha256(lines).hexdigest() == digest.segment_sha256


@pytest.mark.parametrize("name", sorted(Digest.model_fields))
def test_a_signature_covers_every_field(there: Cloud, key: str, tmp_path: Path, name: str) -> None:
    signing = anchor(there, key)
    signing.seal(APP, record(tmp_path / "work.db", 1), upto=1)
    [digest] = sealed(there)
    public_key = signing.signer.public_key()
    assert public_key is not None
    other = 7 if name in {"number", "first", "last"} else "1" * 64
    assert not digest.model_copy(update={name: other}).genuine(public_key)


def test_what_is_queued_is_not_signed(there: Cloud, key: str, tmp_path: Path) -> None:
    anchor(there, key).seal(APP, record(tmp_path / "work.db", 5), upto=3)
    assert [digest.last for digest in sealed(there)] == [3]


def test_a_long_record_is_cut_into_segments(
    there: Cloud, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SEGMENT_EVENTS", 4)
    anchor(there, key).seal(APP, record(tmp_path / "work.db", 9), upto=9)
    assert [(digest.first, digest.last) for digest in sealed(there)] == [(1, 4), (5, 8), (9, 9)]


def test_a_key_in_a_file_signs_digests_too(there: Cloud, tmp_path: Path) -> None:
    signer = KeyFile(tmp_path / "key")
    CloudAnchor(there.regions(), signer, FixedClock(MOMENT)).seal(APP, record(tmp_path / "work.db", 1), upto=1)
    [digest] = sealed(there)
    assert digest.genuine(signer.public_key() or b"")


def test_objects_are_kept_for_as_long_as_is_asked(there: Cloud, key: str, tmp_path: Path) -> None:
    bucket = f"{there.site().bucket}-locked"
    s3, location = behind(there, "s3"), {"LocationConstraint": HERE}
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=location, ObjectLockEnabledForBucket=True)
    locked = Cloud(there.url.replace("s3://" + there.site().bucket, f"s3://{bucket}"), there.endpoints)
    store, clock = record(tmp_path / "work.db", 1), FixedClock(MOMENT + timedelta(days=36500))
    anchor(locked, key, clock=clock, retain_days=30).seal(APP, store, upto=1)
    assert len(names(locked)) == 2
    for name in names(locked):
        put = s3.head_object(Bucket=bucket, Key=name)
        kept = (put["ObjectLockMode"], put["ObjectLockRetainUntilDate"])
        assert kept == ("COMPLIANCE", clock.now() + timedelta(days=30))
        with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
            s3.delete_object(Bucket=bucket, Key=name, VersionId=put["VersionId"])
    plain = apart(there)
    anchor(plain, key).seal(APP, store, upto=1)
    assert "ObjectLockMode" not in s3.head_object(Bucket=plain.site().bucket, Key=names(plain)[0])


# -- again, and together


def test_where_nothing_is_to_be_signed_there_is_one_read(there: Cloud, key: str, tmp_path: Path) -> None:
    store = record(tmp_path / "work.db", 3)
    anchor(there, key).seal(APP, store, upto=3)
    clients = watched(there)
    again = anchor(there, key, calls=clients)
    again.unsealed(APP, 3)
    clients.operations = []
    for upto in (3, 2, 0):
        again.seal(APP, store, upto=upto)
    assert clients.operations == ["query", "query"]
    assert len(sealed(there)) == 1


def test_it_knows_how_many_events_are_unsigned_after_one_read(there: Cloud, key: str, tmp_path: Path) -> None:
    clients = watched(there)
    signing, store = anchor(there, key, calls=clients), record(tmp_path / "work.db", 3)
    assert [signing.unsealed(APP, count) for count in (0, 2, 3)] == [0, 2, 3]
    assert clients.operations == ["get_item", "query"]
    signing.seal(APP, store, upto=3)
    assert [signing.unsealed(APP, count) for count in (2, 3, 500)] == [0, 0, 497]
    assert anchor(there, key).unsealed(APP, 4) == 1


def test_the_newest_head_is_that_of_the_newest_digest(there: Cloud, key: str, tmp_path: Path) -> None:
    signing, store = anchor(there, key), record(tmp_path / "work.db", 3)
    assert signing.newest(APP) is None
    for upto in (2, 3):
        signing.seal(APP, store, upto=upto)
    newest = signing.newest(APP)
    assert newest is not None
    assert (newest.number, newest.head, newest.key) == (3, sealed(there)[1].head, signing.signer.key_id)


def test_of_two_processes_that_seal_at_the_same_moment_one_wins_and_the_other_starts_over(
    there: Cloud, key: str, tmp_path: Path
) -> None:
    store = record(tmp_path / "work.db", 5)
    behind, ahead = anchor(there, key), anchor(there, key)
    overtaken: list[str] = []

    def told(number: int, moment: str, operation: str) -> None:
        if (moment, operation) == ("before", "transact_write_items") and not overtaken:
            overtaken.append(operation)
            ahead.seal(APP, store, upto=3)

    behind = anchor(there, key, calls=watched(there, told))
    behind.seal(APP, store, upto=5)
    assert overtaken
    assert [(digest.number, digest.first, digest.last) for digest in sealed(there)] == [(1, 1, 3), (2, 4, 5)]
    check(there, behind)


def check(there: Cloud, signing: CloudAnchor, region: str = HERE) -> None:
    """See that digests and segments follow one another, are genuine, and hold what they say."""
    public_key = signing.signer.public_key()
    head, last, previous = GENESIS, 0, GENESIS
    for entry, digest in zip(digests(there, region).entries(APP), sealed(there, region), strict=True):
        assert public_key
        assert digest.genuine(public_key)
        assert (digest.first, digest.previous) == (last + 1, previous)
        lines = unpacked(digests(there, region).content(digest.segment) or b"")
        assert hashlib.sha256(lines).hexdigest() == digest.segment_sha256
        assert hashes_of(lines, digest, head)
        head, last, previous = digest.head, digest.last, entry.sha256


SEALER = """
import json, sys
from pathlib import Path
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from tests.dna.aws.sealing import APP, Cloud, anchor
url, endpoints, key, path = sys.argv[1:]
store = SQLiteDNAStore(Database(Path(path)))
signing = anchor(Cloud(url, json.loads(endpoints)), key)
for line in sys.stdin:
    signing.seal(APP, store, upto=int(line))
    print("sealed", flush=True)
"""


def sealer(there: Cloud, key: str, path: Path, program: str = SEALER) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, there.url, json.dumps(dict(there.endpoints)), key, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT)


def test_processes_that_seal_at_once_make_one_chain(there: Cloud, key: str, tmp_path: Path) -> None:
    store = record(tmp_path / "work.db", 12)
    processes = [sealer(there, key, tmp_path / "work.db") for _ in range(3)]
    for upto in (4, 8, 12):
        for process in processes:
            assert process.stdin
            process.stdin.write(f"{upto}\n")
            process.stdin.flush()
        for process in processes:
            assert process.stdout
            assert process.stdout.readline() == "sealed\n"
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert [(digest.first, digest.last) for digest in sealed(there)] == [(1, 4), (5, 8), (9, 12)]
    check(there, anchor(there, key))
    assert store.count(APP) == 12


def test_threads_that_seal_at_once_make_one_chain(there: Cloud, key: str, tmp_path: Path) -> None:
    store, signing = record(tmp_path / "work.db", 6), anchor(there, key)
    threads = [threading.Thread(target=signing.seal, args=(APP, store), kwargs={"upto": n}) for n in (2, 4, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sealed(there)[-1].last == 6
    check(there, signing)


# -- dying


class Killed(BaseException):
    """The process is gone."""


def calls_of_a_seal(there: Cloud, key: str, path: Path) -> list[str]:
    store, clients = record(path, 4), watched(there)
    anchor(there, key).seal(APP, store, upto=2)
    anchor(there, key, calls=clients).seal(APP, store, upto=4)
    return clients.operations or []


def test_whenever_a_process_dies_the_next_one_makes_it_good(there: Cloud, key: str, tmp_path: Path) -> None:
    made = calls_of_a_seal(there, key, tmp_path / "counted.db")
    assert made == [
        "get_item", "query", "get_object", "get_public_key", "put_object", "sign", "put_object", "transact_write_items"
    ]  # fmt: skip
    store = record(tmp_path / "work.db", 4)
    # After a call is before the next one.
    for at in [*((number, "before") for number in range(1, len(made) + 1)), (len(made), "after")]:
        there = apart(there)
        anchor(there, key).seal(APP, store, upto=2)

        def die(number: int, moment: str, operation: str, at: tuple[int, str] = at) -> None:
            if (number, moment) == at:
                raise Killed

        with pytest.raises(Killed):
            anchor(there, key, calls=watched(there, die)).seal(APP, store, upto=4)
        assert [digest.last for digest in sealed(there)] == ([2, 4] if at[1] == "after" else [2])
        check(there, anchor(there, key))
        anchor(there, key).seal(APP, store, upto=4)
        assert [digest.last for digest in sealed(there)] == [2, 4]
        check(there, anchor(there, key))


KILLED = """
import json, os, sys
from pathlib import Path
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from tests.dna.aws.sealing import APP, Cloud, anchor, watched
url, endpoints, key, path = sys.argv[1:]
there = Cloud(url, json.loads(endpoints))
die = lambda number, moment, operation: operation == "transact_write_items" and os.kill(os.getpid(), 9)
anchor(there, key, calls=watched(there, die)).seal(APP, SQLiteDNAStore(Database(Path(path))), upto=4)
"""


def test_a_process_that_is_killed_before_its_digest_counts_leaves_nothing_that_does(
    there: Cloud, key: str, tmp_path: Path
) -> None:
    store = record(tmp_path / "work.db", 4)
    process = sealer(there, key, tmp_path / "work.db", KILLED)
    process.communicate(timeout=60)
    assert process.returncode == -9
    assert len(names(there)) == 2
    assert sealed(there) == []
    anchor(there, key).seal(APP, store, upto=4)
    assert [digest.last for digest in sealed(there)] == [4]
    check(there, anchor(there, key))


# -- refused


def test_a_record_that_does_not_go_on_from_the_newest_digest_is_not_signed(
    there: Cloud, key: str, tmp_path: Path
) -> None:
    store, signing = record(tmp_path / "work.db", 3), anchor(there, key)
    signing.seal(APP, store, upto=3)
    other = record(tmp_path / "other.db", 2)
    other.append(draft(3, why="another history"))
    grow(other, 2)
    with pytest.raises(IntegrityError, match="event 4 does not follow from the event before it") as error:
        signing.seal(APP, other, upto=5)
    assert "audit verify" in error.value.hint
    with pytest.raises(IntegrityError, match="event 4 is missing: the record ends with event 3"):
        signing.seal(APP, store, upto=4)
    assert len(sealed(there)) == 1


def test_an_event_that_was_altered_is_not_signed(there: Cloud, key: str, tmp_path: Path) -> None:
    store = record(tmp_path / "work.db", 3)
    with store._database.transaction("tables") as connection:
        connection.execute("UPDATE events SET document = replace(document, 'rule', 'ruse') WHERE seq = 2")
    with pytest.raises(IntegrityError, match="event 2 was altered"):
        anchor(there, key).seal(APP, store, upto=3)
    assert names(there) == []


def test_digests_of_another_key_are_not_gone_on_with(there: Cloud, key: str, tmp_path: Path) -> None:
    store = record(tmp_path / "work.db", 2)
    anchor(there, key).seal(APP, store, upto=1)
    other = anchor(there, new_key(there))
    for attempt in (lambda: other.seal(APP, store, upto=2), lambda: other.newest(APP)):
        with pytest.raises(StoreError, match=r"were signed by key \w{16}, not by \w{16}") as error:
            attempt()
        assert "audit_kms_key" in error.value.hint
    assert len(sealed(there)) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"signature": "00" * 256}, "digest 1 of .* is not signed by its key"),
        ({"head": "0" * 64}, "digest 1 of .* is not signed by its key"),
        ({"last": 2}, "is not the digest that its item names"),
        ({"app": "other"}, "is not the digest that its item names"),
    ],
)
def test_a_newest_digest_that_was_altered_is_not_built_on(
    there: Cloud, key: str, tmp_path: Path, change: dict[str, object], told: str
) -> None:
    store = record(tmp_path / "work.db", 3)
    anchor(there, key).seal(APP, store, upto=1)
    [digest] = sealed(there)
    replace(there, digests(there), digest.model_copy(update=change))
    with pytest.raises(IntegrityError, match=told):
        anchor(there, key).seal(APP, store, upto=3)
    assert digests(there).newest(APP)


def replace(there: Cloud, found: Digests, digest: Digest) -> None:
    """Put another digest in the place of the newest one, and let its item fit."""
    entry = found.newest(APP)
    assert entry is not None
    found.put(entry.object, digest.content(), None)
    item = {"pk": {"S": f"{there.place.partition(APP)}/audit"}, "sk": {"S": f"digest#{entry.number:012d}"}}
    said = hashlib.sha256(digest.content()).hexdigest()
    told = {"last": {"N": str(entry.last)}, "object": {"S": entry.object}, "sha256": {"S": said}}
    behind(there, "dynamodb").put_item(TableName=there.site().table, Item=item | told)


def test_a_newest_digest_that_is_gone_is_not_built_on(there: Cloud, key: str, tmp_path: Path) -> None:
    store = record(tmp_path / "work.db", 3)
    anchor(there, key).seal(APP, store, upto=1)
    entry = digests(there).newest(APP)
    assert entry is not None
    behind(there, "s3").delete_object(Bucket=there.site().bucket, Key=entry.object)
    with pytest.raises(IntegrityError, match="digest 1 is missing"):
        anchor(there, key).seal(APP, store, upto=3)


def test_a_service_that_cannot_be_reached_is_told_and_nothing_is_lost(there: Cloud, key: str, tmp_path: Path) -> None:
    store = record(tmp_path / "work.db", 2)
    signing = anchor(there, key, calls=own_clients(there))
    signing._regions.epoch()
    signing._regions.clients._made.clear()
    signing._regions.clients.endpoints = {HERE: "http://127.0.0.1:9"}
    with pytest.raises(StoreUnavailable):
        signing.seal(APP, store, upto=2)
    anchor(there, key).seal(APP, store, upto=2)
    assert [digest.last for digest in sealed(there)] == [2]


# -- regions


def test_the_other_region_gets_a_copy_and_goes_on_from_it(both: Cloud, tmp_path: Path) -> None:
    key = new_key(both, MultiRegion=True)
    behind(both, "kms").replicate_key(KeyId=key, ReplicaRegion=THERE)
    store, signing = record(tmp_path / "work.db", 6), anchor(both, key)
    holds(both, 6)
    for upto in (2, 4):
        signing.seal(APP, store, upto=upto)
    assert sealed(both, THERE) == sealed(both, HERE)
    check(both, signing, THERE)
    both.regions().promote(THERE)
    with pytest.raises(WriterFenced):
        signing._regions.transact([])
    promoted = anchor(both, key)
    promoted.seal(APP, store, upto=6)
    assert [digest.last for digest in sealed(both, THERE)] == [2, 4, 6]
    check(both, promoted, THERE)
    assert sealed(both, HERE) == sealed(both, THERE)


def test_a_region_that_could_not_be_reached_gets_what_it_lacks_next_time(both: Cloud, key: str, tmp_path: Path) -> None:
    store, signing = record(tmp_path / "work.db", 6), anchor(both, key)
    holds(both, 6)
    signing.seal(APP, store, upto=2)
    cut_off = anchor(both, key, calls=own_clients(both))
    cut_off._regions.epoch()
    cut_off._regions.clients.attempts = 1
    cut_off._regions.clients._made["dynamodb", THERE] = session().client(
        "dynamodb", region_name=THERE, endpoint_url="http://127.0.0.1:9"
    )
    cut_off._regions._asked_s = float("inf")
    cut_off.seal(APP, store, upto=4)
    assert [digest.last for digest in sealed(both, HERE)] == [2, 4]
    assert [digest.last for digest in sealed(both, THERE)] == [2]
    signing.seal(APP, store, upto=6)
    assert [digest.last for digest in sealed(both, THERE)] == [2, 4, 6]
    check(both, signing, THERE)


def test_a_region_gets_no_digest_of_events_that_it_lacks(both: Cloud, key: str, tmp_path: Path) -> None:
    """Were it promoted then, other events would take their numbers, and the record would count as damaged."""
    store, signing = record(tmp_path / "work.db", 6), anchor(both, key)
    for number, upto, copied in ((3, 2, [2]), (3, 4, [2]), (5, 6, [2, 4]), (6, 6, [2, 4])):
        holds(both, number)
        signing.seal(APP, store, upto=upto)
        assert [digest.last for digest in sealed(both, THERE)] == copied
    grow(store, 1)
    holds(both, 7)
    signing.seal(APP, store, upto=7)
    assert sealed(both, THERE) == sealed(both, HERE)


def test_a_region_with_another_digest_of_the_same_number_is_left_as_it_is(
    both: Cloud, key: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, signing = record(tmp_path / "work.db", 4), anchor(both, key)
    holds(both, 4)
    signing.seal(APP, store, upto=2)
    entry = digests(both, THERE).newest(APP)
    assert entry is not None
    item = {"pk": {"S": f"{both.place.partition(APP)}/audit"}, "sk": {"S": "digest#000000000001"}}
    behind(both, "dynamodb", THERE).put_item(TableName=both.site(THERE).table, Item=item | {"last": {"N": "1"}})
    signing.seal(APP, store, upto=4)
    assert [digest.last for digest in sealed(both, HERE)] == [2, 4]
    assert [found.last for found in digests(both, THERE).entries(APP)] == [1]
    assert "digest 1 is another one there" in caplog.text


# -- the format


def test_a_digest_is_read_only_in_the_form_it_is_written_in(there: Cloud, key: str, tmp_path: Path) -> None:
    anchor(there, key).seal(APP, record(tmp_path / "work.db", 1), upto=1)
    [digest] = sealed(there)
    content = digest.content()
    assert Digest.read(content) == digest
    for other in (b"", b"{}", b"[1]", b" " + content, content + b"\n", content.replace(b'"number":1', b'"number":"1"')):
        with pytest.raises(ValueError, match=r"\w"):
            Digest.read(other)


def test_a_segment_is_packed_to_the_same_bytes_each_time(tmp_path: Path) -> None:
    rows = [row for page in record(tmp_path / "work.db", 3).event_rows(APP) for row in page]
    first, again = (segment_of(rows, APP, 0, GENESIS) for _ in range(2))
    assert first.packed() == again.packed()
    assert unpacked(first.packed()) == first.lines
    for content in (b"no segment", first.packed()[:-10], b"x" + first.packed()):
        with pytest.raises(ValueError, match=r"\w"):
            unpacked(content)
