"""What another thread, process or machine does between two steps of a store; each region is behind a proxy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.clock import FixedClock, SystemClock
from bedrock_evolution.dna import cloud as cloud_module
from bedrock_evolution.dna.aws.calls import ConditionFailed
from bedrock_evolution.dna.aws.record import Record
from bedrock_evolution.dna.cloud import CloudDNAStore
from bedrock_evolution.dna.events import EventDraft
from bedrock_evolution.dna.sqlite import write_dna
from bedrock_evolution.errors import StoreUnavailable, UsageError, WriterFenced
from bedrock_evolution.fitness.journal import Journal
from tests.dna.store_contract import APP, MOMENT, child, draft, first, grown, made
from tests.support.cloud import REGIONS, Cloud, cloud, opened
from tests.support.faulty_proxy import FaultyProxy
from tests.support.moto_server import moto_server

pytestmark = pytest.mark.slow

HOME, OTHER = REGIONS
Machine = Callable[[str], CloudDNAStore]


@pytest.fixture(scope="module")
def proxies() -> Iterator[dict[str, FaultyProxy]]:
    with moto_server() as server, FaultyProxy(server.url) as home, FaultyProxy(server.url) as other:
        yield {HOME: home, OTHER: other}


@pytest.fixture
def both(proxies: dict[str, FaultyProxy]) -> Cloud:
    for proxy in proxies.values():
        proxy.up()
    return cloud(*(proxy.url for proxy in proxies.values()))


@pytest.fixture
def machine(both: Cloud, tmp_path: Path) -> Iterator[Machine]:
    """Return what opens a machine's file; opened twice, it is as if two processes worked on it."""
    made: list[CloudDNAStore] = []

    def new(name: str) -> CloudDNAStore:
        made.append(opened(both, tmp_path / f"{name}.db", attempts=1, patience_s=20.0))
        return made[-1]

    yield new
    for store in made:
        store.sync.close()
        store.replication.close()


def note(key: str, **more: Any) -> EventDraft:
    return draft(key, **more).model_copy(update={"kind": "note"})


def record_in(there: Cloud, region: str) -> Record:
    return Record(there.regions().tables[region], there.place)


def keys_in(there: Cloud, region: str) -> list[str]:
    return [event.key for event in record_in(there, region).events(APP, after=0, upto=99)]


def alone(store: CloudDNAStore) -> CloudDNAStore:
    """Stop what a machine does by itself, as if it were gone."""
    store.sync.close()
    store.replication.close()
    return store


def after_a_loss(both: Cloud, machine: Machine, proxies: dict[str, FaultyProxy]) -> CloudDNAStore:
    """Return a machine that knows nothing of an event which only the region has that was lost."""
    one, two = machine("one"), machine("two")
    grown(one, 1)
    two.refresh(APP)
    proxies[OTHER].down()
    one.append(note("only at home"))
    alone(one)
    proxies[OTHER].up()
    proxies[HOME].down()
    both.regions(attempts=1).promote(OTHER)
    return two


# -- two processes on one file


def test_what_was_sent_is_noted_after_another_process_has_gone_on(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = machine("one"), machine("one")
    line = grown(one, 1)
    noted = one._copy.sent

    def late(*sent: Any) -> None:
        monkeypatch.undo()
        two.commit(line[-1].checksum, child(line[-1], 2), made("applied/2", child(line[-1], 2)))
        noted(*sent)

    monkeypatch.setattr(one._copy, "sent", late)
    one.append(note("note"))
    one.append(note("later"))
    keys = ["declared", "applied/1", "note", "applied/2", "later"]
    assert [event.key for event in machine("elsewhere").events(APP)] == keys
    assert [event.key for event in two.events(APP)] == keys
    assert one.queue().waiting == 0


def test_the_record_goes_on_while_its_end_is_read(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = machine("one"), machine("one")
    grown(one, 1)
    record = one._records[HOME]
    read, went_back = record.head, []

    def slowly(app: str) -> Any:
        head = read(app)
        monkeypatch.setattr(record, "head", read)
        two.append(note("note"))
        return head

    monkeypatch.setattr(record, "head", slowly)
    monkeypatch.setattr(one._copy, "go_back", lambda *where: went_back.append(where))
    assert one.head(APP) is not None
    assert went_back == []
    assert [event.key for event in one.events(APP)] == ["declared", "applied/1", "note"]


# -- much that waits


def test_more_events_wait_than_are_sent_in_the_rounds_against_others(
    machine: Machine, proxies: dict[str, FaultyProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud_module, "_ROUNDS", 2)
    store = machine("one")
    grown(store, 0)
    for proxy in proxies.values():
        proxy.down()
    for number in range(70):
        store.append(note(f"note/{number}"))
    for proxy in proxies.values():
        proxy.up()
    assert store.sync.drain()
    assert store.queue().waiting == 0


def test_more_runs_wait_than_fit_into_a_transaction(both: Cloud, machine: Machine) -> None:
    store = machine("one")
    grown(store, 0)
    journal = Journal(store._database, SystemClock())
    store.watch_runs()
    runs = [f"run-{number}" for number in range(60)]
    for run_id in runs:
        journal.begin(run_id, app=APP, seed=1, request={})
    with store._database.transaction("event.append"):
        for run_id in runs:
            store.append(note(f"{run_id}/begun", run_id=run_id))
    assert store.queue().waiting == 0
    record = record_in(both, HOME)
    assert {record.owner(APP, run_id) for run_id in runs} == {store.machine}
    assert {record.last_segment(APP, run_id) for run_id in runs} == {1}


# -- lost answers, outages, broken replicas


def test_what_is_adopted_twice_after_a_lost_answer_is_there_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = machine("one")
    line = grown(store, 1)
    batch = store._change(child(line[-1], 2), made("applied/2", child(line[-1], 2)))
    transact = store.regions.transact

    def answered_late(*parts: Any, **more: Any) -> None:
        transact(*parts, **more)
        raise ConditionFailed

    monkeypatch.setattr(store.regions, "transact", answered_late)
    store.adopt(batch)
    assert [event.key for event in store.events(APP)] == ["declared", "applied/1", "applied/2"]
    monkeypatch.undo()
    other = store._change(child(line[-1], 3), made("applied/3", child(line[-1], 3)))
    with pytest.raises(UsageError, match="written to by somebody else meanwhile"):
        store.adopt(other._replace(before=batch.before))


def test_a_change_waits_for_the_end_of_an_outage(machine: Machine, proxies: dict[str, FaultyProxy]) -> None:
    store = machine("one")
    line = grown(store, 1)
    change = child(line[-1], 2)

    def away(is_away: bool) -> None:
        for proxy in proxies.values():
            proxy.down() if is_away else proxy.up()

    away(True)
    with pytest.raises(StoreUnavailable):
        store.commit(line[-1].checksum, change, made("applied/2", change))
    back = threading.Timer(1.5, away, [False])
    back.start()
    assert store.commit(line[-1].checksum, change, made("applied/2", change)) == change
    back.join()


def test_a_replica_that_is_gone_stops_nobody(both: Cloud, machine: Machine) -> None:
    line = grown(machine("one"), 1)
    both.client("dynamodb", OTHER).delete_table(TableName=both.site(OTHER).table)
    fresh = machine("two")
    fresh.append(note("note"))
    change = child(line[-1], 2)
    assert fresh.commit(line[-1].checksum, change, made("applied/2", change)) == change
    assert fresh.replication.behind == {OTHER}
    assert fresh.queue().waiting == 0


def test_an_outage_beside_a_replica_that_is_gone_is_an_outage(
    both: Cloud, machine: Machine, proxies: dict[str, FaultyProxy]
) -> None:
    store = machine("one")
    line = grown(store, 1)
    both.client("dynamodb", OTHER).delete_table(TableName=both.site(OTHER).table)
    proxies[HOME].down()
    assert store.head(APP) == line[-1]
    assert store.apps() == [APP]
    for number in range(2):
        store.append(note(f"note/{number}"))
    assert store.queue().waiting == 2
    proxies[HOME].up()
    assert store.sync.drain()
    assert keys_in(both, HOME)[-2:] == ["note/0", "note/1"]


def test_dna_that_no_event_made_is_in_nobodys_way(machine: Machine) -> None:
    store = machine("one")
    line = grown(store, 1)
    stray = child(line[-1], 7)
    with store._database.transaction("tables") as connection:
        connection.execute(
            "INSERT INTO dna (app, generation, checksum, parent, mutation, document) VALUES (?, ?, ?, ?, ?, ?)",
            [APP, stray.generation, stray.checksum, stray.parent, stray.mutation, write_dna(stray)],
        )
    change = child(line[-1], 2)
    assert store.commit(line[-1].checksum, change, made("applied/2", change)) == change
    assert machine("elsewhere").history(APP) == [change, *line[::-1]]


# -- promotions


def test_objects_are_put_where_their_items_are(both: Cloud, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    store = machine("one")
    grown(store, 1)
    home = store._records[HOME]
    put = home.put_objects

    def before_a_promotion(batch: Any) -> None:
        put(batch)
        monkeypatch.undo()
        both.regions().promote(OTHER)
        assert store.regions.follow()

    monkeypatch.setattr(home, "put_objects", before_a_promotion)
    store.append(note("note"))
    assert keys_in(both, OTHER) == ["declared", "applied/1", "note"]
    other = record_in(both, OTHER)
    assert all(other.document(event.object) is not None for event in other.events(APP, after=0, upto=9))


def test_an_epoch_that_is_over_is_told_until_it_is_followed(both: Cloud, proxies: dict[str, FaultyProxy]) -> None:
    clock = FixedClock(MOMENT)
    old = both.regions(clock)
    old.epoch()
    proxies[HOME].down()
    both.regions(attempts=1).promote(OTHER)
    proxies[HOME].up()
    clock.sleep(6.0)
    for _ in range(2):
        with pytest.raises(WriterFenced):
            old.transact([])
    assert old.follow()
    old.transact([])


def test_nobody_goes_back_to_an_epoch_that_is_over(both: Cloud, proxies: dict[str, FaultyProxy]) -> None:
    mine = both.regions(attempts=1)
    proxies[HOME].down()
    mine.promote(OTHER)
    proxies[HOME].up()
    proxies[OTHER].down()
    assert not mine.follow()
    assert mine.epoch() == (2, OTHER)


def test_nothing_is_chained_onto_a_record_that_is_another_one(
    both: Cloud, machine: Machine, proxies: dict[str, FaultyProxy]
) -> None:
    two = after_a_loss(both, machine, proxies)
    two.append(note("elsewhere"))
    two.append(note("and more"))
    proxies[HOME].up()
    assert not two.replication.catch_up()
    assert two.replication.behind == {HOME}
    assert keys_in(both, HOME) == ["declared", "applied/1", "only at home"]
    assert keys_in(both, OTHER) == ["declared", "applied/1", "elsewhere", "and more"]


def test_one_record_that_parts_holds_up_no_other(
    both: Cloud, machine: Machine, proxies: dict[str, FaultyProxy]
) -> None:
    two = after_a_loss(both, machine, proxies)
    two.append(note("elsewhere"))
    two.commit(None, first("zoo"), made("declared", first("zoo")))
    proxies[HOME].up()
    assert not two.replication.catch_up()
    assert record_in(both, HOME).head("zoo") == record_in(both, OTHER).head("zoo")


def test_what_only_a_reader_knows_is_sent_to_the_promoted_region(
    both: Cloud, machine: Machine, proxies: dict[str, FaultyProxy]
) -> None:
    one, two = machine("one"), machine("two")
    grown(one, 1)
    proxies[OTHER].down()
    one.append(note("only at home"))
    two.refresh(APP)
    alone(one)
    proxies[OTHER].up()
    proxies[HOME].down()
    both.regions(attempts=1).promote(OTHER)
    two.refresh(APP)
    assert two.sync.drain()
    assert two.queue().waiting == 0
    assert keys_in(both, OTHER)[-1] == "only at home"


def test_a_promotion_that_another_thread_has_followed_is_no_failure(
    both: Cloud, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = machine("one")
    grown(store, 1)

    def followed_meanwhile(*parts: Any, **more: Any) -> None:
        monkeypatch.undo()
        both.regions().promote(OTHER)
        assert store.regions.follow()
        raise WriterFenced("the epoch is over")

    monkeypatch.setattr(store.regions, "transact", followed_meanwhile)
    store.append(note("note"))
    assert keys_in(both, OTHER)[-1] == "note"


@pytest.mark.parametrize("known", [False, True])
def test_what_another_machine_said_is_brought_to_the_promoted_region_in_its_name(
    both: Cloud, machine: Machine, proxies: dict[str, FaultyProxy], known: bool
) -> None:
    """It worked on a run when the region was lost; whether the promoted one knows of the run makes no difference."""
    one, two = machine("one"), machine("two")
    grown(one, 1)
    if known:
        two.append(note("run-2/begun", run_id="run-2"))
    proxies[OTHER].down()
    two.append(note("run-2/1/trialled", run_id="run-2"))
    two.replication.close()
    one.refresh(APP)
    proxies[OTHER].up()
    proxies[HOME].down()
    both.regions(attempts=1).promote(OTHER)
    one.append(note("note"))
    assert keys_in(both, OTHER)[-2:] == ["run-2/1/trialled", "note"]
    assert record_in(both, OTHER).owner(APP, "run-2") == (two.machine if known else None)
    two.append(note("run-2/2/trialled", run_id="run-2"))
    assert record_in(both, OTHER).owner(APP, "run-2") == two.machine
    assert [event.key for event in one.events(APP)][-3:] == ["run-2/1/trialled", "note", "run-2/2/trialled"]
    assert one.queue().refused == two.queue().refused == 0
