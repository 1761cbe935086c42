"""A bit that flips in the books, or in what the router learned, is found, named, and mended where there is a copy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.bedrock.models.prices import Tokens
from bedrock_evolution.bedrock.money.dynamo_inspection import books_of
from bedrock_evolution.bedrock.money.dynamo_ledger import DynamoLedger
from bedrock_evolution.bedrock.routing.dynamo_inspection import learned_in
from bedrock_evolution.bedrock.routing.dynamo_performance import DynamoPerformanceTracker
from bedrock_evolution.bedrock.routing.task import TaskContext
from bedrock_evolution.clock import CountedIds, FixedClock
from bedrock_evolution.dna.aws.items import Item, decoded, encoded
from bedrock_evolution.dna.aws.regions import Regions
from bedrock_evolution.dna.aws.verifying.findings import Finding, Findings
from bedrock_evolution.dna.aws.verifying.verification import verify
from bedrock_evolution.errors import IntegrityError, SpendExhausted
from bedrock_evolution.settings import Budget
from tests.dna.store_contract import first, made
from tests.support.books import APP
from tests.support.cloud import REGIONS, Cloud, cloud, opened
from tests.support.moto_server import moto_server

pytestmark = pytest.mark.slow

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN = "run-1"
KEY = "heal/1"
TASK = TaskContext.of("advisor", "say", input_tokens=10, output_tokens=2)
Place = tuple[str, str, str]
"""Region, partition key and sort key of an item."""


@dataclass(frozen=True)
class Flip:
    """One bit of one attribute; of a list or a mapping, a bit of what it holds first."""

    place: Place
    attribute: str

    @property
    def names(self) -> str:
        return f"item {self.place[2]} of {self.place[1]} "


class Books:
    """A ledger and a router's evidence, whose bits can be flipped, and flipped back."""

    def __init__(self, there: Cloud) -> None:
        self.there = there
        self.clock = FixedClock(NOON)
        self.clients = there.clients()  # they are slow to make
        self._dynamo = {region: there.client("dynamodb", region) for region in there.endpoints}
        self._spend()
        self.before = self.now()
        self.right = self.read()

    def regions(self) -> Regions:
        return Regions(self.clients, self.there.place, self.clock)

    def ledger(self) -> DynamoLedger:
        budget = Budget(daily_usd=0.001, call_usd=0.0009)
        ids = CountedIds()
        return DynamoLedger(self.regions(), app=APP, budget=budget, clock=self.clock, ids=ids)

    def tracker(self) -> DynamoPerformanceTracker:
        return DynamoPerformanceTracker(self.regions(), app=APP, clock=self.clock)

    def _spend(self) -> None:
        ledger, tracker = self.ledger(), self.tracker()
        reserve = partial(ledger.reserve, run_id=RUN, agent="advisor", model="model")
        ledger.settle(reserve(micro_usd=100), tokens=Tokens(10, 2), micro_usd=90, latency_ms=30)
        ledger.void(reserve(micro_usd=50), error="refused")
        self.clock.moment += timedelta(minutes=1)
        ledger.keep(reserve(micro_usd=60), error="cut off")
        reserve(micro_usd=700, key=KEY)
        with pytest.raises(SpendExhausted):
            reserve(micro_usd=500)
        for success in (True, False):
            tracker.record(TASK, "model", success=success, latency_ms=35, micro_usd=90)
        assert ledger._copies.copy()
        assert tracker._copies.copy()

    def now(self) -> dict[Place, Item]:
        found: dict[Place, Item] = {}
        for region in self.there.endpoints:
            items = self._dynamo[region].scan(TableName=self.there.site(region).table)["Items"]
            for item in map(decoded, items):
                if item["pk"].endswith(("/money", "/routing")):
                    found[region, item["pk"], item["sk"]] = item
        return found

    def read(self) -> dict[str, Any]:
        """Read everything that a new process can."""
        ledger = self.ledger()
        found: dict[str, Any] = {"learned": self.tracker().snapshot()}
        found |= {"run": ledger.run_spend(RUN), "day": ledger.day_spend(), "month": ledger.month_spend()}
        found |= {"agents": ledger.spend_by("agent", "model"), "alarms": ledger.alarms()}
        return found | {"open": list(ledger._calls.open()), "keyed": ledger._calls.keyed(KEY)}

    def verify(self) -> list[Finding]:
        findings = Findings(repair=True)
        regions = self.regions()
        for look in (books_of(regions.place), learned_in(regions.place)):
            for region, table in regions.tables.items():
                look(APP, table, [other for name, other in regions.tables.items() if name != region], findings)
        return findings.found

    def flips(self) -> list[Flip]:
        return [
            Flip(place, attribute)
            for place, item in sorted(self.before.items())
            for attribute, value in item.items()
            if attribute != "pk" and value not in (None, "")
        ]

    def flip(self, flip: Flip) -> None:
        item = dict(self.before[flip.place])
        if flip.attribute == "sk":
            self._delete(flip.place)
        item[flip.attribute] = flipped(item[flip.attribute])
        self._put(flip.place[0], item)

    def restore(self) -> None:
        now = self.now()
        for place in now.keys() - self.before.keys():
            self._delete(place)
        for place, item in self.before.items():
            if now.get(place) != item:
                self._put(place[0], item)

    def _put(self, region: str, item: Item) -> None:
        self._dynamo[region].put_item(TableName=self.there.site(region).table, Item=encoded(item))

    def _delete(self, place: Place) -> None:
        region, pk, sk = place
        self._dynamo[region].delete_item(TableName=self.there.site(region).table, Key=encoded({"pk": pk, "sk": sk}))


def flipped(value: Any) -> Any:
    match value:
        case str():
            middle = len(value) // 2
            return value[:middle] + chr(ord(value[middle]) ^ 4) + value[middle + 1 :]
        case Mapping():
            name, *_ = value
            return {**value, name: flipped(value[name])}
        case list():
            return [flipped(value[0]), *value[1:]]
    return value + 1 if isinstance(value, float) else value ^ 4


@pytest.fixture(scope="module", params=[1, 2], ids=["one region", "two regions"])
def books(request: pytest.FixtureRequest) -> Iterator[Books]:
    with ExitStack() as stack:
        yield Books(cloud(*(stack.enter_context(moto_server()).url for _ in REGIONS[: request.param])))


def test_nothing_is_wrong_with_books_that_were_left_alone(books: Books) -> None:
    assert books.verify() == []
    kinds = {sk.partition("#")[0] for _, _, sk in books.before}
    assert kinds - {"copied"} == {"account", "alarm", "call", "family", "key", "open"}


def test_a_flipped_bit_is_never_read_and_is_named_and_mended(books: Books) -> None:
    wrong, flips = [], books.flips()[:: 1 if len(books.there.endpoints) == 1 else 3]
    for flip in flips:
        try:
            judge(books, flip)
        except (AssertionError, pytest.fail.Exception) as error:
            wrong.append((flip, str(error)[:500]))
        finally:
            books.restore()
    assert not wrong, f"{len(wrong)} of {len(flips)}: {wrong[:5]}"


def test_several_things_that_were_altered_at_once_are_mended_together(books: Books) -> None:
    chosen = {
        sk.partition("#")[0]: Flip(place, "sk" if sk.startswith("call#") else attribute)
        for place, item in books.before.items()
        for sk, attribute in ((place[2], "spent" if "spent" in item else "call_id"),)
        if place[0] == REGIONS[0] and sk.startswith(("account#", "call#", "key#", "open#"))
    }
    assert len(chosen) == 4
    for flip in chosen.values():
        books.flip(flip)
    told = books.verify()
    assert {bool(finding.mended) for finding in told} == {True}
    assert len(told) == 4
    assert books.now() == books.before


def test_a_call_mended_from_a_region_that_has_not_heard_of_its_end_is_open_again_in_every_balance(books: Books) -> None:
    if len(books.there.endpoints) == 1:
        pytest.skip("there is no other region")
    ledger = books.ledger()
    ledger._copies.close()  # what happens now stays in the writer's region
    held = ledger._calls.keyed(KEY)
    assert held is not None
    ledger.settle(held, tokens=Tokens(10, 2), micro_usd=90)
    place = next(place for place in books.before if place[0] == REGIONS[0] and place[2] == f"call#{held.call_id}")
    books._put(REGIONS[0], {**books.now()[place], "cost_micro_usd": 91})
    assert all(finding.mended for finding in books.verify())
    assert books.verify() == []
    day = books.ledger().day_spend()
    assert (day.held_micro_usd, day.micro_usd) == (books.right["day"].held_micro_usd, books.right["day"].micro_usd)
    books.restore()


def judge(books: Books, flip: Flip) -> None:
    """Flip a bit; read; verify and repair."""
    books.flip(flip)
    try:
        found, error = books.read(), ""
    except IntegrityError as altered:
        found, error = books.right, altered.message
    if found["learned"] == {}:
        found["learned"] = books.right["learned"]  # it tells nothing rather than what is wrong
    if flip.attribute != "sk":
        assert found == books.right
        assert not error or flip.names in error
    told = books.verify()
    assert told
    assert any(flip.names in f"{finding.what} {finding.wrong} " or flip.attribute == "sk" for finding in told)
    if is_the_only_copy(books, flip):
        return
    assert [finding for finding in told if not finding.mended] == []
    expected = dict(books.before)
    if flip.place[2] == "copied":
        del expected[flip.place]  # the regions are compared anew
    assert books.now() == expected


def is_the_only_copy(books: Books, flip: Flip) -> bool:
    """Whether what was altered is stored once: a call, an alarm or evidence, in a store of one region."""
    kept_once = flip.place[2].startswith(("call#", "alarm#", "family#"))
    return kept_once and flip.attribute != "sk" and len(books.there.endpoints) == 1


def test_store_verify_looks_at_the_books(books: Books, tmp_path: Path) -> None:
    with closing(opened(books.there, tmp_path / "one.db")) as store:
        store.commit(None, first(), made("declared", first()))
    regions = books.regions()
    also = [books_of(regions.place), learned_in(regions.place)]
    books.flip(
        next(flip for flip in books.flips() if flip.place[2].startswith("account#") and flip.attribute == "spent")
    )
    assert not verify(regions, also=also).intact
    assert verify(regions, repair=True, also=also).mended
    assert verify(regions, also=also).intact
