"""`store verify` names what is missing, altered, behind or forked, in every region, and mends what it can."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.clock import SystemClock
from bedrock_evolution.dna.aws.promotion import promote
from bedrock_evolution.dna.aws.record import Record
from bedrock_evolution.dna.aws.regions import CONTROL, GUARDS
from bedrock_evolution.dna.aws.stored import dna_sk, event_sk, segment_sk
from bedrock_evolution.dna.aws.verifying.verification import Verification, verify
from bedrock_evolution.dna.cloud import CloudDNAStore
from bedrock_evolution.errors import IntegrityError, UsageError
from bedrock_evolution.fitness.journal import Journal
from tests.dna.store_contract import APP, child, first
from tests.dna.test_cloud_flips import RUN, draft, stocked, stored
from tests.support.cloud import REGIONS, Cloud, cloud, opened
from tests.support.moto_server import MotoServer, moto_server

pytestmark = pytest.mark.slow

HOME, OTHER = REGIONS


@pytest.fixture(scope="module")
def home() -> Iterator[MotoServer]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="module")
def other() -> Iterator[MotoServer]:
    with moto_server() as server:
        yield server


@pytest.fixture
def there(home: MotoServer, tmp_path: Path) -> Cloud:
    made = cloud(home.url)
    stocked(made, tmp_path)
    return made


@pytest.fixture
def both(home: MotoServer, other: MotoServer, tmp_path: Path) -> Cloud:
    made = cloud(home.url, other.url)
    stocked(made, tmp_path)
    return made


def look(there: Cloud, *, repair: bool = False, read_timeout_s: float = 5.0) -> Verification:
    regions = there.regions(attempts=1)
    regions.clients.read_timeout_s = read_timeout_s
    return verify(regions, repair=repair)


def remove_item(there: Cloud, sk: str, region: str = HOME) -> None:
    key = {"pk": {"S": there.place.partition(APP)}, "sk": {"S": sk}}
    there.client("dynamodb", region).delete_item(TableName=there.site(region).table, Key=key)


def remove_object(there: Cloud, name: str, region: str = HOME) -> None:
    """Remove an object with all its versions."""
    s3, where = there.client("s3", region), {"Bucket": there.site(region).bucket, "Key": name}
    for version in s3.list_object_versions(Bucket=where["Bucket"], Prefix=name)["Versions"]:
        s3.delete_object(**where, VersionId=version["VersionId"])


def name_of(there: Cloud, sk: str) -> str:
    return str(stored(there, HOME).items[there.place.partition(APP), sk]["object"])


def test_a_whole_store_is_intact(there: Cloud) -> None:
    report = look(there)
    assert report.intact
    assert [(s.role, s.events, s.generations) for s in report.standings] == [("writer", 4, 2)]
    assert (report.epoch, report.writer, report.runs) == (1, HOME, 1)


def test_everything_in_dynamodb_can_be_brought_back_from_s3(there: Cloud) -> None:
    before = stored(there, HOME)
    for sk in (event_sk(1), event_sk(2), event_sk(3), dna_sk(0), "key#declared"):
        remove_item(there, sk)
    report = look(there)
    assert {f.what.split()[1] for f in report.findings} == {
        event_sk(1), event_sk(2), event_sk(3), dna_sk(0), "key#declared"
    }  # fmt: skip
    assert look(there, repair=True).findings == ()
    assert stored(there, HOME) == before


@pytest.mark.slow
def test_the_last_event_and_the_last_generation_are_brought_back_too(there: Cloud) -> None:
    before = stored(there, HOME)
    remove_item(there, event_sk(4))
    remove_item(there, dna_sk(1))
    assert look(there, repair=True).findings == ()
    assert stored(there, HOME) == before


@pytest.mark.slow
def test_everything_in_s3_that_is_in_the_items_too_can_be_brought_back(there: Cloud) -> None:
    before = stored(there, HOME)
    for sk in (event_sk(1), event_sk(4), dna_sk(0), dna_sk(1)):
        remove_object(there, name_of(there, sk))
    assert len(look(there).findings) == 4
    assert look(there, repair=True).findings == ()
    assert stored(there, HOME) == before


def test_what_has_no_copy_stays_a_finding(there: Cloud) -> None:
    name = name_of(there, event_sk(3))
    remove_object(there, name)
    report = look(there, repair=True)
    assert [(f.region, name in f.wrong, f.why_not) for f in report.findings] == [(HOME, True, "there is no sound copy")]
    assert "event 3 of 'router'" in report.findings[0].wrong
    assert not report.intact


@pytest.mark.slow
def test_an_older_version_of_an_object_is_a_copy(there: Cloud) -> None:
    before = stored(there, HOME)
    name = name_of(there, event_sk(3))
    there.client("s3").put_object(Bucket=there.site().bucket, Key=name, Body=b"{}")
    [mended] = look(there, repair=True).mended
    assert mended.what == f"s3://{there.site().bucket}/{name}"
    assert "older version" in mended.mended
    assert stored(there, HOME) == before


@pytest.mark.slow
def test_the_working_copy_is_a_source_where_it_is_named(there: Cloud, tmp_path: Path) -> None:
    before = stored(there, HOME)
    remove_object(there, name_of(there, event_sk(3)))
    with closing(opened(there, tmp_path / "stocking.db")) as store:
        report = verify(there.regions(), repair=True, copy=store._database)
    assert [f.mended for f in report.mended] == ["the working copy of this machine"]
    assert stored(there, HOME) == before


@pytest.mark.slow
def test_a_lost_segment_of_a_run_is_named(there: Cloud) -> None:
    segments = sorted(name for name in stored(there, HOME).objects if f"/{RUN}/" in name)
    remove_object(there, segments[0])
    report = look(there, repair=True)
    assert f"segment 1 of run {RUN}" in report.findings[0].wrong


@pytest.mark.slow
def test_a_last_segment_that_is_lost_stays_a_finding(there: Cloud) -> None:
    before = stored(there, HOME)
    last = max(name for name in before.objects if f"/{RUN}/" in name)
    number = int(last.rpartition("/")[2].partition("-")[0])
    remove_object(there, last)
    pk = f"{there.place.partition(APP)}/run/{RUN}"
    key = {"pk": {"S": pk}, "sk": {"S": segment_sk(number)}}
    there.client("dynamodb").delete_item(TableName=there.site().table, Key=key)
    for repair in (True, False):
        report = look(there, repair=repair)
        assert [(segment_sk(number) in f.what, f.wrong) for f in report.findings] == [
            (True, "is missing, and so is every copy")
        ]
    record = Record(there.regions().tables[HOME], there.place)
    assert record.sent(APP, RUN) == number


def test_a_region_that_cannot_be_reached_is_named_and_skipped(both: Cloud, other: MotoServer) -> None:
    other.freeze()
    try:
        report = look(both, read_timeout_s=1.0)
    finally:
        other.thaw()
    assert report.unreachable == (OTHER,)
    assert report.findings == ()
    assert not report.intact


def test_a_replica_is_told_how_far_it_is_behind_and_brought_up(both: Cloud, other: MotoServer, tmp_path: Path) -> None:
    other.freeze()
    try:
        with closing(opened(both, tmp_path / "2.db", attempts=1, read_timeout_s=1.0)) as store:
            dna = store.snapshot(APP, 1)
            after = child(dna, 9)
            store.append(draft("trialled", "while-it-was-away"))
            store.commit(dna.checksum, after, draft("applied", "away", dna=after.checksum))
        # What it was just trying must not succeed when the region is back.
        at_work = store.replication._retrying._thread
        assert at_work is not None
        at_work[1].join()
    finally:
        other.thaw()
    report = look(both)
    assert [(s.role, s.events, s.behind) for s in report.standings] == [("writer", 6, 0), ("replica", 4, 2)]
    assert [(f.region, f.wrong) for f in report.findings] == [(OTHER, f"is 2 events behind {HOME}")]
    assert look(both, repair=True).findings == ()
    assert look(both).intact


def test_a_region_that_was_written_to_by_itself_is_told_where_it_forks(
    both: Cloud, home: MotoServer, tmp_path: Path
) -> None:
    late = opened(both, tmp_path / "late.db", attempts=1, read_timeout_s=1.0)
    assert late.head(APP) is not None
    home.freeze()
    try:
        with closing(opened(both, tmp_path / "new.db", attempts=1, read_timeout_s=1.0)) as store:
            store.regions.promote(OTHER)
            assert store.head(APP) is not None
            store.append(draft("trialled", "new"))
            store.flush()
    finally:
        home.thaw()
    behind_the_back(late)
    report = look(both)
    assert report.epoch == 2
    standing = {s.region: s for s in report.standings}
    assert (standing[HOME].role, standing[HOME].forked_at) == ("replica", 5)
    assert f"event 5 is not the one of {OTHER}" in " ".join(f.wrong for f in report.findings)
    # The epoch can be told; what was written twice cannot be mended.
    assert ["event 5" in f.wrong for f in look(both, repair=True).findings] == [True]


def behind_the_back(store: CloudDNAStore) -> None:
    """Write as a process does that never heard of a promotion."""
    with closing(store):
        queued = draft("trialled", "late")
        with store._database.transaction("event.append") as connection:
            super(CloudDNAStore, store)._record(connection, queued)
            store.sync.queue_again(connection, APP, queued.key, None)
        batch, _ = store._copy.queued(APP, store.machine) or pytest.fail("nothing is queued")
        record = store._records[HOME]
        record.put_objects(batch)
        record.table.transact(record.parts(batch))
        store._copy.sent(batch, [])


@pytest.mark.slow
def test_a_region_that_was_not_told_of_a_promotion_is_told(both: Cloud) -> None:
    both.regions().promote(OTHER)
    for sk in (CONTROL, *GUARDS):
        key = {"pk": {"S": both.place.prefix}, "sk": {"S": sk}}
        both.client("dynamodb", HOME).delete_item(TableName=both.site(HOME).table, Key=key)
    report = look(both)
    assert {(f.region, f.wrong) for f in report.findings} == {
        (HOME, "tells of epoch 1, and epoch 2 has begun: late writers are not refused")
    }
    assert look(both, repair=True).findings == ()
    assert look(both).intact


def deleted(there: Cloud, sk: str, *, for_good: bool) -> None:
    """Delete an item of the record and its object: as a rule that can be undone."""
    table, site, s3 = there.client("dynamodb"), there.site(), there.client("s3")
    key = {"pk": {"S": there.place.partition(APP)}, "sk": {"S": sk}}
    name = table.get_item(TableName=site.table, Key=key)["Item"]["object"]["S"]
    table.delete_item(TableName=site.table, Key=key)
    versions = s3.list_object_versions(Bucket=site.bucket, Prefix=name)["Versions"]
    s3.delete_object(Bucket=site.bucket, Key=name)
    for version in versions if for_good else ():
        s3.delete_object(Bucket=site.bucket, Key=name, VersionId=version["VersionId"])


@pytest.mark.slow
@pytest.mark.parametrize("sk", [event_sk(3), dna_sk(0)])
def test_what_was_deleted_in_both_halves_comes_back_from_an_older_version(there: Cloud, sk: str) -> None:
    deleted(there, sk, for_good=False)
    assert any(f"item {sk} " in finding.what for finding in look(there).findings)
    assert look(there, repair=True).findings == ()
    assert look(there).intact


@pytest.mark.slow
@pytest.mark.parametrize("sk", [event_sk(3), dna_sk(0)])
def test_what_is_lost_for_good_is_named_and_nothing_else(there: Cloud, sk: str) -> None:
    deleted(there, sk, for_good=True)
    report = look(there, repair=True)
    assert [f.wrong for f in report.findings if f"item {sk} " in f.what] == ["is missing, and so is every copy"]
    assert report.mended == ()
    assert {f.what for f in look(there).findings} == {f.what for f in report.findings}


@pytest.mark.slow
def test_an_altered_epoch_is_named_by_whoever_writes_and_mended(there: Cloud, tmp_path: Path) -> None:
    class Third(random.Random):
        def choice(self, among: Any) -> Any:
            return among[3]

    item = {"pk": {"S": there.place.prefix}, "sk": {"S": GUARDS[3]}, "epoch": {"N": "7"}, "region": {"S": HOME}}
    with closing(opened(there, tmp_path / "m.db")) as store:
        store.regions.clients.draws = Third()
        there.client("dynamodb").put_item(TableName=there.site().table, Item=item)
        with pytest.raises(IntegrityError, match=f"the item {GUARDS[3]} of prod in {HOME} was altered"):
            store.append(draft("trialled", "late"))
        assert store.queue().waiting == 1
        assert look(there, repair=True).findings == ()
        store.sync.drain()
        assert store.queue().waiting == 0
    assert look(there).intact


@pytest.mark.slow
def test_an_application_that_is_not_listed_is_found_and_listed(there: Cloud) -> None:
    key = {"pk": {"S": there.place.prefix}, "sk": {"S": f"app#{APP}"}}
    there.client("dynamodb").delete_item(TableName=there.site().table, Key=key)
    [mended] = look(there, repair=True).mended
    assert mended.what == f"item app#{APP} of {there.place.prefix} in table {there.site().table}"
    assert look(there).intact


def test_a_promotion_is_refused_where_another_region_cannot_be_told(
    both: Cloud, home: MotoServer, tmp_path: Path
) -> None:
    with closing(opened(both, tmp_path / "m.db", attempts=1, read_timeout_s=1.0)) as store:
        store.refresh(APP)
        home.freeze()
        try:
            with pytest.raises(UsageError, match=f"{HOME} cannot be reached"):
                promote(store, OTHER, by="Ada", why="", confirm_lost=False, clock=SystemClock())
            done = promote(store, OTHER, by="Ada", why="a test", confirm_lost=True, clock=SystemClock())
        finally:
            home.thaw()
    assert (done.promotion.unreachable, done.recorded) == ((HOME,), (APP,))
    # It is told now, unless it found what it was told while it did not answer.
    assert look(both, repair=True).findings == ()
    assert look(both).intact


def test_a_promotion_is_on_record(both: Cloud, tmp_path: Path) -> None:
    with closing(opened(both, tmp_path / "m.db")) as store:
        done = promote(store, OTHER, by="Ada", why="a test", confirm_lost=False, clock=SystemClock())
        event = store.event(APP, "promoted/2")
    assert (done.promotion.fenced, done.promotion.unreachable) == ((HOME,), ())
    assert event is not None
    assert (event.kind, event.actor, event.why, event.data["region"]) == ("promoted", "Ada", "a test", OTHER)
    assert look(both).intact
    with closing(opened(both, tmp_path / "n.db")) as store, pytest.raises(UsageError, match="answers for it"):
        promote(store, HOME, by=" ", why="", confirm_lost=False, clock=SystemClock())


def test_what_was_never_stored_is_nothing(home: MotoServer) -> None:
    empty = cloud(home.url)
    report = look(empty)
    assert report.intact
    assert (report.standings, report.items, report.objects) == ((), 0, 0)
    assert first().app == APP


@pytest.mark.slow
@pytest.mark.parametrize("regions", ["there", "both"])
def test_a_store_that_is_written_to_meanwhile_is_intact(
    regions: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    there: Cloud = request.getfixturevalue(regions)
    writing = threading.Event()
    writing.set()

    def write() -> None:
        with closing(opened(there, tmp_path / "writer.db")) as store:
            journal = Journal(store._database, SystemClock())
            store.watch_runs()
            journal.begin("run-2", app=APP, seed=1, request={})
            dna, number = store.snapshot(APP, 1), 0
            while writing.is_set():
                number += 1
                journal.set_status("run-2", "running", {"n": number})
                store.append(draft("trialled", f"run-2/{number}").model_copy(update={"run_id": "run-2"}))
                if number % 5 == 0:
                    after = child(dna, number)
                    dna = store.commit(dna.checksum, after, draft("applied", f"live/{number}", dna=after.checksum))

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(write)
        try:
            found = [finding for _ in range(8) for finding in look(there).findings]
        finally:
            writing.clear()
        done.result()
    assert found == []
    report = look(there)
    assert report.intact
    assert report.standings[0].events > 8
