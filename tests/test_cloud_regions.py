"""Two regions, one of which is lost in the middle of a run; each is an emulator in a process of its own."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.clock import SystemClock
from bedrock_evolution.dna.aws.record import Record
from bedrock_evolution.dna.aws.regions import CONTROL
from bedrock_evolution.dna.cloud import CloudDNAStore
from bedrock_evolution.dna.events import EventDraft
from bedrock_evolution.errors import StoreUnavailable, WriterFenced
from bedrock_evolution.governance.audit import verify
from tests.cloud_garden import GENERATIONS, PATIENCE_S, SEED, ended, started
from tests.dna.store_contract import APP, child, draft, first, grown, made
from tests.garden import garden
from tests.support.cloud import REGIONS, Cloud, cloud, opened
from tests.support.moto_server import MotoServer, moto_server

pytestmark = pytest.mark.slow

HOME, OTHER = REGIONS
READS_GO_ON_WITHIN_S = 5.0


@pytest.fixture
def servers() -> Iterator[tuple[MotoServer, MotoServer]]:
    with moto_server() as home, moto_server() as other:
        yield home, other


@pytest.fixture
def there(servers: tuple[MotoServer, MotoServer]) -> Cloud:
    return cloud(*(server.url for server in servers))


def record_in(there: Cloud, region: str) -> Record:
    return Record(there.regions().tables[region], there.place)


def until(there: Cloud, region: str, number: int) -> None:
    """Wait until a region's record has so many events."""
    record = record_in(there, region)
    while record.head("garden").number < number:
        time.sleep(0.02)


@pytest.fixture(scope="module")
def on_a_file(tmp_path_factory: pytest.TempPathFactory) -> Any:
    evolution = garden(tmp_path_factory.mktemp("file"), workers=2)
    result = evolution.run(GENERATIONS, seed=SEED, progress=False)
    kinds = [event.kind for event in evolution.store.events("garden")]
    evolution.close()
    return result.dna_checksum, kinds


def note(key: str) -> EventDraft:
    return draft(key).model_copy(update={"kind": "note"})


def brought_up(store: CloudDNAStore) -> None:
    """Wait until the replicas are up to date; its own thread may be at work on them at the same moment."""
    while not store.replication.catch_up():
        time.sleep(0.1)


# -- replicas


def test_what_is_written_is_in_both_regions(there: Cloud, tmp_path: Path) -> None:
    store = opened(there, tmp_path / "one.db")
    line = grown(store, 3)
    store.append(note("note"))
    home, other = (record_in(there, region) for region in REGIONS)
    assert home.head(APP) == other.head(APP)
    assert list(home.events(APP, after=0, upto=99)) == list(other.events(APP, after=0, upto=99))
    assert other.document(next(other.events(APP, after=0, upto=1)).object)
    assert [dna.checksum for dna in other.snapshots(APP, after=-1, upto=99)] == [dna.checksum for dna in line]


def test_a_replica_that_was_away_catches_up(
    there: Cloud, servers: tuple[MotoServer, MotoServer], tmp_path: Path
) -> None:
    clock = SystemClock()
    store = opened(there, tmp_path / "one.db", attempts=1, read_timeout_s=0.5, clock=clock)
    line = grown(store, 1)
    servers[1].freeze()
    store.commit(line[-1].checksum, child(line[-1], 2), made("applied/2", child(line[-1], 2)))
    store.append(note("note"))
    assert store.replication.behind == {OTHER}
    servers[1].thaw()
    brought_up(store)
    assert record_in(there, HOME).head(APP) == record_in(there, OTHER).head(APP)


def test_reads_go_on_within_five_seconds_when_the_writers_region_is_lost(
    there: Cloud, servers: tuple[MotoServer, MotoServer], tmp_path: Path
) -> None:
    known, fresh = opened(there, tmp_path / "known.db", read_timeout_s=1.0), tmp_path / "fresh.db"
    line = grown(known, 2)
    for lose in (servers[0].freeze, servers[0].kill):
        lose()
        for store in (known, opened(there, fresh, read_timeout_s=1.0)):
            began = time.monotonic()
            assert store.apps() == [APP]
            assert store.head(APP) == line[-1]
            assert time.monotonic() - began < READS_GO_ON_WITHIN_S
            assert store.history(APP) == line[::-1]
            assert [event.key for event in store.events(APP)] == ["declared", "applied/1", "applied/2"]
        fresh = tmp_path / "another.db"


# -- promotion


def test_a_writer_of_an_earlier_epoch_is_refused_and_follows(there: Cloud, tmp_path: Path) -> None:
    old, new = (opened(there, tmp_path / f"{name}.db") for name in ("old", "new"))
    line = grown(old, 1)
    assert new.regions.promote(OTHER).fenced == (HOME,)
    before = record_in(there, HOME).head(APP)
    with pytest.raises(WriterFenced, match="epoch 1, which is over"):
        old.regions.transact([])
    assert new.commit(line[-1].checksum, child(line[-1], 2), made("applied/2", child(line[-1], 2))).generation == 2
    # What it writes afterwards goes where the store is written to by now.
    old.append(note("note"))
    assert old.regions.epoch() == (2, OTHER)
    assert [event.key for event in record_in(there, OTHER).events(APP, after=0, upto=9)][-2:] == ["applied/2", "note"]
    assert record_in(there, HOME).head(APP).number >= before.number
    assert verify(old, APP).intact


def test_acknowledged_events_that_the_promoted_region_lacks_are_sent_to_it(
    there: Cloud, servers: tuple[MotoServer, MotoServer], tmp_path: Path
) -> None:
    """The replica was behind when the writer's region was lost for good."""
    store = opened(there, tmp_path / "one.db", attempts=1, read_timeout_s=0.5, patience_s=5.0)
    line = grown(store, 1)
    servers[1].freeze()
    dna = child(line[-1], 2)
    line.append(store.commit(line[-1].checksum, dna, made("applied/2", dna)))
    store.append(note("note"))
    servers[1].thaw()
    servers[0].kill()
    there.regions(attempts=1).promote(OTHER)
    store.append(note("later"))
    store.sync.drain()
    keys = [event.key for event in record_in(there, OTHER).events(APP, after=0, upto=99)]
    assert keys == ["declared", "applied/1", "applied/2", "note", "later"]
    assert store.sync.queue().waiting == 0


def test_a_run_whose_region_is_lost_goes_on_in_the_promoted_one(
    there: Cloud, servers: tuple[MotoServer, MotoServer], tmp_path: Path, on_a_file: Any
) -> None:
    checksum, kinds = on_a_file
    run = started(there, tmp_path / "run")
    until(there, HOME, 4)
    acknowledged = {event.key for event in record_in(there, HOME).events("garden", after=0, upto=999)}
    servers[0].kill()
    assert there.regions(attempts=1).promote(OTHER).unreachable == (HOME,)
    assert ended(run) == {"status": "done", "dna": checksum, "waiting": 0}
    store = opened(there, tmp_path / "look.db", attempts=1)
    events = list(store.events("garden"))
    assert acknowledged <= {event.key for event in events}
    # A region that is lost while a DNA is made live there is an incident, and the step is done again.
    incidents = [event.data for event in events if event.kind == "incident"]
    assert all(met["incident"]["kind"] == "storage" and met["action"] == "retry" for met in incidents)
    assert [event.kind for event in events if event.kind != "incident"] == kinds
    assert verify(store, "garden").intact


def test_the_old_writer_woken_later_is_refused(
    there: Cloud, servers: tuple[MotoServer, MotoServer], tmp_path: Path, on_a_file: Any
) -> None:
    """Its region hangs and comes back as it was, and the process that wrote there wakes up."""
    old = started(there, tmp_path / "old")
    assert old.stdout
    run_id = old.stdout.readline().strip()
    until(there, OTHER, 4)
    old.send_signal(signal.SIGSTOP)
    servers[0].freeze()
    there.regions(attempts=1).promote(OTHER)
    assert ended(started(there, tmp_path / "new", run_id)) == {"status": "done", "dna": on_a_file[0], "waiting": 0}
    servers[0].thaw()
    left = record_in(there, HOME).head("garden")
    old.send_signal(signal.SIGCONT)
    _, said = old.communicate(timeout=PATIENCE_S)
    assert old.returncode != 0
    assert f"run {run_id} goes on at another machine" in said
    # Nothing of its own came after what the region had: what is there is what the promoted region has.
    home, other = (record_in(there, region) for region in REGIONS)
    assert home.head("garden").number in (left.number, other.head("garden").number)
    there_too = {event.key: event.hash for event in other.events("garden", after=0, upto=999)}
    assert all(there_too.get(event.key) == event.hash for event in home.events("garden", after=0, upto=999))
    assert verify(opened(there, tmp_path / "look.db"), "garden").intact


def test_a_region_that_comes_back_is_told_by_the_writer_that_brings_it_up_to_date(
    there: Cloud, servers: tuple[MotoServer, MotoServer], tmp_path: Path
) -> None:
    store = opened(there, tmp_path / "one.db", attempts=1, read_timeout_s=0.5, patience_s=5.0)
    grown(store, 1)
    servers[0].freeze()
    assert there.regions(attempts=1).promote(OTHER).unreachable == (HOME,)
    store.append(note("without it"))
    servers[0].thaw()
    home = there.regions().tables[HOME]
    brought_up(store)
    assert home.get(there.place.prefix, CONTROL)["epoch"] == 2
    assert record_in(there, HOME).head(APP) == record_in(there, OTHER).head(APP)


def test_a_promotion_needs_a_region_that_can_be_reached(there: Cloud, servers: tuple[MotoServer, MotoServer]) -> None:
    servers[1].kill()
    with pytest.raises(StoreUnavailable, match=OTHER):
        there.regions(attempts=1).promote(OTHER)
    assert there.regions(attempts=1).epoch() == (1, HOME)


def test_the_first_dna_in_two_regions(there: Cloud, tmp_path: Path) -> None:
    opened(there, tmp_path / "one.db").commit(None, first(), made("declared", first()))
    assert record_in(there, OTHER).apps() == [APP]
