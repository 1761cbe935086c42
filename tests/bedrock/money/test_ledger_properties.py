"""P2 and P8 for whatever happens: the books never drift, no cap is passed, and alarms sound exactly when they should.

A model of the books in plain Python is kept beside ledgers on a real file, and on a table of DynamoDB in an emulator,
through any sequence of calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from bedrock_evolution.bedrock.models.prices import Tokens, cost_micro_usd
from bedrock_evolution.bedrock.money.ledger import Hold, Ledger
from bedrock_evolution.clock import CountedIds, FixedClock
from bedrock_evolution.errors import BudgetExhausted, UsageError
from bedrock_evolution.settings import MICRO, Budget
from tests.bedrock.money.places import FilePlace, Place, TablePlace, shared_clients
from tests.support.books import APP, Balance, added_up, ask, balances, opened
from tests.support.converse import Message
from tests.support.moto_server import moto_server
from tests.support.stage import Stage, staged

TTL_S = 3600
START = datetime(2026, 2, 28, 22, 30, tzinfo=UTC)  # a day and a month end within hours
RUNS = ("run-1", "run-2")
AGENTS = ("advisor", "healer")

amounts = st.integers(0, 400_000)
caps = st.none() | st.sampled_from([0.0, 0.25, 0.5, 1.0])
budgets = st.builds(
    Budget,
    call_usd=st.none() | st.just(0.3),
    run_usd=caps,
    daily_usd=caps,
    monthly_usd=caps,
    agent_daily_usd=st.dictionaries(st.sampled_from(AGENTS), st.sampled_from([0.25, 0.5]), max_size=2),
)


@dataclass
class Call:
    """One call, as the model of the books has it."""

    run: str
    agent: str
    day: str
    reserved: int
    expires: datetime
    status: str = "held"
    cost: int = 0
    tokens: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def spent(self) -> int:
        return {"held": 0, "void": 0, "settled": self.cost}.get(self.status, self.reserved)

    @property
    def held(self) -> int:
        return self.reserved if self.status == "held" else 0

    def accounts(self) -> list[tuple[str, str]]:
        return [("run", self.run), (f"daily {self.agent}", self.day), ("daily", self.day), ("monthly", self.day[:7])]

    def balance(self) -> Balance:
        presumed = self.status in ("lost", "expired")
        failed = presumed or self.status == "void"
        return (self.spent, self.held, self.spent if presumed else 0, 1, int(failed), *self.tokens)


@dataclass
class Books:
    """All calls, and the alarms there have to be."""

    calls: dict[str, Call] = field(default_factory=dict)
    alarms: set[tuple[str, str, str, int]] = field(default_factory=set)

    def balances(self) -> dict[tuple[str, str, str], Balance]:
        found: dict[tuple[str, str, str], Balance] = {}
        for call in self.calls.values():
            for scope, period in call.accounts():
                before = found.get((APP, scope, period), (0,) * 9)
                found[APP, scope, period] = tuple(a + b for a, b in zip(before, call.balance(), strict=True))
        return found

    def taken(self, account: tuple[str, str]) -> int:
        return sum(call.spent + call.held for call in self.calls.values() if account in call.accounts())


def cap_of(budget: Budget, scope: str) -> int | None:
    usd = {
        "run": budget.run_usd,
        "daily": budget.daily_usd,
        "monthly": budget.monthly_usd,
        **{f"daily {agent}": cap for agent, cap in budget.agent_daily_usd.items()},
    }.get(scope)
    return None if usd is None else round(usd * MICRO)


class LedgerMachine(RuleBasedStateMachine):
    """Two processes reserve, close, wait, die and change their budgets in any order.

    Args:
        place: Where their books are.
    """

    holds = Bundle("holds")

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.clock = FixedClock(START)
        self.ids = CountedIds()
        self.books = Books()
        self.ledgers = [self.opened(Budget()), self.opened(Budget())]

    def opened(self, budget: Budget) -> Ledger:
        return self.place.opened(self.clock, budget=budget, ids=self.ids, hold_ttl_s=TTL_S)

    @property
    def ledger(self) -> Ledger:
        """The ledger of the process whose turn it is."""
        return self.ledgers[0]

    @property
    def budget(self) -> Budget:
        return self.ledger.budget

    # -- what can happen

    @rule(target=holds, run=st.sampled_from(RUNS), agent=st.sampled_from(AGENTS), amount=amounts)
    def reserve(self, run: str, agent: str, amount: int) -> Hold | None:
        self.expire()
        now = self.clock.moment
        call = Call(run, agent, f"{now:%Y-%m-%d}", amount, now + timedelta(seconds=TTL_S))
        refusing = self.refusing(call)
        try:
            hold = self.ledger.reserve(run_id=run, agent=agent, model="model", micro_usd=amount)
        except BudgetExhausted:
            assert refusing
            self.books.alarms |= {("exhausted", *account, cap) for account, cap in refusing.items()}
            return None
        assert not refusing
        self.books.calls[hold.call_id] = call
        self.sound(call)
        return hold

    def refusing(self, call: Call) -> dict[tuple[str, str], int]:
        if self.budget.call_usd is not None and call.reserved > round(self.budget.call_usd * MICRO):
            return {("call", call.day): round(self.budget.call_usd * MICRO)}
        capped = {account: cap_of(self.budget, account[0]) for account in call.accounts()}
        return {
            account: cap
            for account, cap in capped.items()
            if cap is not None and self.books.taken(account) + call.reserved > cap
        }

    @rule(hold=holds, used=amounts, tokens=st.tuples(*[st.integers(0, 5000)] * 4))
    def settle(self, hold: Hold | None, used: int, tokens: tuple[int, int, int, int]) -> None:
        if hold is None:
            return
        call = self.books.calls[hold.call_id]
        before, settled = call.spent + call.held, call.status == "settled"
        self.ledger.settle(hold, tokens=Tokens(*tokens), micro_usd=used)
        if settled:
            return
        call.status, call.cost, call.tokens = "settled", used, tokens
        if used > before:
            self.sound(call)
        if used > call.reserved:
            self.books.alarms.add(("over_hold", "call", hold.call_id, call.reserved))

    @rule(hold=holds)
    def void(self, hold: Hold | None) -> None:
        if hold is not None:
            self.ledger.void(hold, error="refused")
            call = self.books.calls[hold.call_id]
            call.status = "settled" if call.status == "settled" else "void"

    @rule(hold=holds)
    def keep(self, hold: Hold | None) -> None:
        if hold is not None:
            self.ledger.keep(hold, error="lost")
            call = self.books.calls[hold.call_id]
            call.status = "lost" if call.status in ("held", "expired") else call.status

    @rule(minutes=st.sampled_from([1, 30, 59, 60, 61, 24 * 60]))
    def wait(self, minutes: int) -> None:
        self.clock.moment += timedelta(minutes=minutes)

    @rule(budget=budgets)
    def change_budget(self, budget: Budget) -> None:
        self.ledger.budget = budget

    @rule()
    def die_and_come_back(self) -> None:
        self.ledgers[0] = self.opened(self.budget)

    @rule()
    def let_the_other_go_on(self) -> None:
        self.ledgers.reverse()

    @rule(amount=amounts)
    def reserve_twice_under_a_key(self, amount: int) -> None:
        self.change_budget(Budget())
        key = self.ids.new("key")
        hold = self.reserve_keyed(key, amount)
        assert self.reserve_keyed(key, amount) == hold
        with pytest.raises(UsageError):
            self.reserve_keyed(key, amount + 1)
        now = self.clock.moment
        expires = now + timedelta(seconds=TTL_S)
        self.books.calls[hold.call_id] = Call("run-1", "advisor", f"{now:%Y-%m-%d}", amount, expires)

    def reserve_keyed(self, key: str, amount: int) -> Hold:
        self.expire()
        return self.ledger.reserve(run_id="run-1", agent="advisor", model="model", micro_usd=amount, key=key)

    # -- the model

    def expire(self) -> None:
        for call in self.books.calls.values():
            if call.status == "held" and call.expires <= self.clock.moment:
                call.status = "expired"

    def sound(self, call: Call) -> None:
        for account in call.accounts():
            cap, taken = cap_of(self.budget, account[0]), self.books.taken(account)
            for kind, share in (("measures", Fraction(4, 5)), ("exhausted", Fraction(1))):
                if cap is not None and taken >= share * cap:
                    self.books.alarms.add((kind, *account, cap))

    # -- what must always hold

    @invariant()
    def the_books_are_those_of_the_model(self) -> None:
        assert self.place.balances() == self.books.balances() == self.place.added_up()

    @invariant()
    def every_alarm_is_there_exactly_when_it_should_be(self) -> None:
        found = [(alarm.kind, alarm.scope, alarm.period, alarm.cap_micro_usd) for alarm in self.ledger.alarms()]
        assert len(found) == len(set(found))
        assert set(found) == self.books.alarms

    @invariant()
    def spend_and_pressure_are_read_as_they_are(self) -> None:
        day = f"{self.clock.moment:%Y-%m-%d}"
        assert self.ledger.day_spend().micro_usd == self.books.taken(("daily", day))
        assert self.ledger.month_spend().micro_usd == self.books.taken(("monthly", day[:7]))
        assert self.ledger.run_spend("run-1").micro_usd == self.books.taken(("run", "run-1"))
        scopes = [("run", "run-1"), ("daily", day), ("monthly", day[:7]), *((f"daily {name}", day) for name in AGENTS)]
        capped = [(self.books.taken(account), cap_of(self.budget, account[0])) for account in scopes]
        shares = [(taken / cap if cap else 1.0) for taken, cap in capped if cap is not None]
        assert self.ledger.pressure("run-1").share == max(shares, default=0.0)


def test_the_books_of_a_file_never_drift(tmp_path_factory: pytest.TempPathFactory) -> None:
    def machine() -> LedgerMachine:
        return LedgerMachine(FilePlace(tmp_path_factory.mktemp("books") / "evolution.db"))

    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None))


@pytest.mark.slow
def test_the_books_of_a_table_never_drift() -> None:
    with moto_server() as server:
        clients = shared_clients(server.url)
        run_state_machine_as_test(
            lambda: LedgerMachine(TablePlace(server.url, clients)),
            settings=settings(
                max_examples=20,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )


# -- P2: tokens and money equal usage times price

HAIKU = "global.anthropic.claude-haiku-4-5-20251001-v1:0"
SONNET = "global.anthropic.claude-sonnet-4-5-20250929-v1:0"
PRICES = {HAIKU: ("1", "5", "0.1", "1.25"), SONNET: ("3", "15", "0.3", "3.75")}
"""Dollars per million tokens of input, output, cache reads and cache writes."""

counts = st.integers(0, 200_000)


@settings(max_examples=25, deadline=None)
@given(calls=st.lists(st.tuples(st.sampled_from([HAIKU, SONNET]), counts, counts, counts, counts), max_size=12))
def test_tracked_tokens_and_cost_equal_usage_times_price(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[str, int, int, int, int]]
) -> None:
    ledger = opened(tmp_path_factory.mktemp("p2") / "evolution.db", FixedClock(START), ids=CountedIds())
    exact = Fraction(0)
    for model, fresh, written, cache_read, cache_write in calls:
        tokens = Tokens(fresh + cache_read + cache_write, written, cache_read, cache_write)
        hold = ledger.reserve(run_id="run-1", agent="advisor", model=model, micro_usd=10 * MICRO)
        ledger.settle(hold, tokens=tokens, micro_usd=cost_micro_usd(model, tokens))
        used = (fresh, written, cache_read, cache_write)
        exact += sum(Fraction(usd) * count for usd, count in zip(PRICES[model], used, strict=True))
    spend = ledger.run_spend("run-1")
    assert exact <= spend.micro_usd <= exact + len(calls)  # a part of a micro-dollar counts whole, once a call
    assert abs(spend.micro_usd - exact) <= exact / 100 or spend.micro_usd <= 100 * len(calls)
    assert spend.input_tokens == sum(fresh + read + write for _, fresh, _, read, write in calls)
    assert spend.output_tokens == sum(written for _, _, written, _, _ in calls)
    assert spend.cache_read_tokens == sum(read for *_, read, _ in calls)
    assert spend.cache_write_tokens == sum(write for *_, write in calls)
    assert sum(group.spend.micro_usd for group in ledger.spend_by("model")) == spend.micro_usd


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("p2")) as open_stage:
        yield open_stage


@settings(max_examples=25, deadline=None)
@given(replies=st.lists(st.tuples(counts, counts, counts, counts), min_size=1, max_size=4))
def test_what_responses_say_reaches_the_ledger_through_the_gateway(
    stage: Stage, replies: list[tuple[int, int, int, int]]
) -> None:
    before = stage.ledger.day_spend()
    stage.answer(lambda request: Message([{"text": "ok"}], "", *replies[request.number]))
    for _ in replies:
        ask(stage)
    after = stage.ledger.day_spend()
    exact = sum(Fraction(usd) * count for used in replies for usd, count in zip(PRICES[HAIKU], used, strict=True))
    assert exact <= after.micro_usd - before.micro_usd <= exact + len(replies)
    assert after.input_tokens - before.input_tokens == sum(fresh + read + write for fresh, _, read, write in replies)
    assert after.output_tokens - before.output_tokens == sum(written for _, written, _, _ in replies)
    assert balances(stage.database) == added_up(stage.database)
