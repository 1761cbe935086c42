"""A bit that flips in an object or an item is found, named, and mended where there is another copy, and never read."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bedrock_evolution.clock import RandomIds, SystemClock
from bedrock_evolution.dna.aws import objects
from bedrock_evolution.dna.aws.items import decoded, encoded
from bedrock_evolution.dna.aws.regions import CONTROL
from bedrock_evolution.dna.aws.verifying.findings import Finding
from bedrock_evolution.dna.aws.verifying.verification import Verification, verify
from bedrock_evolution.dna.cloud import CloudDNAStore
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.events import EventDraft
from bedrock_evolution.dna.genome import SystemDNA
from bedrock_evolution.errors import IntegrityError, WriterFenced
from bedrock_evolution.fitness.journal import Journal
from tests.dna.store_contract import APP, MOMENT, child, first
from tests.support.cloud import PREFIX, REGIONS, Cloud, cloud, nothing, opened
from tests.support.moto_server import moto_server

pytestmark = pytest.mark.slow

RUN = "run-1"
LARGE = "x" * 40_000
"""So much that a body is kept in its object only."""
OWNER = ("owner", "again", "sum")


@dataclass(frozen=True)
class Stored:
    """Everything that a store's table and bucket hold in one region."""

    items: Mapping[tuple[str, str], Mapping[str, Any]]
    objects: Mapping[str, bytes]


@dataclass(frozen=True)
class Flip:
    """One bit of one thing that is stored."""

    region: str
    object: str = ""
    pk: str = ""
    sk: str = ""
    attribute: str = ""
    at: int = 0
    bit: int = 0

    @property
    def names(self) -> list[str]:
        """How a message names it, or what it is a copy of."""
        if self.object:
            folder, _, file = self.object.rpartition("/")
            number = int(file.partition("-")[0])
            kind = folder.removeprefix(f"{PREFIX}/").partition("/")[0]
            others = {"events": f"event {number} ", "dna": f"generation {number} ", "runs": f"segment {number} of run"}
            return [self.object, others[kind]]
        if self.sk.startswith("control"):
            # A bit of its sort key makes it one that nobody reads.
            return [f"item {self.sk} of {PREFIX} ", f"item {CONTROL} of {PREFIX} "]
        kind, _, digits = self.sk.partition("#")
        number = int(digits) if digits.isdecimal() else 0
        others = {"event": f"event {number} ", "dna": f"generation {number - 1} ", "head": f"the head of {APP!r}"}
        more = {"segment": f"segment {number} of run", "owner": f"run {RUN}"}
        return [f"item {self.sk} of {self.pk} ", (others | more).get(kind, "\0")]


def draft(kind: str, key: str, **data: Any) -> EventDraft:
    return EventDraft(app=APP, kind=kind, key=key, at=MOMENT, actor="rule", run_id=RUN, data=data)


def stocked(there: Cloud, folder: Path) -> None:
    """Store two generations, a few events, large ones too, and a run with two segments."""
    with closing(opened(there, folder / "stocking.db")) as store:
        journal = Journal(store._database, SystemClock())
        store.watch_runs()
        journal.begin(RUN, app=APP, seed=1, request={"what": "first"})
        parent: SystemDNA = store.commit(None, first(), draft("declared", "declared", dna=first().checksum))
        store.append(draft("begun", f"{RUN}/begun"))
        store.append(draft("trialled", f"{RUN}/1/trialled", told=LARGE))
        journal.set_status(RUN, "finished", {"fitness": 1.0})
        store.flush()
        dna = child(parent, 7)
        store.commit(parent.checksum, dna, draft("applied", f"{RUN}/1/applied", dna=dna.checksum))
        store.flush()


def stored(there: Cloud, region: str) -> Stored:
    table = there.regions().tables[region]
    scanned = there.client("dynamodb", region).scan(TableName=there.site(region).table)["Items"]
    items = {(item["pk"]["S"], item["sk"]["S"]): decoded(item) for item in scanned}
    s3, bucket = there.client("s3", region), there.site(region).bucket
    bodies = {name: s3.get_object(Bucket=bucket, Key=name)["Body"].read() for name in objects.names(table, "")}
    return Stored(items, bodies)


class Store:
    """A store whose bits can be flipped, and flipped back."""

    def __init__(self, there: Cloud, folder: Path) -> None:
        self.there = there
        stocked(there, folder)
        if len(there.endpoints) > 1:
            there.regions().promote(REGIONS[1])
        self.right = self.read()
        self.before = self.now()

    def now(self) -> dict[str, Stored]:
        return {region: stored(self.there, region) for region in self.there.endpoints}

    def flips(self) -> list[Flip]:
        """Return one bit of each thing, for each of a few places in it."""
        found = []
        for region, there in self.before.items():
            for name, body in there.objects.items():
                found += [Flip(region, object=name, at=at, bit=bit) for at, bit in _places(len(body))]
            for (pk, sk), item in there.items.items():
                found.append(Flip(region, pk=pk, sk=sk, attribute="sk", at=len(sk) - 1))
                found.append(Flip(region, pk=pk, sk=sk, attribute="sk", at=1))
                for attribute, value in item.items():
                    if attribute in ("pk", "sk") or value is None:
                        continue
                    places = _places(len(value))[1:] if isinstance(value, str) else [(0, 0), (0, 5)]
                    found += [Flip(region, "", pk, sk, attribute, at, bit % 7) for at, bit in places]
        return [flip for flip in found if self._possible(flip)]

    def _possible(self, flip: Flip) -> bool:
        if flip.object:
            return True
        item = self.before[flip.region].items[flip.pk, flip.sk]
        if flip.attribute == "sk":
            return (flip.pk, _flipped(flip.sk, flip)) not in self.before[flip.region].items
        return isinstance(item[flip.attribute], (str, int))

    def flip(self, flip: Flip) -> None:
        there = self.before[flip.region]
        if flip.object:
            body = bytearray(there.objects[flip.object])
            body[flip.at] ^= 1 << flip.bit
            self._put_object(flip.region, flip.object, bytes(body))
            return
        item = dict(there.items[flip.pk, flip.sk])
        if flip.attribute == "sk":
            self._delete(flip.region, flip.pk, flip.sk)
        item[flip.attribute] = _flipped(item[flip.attribute], flip)
        self._put(flip.region, item)

    def restore(self) -> None:
        """Put everything back as it was."""
        for region, before in self.before.items():
            now = stored(self.there, region)
            for pk, sk in now.items.keys() - before.items.keys():
                self._delete(region, pk, sk)
            for key, item in before.items.items():
                if now.items.get(key) != item:
                    self._put(region, item)
            for name in now.objects.keys() - before.objects.keys():
                self.there.client("s3", region).delete_object(Bucket=self.there.site(region).bucket, Key=name)
            for name, body in before.objects.items():
                if now.objects.get(name) != body:
                    self._put_object(region, name, body)

    def _put(self, region: str, item: Mapping[str, Any]) -> None:
        client = self.there.client("dynamodb", region)
        client.put_item(TableName=self.there.site(region).table, Item=encoded(item))

    def _delete(self, region: str, pk: str, sk: str) -> None:
        client = self.there.client("dynamodb", region)
        client.delete_item(TableName=self.there.site(region).table, Key=encoded({"pk": pk, "sk": sk}))

    def _put_object(self, region: str, name: str, body: bytes) -> None:
        """Put an object that has no older version: a bit that flips on a disk makes none."""
        s3, where = self.there.client("s3", region), {"Bucket": self.there.site(region).bucket}
        s3.put_object(**where, Key=name, Body=body)
        for version in s3.list_object_versions(**where, Prefix=name).get("Versions", []):
            if not version["IsLatest"]:
                s3.delete_object(**where, Key=name, VersionId=version["VersionId"])

    def read(self) -> dict[str, Any]:
        """Read everything, as a machine with an empty disk."""
        clock = SystemClock()
        database = Database.in_memory()
        store = CloudDNAStore(
            database,
            self.there.regions(clock),
            clock=clock,
            ids=RandomIds(clock),
            draws=random.Random(0),
            project=nothing,
            patience_s=0.0,
        )
        Journal(database, clock)
        with closing(store):
            found: dict[str, Any] = {"apps": store.apps(), "snapshot": store.snapshot(APP, 1)}
            found |= {"head": store.head(APP), "history": store.history(APP)}
            found["events"] = [event.document() for event in store.events(APP)]
            store.fetch_run(APP, RUN)
            found["rows"] = database.rows("SELECT * FROM runs")
        return found

    def verify(self, *, repair: bool) -> Verification:
        return verify(self.there.regions(), repair=repair)


def _places(length: int) -> list[tuple[int, int]]:
    """Return some places and bits."""
    return [(0, 0), (length // 2, 4), (length - 1, 2)] if length else []


def _flipped(value: Any, flip: Flip) -> Any:
    if isinstance(value, str):
        letter = chr(ord(value[flip.at]) ^ (1 << flip.bit))
        return value[: flip.at] + letter + value[flip.at + 1 :]
    return value ^ (1 << flip.bit)


def masked(there: Mapping[str, Stored]) -> dict[str, Any]:
    """Return what is stored, but for who works on the run: whoever reads it takes it over."""
    told = {}
    for region, each in there.items():
        items = {
            key: {name: value for name, value in item.items() if key[1] != "owner" or name not in OWNER}
            for key, item in each.items.items()
        }
        told[region] = (items, dict(each.objects))
    return told


def judge(store: Store, flip: Flip) -> None:
    """Flip a bit; read; verify and repair: nothing wrong is ever read, and what has another copy is whole again."""
    store.flip(flip)
    try:
        found = store.read()
    except IntegrityError as error:
        told = error.message
    except WriterFenced:
        # An epoch that was altered shuts every writer out: nothing wrong is read or written.
        assert flip.sk.startswith(CONTROL)
        told = ""
    else:
        told = ""
        assert found == store.right
    assert not told or any(name in told for name in flip.names), told
    report = store.verify(repair=True)
    if is_the_only_copy(store, flip):
        assert [finding.region for finding in report.findings if names(flip, finding)] == [flip.region]
        store.restore()
    assert not report.findings or is_the_only_copy(store, flip), report.findings
    now = store.now()
    assert masked(now) == masked(store.before)
    # Whoever read took the run over.
    store.before = now


def judge_by_verifying(store: Store, flip: Flip) -> None:
    """Flip a bit that nobody reads: a verification finds and names it, and mends it where there is another copy."""
    store.flip(flip)
    report = store.verify(repair=True)
    found = (*report.findings, *report.mended)
    assert flip.region in [finding.region for finding in found if names(flip, finding)], found
    if is_the_only_copy(store, flip):
        store.restore()
    assert store.now() == store.before, report


def names(flip: Flip, finding: Finding) -> bool:
    return any(name in f"{finding.what} {finding.wrong} " for name in flip.names)


def is_the_only_copy(store: Store, flip: Flip) -> bool:
    """Whether what was altered is stored once: a large body, or the rows of a run, in a store of one region."""
    if len(store.before) > 1 or not flip.object:
        return False
    return "/runs/" in flip.object or len(store.before[flip.region].objects[flip.object]) > len(LARGE)


def judged(store: Store, way: Callable[[Store, Flip], None], flip: Flip) -> None:
    """Judge one flip, and leave the store as it was."""
    try:
        way(store, flip)
    except BaseException:
        store.restore()
        raise


@pytest.fixture(scope="module")
def one_region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with moto_server() as server:
        yield Store(cloud(server.url), tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def two_regions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with moto_server() as home, moto_server() as other:
        yield Store(cloud(home.url, other.url), tmp_path_factory.mktemp("two"))


SOME = settings(max_examples=5, deadline=None, phases=(Phase.generate,))


def test_nothing_is_wrong_with_a_store_that_was_left_alone(one_region: Store, two_regions: Store) -> None:
    for store in (one_region, two_regions):
        report = store.verify(repair=False)
        assert report.findings == ()
        assert report.intact
        assert report.objects > 2 * len(REGIONS)


@SOME
@given(data=st.data())
def test_a_flipped_bit_is_never_read(one_region: Store, data: st.DataObject) -> None:
    judged(one_region, judge, data.draw(st.sampled_from(one_region.flips())))


@SOME
@given(data=st.data())
def test_a_flipped_bit_is_found_by_a_verification(one_region: Store, data: st.DataObject) -> None:
    judged(one_region, judge_by_verifying, data.draw(st.sampled_from(one_region.flips())))


EVERY = 6
"""Of all flips, each so many is tried; in two regions fewer, as there are twice as many."""


@pytest.mark.slow
@pytest.mark.parametrize(("place", "every"), [("one_region", EVERY), ("two_regions", 3 * EVERY)])
@pytest.mark.parametrize("way", [judge, judge_by_verifying])
def test_flipped_bits_are_found_named_and_mended(
    place: str, every: int, way: Any, request: pytest.FixtureRequest
) -> None:
    store: Store = request.getfixturevalue(place)
    wrong, flips = [], store.flips()[::every]
    for flip in flips:
        try:
            judged(store, way, flip)
        except AssertionError as error:
            wrong.append((flip, str(error)[:500]))
    assert not wrong, f"{len(wrong)} of {len(flips)}: {wrong[:5]}"
