"""Every call of a commit and of an append fails once, in each way: nothing is half there, and nothing is lost.

The calls are those of an undisturbed commit, as the proxy saw them; each then fails in a store of its own.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.dna.aws.calls import ATTEMPTS
from bedrock_evolution.dna.aws.items import decoded
from bedrock_evolution.dna.cloud import CloudDNAStore
from bedrock_evolution.dna.events import EventDraft
from bedrock_evolution.dna.genome import SystemDNA
from bedrock_evolution.errors import StaleParent, StoreUnavailable
from bedrock_evolution.governance.audit import verify
from tests.dna.cloud_driver import (
    BEHIND_S,
    LARGE,
    MOMENT,
    RUN,
    SERVICES,
    WORK,
    Work,
    change,
    journal,
    machine,
    patient,
    take_over,
)
from tests.dna.store_contract import APP, child
from tests.support.cloud import REGIONS, Cloud
from tests.support.faulty_proxy import Call, FaultyProxy, Kind
from tests.support.moto_server import moto_server

pytestmark = pytest.mark.slow

HERE = REGIONS[0]
BRISK_S = 0.75
"""Seconds until a timeout, where one is meant."""
TIMEOUTS: tuple[Kind, ...] = ("timeout_before", "timeout_after")
PASSING: tuple[Kind, ...] = (*TIMEOUTS, "unavailable", "throttle", "conflict", "cut")
ONLY: Mapping[Kind, str] = {"cut": "GetObject", "conflict": "TransactWriteItems"}
"""Reads meet no conflict, and S3 has none where an object may be there already."""
NOBODY = "http://127.0.0.1:9"
"""A port of this machine that nothing listens on."""
KILLS: tuple[Kind, ...] = ("kill_before", "kill_after")
CHECKOUT = Path(__file__).parents[2]
_NAMES = count(1)


@dataclass(frozen=True)
class Point:
    """A call of a piece of work: the n-th of its kind to the same items or object.

    Args:
        call: The call; in its key, a `*` stands for the name of the store.
        nth: For which time it is made, from 1.
    """

    call: Call
    nth: int


class Field:
    """Stores, the proxy before them, and whoever works on them; several threads may use it, each for a store.

    Args:
        proxy: Before the emulator. All pass it, also who only looks: moto's transactions are seen by half otherwise.
        folder: For the files of machines.
        driver: Does work in processes that can be killed.
    """

    def __init__(self, proxy: FaultyProxy, folder: Path, driver: subprocess.Popen[str]) -> None:
        self.proxy = proxy
        self._folder = folder
        self._driver = driver
        self._one_at_a_time = threading.Lock()
        self._others = patient(proxy.url, attempts=ATTEMPTS)
        self._s3, self._dynamodb = (self._others.client(service, HERE) for service in SERVICES)
        self._cut_off = patient(NOBODY)
        self._clients = {
            (attempts, read_timeout_s): patient(proxy.url, attempts=attempts, read_timeout_s=read_timeout_s)
            for attempts in (1, ATTEMPTS)
            for read_timeout_s in (BRISK_S, BEHIND_S)
        }
        self._points: dict[str, list[Point]] = {}

    # -- stores and machines

    def store(self, work: Work) -> tuple[Cloud, Path]:
        """Make a store as a piece of work finds it; return it and the file of the machine that will work."""
        name = f"case-{next(_NAMES):05d}"
        self._s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": HERE})
        self._dynamodb.create_table(
            TableName=name,
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            BillingMode="PAY_PER_REQUEST",
        )
        there = Cloud(f"s3://{name}/{name}?table={name}&region={HERE}", {HERE: self.proxy.url})
        work.before(self.another(there))
        path = self.file(there, 0)
        for event in work.queued:
            cut_off = machine(there, path, self._cut_off)
            cut_off.append(event)
            cut_off.sync.close()
        return there, path

    def file(self, there: Cloud, number: int) -> Path:
        """Return where a machine keeps its file."""
        return self._folder / there.place.prefix / f"machine-{number}.db"

    def another(self, there: Cloud) -> CloudDNAStore:
        """Open a store as a machine that knows nothing of it yet."""
        return machine(there, None, self._others)

    @contextmanager
    def worker(self, there: Cloud, path: Path, *, attempts: int, kind: Kind | None) -> Iterator[CloudDNAStore]:
        """Open a store for a block as the machine that works on a file."""
        store = machine(there, path, self._clients[attempts, BRISK_S if kind in TIMEOUTS else BEHIND_S])
        yield store
        store.sync.close()

    def killed(self, there: Cloud, path: Path, name: str, point: Point, kind: Kind) -> None:
        """Let a process do a piece of work, and let it be killed at a call."""
        job = {"work": name, "url": there.url, "path": str(path)}
        with self._one_at_a_time:
            fault = self._fault(there, point, kind, int(self._told(json.dumps(job))))
            assert self._told("go") == "-9"
        assert fault.met == 1
        self.proxy.heal(there.place.prefix)

    def _told(self, line: str) -> str:
        assert self._driver.stdin
        assert self._driver.stdout
        self._driver.stdin.write(f"{line}\n")
        self._driver.stdin.flush()
        return self._driver.stdout.readline().strip()

    # -- calls and faults

    def points(self, name: str) -> list[Point]:
        """Return the calls of a piece of work that nothing disturbs."""
        if name not in self._points:
            there, path = self.store(WORK[name])
            self.proxy.clear()
            with self.worker(there, path, attempts=1, kind=None) as store:
                WORK[name].act(store)
            seen: Counter[tuple[str, str]] = Counter()
            points = []
            for made in self.proxy.calls:
                if there.place.prefix not in made.key:  # of a store that is still at work elsewhere
                    continue
                # Which copy of the epoch a transaction looks at is drawn.
                key = made.key.replace(there.place.prefix, "*").partition(", * control#")[0]
                call = replace(made, key=key)
                seen[call.operation, call.key] += 1
                points.append(Point(call, seen[call.operation, call.key]))
            self._points[name] = points
        return self._points[name]

    def _fault(self, there: Cloud, point: Point, kind: Kind, pid: int = 0) -> Any:
        call, key = point.call, point.call.key.replace("*", there.place.prefix)
        return self.proxy.fail(kind, call.service, call.operation, key=key, nth=point.nth, pid=pid)

    @contextmanager
    def failing(self, there: Cloud, point: Point, kind: Kind) -> Iterator[None]:
        """Let one call fail during a block."""
        fault = self._fault(there, point, kind)
        yield
        assert fault.met == 1
        self.proxy.quiet(there.place.prefix)
        self.proxy.heal(there.place.prefix)

    # -- what is there

    def check_halves(self, there: Cloud) -> None:
        """Look behind the store's back: each item of the record has its object, and both say the same."""
        items = self._items(there)
        head = items.get("head", {"number": 0, "generation": -1})
        events = [item for sk, item in items.items() if sk.startswith("event#")]
        dna = [item for sk, item in items.items() if sk.startswith("dna#")]
        taken = {sk: item["number"] for sk, item in items.items() if sk.startswith("key#")}
        assert [event["number"] for event in events] == list(range(1, head["number"] + 1))
        assert taken == {f"key#{event['key']}": event["number"] for event in events}
        assert [each["generation"] for each in dna] == list(range(head["generation"] + 1))
        if events:
            assert (head["hash"], head["checksum"]) == (events[-1]["hash"], dna[-1]["checksum"])
        told = []
        for event in events:
            body = self._object(there, event)
            assert sha256(body).hexdigest() == event["hash"]
            told += [json.loads(body)["data"].get("dna")]
        for each in dna:
            assert SystemDNA.model_validate_json(self._object(there, each)).checksum == each["checksum"]
        assert [checksum for checksum in told if checksum] == [each["checksum"] for each in dna]
        self._check_segments(there)

    def _check_segments(self, there: Cloud) -> None:
        segments = [item for sk, item in self._items(there, f"/run/{RUN}").items() if sk.startswith("segment#")]
        assert [segment["sk"] for segment in segments] == [f"segment#{n:08d}" for n in range(1, len(segments) + 1)]
        for segment in segments:
            body = self._s3.get_object(Bucket=there.place.prefix, Key=segment["object"])["Body"].read()
            assert sha256(body).hexdigest() == segment["sha256"]

    def _items(self, there: Cloud, below: str = "") -> dict[str, dict[str, Any]]:
        found = self._dynamodb.query(
            TableName=there.place.prefix,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": there.place.partition(APP) + below}},
            ConsistentRead=True,
        )
        return {item["sk"]: item for item in map(decoded, found["Items"])}

    def _object(self, there: Cloud, item: dict[str, Any]) -> bytes:
        body: bytes = self._s3.get_object(Bucket=there.place.prefix, Key=item["object"])["Body"].read()
        assert item.get("document", body.decode()) == body.decode()
        return body


@pytest.fixture(scope="module")
def running_field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    with moto_server() as server, FaultyProxy(server.url) as proxy:
        command = [sys.executable, "-m", "tests.dna.cloud_driver", proxy.url]
        with subprocess.Popen(
            command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as driver:
            try:
                yield Field(proxy, tmp_path_factory.mktemp("faults"), driver)
            finally:
                driver.kill()


@pytest.fixture
def field(running_field: Field) -> Iterator[Field]:
    yield running_field
    running_field.proxy.heal()


@contextmanager
def told(point: Point, kind: Kind) -> Iterator[None]:
    """Add to an error at which call it came."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"{kind} at the {point.nth}. of {point.call}")
        raise


# -- what has to hold


def nothing_is_half_there(field: Field, there: Cloud, work: Work, *, acknowledged: bool) -> None:
    """At any moment: what is visible is whole and consistent, and what was acknowledged is visible."""
    field.check_halves(there)
    other = field.another(there)
    keys = [event.key for event in other.events(APP)]
    assert tuple(keys) in {work.keys[:length] for length in range(len(work.keys) + 1)}
    assert verify(other, APP).intact
    if acknowledged and work.waits:
        assert other.head(APP) == work.live
        assert tuple(keys) == work.keys


def all_is_there_once(field: Field, there: Cloud, work: Work, store: CloudDNAStore) -> None:
    """When the fault is over: what was queued is sent, and the work, repeated, is there once, for every machine."""
    assert store.sync.drain()
    if not work.waits:
        assert tuple(event.key for event in field.another(there).events(APP)) == work.keys, "nobody has to repeat it"
    work.act(store)
    assert store.sync.drain()
    queue = store.sync.queue()
    assert (queue.waiting, queue.refused, queue.failures) == (0, 0, 0)
    field.check_halves(there)
    other = field.another(there)
    generations = range(work.live.generation + 1)
    assert [other.snapshot(APP, n) for n in generations] == [store.snapshot(APP, n) for n in generations]
    events = list(other.events(APP))
    assert tuple(event.key for event in events) == work.keys
    assert events == list(store.events(APP))
    assert other.head(APP) == store.head(APP) == work.live
    assert other.history(APP) == store.history(APP)
    assert verify(store, APP).intact
    assert verify(other, APP).intact
    if work.runs:
        rows = journal(store).runs()
        take_over(other)
        assert journal(other).runs() == rows, "a third machine can go on with the run"


def met(field: Field, name: str, kind: Kind) -> list[Point]:
    """Return the calls of a piece of work that can fail so: not every service answers everything."""
    operation = ONLY.get(kind)
    found = [point for point in field.points(name) if operation in (None, point.call.operation)]
    assert found
    return found


# -- the tests

DECLARE, TAKE_OVER, QUEUED = "declare", "take over a run", "commit behind a queue"
AT_ONCE = 4
ALONE = [name for name in WORK if name != QUEUED]
READS_OBJECTS = [name for name in WORK if name != DECLARE]


def each(names: Iterable[str], kinds: Iterable[Kind]) -> list[tuple[str, Kind]]:
    """Return each work with each way to fail that it can meet."""
    return [(name, kind) for name in names for kind in kinds if kind != "cut" or name in READS_OBJECTS]


def fails_once(field: Field, name: str, kind: Kind, point: Point) -> None:
    """Do work of which one call fails and is not tried again."""
    work = WORK[name]
    there, path = field.store(work)
    with told(point, kind), field.worker(there, path, attempts=1, kind=kind) as store:
        acknowledged = True
        with field.failing(there, point, kind):
            try:
                work.act(store)
            except StoreUnavailable:
                acknowledged = False
        assert acknowledged or work.waits, "what waits for nothing is queued"
        nothing_is_half_there(field, there, work, acknowledged=acknowledged)
        all_is_there_once(field, there, work, store)


def is_masked(field: Field, name: str, kind: Kind, point: Point) -> None:
    """Do work of which one call fails and is tried again."""
    work = WORK[name]
    there, path = field.store(work)
    with told(point, kind), field.worker(there, path, attempts=ATTEMPTS, kind=kind) as store:
        with field.failing(there, point, kind):
            work.act(store)
        assert store.sync.queue().waiting == 0
        nothing_is_half_there(field, there, work, acknowledged=True)
        all_is_there_once(field, there, work, store)


def dies_once(field: Field, name: str, kind: Kind, point: Point) -> None:
    """Do work in a process that is killed at a call, and go on with its file in another."""
    work = WORK[name]
    there, path = field.store(work)
    with told(point, kind):
        field.killed(there, path, name, point, kind)
        nothing_is_half_there(field, there, work, acknowledged=False)
        with field.worker(there, path, attempts=1, kind=None) as store:
            all_is_there_once(field, there, work, store)


@pytest.mark.parametrize("name", list(WORK))
def test_the_calls_of_the_work_are_known(field: Field, name: str) -> None:
    calls = {point.call.operation for point in field.points(name)}
    assert calls >= {"GetItem", "TransactWriteItems"}
    assert ("PutObject" in calls) == (name != TAKE_OVER)
    assert ("GetObject" in calls) == ("Query" in calls) == (name in READS_OBJECTS), "it reads what another machine left"


@pytest.mark.parametrize("kind", ["timeout_after", "kill_after"])
def test_the_transaction_of_a_commit_fails(field: Field, kind: Kind) -> None:
    point = field.points("commit")[-1]
    assert point.call.operation == "TransactWriteItems"
    (dies_once if kind in KILLS else fails_once)(field, "commit", kind, point)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"), [*each(ALONE, (*PASSING, "denied")), *each([QUEUED], ("timeout_after", "throttle", "conflict"))]
)
def test_each_call_fails(field: Field, name: str, kind: Kind) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(partial(fails_once, field, name, kind), met(field, name, kind)))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), each(ALONE, PASSING))
def test_each_call_fails_and_is_tried_again_and_nobody_notices(field: Field, name: str, kind: Kind) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(partial(is_masked, field, name, kind), met(field, name, kind)))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [*each(ALONE, KILLS), *each([QUEUED], ("kill_after",))])
def test_a_process_is_killed_at_each_call(field: Field, name: str, kind: Kind) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(partial(dies_once, field, name, kind), met(field, name, kind)))


# -- many faults, and several machines at once

MACHINES, STEPS, FAULTS = 3, 12, 40


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_machines_in_a_storm_of_faults_agree_and_lose_nothing(field: Field, seed: int) -> None:
    draws = random.Random(seed)
    there, _ = field.store(WORK[DECLARE])
    WORK[DECLARE].act(field.another(there))
    clients = patient(field.proxy.url, attempts=draws.choice((1, ATTEMPTS)), read_timeout_s=BRISK_S)
    stores = [machine(there, field.file(there, number), clients) for number in range(MACHINES)]
    for _ in range(FAULTS):
        kind = draws.choice((*PASSING, "reset_before", "reset_after", "denied"))
        nth, times = draws.randint(1, 120), draws.randint(1, 3)
        field.proxy.fail(kind, "", ONLY.get(kind, ""), key=there.place.prefix, nth=nth, times=times)
    with ThreadPoolExecutor(MACHINES) as pool:
        acknowledged = [key for keys in pool.map(partial(weather, seed), range(MACHINES), stores) for key in keys]
    field.proxy.quiet(there.place.prefix)
    field.proxy.heal(there.place.prefix)
    for store in stores:
        assert any(store.sync.drain() for _ in range(5)), "a brisk client may meet a timeout that is none of ours"
    field.check_halves(there)
    other = field.another(there)
    events, history = list(other.events(APP)), other.history(APP)
    keys = [event.key for event in events]
    assert len(set(keys)) == len(keys)
    assert set(keys) >= {"declared", *acknowledged}
    for store in (*stores, other):
        assert store.sync.queue().waiting == 0
        assert list(store.events(APP)) == events
        assert store.history(APP) == history
        assert verify(store, APP).intact
        store.sync.close()


def weather(seed: int, number: int, store: CloudDNAStore) -> list[str]:
    """Write something again and again as one of several machines; return the keys of what was acknowledged."""
    draws = random.Random(f"{seed} {number}")
    acknowledged = []
    for step in range(STEPS):
        key = f"{number}/{step}"
        try:
            if draws.random() < 0.3 and (head := store.head(APP)) is not None:
                made = child(head, draws.randrange(10**6))
                store.commit(head.checksum, made, change(key, made))
            else:
                why = LARGE if draws.random() < 0.2 else ""
                store.append(EventDraft(app=APP, kind="note", key=key, at=MOMENT, actor="ada", why=why))
        except (StoreUnavailable, StaleParent):
            continue
        acknowledged.append(key)
    return acknowledged
