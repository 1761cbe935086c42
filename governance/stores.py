"""Opening a store by its URL: a SQLite file, or S3 and DynamoDB with a working copy on this machine."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..bedrock.money.sqlite_ledger import SQLiteLedger
from ..bedrock.routing.performance import ModelPerformanceTracker
from ..clock import Clock, IdSource
from ..dna.anchor import HeadAnchor
from ..dna.database import SCHEME, Database
from ..dna.events import EvolutionEvent
from ..dna.sqlite import SQLiteDNAStore
from ..errors import StoreError
from ..settings import Budget, Settings

if TYPE_CHECKING:
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
    """

    database: Database
    store: SQLiteDNAStore
    regions: Regions | None

    def ledger(self, *, app: str, budget: Budget, clock: Clock, ids: IdSource) -> Ledger:
        """Return the ledger that all machines of an application share."""
        return SQLiteLedger(self.database, app=app, budget=budget, clock=clock, ids=ids)

    def tracker(self, *, app: str, clock: Clock) -> ModelPerformanceTracker:
        """Return what the router learned, on all machines of an application."""
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
    return OpenStore(database, SQLiteDNAStore(database, anchor), None)


def _path(url: str) -> Path:
    return Path(url.removeprefix(SCHEME)).expanduser()


def _cloud(settings: Settings, *, clock: Clock, ids: IdSource) -> OpenStore:
    from ..bedrock.aws.credentials import store_session
    from ..dna.aws.calls import Clients
    from ..dna.aws.place import CloudPlace
    from ..dna.aws.regions import Regions
    from ..dna.cloud import CloudDNAStore

    place = CloudPlace.parse(settings.store)
    draws = random.Random(ids.new("jitter"))  # noqa: S311  # jitter is no secret
    clients = Clients(
        partial(store_session, settings),
        settings.aws_endpoints,
        connect_timeout_s=settings.store_timeout_s,
        read_timeout_s=settings.store_timeout_s,
        clock=clock,
        draws=draws,
    )
    regions = Regions(clients, place, clock)
    database = Database(settings.work_dir.expanduser() / f"{place.name}.db")
    store = CloudDNAStore(database, regions, clock=clock, ids=ids, draws=draws, project=_project)
    return OpenStore(database, store, regions)


def _project(connection: sqlite3.Connection, event: EvolutionEvent) -> None:
    pass
