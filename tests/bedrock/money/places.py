"""Where a ledger keeps its books: a file, or a table of DynamoDB. The same tests are run against both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from bedrock_evolution.bedrock.money.books import Books
from bedrock_evolution.bedrock.money.dynamo_books import DynamoBooks
from bedrock_evolution.bedrock.money.dynamo_ledger import DynamoLedger
from bedrock_evolution.bedrock.money.ledger import HOLD_TTL_S, Ledger
from bedrock_evolution.bedrock.money.sqlite_books import SQLiteBooks
from bedrock_evolution.clock import Clock, IdSource, RandomIds, SystemClock
from bedrock_evolution.dna.aws.calls import Clients
from bedrock_evolution.dna.aws.place import CloudPlace, Site
from bedrock_evolution.dna.aws.regions import Regions
from bedrock_evolution.dna.aws.table import Table
from bedrock_evolution.dna.database import Database
from bedrock_evolution.settings import Budget
from tests.support import books
from tests.support.books import APP, Balance
from tests.support.cloud import REGIONS, session

_TABLES = count(1)
_COUNTS = ("calls", "failed_calls", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
_PRESUMED = ("lost", "expired")
Balances = dict[tuple[str, str, str], Balance]


class Place(Protocol):
    """Books, as they are used and as they are read behind the ledger's back."""

    opened: Callable[..., Ledger]
    """Opens a ledger on them, on a connection of its own."""

    def balances(self) -> Balances:
        """Return the stored balances by application, scope and period."""
        ...

    def added_up(self) -> Balances:
        """Return what the balances have to be: sums over the calls on record."""
        ...

    def calls(self) -> list[dict[str, Any]]:
        """Return the calls on record."""
        ...

    def books(self) -> Books:
        """Return them as they are moved."""
        ...

    def elsewhere(self) -> Place:
        """Return other books."""
        ...


@dataclass
class FilePlace:
    """Books in a file."""

    path: Path

    @cached_property
    def database(self) -> Database:
        return Database(self.path)

    def opened(self, clock: Clock, **about: Any) -> Ledger:
        return books.opened(self.path, clock, **about)

    def balances(self) -> Balances:
        return books.balances(self.database)

    def added_up(self) -> Balances:
        return books.added_up(self.database)

    def calls(self) -> list[dict[str, Any]]:
        names = [row[1] for row in self.database.rows("PRAGMA table_info(calls)")]
        return [dict(zip(names, row, strict=True)) for row in self.database.rows("SELECT * FROM calls")]

    def books(self) -> Books:
        return SQLiteBooks(Database(self.path), APP)

    def elsewhere(self) -> FilePlace:
        return FilePlace(self.path.with_name("other.db"))


@dataclass
class TablePlace:
    """Books in a table of its own.

    Args:
        url: The emulator's.
        clients: Used by every ledger here; clients are slow to make.
    """

    url: str
    clients: Clients
    place: CloudPlace = field(init=False)

    def __post_init__(self) -> None:
        name = f"books-{next(_TABLES)}"
        self.place = CloudPlace("prod", (Site(REGIONS[0], "nowhere", name),))
        keys = (("pk", "HASH"), ("sk", "RANGE"))
        self.clients.call(
            "dynamodb",
            REGIONS[0],
            "create_table",
            TableName=name,
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key, _ in keys],
            KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys],
            BillingMode="PAY_PER_REQUEST",
        )

    def regions(self, clock: Clock) -> Regions:
        return Regions(self.clients, self.place, clock)

    def opened(
        self,
        clock: Clock,
        *,
        app: str = APP,
        budget: Budget | None = None,
        ids: IdSource | None = None,
        hold_ttl_s: float = HOLD_TTL_S,
        clients: Clients | None = None,
        **caps: Any,
    ) -> DynamoLedger:
        return DynamoLedger(
            Regions(clients or self.clients, self.place, clock),
            app=app,
            budget=budget or Budget(**caps),
            clock=clock,
            ids=ids or RandomIds(clock),
            hold_ttl_s=hold_ttl_s,
        )

    @property
    def table(self) -> Table:
        return Table(self.clients, self.place.sites[0])

    def items(self, begins: str, app: str = APP) -> list[dict[str, Any]]:
        return list(self.table.query(f"{self.place.partition(app)}/money", begins=begins))

    def balances(self) -> Balances:
        found = {}
        for item in self.items("account#"):
            sums = [item.get(name, 0) for name in ("spent", "held", "unconfirmed", *_COUNTS)]
            assert item.get("taken", 0) == sums[0] + sums[1]
            found[APP, item["scope"], item["period"]] = tuple(sums)
        return found

    def added_up(self) -> Balances:
        sums: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0] * 9)
        for call in self.calls():
            cost, status = call["cost_micro_usd"], call["status"]
            failed = int(status in (*_PRESUMED, "void"))
            unconfirmed = cost if status in _PRESUMED else 0
            adds = [cost, call["held_micro_usd"], unconfirmed, 1, failed, *(call[name] for name in _COUNTS[2:])]
            for scope, period in (
                ("run", call["run_id"]),
                (f"daily {call['agent']}", call["day"]),
                ("daily", call["day"]),
                ("monthly", call["month"]),
            ):
                sums[APP, scope, period] = [a + b for a, b in zip(sums[APP, scope, period], adds, strict=True)]
        # A hold that is open is found among the open ones, and no other is.
        still_open = {call["call_id"] for call in self.calls() if call["status"] == "held"}
        assert {item["call_id"] for item in self.items("open#")} == still_open
        return {account: tuple(each) for account, each in sums.items()}

    def calls(self) -> list[dict[str, Any]]:
        return [
            {"app": APP, **{name: value for name, value in item.items() if name not in ("pk", "sk", "sum", "end_sum")}}
            for item in self.items("call#")
        ]

    def books(self) -> Books:
        clock = SystemClock()
        return DynamoBooks(self.regions(clock), app=APP, clock=clock)

    def elsewhere(self) -> TablePlace:
        return TablePlace(self.url, self.clients)


def shared_clients(url: str) -> Clients:
    """Return clients for the emulator at a URL."""
    return Clients(session, {REGIONS[0]: url})
