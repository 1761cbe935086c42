"""The ledger in DynamoDB: what it costs in calls, lost answers, outages, and machines that race for one budget."""

from __future__ import annotations

import json
import logging
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bedrock_evolution.bedrock.models.prices import Tokens
from bedrock_evolution.bedrock.money.dynamo_ledger import DynamoLedger
from bedrock_evolution.bedrock.money.ledger import Hold, Ledger, Pressure, Spend
from bedrock_evolution.clock import CountedIds, FixedClock
from bedrock_evolution.dna.aws.calls import Clients
from bedrock_evolution.errors import BudgetExhausted, StoreUnavailable, UsageError
from bedrock_evolution.settings import MICRO, Budget
from tests.bedrock.money.ledger_driver import AMOUNT
from tests.bedrock.money.places import TablePlace, shared_clients
from tests.support.cloud import REGIONS, session
from tests.support.faulty_proxy import FaultyProxy, Kind
from tests.support.moto_server import moto_server

pytestmark = pytest.mark.slow

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
REST = timedelta(minutes=5)
"""After so long no outage is remembered."""
ROOT = Path(__file__).parents[3]
NO_USAGE = Spend(0, 0, 0, 0, 0)


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    with moto_server() as server:
        yield server.url


@pytest.fixture(scope="module")
def direct(emulator: str) -> Clients:
    return shared_clients(emulator)


@pytest.fixture
def place(emulator: str, direct: Clients) -> TablePlace:
    return TablePlace(emulator, direct)


@pytest.fixture(scope="module")
def open_proxy(emulator: str) -> Iterator[FaultyProxy]:
    with FaultyProxy(emulator) as proxy:
        yield proxy


@pytest.fixture
def proxy(open_proxy: FaultyProxy) -> Iterator[FaultyProxy]:
    yield open_proxy
    open_proxy.heal()
    open_proxy.clear()


@pytest.fixture(scope="module")
def wire(open_proxy: FaultyProxy) -> Clients:
    """Clients that reach the table through the proxy, and wait for no longer than they must."""
    waits = FixedClock(NOON)
    return Clients(session, {REGIONS[0]: open_proxy.url}, read_timeout_s=4.0, clock=waits)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOON)


@pytest.fixture
def ledger(place: TablePlace, proxy: FaultyProxy, wire: Clients, clock: FixedClock) -> DynamoLedger:
    """A ledger that has looked at the table before."""
    ledger = place.opened(clock, clients=wire, daily_usd=1.0)
    ledger.void(reserve(ledger, 0.0, run="run-0"), error="to warm up")
    proxy.clear()
    return ledger


def reserve(ledger: Ledger, usd: float, *, run: str = "run-1", key: str | None = None) -> Hold:
    return ledger.reserve(run_id=run, agent="advisor", model="model", micro_usd=round(usd * MICRO), key=key)


def settle(ledger: Ledger, hold: Hold, micro_usd: int = 70) -> None:
    ledger.settle(hold, tokens=Tokens(10, 1), micro_usd=micro_usd)


def asked(proxy: FaultyProxy) -> Counter[str]:
    """Return how often each operation was asked for since this was last told."""
    found = Counter(call.operation for call in proxy.calls)
    proxy.clear()
    return found


def statuses(place: TablePlace, run: str = "run-1") -> list[tuple[str, str]]:
    return [(call["status"], call["error"]) for call in place.calls() if call["run_id"] == run]


# -- what it costs


def test_a_reservation_is_one_call_to_the_table_and_a_settlement_another(
    ledger: DynamoLedger, proxy: FaultyProxy
) -> None:
    ledger.budget = Budget(run_usd=1.0, daily_usd=1.0, monthly_usd=1.0, agent_daily_usd={"advisor": 1.0})
    for _ in range(5):
        hold = reserve(ledger, 0.1)
        assert asked(proxy) == {"TransactWriteItems": 1}
        settle(ledger, hold)
        assert asked(proxy) == {"TransactWriteItems": 1}


def test_an_alarm_costs_its_process_a_few_reads_once(ledger: DynamoLedger, proxy: FaultyProxy) -> None:
    reserve(ledger, 0.5)
    assert asked(proxy) == {"TransactWriteItems": 1}
    reserve(ledger, 0.35)
    # Expected to be quiet, read, and done with the alarm.
    assert asked(proxy) == {"TransactWriteItems": 2, "GetItem": 2}
    reserve(ledger, 0.05)
    assert asked(proxy) == {"TransactWriteItems": 1}
    assert [alarm.kind for alarm in ledger.alarms()] == ["measures"]


def test_once_a_minute_the_open_holds_are_looked_at(
    ledger: DynamoLedger, proxy: FaultyProxy, clock: FixedClock
) -> None:
    for _ in range(4):
        reserve(ledger, 0.01)
        clock.moment += timedelta(seconds=20)
    assert asked(proxy) == {"TransactWriteItems": 4, "Query": 1}


# -- several processes


def test_processes_with_different_caps_on_one_balance_each_keep_their_own(place: TablePlace, clock: FixedClock) -> None:
    wide, narrow, free = (place.opened(clock, **caps) for caps in ({"daily_usd": 1.0}, {"daily_usd": 0.5}, {}))
    reserve(narrow, 0.5)
    with pytest.raises(BudgetExhausted, match=r"daily budget of \$0.50"):
        reserve(narrow, 0.1)
    reserve(wide, 0.5)
    with pytest.raises(BudgetExhausted, match=r"daily budget of \$1.00"):
        reserve(wide, 0.1)
    reserve(free, 3.0)
    narrow.budget = Budget(daily_usd=4.5)
    reserve(narrow, 0.5)
    with pytest.raises(BudgetExhausted, match=r"\$4.5000 are spent or held"):
        reserve(narrow, 0.1)
    assert place.balances() == place.added_up()


def test_an_alarm_is_raised_by_one_of_several_processes(
    place: TablePlace, clock: FixedClock, caplog: pytest.LogCaptureFixture
) -> None:
    ledgers = [place.opened(clock, daily_usd=1.0) for _ in range(3)]
    for usd in (0.3, 0.1, 0.05):
        for ledger in ledgers:
            try:
                reserve(ledger, usd)
            except BudgetExhausted:
                continue
        clock.moment += timedelta(seconds=1)
    assert [alarm.kind for alarm in ledgers[0].alarms()] == ["exhausted", "measures"]
    assert [text.split()[0] for text in caplog.messages] == ["alarm=<measures>", "alarm=<exhausted>"]


def test_a_hold_of_a_process_that_died_is_found_by_another_one(place: TablePlace, clock: FixedClock) -> None:
    reserve(place.opened(clock, hold_ttl_s=600), 0.5)
    other = place.opened(clock, hold_ttl_s=600)
    reserve(other, 0.1, run="run-2")
    clock.moment += timedelta(seconds=600)
    reserve(other, 0.1, run="run-2")
    assert other.run_spend("run-1").unconfirmed_micro_usd == 500_000
    assert place.balances() == place.added_up()


def test_two_that_find_the_same_dead_hold_close_it_once(place: TablePlace, clock: FixedClock) -> None:
    ledgers = [place.opened(clock, hold_ttl_s=60) for _ in range(2)]
    hold = reserve(ledgers[0], 0.5)
    dead = ledgers[1]._calls.named(hold.call_id)
    clock.moment += timedelta(seconds=60)
    reserve(ledgers[0], 0.0)
    assert dead is not None
    ledgers[1]._endings._expire(dead)
    assert ledgers[1].run_spend("run-1").unconfirmed_micro_usd == 500_000
    assert place.balances() == place.added_up()


def test_a_plain_hold_is_closed_as_well_as_one_that_knows_its_call(place: TablePlace, clock: FixedClock) -> None:
    hold = reserve(place.opened(clock), 0.5)
    settle(place.opened(clock), Hold(hold.call_id, hold.micro_usd))
    assert statuses(place) == [("settled", "")]
    with pytest.raises(UsageError, match="holds no call 'call-7'"):
        settle(place.opened(clock), Hold("call-7", 1))


def test_threads_that_race_for_a_cap_and_close_every_call_twice(
    place: TablePlace, wire: Clients, clock: FixedClock
) -> None:
    ledgers = [place.opened(clock, clients=wire, daily_usd=0.0055) for _ in range(2)]
    start, holds = threading.Barrier(4), []

    def spend(ledger: DynamoLedger) -> None:
        start.wait(60)
        for _ in range(3):
            try:
                holds.append(reserve(ledger, 0.001))
            except BudgetExhausted:
                continue

    def close(mine: list[Hold], ledger: DynamoLedger) -> None:
        for hold in mine:
            ledger.settle(hold, tokens=Tokens(1, 1), micro_usd=700)
            ledger.keep(hold, error="lost")

    run_all(threading.Thread(target=spend, args=(ledgers[number % 2],)) for number in range(4))
    assert len(holds) == 5
    assert ledgers[0].day_spend().held_micro_usd == 5000
    run_all(threading.Thread(target=close, args=(holds[half:] + holds[:half], ledgers[0])) for half in (0, 2))
    assert ledgers[0].day_spend() == Spend(3500, 5, 0, 5, 5)
    assert place.balances() == place.added_up()


@pytest.mark.parametrize(
    ("processes", "reservations"), [(3, 6), pytest.param(8, 20, marks=pytest.mark.slow)], ids=["3x6", "8x20"]
)
def test_a_cap_is_never_passed_by_processes_that_race_for_it(
    place: TablePlace, proxy: FaultyProxy, processes: int, reservations: int
) -> None:
    # The proxy hands the emulator one request at a time: the emulator's own transactions are not safe at many threads.
    cap = processes * reservations * AMOUNT // 4 + AMOUNT // 2
    url = f"s3://nowhere/prod?table={place.place.sites[0].table}&region={REGIONS[0]}"
    numbers = map(str, (processes, reservations, cap))
    done = subprocess.run(
        [sys.executable, "-m", "tests.bedrock.money.cloud_race_driver", proxy.url, url, *numbers],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ended"] == [0] * processes
    assert told["admitted"] + told["refused"] == processes * reservations
    assert told["samples"] > 0
    assert told["highest"] <= cap
    assert told["refused"] > 0
    spent, held = place.balances()["router", "daily", "2026-03-01"][:2]
    assert held == 0
    assert cap - AMOUNT < spent <= cap
    assert place.balances() == place.added_up()


def run_all(threads: Iterator[threading.Thread]) -> None:
    running = list(threads)
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(120)


def test_contended_transactions_are_sent_again(ledger: DynamoLedger, proxy: FaultyProxy, place: TablePlace) -> None:
    proxy.fail("conflict", "dynamodb", "TransactWriteItems", times=7)
    hold = reserve(ledger, 0.1)
    assert asked(proxy) == {"TransactWriteItems": 8}
    proxy.fail("conflict", "dynamodb", "TransactWriteItems", times=7)
    settle(ledger, hold)
    assert statuses(place) == [("settled", "")]
    proxy.fail("conflict", "dynamodb", "TransactWriteItems", times=None)
    with pytest.raises(StoreUnavailable, match="busy"):
        reserve(ledger, 0.1)
    proxy.heal()
    # The table did answer: nobody leaves it alone for that.
    assert reserve(ledger, 0.1)


# -- lost answers

LOST = ("reset_after", "cut", pytest.param("timeout_after", marks=pytest.mark.slow))


@pytest.mark.parametrize("kind", LOST)
def test_a_reservation_whose_answer_is_lost_holds_once(
    ledger: DynamoLedger, proxy: FaultyProxy, place: TablePlace, kind: Kind
) -> None:
    proxy.fail(kind, "dynamodb", "TransactWriteItems")
    hold = reserve(ledger, 0.6)
    assert asked(proxy) == {"TransactWriteItems": 2, "GetItem": 1}
    assert ledger.run_spend("run-1").held_micro_usd == 600_000
    settle(ledger, hold)
    assert ledger.run_spend("run-1") == Spend(70, 1, 0, 10, 1)
    assert place.balances() == place.added_up()


def test_a_reservation_under_a_key_whose_answer_is_lost_holds_once(
    ledger: DynamoLedger, proxy: FaultyProxy, place: TablePlace
) -> None:
    proxy.fail("reset_after", "dynamodb", "TransactWriteItems")
    first = reserve(ledger, 0.6, key="run-1/1")
    assert reserve(ledger, 0.6, key="run-1/1") == first
    assert len(statuses(place)) == 1


@pytest.mark.parametrize("kind", LOST)
@pytest.mark.parametrize("micro_usd", [70, 950_000], ids=["less than held", "more than held"])
def test_a_settlement_whose_answer_is_lost_is_booked_once(
    ledger: DynamoLedger, proxy: FaultyProxy, place: TablePlace, kind: Kind, micro_usd: int
) -> None:
    hold = reserve(ledger, 0.6)
    proxy.fail(kind, "dynamodb", "TransactWriteItems")
    settle(ledger, hold, micro_usd)
    assert ledger.run_spend("run-1") == Spend(micro_usd, 1, 0, 10, 1)
    assert [alarm.kind for alarm in ledger.alarms()] == (["over_hold", "measures"] if micro_usd > 600_000 else [])
    assert place.balances() == place.added_up()


@pytest.mark.parametrize("times", [1, 3], ids=["and cannot be read", "at all"])
def test_a_reservation_nobody_heard_of_is_given_back(
    ledger: DynamoLedger, proxy: FaultyProxy, place: TablePlace, clock: FixedClock, times: int
) -> None:
    proxy.fail("reset_after", "dynamodb", "TransactWriteItems", times=times)
    proxy.fail("reset_before", "dynamodb", "GetItem", times=None)
    with pytest.raises(StoreUnavailable):
        reserve(ledger, 0.7)
    assert statuses(place) == [("held", "")]
    proxy.heal()
    clock.moment += REST
    assert reserve(ledger, 0.7, run="run-2")
    assert statuses(place) == [("void", "never sent")]
    assert place.balances() == place.added_up()


# -- outages


def test_without_the_table_nothing_is_reserved_and_nobody_waits_for_it_twice(
    ledger: DynamoLedger, proxy: FaultyProxy, place: TablePlace, clock: FixedClock
) -> None:
    proxy.down("dynamodb")
    with pytest.raises(StoreUnavailable):
        reserve(ledger, 0.1)
    assert sum(asked(proxy).values()) == 3
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="left alone"):
            reserve(ledger, 0.1)
    assert asked(proxy) == {}
    proxy.up()
    clock.moment += REST
    assert reserve(ledger, 0.1)
    assert len(statuses(place)) == 1


@pytest.mark.parametrize("then", ["reserve", "run_spend", "give_up"])
def test_what_ends_during_an_outage_is_booked_when_it_is_over(
    ledger: DynamoLedger,
    proxy: FaultyProxy,
    place: TablePlace,
    clock: FixedClock,
    caplog: pytest.LogCaptureFixture,
    then: str,
) -> None:
    first, second = reserve(ledger, 0.3), reserve(ledger, 0.3)
    proxy.down("dynamodb")
    settle(ledger, first)
    ledger.void(second, error="ThrottlingException")
    assert [text for text in caplog.messages if "its hold stays" in text]
    assert statuses(place) == [("held", ""), ("held", "")]
    proxy.up()
    clock.moment += REST
    if then == "reserve":
        reserve(ledger, 0.0, run="run-2")
    elif then == "run_spend":
        assert ledger.run_spend("run-1").micro_usd == 70
    else:
        ledger.give_up("run-1")
    assert sorted(statuses(place)) == [("settled", ""), ("void", "ThrottlingException")]
    assert ledger.day_spend().micro_usd == 70
    assert place.balances() == place.added_up()


def test_what_a_process_could_not_say_before_it_ended_counts_as_spent(
    ledger: DynamoLedger, proxy: FaultyProxy, place: TablePlace, clock: FixedClock
) -> None:
    hold = reserve(ledger, 0.3)
    proxy.down("dynamodb")
    settle(ledger, hold)
    clock.moment += timedelta(hours=1)
    later = place.opened(clock)
    reserve(later, 0.0, run="run-2")
    assert later.run_spend("run-1").unconfirmed_micro_usd == 300_000


def test_a_run_reads_its_books_as_last_known_during_an_outage(
    ledger: DynamoLedger, proxy: FaultyProxy, caplog: pytest.LogCaptureFixture
) -> None:
    reserve(ledger, 0.3)
    known = ledger.pressure("run-1"), ledger.run_spend("run-1")
    proxy.down("dynamodb")
    assert (ledger.pressure("run-1"), ledger.run_spend("run-1")) == known
    assert known[0] == Pressure(0.3, "daily", 2, 700_000)
    assert ledger.run_spend("run-2") == NO_USAGE
    ledger.give_up("run-1")
    assert "told as last known" in caplog.text
    assert "stays held until it expires" in caplog.text
    with pytest.raises(StoreUnavailable):
        ledger.day_spend()


def test_a_call_on_record_in_a_region_that_was_given_up_is_left_there(
    place: TablePlace, clock: FixedClock, caplog: pytest.LogCaptureFixture
) -> None:
    hold = reserve(place.opened(clock), 0.3)
    elsewhere = place.elsewhere()
    region = replace(elsewhere.place.sites[0], region=REGIONS[1])
    elsewhere.clients = Clients(session, {REGIONS[1]: place.url})
    elsewhere.place = replace(elsewhere.place, sites=(region,))
    elsewhere.clients.call("dynamodb", REGIONS[1], "create_table", **definition(region.table))
    with caplog.at_level(logging.WARNING):
        settle(elsewhere.opened(clock), hold)
    assert f"call=<{hold.call_id}> region=<{REGIONS[0]}> | it is on record in another region" in caplog.text
    assert statuses(place) == [("held", "")]


def definition(table: str) -> dict[str, object]:
    return {
        "TableName": table,
        "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        "BillingMode": "PAY_PER_REQUEST",
    }


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 9))])
def test_whatever_is_lost_on_the_wire_the_books_are_sound(
    place: TablePlace, proxy: FaultyProxy, wire: Clients, clock: FixedClock, seed: int
) -> None:
    chance, cap = random.Random(seed), 20_000
    ids = CountedIds()
    ledgers = [place.opened(clock, clients=wire, ids=ids, budget=Budget(daily_usd=cap / MICRO)) for _ in range(2)]
    ended: dict[str, int] = {}
    for _ in range(25):
        ledger = chance.choice(ledgers)
        if chance.random() < 0.4:
            kind: Kind = chance.choice(["reset_before", "reset_after", "cut", "internal", "throttle", "conflict"])
            proxy.fail(kind, "dynamodb", nth=chance.randint(1, 2), times=chance.choice([1, 1, 3]))
        try:
            hold = reserve(ledger, 0.001)
        except (StoreUnavailable, BudgetExhausted):
            hold = None
        if hold is not None and chance.random() < 0.8:
            ended[hold.call_id] = chance.randint(0, 1000)
            settle(chance.choice([ledger, ledger, *ledgers]), hold, ended[hold.call_id])
        proxy.heal()
        clock.moment += chance.choice([timedelta(), REST])
        assert place.balances().get(("router", "daily", "2026-03-01"), (0, 0))[0] <= cap
    clock.moment += REST
    for ledger in ledgers:  # what is still to be said is said now
        ledger.void(reserve(ledger, 0.0), error="to end with")
    assert place.balances() == place.added_up()
    cost = {call["call_id"]: call["cost_micro_usd"] for call in place.calls() if call["status"] == "settled"}
    assert cost == ended
