"""What a cloud store costs beyond the calls it makes, how many those are, and what a machine with an empty disk needs.

Prints one JSON object. AWS is an emulator in a process of its own (`tests/support/moto_server.py`).
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from audit import APP, event

from bedrock_evolution.clock import RandomIds, SystemClock
from bedrock_evolution.dna.aws.calls import Clients, Service
from bedrock_evolution.dna.aws.items import Part, put
from bedrock_evolution.dna.aws.place import CloudPlace
from bedrock_evolution.dna.aws.record import Record
from bedrock_evolution.dna.aws.regions import Regions
from bedrock_evolution.dna.aws.stored import Head, Snapshot, StoredEvent, key_sk
from bedrock_evolution.dna.cloud import CloudDNAStore
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.events import GENESIS, EventDraft, EvolutionEvent
from bedrock_evolution.dna.genes import number, text
from bedrock_evolution.dna.genome import SystemDNA
from bedrock_evolution.dna.mutation import Mutation
from bedrock_evolution.dna.sqlite import write_dna

sys.path.append(str(Path(__file__).resolve().parents[1]))

from tests.support.cloud import REGIONS, Cloud, make, session
from tests.support.moto_server import moto_server

REGION = REGIONS[0]
_AT_ONCE = 8
"""So many objects are put at once, by the store and by the bare calls."""
_ITEMS_AT_ONCE = 25
MEMORY = Path("/dev/shm")
"""Where a file is kept in memory on Linux: what a store takes there has no share of the disk's."""
_WARM = 3
_NUMBERS = count(1)


class Called(NamedTuple):
    """A call that a store made."""

    service: Service
    operation: str
    arguments: dict[str, Any]


@dataclass(slots=True)
class Noted(Clients):
    """Clients that note their calls."""

    calls: list[Called] = field(default_factory=list)
    spans: list[tuple[float, float]] = field(default_factory=list)
    """When each call of boto3 began and ended, in seconds."""

    def client(self, service: Service, region: str) -> Any:
        """See `Clients.client`."""
        return _Timed(Clients.client(self, service, region), self.spans)

    def call(self, service: Service, region: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """See `Clients.call`."""
        self.calls.append(Called(service, operation, arguments))
        return Clients.call(self, service, region, operation, **arguments)


class _Timed:
    """A client of boto3 that notes when its calls begin and end."""

    def __init__(self, client: Any, spans: list[tuple[float, float]]) -> None:
        self._client = client
        self._spans = spans

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        called = getattr(self._client, operation)

        def call(**arguments: Any) -> Any:
            began = time.perf_counter()
            try:
                return called(**arguments)
            finally:
                self._spans.append((began, time.perf_counter()))

        return call


def covered_ms(spans: Iterable[tuple[float, float]]) -> float:
    """Return the milliseconds in which at least one call was under way."""
    covered_s, upto = 0.0, float("-inf")
    for began, ended in sorted(spans):
        covered_s += max(0.0, ended - max(began, upto))
        upto = max(upto, ended)
    return 1000 * covered_s


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine with a store on a file of its own."""

    clients: Noted
    store: CloudDNAStore


class Took(NamedTuple):
    """What something took."""

    wall_ms: float
    cpu_ms: float


def named(url: str) -> Cloud:
    """Make a bucket and a table under names that nobody has."""
    name = f"bench-{next(_NUMBERS):06d}"
    make(name, name, REGION, url)
    return Cloud(f"s3://{name}/prod?table={name}&region={REGION}", {REGION: url})


def machine(there: Cloud, folder: str) -> Machine:
    """Return a machine with an empty disk; it has asked already which region is written to."""
    clock, clients = SystemClock(), Noted(session, there.endpoints)
    regions = Regions(clients, there.place, clock)
    regions.epoch()
    database = Database(Path(folder) / f"{next(_NUMBERS)}.db")
    store = CloudDNAStore(
        database, regions, clock=clock, ids=RandomIds(clock), draws=random.Random(1), project=_nothing
    )
    clients.calls.clear()
    return Machine(clients, store)


def _nothing(connection: sqlite3.Connection, stored: EvolutionEvent) -> None:
    """Project nothing."""


# -- beyond the calls


def first() -> SystemDNA:
    """Return DNA of about 3 KB."""
    prompt = "Answer from the manual, name the page, and say so when it does not tell. " * 15
    return SystemDNA.declare(APP, {"prompt": text(prompt), "n": number(0, low=0, high=1e9)})


def child(parent: SystemDNA, n: int) -> SystemDNA:
    """Return the DNA of the next generation."""
    changed = Mutation(parent=parent.checksum, changes={"n": float(n)}, category="intelligence upgrade")
    return parent.apply(changed, fitness=0.5)


def made(dna: SystemDNA, n: int) -> EventDraft:
    """Draft the event that makes DNA live."""
    return event(n).model_copy(update={"kind": "applied", "key": f"applied/{n}", "data": {"dna": dna.checksum}})


def commits(store: CloudDNAStore) -> Iterator[Callable[[], object]]:
    """Yield one commit after another, each ready to be timed."""
    live = first()
    store.commit(None, live, made(live, 0))
    for n in count(1):
        before, live = live, child(live, n)
        draft = made(live, n)
        yield lambda before=before, live=live, draft=draft: store.commit(before.checksum, live, draft)  # type: ignore[misc]


def appends(store: CloudDNAStore) -> Iterator[Callable[[], object]]:
    """Yield one append after another, each ready to be timed."""
    for n in count(1):
        # The run of this event is on no machine: it is an event such as a person's approval leaves.
        draft = event(n).model_copy(update={"key": f"note/{n}"})
        yield lambda draft=draft: store.append(draft)  # type: ignore[misc]


def timed(work: Callable[[], object]) -> Took:
    """Return what something took, over all threads of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Took(1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu))


class Bare:
    """Makes the calls of a store again, with clients of boto3 that are configured as the store's are.

    Args:
        of: The store.
        there: Where they are made: as empty as the store was.
        pool: Puts objects at once, as the store does.
    """

    def __init__(self, of: Cloud, there: Cloud, pool: ThreadPoolExecutor) -> None:
        self._names = {of.site().bucket: there.site().bucket}
        self._clients = Clients(session, there.endpoints)
        self._pool = pool

    def again(self, calls: Sequence[Called]) -> list[Callable[[], object]]:
        """Return the calls, each ready to be made; objects that are put one after another are one of them."""
        ready = [self._ready(call) for call in calls]
        puts = [one for one, call in zip(ready, calls, strict=True) if call.operation == "put_object"]
        others = [one for one, call in zip(ready, calls, strict=True) if call.operation != "put_object"]
        together = puts if len(puts) < 2 else [lambda: list(self._pool.map(lambda one: one(), puts))]
        return [*together, *others]

    def _ready(self, call: Called) -> Callable[[], object]:
        operation = getattr(self._clients.client(call.service, REGION), call.operation)
        arguments = self._elsewhere(call.arguments)
        return lambda: operation(**arguments)

    def _elsewhere(self, value: Any) -> Any:
        """Return arguments with the names of the other bucket and table."""
        match value:
            case dict():
                return {name: self._elsewhere(each) for name, each in value.items()}
            case list():
                return [self._elsewhere(each) for each in value]
            case str():
                return self._names.get(value, value)
            case _:
                return value


def beyond(url: str, kind: str, parent: Path | None, *, rounds: int, times: int) -> dict[str, Any]:
    """Compare what a store takes with what its calls take: within it, and made again by boto3 alone, in turns.

    Args:
        url: The emulator.
        kind: `commit` or `append`.
        parent: Where the store's file is; None for the usual temporary folder.
        rounds: Fresh stores: the emulator copies a table for each transaction, so it has to stay small.
        times: Commits or appends in each.
    """
    store_took: list[Took] = []
    calls_ms: list[float] = []
    bare_took: list[Took] = []
    calls: set[int] = set()
    for _ in range(rounds):
        there, twin = named(url), named(url)
        with tempfile.TemporaryDirectory(dir=parent) as folder, ThreadPoolExecutor(_AT_ONCE) as pool:
            ours, bare = machine(there, folder), Bare(there, twin, pool)
            works = {"commit": commits, "append": appends}[kind](ours.store)
            work = next(works)
            for one in bare.again(ours.clients.calls):
                one()
            for turn in range(_WARM + times):
                ours.clients.calls.clear()
                ours.clients.spans.clear()
                took = timed(work)
                within_ms = covered_ms(ours.clients.spans)
                again = bare.again(ours.clients.calls)
                plain = timed(lambda again=again: [one() for one in again])  # type: ignore[misc]
                if turn >= _WARM:
                    store_took.append(took)
                    calls_ms.append(within_ms)
                    bare_took.append(plain)
                    calls.add(len(ours.clients.calls))
                work = next(works)
            ours.store.sync.close()
            ours.store.replication.close()
    # Pair by pair: other work on the machine meets both of a pair.
    beyond_ms = statistics.median(took.wall_ms - calls for took, calls in zip(store_took, calls_ms, strict=True))
    again_ms = statistics.median(ours.wall_ms - bare.wall_ms for ours, bare in zip(store_took, bare_took, strict=True))
    return {
        "store_ms": _wall(store_took),
        "calls_ms": statistics.median(calls_ms),
        "beyond_ms": beyond_ms,
        "ratio": 1 + beyond_ms / statistics.median(calls_ms),
        "again_ms": _wall(bare_took),
        "again_ratio": 1 + again_ms / _wall(bare_took),
        "store_cpu_ms": statistics.median(took.cpu_ms for took in store_took),
        "bare_cpu_ms": statistics.median(took.cpu_ms for took in bare_took),
        "calls": max(calls),
    }


def disk_ms(times: int) -> float:
    """Return the milliseconds of a transaction that writes one row."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Path(folder) / "bare.db")
        with database.transaction("tables") as connection:
            connection.execute("CREATE TABLE scratch (number INTEGER)")
        took = [timed(lambda n=n: _write_row(database, n)) for n in range(times)]  # type: ignore[misc]
        database.close()
    return _wall(took)


def _write_row(database: Database, n: int) -> None:
    with database.transaction("tables") as connection:
        connection.execute("INSERT INTO scratch VALUES (?)", [n])


def _wall(took: Iterable[Took]) -> float:
    return statistics.median(each.wall_ms for each in took)


# -- on an empty disk


def filled(url: str, *, generations: int, events: int) -> tuple[Cloud, list[str]]:
    """Return a store with so many generations and events, and the checksums; its objects are left out: none is read."""
    there = named(url)
    record = Record(there.regions().tables[REGION], there.place)
    parts: list[Part] = []
    line: list[str] = []
    live = first()
    for n in range(generations):
        live = live if n == 0 else child(live, n)
        line.append(live.checksum)
        parts.append(record.snapshot_part(APP, Snapshot(n, live.checksum, live.parent, live.mutation, write_dna(live))))
    head = GENESIS
    for n in range(1, events + 1):
        draft = event(n) if n > 1 else made(live, 0)
        sealed, document = EvolutionEvent.sealed(draft, seq=n, previous=head)
        head = sealed.hash
        parts.append(record.event_part(APP, StoredEvent.of(sealed, document)))
        parts.append(put(there.place.partition(APP), key_sk(sealed.key), {"number": n}))
    parts.append(put(there.place.partition(APP), "head", Head(events, head, generations - 1, live.checksum)._asdict()))
    _write(there, there.place, parts)
    return there, line


def _write(there: Cloud, place: CloudPlace, parts: Sequence[Part]) -> None:
    client, table = there.client("dynamodb"), place.sites[0].table
    for begin in range(0, len(parts), _ITEMS_AT_ONCE):
        some = parts[begin : begin + _ITEMS_AT_ONCE]
        requests = [{"PutRequest": {"Item": part.request(table)["Put"]["Item"]}} for part in some]
        left = client.batch_write_item(RequestItems={table: requests})["UnprocessedItems"]
        if left:
            raise RuntimeError(f"{len(left[table])} items were not written")


def one_of_many(url: str, generations: int, *, times: int) -> dict[str, Any]:
    """Read the first, the last and some other DNA of many, each on an empty disk."""
    there, line = filled(url, generations=generations, events=1)
    draws = random.Random(1)
    chosen = {
        "first": [0] * times,
        "last": [generations - 1] * times,
        "random": [draws.randrange(generations) for _ in range(times)],
    }
    found: dict[str, Any] = {"generations": generations}
    calls: set[int] = set()
    with tempfile.TemporaryDirectory() as folder:
        empty = machine(there, folder)
        empty.store.snapshot(APP, generations // 2)
        for name, numbers in chosen.items():
            took = []
            for generation in numbers:
                empty.clients.calls.clear()
                took.append(timed(lambda n=generation: _same(empty.store.snapshot(APP, n), line[n])))  # type: ignore[misc]
                calls.add(len(empty.clients.calls))
            found[f"{name}_ms"] = _wall(took)
        empty.store.sync.close()
    return {**found, "calls": max(calls)}


def _same(dna: SystemDNA, checksum: str) -> None:
    if dna.checksum != checksum:
        raise RuntimeError(f"{dna.checksum} was read in the place of {checksum}")


def catching_up(url: str, events: int) -> dict[str, Any]:
    """Bring a machine with an empty disk up to date."""
    there, [checksum] = filled(url, generations=1, events=events)
    with tempfile.TemporaryDirectory() as folder:
        empty = machine(there, folder)
        took = timed(lambda: empty.store.refresh(APP))
        calls = [call.operation for call in empty.clients.calls]
        local = empty.store.head(APP)
        if local is None or local.checksum != checksum or empty.store.count(APP) != events:
            raise RuntimeError("the machine did not catch up")
        empty.store.sync.close()
        bare = timed(lambda: _read_all(there))
    return {
        "events": events,
        "calls": len(calls),
        "wall_s": took.wall_ms / 1000,
        "cpu_s": took.cpu_ms / 1000,
        "bare_s": bare.wall_ms / 1000,
        "events_per_s": 1000 * events / took.wall_ms,
    }


def _read_all(there: Cloud) -> None:
    """Read the events with boto3 alone, and do nothing with them."""
    pages = Clients(session, there.endpoints).client("dynamodb", REGION).get_paginator("query")
    asked = pages.paginate(
        TableName=there.site().table,
        KeyConditionExpression="pk = :pk AND begins_with(sk, :begins)",
        ExpressionAttributeValues={":pk": {"S": there.place.partition(APP)}, ":begins": {"S": "event#"}},
        ConsistentRead=True,
    )
    for _ in asked:
        pass


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--generations", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=5_000)
    options = parser.parse_args()
    sizes = {"rounds": options.rounds, "times": options.times}
    found: dict[str, Any] = {"disk_ms": disk_ms(options.times * options.rounds)}
    with moto_server() as server:
        for kind in ("commit", "append"):
            found[kind] = {"disk": beyond(server.url, kind, None, **sizes)}
            if MEMORY.is_dir():
                found[kind]["memory"] = beyond(server.url, kind, MEMORY, **sizes)
        found["snapshot"] = one_of_many(server.url, options.generations, times=options.times)
    with moto_server() as server:
        found["catching_up"] = catching_up(server.url, options.events)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
