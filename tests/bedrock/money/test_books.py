"""Books move from ledger to ledger: every call counts once there, at what is known most surely of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bedrock_evolution.bedrock.models.prices import Tokens
from bedrock_evolution.bedrock.money.books import CopiedBooks, copy_books
from bedrock_evolution.bedrock.money.ledger import Hold, Ledger
from bedrock_evolution.clock import CountedIds, FixedClock
from bedrock_evolution.dna.aws.calls import Clients
from bedrock_evolution.errors import BudgetExhausted, IntegrityError, SpendExhausted, UsageError
from bedrock_evolution.settings import MICRO, Budget
from tests.bedrock.money.places import FilePlace, Place, TablePlace, shared_clients
from tests.support.moto_server import moto_server

NOON = datetime(2026, 3, 31, 12, tzinfo=UTC)
CAPS = Budget(run_usd=0.5, daily_usd=0.8, monthly_usd=2.0)
KINDS = ("held", "settled", "dearer", "void", "lost", "later", "tomorrow", "refused")
_FILES = count(1)

histories = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 200_000), st.booleans()), max_size=12)
Make = Callable[[], Place]


@pytest.fixture(scope="module")
def emulator() -> Iterator[tuple[str, Clients]]:
    with moto_server() as server:
        yield server.url, shared_clients(server.url)


@pytest.fixture
def file(tmp_path: Path) -> Make:
    return lambda: FilePlace(tmp_path / f"books-{next(_FILES)}.db")


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Make:
    return lambda: TablePlace(*request.getfixturevalue("emulator"))


@pytest.fixture(
    params=[
        "file to file",
        *(
            pytest.param(f"{a} to {b}", marks=pytest.mark.slow)
            for a, b in (("file", "table"), ("table", "file"), ("table", "table"))
        ),
    ]
)
def ends(request: pytest.FixtureRequest) -> tuple[Make, Make]:
    """Makes books to copy from and to."""
    one, _, other = request.param.partition(" to ")
    return request.getfixturevalue(one), request.getfixturevalue(other)


class Past:
    """An application that spends money, step by step."""

    def __init__(self, place: Place) -> None:
        self.clock, self.ids = FixedClock(NOON), CountedIds()
        self.ledger: Ledger = place.opened(self.clock, ids=self.ids, budget=CAPS)
        self.still_open: list[Hold] = []

    def goes_on(self, history: list[tuple[str, int, bool]]) -> None:
        for kind, amount, keyed in history:
            match kind:
                case "later":
                    self.clock.moment += timedelta(minutes=40)
                case "tomorrow":
                    self.clock.moment += timedelta(days=1)
                case _:
                    self.calls(kind, amount, keyed=keyed)
        for hold in self.still_open[::2]:
            self.ledger.settle(hold, tokens=Tokens(7, 7), micro_usd=hold.micro_usd // 2)
        self.still_open = []

    def calls(self, kind: str, amount: int, *, keyed: bool) -> None:
        key = self.ids.new("key") if keyed else None
        amount = MICRO if kind == "refused" else amount
        try:
            hold = self.ledger.reserve(run_id="run", agent="advisor", model="model", micro_usd=amount, key=key)
        except SpendExhausted:
            return
        match kind:
            case "settled":
                self.ledger.settle(hold, tokens=Tokens(100, 10, 5, 5), micro_usd=amount // 2, latency_ms=12)
            case "dearer":
                self.ledger.settle(hold, tokens=Tokens(100, 10), micro_usd=amount + 1)
            case "void":
                self.ledger.void(hold, error="throttled")
            case "lost":
                self.ledger.keep(hold, error="the answer was lost")
            case _:
                self.still_open.append(hold)


def copied(source: Place, target: Place) -> CopiedBooks:
    return copy_books(source.books(), target.books())


def same(one: Place, other: Place) -> None:
    assert one.balances() == one.added_up() == other.balances() == other.added_up()
    assert list(one.books().calls()) == list(other.books().calls())
    assert one.books().alarms() == other.books().alarms()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=histories, after=histories)
def test_books_that_are_copied_are_the_same_there_and_back(
    ends: tuple[Make, Make],
    before: list[tuple[str, int, bool]],
    after: list[tuple[str, int, bool]],
) -> None:
    source, target = (make() for make in ends)
    past = Past(source)
    past.goes_on(before)
    first = copied(source, target)
    assert first.new == first.calls == len(source.calls())
    assert copied(source, target).new == 0
    same(source, target)
    # What was added and what ended since follows, and nothing comes back twice.
    past.goes_on(after)
    copied(source, target)
    same(source, target)
    assert copied(target, source).new == 0
    same(source, target)


def test_what_was_spent_counts_under_the_caps_of_the_target(ends: tuple[Make, Make]) -> None:
    source, target = (make() for make in ends)
    past = Past(source)
    past.goes_on([("settled", 200_000, True), ("held", 100_000, True), ("lost", 100_000, False), ("held", 1, False)])
    assert copied(source, target) == CopiedBooks(4, 100_000 + 50_000 + 100_000 + 1, 4)
    there = target.opened(past.clock, budget=CAPS)
    assert there.day_spend() == past.ledger.day_spend()
    with pytest.raises(BudgetExhausted, match=r"run budget of \$0.50"):
        there.reserve(run_id="run", agent="advisor", model="model", micro_usd=250_000)
    # The hold that is still open there can be taken up by its key, and expires there if nobody does.
    past.clock.moment += timedelta(hours=2)
    assert there.reserve(run_id="run", agent="advisor", model="model", micro_usd=1)
    assert there.day_spend().unconfirmed_micro_usd == 100_000 + 1


def test_what_the_target_knows_more_surely_stays(ends: tuple[Make, Make]) -> None:
    source, target = (make() for make in ends)
    past = Past(source)
    hold = past.ledger.reserve(run_id="run", agent="advisor", model="model", micro_usd=1000, key="one")
    copied(source, target)
    there = target.opened(past.clock)
    known = there.reserve(run_id="run", agent="advisor", model="model", micro_usd=1000, key="one")
    there.settle(known, tokens=Tokens(1, 1), micro_usd=10)
    past.ledger.keep(hold, error="the answer was lost")
    assert copied(source, target).new == 0
    assert target.balances() == target.added_up()
    assert there.day_spend().micro_usd == 10


def test_a_call_that_expired_on_both_sides_is_still_the_same(ends: tuple[Make, Make]) -> None:
    source, target = (make() for make in ends)
    past = Past(source)
    past.ledger.reserve(run_id="run", agent="advisor", model="model", micro_usd=1000)
    copied(source, target)
    past.ledger.give_up("run")
    past.clock.moment += timedelta(hours=2)
    target.opened(past.clock).reserve(run_id="other", agent="advisor", model="model", micro_usd=0)
    assert copied(source, target).new == 0
    assert target.balances() == target.added_up()


def test_a_key_that_another_call_has_is_named(ends: tuple[Make, Make]) -> None:
    source, target = (make() for make in ends)
    ids = CountedIds()
    for place in (source, target):
        place.opened(FixedClock(NOON), ids=ids).reserve(run_id="run", agent="a", model="m", micro_usd=5, key="one key")
    before = target.balances()
    with pytest.raises(UsageError, match="has the key 'one key', which another call of the target has"):
        copied(source, target)
    assert target.balances() == target.added_up() == before


def test_another_call_of_the_same_name_is_not_written_over(ends: tuple[Make, Make]) -> None:
    source, target = (make() for make in ends)
    for place, amount in ((source, 5), (target, 6)):
        place.opened(FixedClock(NOON), ids=CountedIds()).reserve(run_id="r", agent="a", model="m", micro_usd=amount)
    before = target.balances()
    with pytest.raises(IntegrityError, match="is another one in the target"):
        copied(source, target)
    assert target.balances() == before
