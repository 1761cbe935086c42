"""P4 and P10, for all sequences of writes, outages, crashes and promotions that Hypothesis can think of.

P4: every stored event can be read back equal; S3 and DynamoDB never disagree about what exists.
P10: replicated data is consistent, and the loss of a region is survived.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.aws.record import Record
from bedrock_evolution.dna.cloud import CloudDNAStore
from bedrock_evolution.dna.events import EventDraft, EvolutionEvent, digest_of
from bedrock_evolution.errors import InvalidMutation, StaleParent, StoreUnavailable
from bedrock_evolution.governance.audit import verify
from tests.dna.store_contract import APP, child, draft, first, made
from tests.support.cloud import REGIONS, Cloud, cloud, opened
from tests.support.faulty_proxy import FaultyProxy
from tests.support.moto_server import MotoServer, moto_server

pytestmark = pytest.mark.slow

HOME, OTHER = REGIONS
MACHINES = st.integers(0, 2)


@pytest.fixture(scope="module")
def proxies() -> Iterator[tuple[FaultyProxy, FaultyProxy]]:
    with ExitStack() as stack:
        servers: list[MotoServer] = [stack.enter_context(moto_server()) for _ in REGIONS]
        home, other = (stack.enter_context(FaultyProxy(server.url)) for server in servers)
        yield home, other


def agree(there: Cloud, region: str) -> None:
    """Check that whatever one half of a region's record names is in the other half, whole."""
    record = Record(there.regions().tables[region], there.place)
    head = record.head(APP)
    events = list(record.events(APP, after=0, upto=10**9))
    assert [event.number for event in events] == list(range(1, head.number + 1))
    for event in events:
        body = record.document(event.object)
        assert body is not None
        assert sha256(body).hexdigest() == event.hash
        assert event.document in ("", body.decode())
    for dna in record.snapshots(APP, after=-1, upto=10**9):
        assert record.document(dna.object) == dna.document.encode()


# -- P4


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.text(max_size=200),
    data=st.dictionaries(
        st.text(max_size=20),
        st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), st.lists, max_leaves=5),
        max_size=4,
    ),
    kilobytes=st.sampled_from([0, 0, 31, 40, 450]),
)
def test_every_event_is_read_back_equal_on_another_machine(
    proxies: tuple[FaultyProxy, FaultyProxy], said: str, data: dict[str, Any], kilobytes: int
) -> None:
    there = cloud(proxies[0].url)
    told = EventDraft.model_validate(
        draft(
            "note", why=said.encode(errors="ignore").decode(), data={**_storable(data), "long": "x" * 1000 * kilobytes}
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        one, two = (opened(there, Path(folder, name)) for name in ("one.db", "two.db"))
        stored = one.append(told)
        assert two.event(APP, "note") == stored
        assert EventDraft(**stored.model_dump(include=set(EventDraft.model_fields))) == told
        agree(there, HOME)


def _storable(data: Any) -> Any:
    match data:
        case str():
            return data.encode(errors="ignore").decode()
        case dict():
            return {_storable(name): _storable(value) for name, value in data.items()}
        case list():
            return [_storable(value) for value in data]
    return data


# -- P4 and P10


class Machines(RuleBasedStateMachine):
    """Three machines and two regions, through whatever may happen to them."""

    proxies: ClassVar[tuple[FaultyProxy, FaultyProxy]]

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        for proxy in self.proxies:
            proxy.heal()
            proxy.up()
        self.clock = FixedClock(datetime(2026, 3, 1, tzinfo=UTC))
        self.there = cloud(*(proxy.url for proxy in self.proxies))
        self.away: set[str] = set()
        self.writer = HOME
        self.notes = 0
        self.said: set[str] = set()
        self.made: set[str] = set()
        self.stores: list[CloudDNAStore] = [self.opened(number) for number in range(3)]
        self.stores[0].commit(None, first(), made("declared", first()))

    def opened(self, number: int) -> CloudDNAStore:
        path = Path(self.folder.name, f"{number}.db")
        return opened(self.there, path, attempts=1, read_timeout_s=2.0, patience_s=0.0, clock=self.clock)

    @rule(seconds=st.sampled_from([1, 6, 61]))
    def wait(self, seconds: int) -> None:
        self.clock.sleep(seconds)

    @rule(machine=MACHINES)
    def append(self, machine: int) -> None:
        self.notes += 1
        note = draft(f"note/{self.notes}").model_copy(update={"kind": "note"})
        self.said.add(self.stores[machine].append(note).key)

    @rule(machine=MACHINES, n=st.integers(0, 10**6))
    def commit(self, machine: int, n: int) -> None:
        store = self.stores[machine]
        try:
            head = store.head(APP)
            assert head is not None
            dna = child(head, n)
            store.commit(head.checksum, dna, made(f"applied/{dna.generation}/{machine}/{n}", dna))
        except (StaleParent, StoreUnavailable, InvalidMutation):  # the last where nothing would change
            return
        self.made.add(dna.checksum)

    @rule(machine=MACHINES)
    def crash(self, machine: int) -> None:
        """The process dies: another one opens the same file."""
        self.stores[machine].sync.close()
        self.stores[machine].replication.close()
        self.stores[machine] = self.opened(machine)

    @precondition(lambda self: not self.away)
    @rule(region=st.sampled_from(REGIONS))
    def lose(self, region: str) -> None:
        self.proxies[REGIONS.index(region)].down()
        self.away.add(region)

    @precondition(lambda self: self.away)
    @rule()
    def come_back(self) -> None:
        for proxy in self.proxies:
            proxy.up()
        self.away.clear()

    @precondition(lambda self: self.writer not in self.away or len(self.away) == 1)
    @rule()
    def promote(self) -> None:
        region = OTHER if self.writer == HOME else HOME
        if region not in self.away:
            self.there.regions(self.clock, attempts=1).promote(region)
            self.writer = region

    def teardown(self) -> None:
        if not hasattr(self, "stores"):
            return
        for proxy in self.proxies:
            proxy.up()
        self.clock.sleep(61)
        for _ in range(2):
            for store in self.stores:
                store.refresh(APP)
                store.ready()
                store.replication.catch_up()
        for store in self.stores:
            assert store.sync.queue().waiting == 0
            assert verify(store, APP).intact
        records = [list(store.events(APP)) for store in self.stores]
        assert records[0] == records[1] == records[2]
        refused = self.refused()
        assert self.said <= {event.key for event in [*records[0], *refused]}
        lineage = {dna.checksum for dna in self.stores[0].lineage(APP)}
        assert {event.data["dna"] for event in records[0] if event.kind == "applied"} <= lineage
        assert self.made <= lineage | {event.data["dna"] for event in refused if event.kind == "applied"}
        agree(self.there, self.writer)
        for store in self.stores:
            store.close()
        self.folder.cleanup()

    def refused(self) -> list[EvolutionEvent]:
        rows = [row for store in self.stores for row in store._database.rows("SELECT document FROM refused")]
        return [EvolutionEvent.read(document, digest_of(document)) for (document,) in rows]


@pytest.mark.slow
def test_machines_and_regions_agree_whatever_happens(proxies: tuple[FaultyProxy, FaultyProxy]) -> None:
    Machines.proxies = proxies
    run_state_machine_as_test(
        Machines,
        settings=settings(
            max_examples=25, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
