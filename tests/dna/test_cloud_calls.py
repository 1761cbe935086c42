"""How many calls a cloud store makes, counted where boto3 makes them: each costs money, and 10 to 30 ms at AWS."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedrock_evolution.clock import RandomIds, SystemClock
from bedrock_evolution.dna.aws.calls import Clients
from bedrock_evolution.dna.aws.record import Record
from bedrock_evolution.dna.aws.regions import Regions
from bedrock_evolution.dna.aws.stored import Snapshot
from bedrock_evolution.dna.cloud import CloudDNAStore
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.sqlite import write_dna
from tests.dna.store_contract import APP, child, draft, first, grown, made
from tests.support.cloud import REGIONS, Cloud, cloud, nothing, opened
from tests.support.moto_server import MotoServer, moto_server
from tests.support.permissions import Recorder

pytestmark = pytest.mark.slow

HEAD, OBJECT, TRANSACTION = ("dynamodb", "GetItem"), ("s3", "PutObject"), ("dynamodb", "TransactWriteItems")
GENERATIONS = 300
_ITEMS_AT_ONCE = 25


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[MotoServer, MotoServer]]:
    with moto_server() as home, moto_server() as other:
        yield home, other


@pytest.fixture
def there(servers: tuple[MotoServer, MotoServer]) -> Cloud:
    return cloud(servers[0].url)


class Counted:
    """A machine whose calls are counted; that it asked which region is written to, once, is not."""

    def __init__(self, there: Cloud, path: Path) -> None:
        self._recorder = Recorder(there.place)
        clock, clients = SystemClock(), Clients(self._recorder.session, there.endpoints)
        regions = Regions(clients, there.place, clock)
        regions.epoch()
        self.database = Database(path)
        self.store = CloudDNAStore(
            self.database, regions, clock=clock, ids=RandomIds(clock), draws=random.Random(1), project=nothing
        )
        self._recorder.calls.clear()

    def calls(self) -> list[tuple[str, str]]:
        """Return the calls since this was last asked."""
        made, self._recorder.calls[:] = list(self._recorder.calls), []
        return made


def test_a_commit_makes_three_calls(there: Cloud, tmp_path: Path) -> None:
    at = Counted(there, tmp_path / "one.db")
    live = grown(at.store, 2)[-1]
    at.calls()
    at.store.commit(live.checksum, child(live, 3), made("applied/3", child(live, 3)))
    assert at.calls() == [OBJECT, OBJECT, TRANSACTION]


def test_an_append_makes_two_calls(there: Cloud, tmp_path: Path) -> None:
    at = Counted(there, tmp_path / "one.db")
    grown(at.store, 1)
    at.calls()
    at.store.append(draft("note"))
    assert at.calls() == [OBJECT, TRANSACTION]


def test_events_of_one_transaction_make_one_transaction(there: Cloud, tmp_path: Path) -> None:
    at = Counted(there, tmp_path / "one.db")
    grown(at.store, 1)
    at.calls()
    with at.database.transaction("event.append"):
        for number in range(5):
            at.store.append(draft(f"note/{number}"))
        at.store.head(APP)
        assert at.calls() == []
    assert at.calls() == [OBJECT] * 5 + [TRANSACTION]


def test_each_region_costs_the_same_again(servers: tuple[MotoServer, MotoServer], tmp_path: Path) -> None:
    at = Counted(cloud(*(server.url for server in servers)), tmp_path / "one.db")
    live = grown(at.store, 1)[-1]
    at.calls()
    at.store.append(draft("note"))
    assert at.calls() == [OBJECT, TRANSACTION] * 2
    at.store.commit(live.checksum, child(live, 2), made("applied/2", child(live, 2)))
    assert at.calls() == [OBJECT, OBJECT, TRANSACTION] * 2


def test_a_machine_that_is_up_to_date_makes_one_read(there: Cloud, tmp_path: Path) -> None:
    live = grown(opened(there, tmp_path / "other.db"), 3)[-1]
    at = Counted(there, tmp_path / "one.db")
    assert at.store.head(APP) == live
    assert len(at.calls()) > 1
    assert at.store.head(APP) == live
    assert at.calls() == [HEAD]
    assert len(list(at.store.events(APP))) == 4
    assert at.calls() == [HEAD]


def test_any_of_many_snapshots_is_one_read_on_an_empty_disk(there: Cloud, tmp_path: Path) -> None:
    line = written(there)
    at = Counted(there, tmp_path / "one.db")
    for generation in (0, GENERATIONS // 2, GENERATIONS - 1):
        assert at.store.snapshot(APP, generation).checksum == line[generation]
        assert at.calls() == [("dynamodb", "GetItem")]
    assert at.database.rows("SELECT count(*) FROM dna") == [(0,)]


def written(there: Cloud) -> list[str]:
    """Write the items of many generations, without their objects; return the checksums."""
    record, dna = Record(there.regions().tables[REGIONS[0]], there.place), first()
    line, items = [], []
    for generation in range(GENERATIONS):
        dna = child(dna, generation) if generation else dna
        line.append(dna.checksum)
        stored = Snapshot(generation, dna.checksum, dna.parent, dna.mutation, write_dna(dna))
        items.append(record.snapshot_part(APP, stored).request("")["Put"]["Item"])
    for begin in range(0, GENERATIONS, _ITEMS_AT_ONCE):
        puts = [{"PutRequest": {"Item": item}} for item in items[begin : begin + _ITEMS_AT_ONCE]]
        there.client("dynamodb").batch_write_item(RequestItems={there.site().table: puts})
    return line
