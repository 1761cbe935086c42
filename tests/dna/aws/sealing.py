"""A record on this machine, a key in KMS, and digests in an emulator; clients that die at a call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from bedrock_evolution.clock import Clock, SystemClock
from bedrock_evolution.dna.aws.calls import Clients, Service
from bedrock_evolution.dna.aws.items import put
from bedrock_evolution.dna.aws.regions import Regions
from bedrock_evolution.dna.aws.sealing.anchor import CloudAnchor
from bedrock_evolution.dna.aws.sealing.digests import Digests
from bedrock_evolution.dna.aws.sealing.kms import KmsSigner
from bedrock_evolution.dna.aws.table import Table
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.digest import Digest
from bedrock_evolution.dna.events import EventDraft
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from tests.support.cloud import PREFIX, REGIONS, Cloud, session

APP = "é 字/router"
_NUMBERS = count(1)
MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def holds(there: Cloud, number: int) -> None:
    """Let all regions say that they have so many events."""
    for table in there.regions().tables.values():
        table.write(put(there.place.partition(APP), "head", {"number": number}))


@dataclass(slots=True)
class Watched(Clients):
    """Clients that count their calls and tell somebody just before and just after each.

    Args:
        told: Given the number of the call, from 1, `before` or `after`, and the operation.
    """

    told: Callable[[int, str, str], None] = lambda number, moment, operation: None
    operations: list[str] | None = None

    def call(self, service: Service, region: str, operation: str, **arguments: Any) -> dict[str, Any]:
        self.operations = [*(self.operations or []), operation]
        number = len(self.operations)
        self.told(number, "before", operation)
        # Without arguments `super` does not know a class with slots, which was made anew.
        answer = Clients.call(self, service, region, operation, **arguments)
        self.told(number, "after", operation)
        return answer


@cache
def one_session() -> Any:
    """Return the session that all clients share here: each new one reads the descriptions of all services anew."""
    return session()


def own_clients(there: Cloud) -> Clients:
    """Return clients of their own, as another process has them."""
    return Clients(one_session, there.endpoints)


def clients(there: Cloud) -> Clients:
    """Return clients that all share who need none of their own: making them takes longer than what they do."""
    return _shared(tuple(there.endpoints.items()))


@cache
def _shared(endpoints: tuple[tuple[str, str], ...]) -> Clients:
    return Clients(one_session, dict(endpoints))


def watched(there: Cloud, told: Callable[[int, str, str], None] = lambda number, moment, operation: None) -> Watched:
    return Watched(one_session, there.endpoints, told=told)


@cache
def _client(endpoint: str, service: str, region: str) -> Any:
    return one_session().client(service, region_name=region, endpoint_url=endpoint)


def behind(there: Cloud, service: str, region: str = REGIONS[0]) -> Any:
    """Return a client of boto3 itself, to look behind the store's back."""
    return _client(there.endpoints[region], service, region)


def new_key(there: Cloud, spec: str = "RSA_2048", usage: str = "SIGN_VERIFY", **options: Any) -> str:
    """Make a key in KMS and return its id."""
    made = behind(there, "kms").create_key(KeySpec=spec, KeyUsage=usage, **options)
    return str(made["KeyMetadata"]["KeyId"])


def anchor(
    there: Cloud, key: str, *, calls: Clients | None = None, clock: Clock | None = None, retain_days: int = 0
) -> CloudAnchor:
    """Return the anchor of a process of its own."""
    calls, clock = calls or clients(there), clock or SystemClock()
    regions = Regions(calls, there.place, clock)
    return CloudAnchor(
        regions, KmsSigner(calls, key, [site.region for site in there.place.sites]), clock, retain_days=retain_days
    )


def apart(there: Cloud) -> Cloud:
    """Return an empty store in the same bucket and table: making these takes a second."""
    return Cloud(there.url.replace(f"/{there.place.prefix}?", f"/{PREFIX}-{next(_NUMBERS)}?"), there.endpoints)


def record(path: Path, events: int = 0) -> SQLiteDNAStore:
    store = SQLiteDNAStore(Database(path))
    grow(store, events)
    return store


def grow(store: SQLiteDNAStore, events: int) -> None:
    for number in range(store.count(APP) + 1, store.count(APP) + events + 1):
        store.append(draft(number))


def draft(number: int, why: str = "é 字 😀") -> EventDraft:
    data = {"n": number, "text": 'a "quoted"\nline'}
    return EventDraft(app=APP, kind="note", key=f"k/{number}", at=MOMENT, actor="rule", why=why, data=data)


def digests(there: Cloud, region: str = REGIONS[0]) -> Digests:
    return Digests(Table(clients(there), there.site(region)), there.place)


def sealed(there: Cloud, region: str = REGIONS[0]) -> list[Digest]:
    """Return the digests that are there, each read from its object."""
    found = digests(there, region)
    return [Digest.read(found.content(entry.object) or b"") for entry in found.entries(APP)]
