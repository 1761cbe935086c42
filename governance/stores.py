"""Opening a store by its URL: a SQLite file, or S3 and DynamoDB with a working copy on this machine."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bedrock.money.sqlite_ledger import SQLiteLedger
from ..bedrock.routing.performance import ModelPerformanceTracker, PerformanceTracker
from ..clock import Clock, IdSource
from ..dna.anchor import HeadAnchor
from ..dna.aws.calls import Clients
from ..dna.database import SCHEME, Database
from ..dna.sqlite import SQLiteDNAStore
from ..errors import StoreError
from ..settings import Budget, Settings
from .projections import project

if TYPE_CHECKING:
    from ..bedrock.money.books import Books
    from ..bedrock.money.ledger import Ledger
    from ..dna.aws.regions import Regions

_CLOUD = "s3://"


@dataclass(frozen=True, slots=True)
class OpenStore:
    """A store, the file that this machine works on, and what is shared by all who use it.

    Args:
        database: The store's own file, or the working copy of a cloud store.
        store: DNA and events.
        regions: Where a cloud store is; None for a file.
        clients: Call AWS; none is called before it is asked for something.
    """

    database: Database
    store: SQLiteDNAStore
    regions: Regions | None
    clients: Clients

    def ledger(self, *, app: str, budget: Budget, clock: Clock, ids: IdSource) -> Ledger:
        """Return the ledger that all machines of an application share."""
        if self.regions is not None:
            from ..bedrock.money.dynamo_ledger import DynamoLedger

            return DynamoLedger(self.regions, app=app, budget=budget, clock=clock, ids=ids)
        return SQLiteLedger(self.database, app=app, budget=budget, clock=clock, ids=ids)

    def books(self, *, app: str, clock: Clock) -> Books:
        """Return what that ledger has on record, to be moved."""
        if self.regions is not None:
            from ..bedrock.money.dynamo_books import DynamoBooks

            return DynamoBooks(self.regions, app=app, clock=clock)
        from ..bedrock.money.sqlite_books import SQLiteBooks

        return SQLiteBooks(self.database, app)

    def tracker(self, *, app: str, clock: Clock) -> PerformanceTracker:
        """Return what the router learned, on all machines of an application."""
        if self.regions is not None:
            from ..bedrock.routing.dynamo_performance import DynamoPerformanceTracker

            return DynamoPerformanceTracker(self.regions, app=app, clock=clock)
        return ModelPerformanceTracker(self.database, app=app, clock=clock)


def open_store(settings: Settings, *, clock: Clock, ids: IdSource, existing: bool = False) -> OpenStore:
    """Open the store that the settings name.

    Args:
        settings: Name it.
        clock: Tells when something was queued.
        ids: Names this machine.
        existing: Make no new file.

    Raises:
        StoreError: The URL is of no kind we know, or what it names cannot be used.
    """
    if settings.store.startswith(_CLOUD):
        return _cloud(settings, clock=clock, ids=ids)
    if existing and settings.store.startswith(SCHEME) and not _path(settings.store).exists():
        raise StoreError(
            f"there is no store {settings.store}.", hint="Run an application first, or name its store with --store."
        )
    database = Database.from_url(settings.store)
    anchor = HeadAnchor.beside(database, anchor=settings.audit_anchor, key=settings.audit_key)
    return OpenStore(database, SQLiteDNAStore(database, anchor), None, _clients(settings, clock, ids))


def _path(url: str) -> Path:
    return Path(url.removeprefix(SCHEME)).expanduser()


def _cloud(settings: Settings, *, clock: Clock, ids: IdSource) -> OpenStore:
    from ..dna.aws.place import CloudPlace
    from ..dna.aws.regions import Regions
    from ..dna.aws.sealing.anchor import CloudAnchor
    from ..dna.aws.sealing.kms import KmsSigner
    from ..dna.aws.setup.blueprint import signing_alias
    from ..dna.cloud import CloudDNAStore

    place, clients = CloudPlace.parse(settings.store), _clients(settings, clock, ids)
    regions = Regions(clients, place, clock)
    database = Database(settings.work_dir.expanduser() / f"{place.name}.db")
    anchor = None
    if settings.audit_kms_key != "none":
        key = settings.audit_kms_key or signing_alias(place)
        signer = KmsSigner(clients, key, [site.region for site in place.sites])
        anchor = CloudAnchor(regions, signer, clock, retain_days=settings.audit_retain_days)
    store = CloudDNAStore(database, regions, clock=clock, ids=ids, draws=clients.draws, project=project, anchor=anchor)
    return OpenStore(database, store, regions, clients)


def _clients(settings: Settings, clock: Clock, ids: IdSource) -> Clients:
    return Clients(
        partial(_session, settings),
        settings.aws_endpoints,
        connect_timeout_s=settings.store_timeout_s,
        read_timeout_s=settings.store_timeout_s,
        clock=clock,
        draws=random.Random(ids.new("jitter")),  # noqa: S311  # jitter is no secret
    )


def _session(settings: Settings) -> Any:
    from ..bedrock.aws.credentials import store_session

    return store_session(settings)
