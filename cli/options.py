"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..dna.database import Database
    from ..dna.sqlite import SQLiteDNAStore
    from ..governance.stores import OpenStore

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Store = Annotated[str | None, typer.Option(help="Store URL: sqlite:///path.db or s3://BUCKET/PREFIX?table=…&region=….")]
App = Annotated[str | None, typer.Option("--app", help="Name of the application, where the store holds several.")]
By = Annotated[str, typer.Option("--by", help="Name of the person who answers for it.")]
Why = Annotated[str, typer.Option("--why", help="The reason, for the record.")]


def open_store(url: str | None) -> tuple[Database, SQLiteDNAStore]:
    """Open a store that exists.

    Raises:
        StoreError: It does not exist, or cannot be used.
        InvalidSetting: A setting is not allowed.
    """
    found = open_all(url)
    return found.database, found.store


def open_all(url: str | None) -> OpenStore:
    """Open a store that exists, with all that belongs to it."""
    from ..clock import RandomIds, SystemClock
    from ..governance.stores import open_store as opened
    from ..settings import Settings

    return opened(Settings.load(store=url), clock=SystemClock(), ids=RandomIds(), existing=True)


def chosen_app(store: SQLiteDNAStore, name: str | None) -> str:
    """Return the application a command is about.

    Raises:
        UnknownRun: The store holds none, or not this one.
        UsageError: It holds several, and none was named.
    """
    from ..errors import UnknownRun, UsageError

    apps = store.apps()
    if name is None and len(apps) > 1:
        raise UsageError(f"the store holds several applications: {', '.join(apps)}.", hint="Name one with --app.")
    if not apps or (name is not None and name not in apps):
        raise UnknownRun(
            f"the store holds no application{f' {name!r}' if name else ''}.",
            hint=f"It holds: {', '.join(apps)}." if apps else "Run one first.",
        )
    return name or apps[0]


def tell_what_waits(store: SQLiteDNAStore) -> None:
    """Say what a command could not send to a store in the cloud: when it has ended, nothing tries again by itself."""
    import sys

    queue = store.queue()
    if queue is not None and queue.waiting:
        print(
            f"not sent yet: {counted(queue.waiting)} on this machine, as the store cannot be reached."
            "\n  -> They go with whatever is next stored from this `work_dir`, by a run for instance.",
            file=sys.stderr,
        )


def counted(waiting: int) -> str:
    """Return how many events wait."""
    return "1 event waits" if waiting == 1 else f"{waiting} events wait"


def print_json(value: Any) -> None:
    """Print one JSON object."""
    import json
    from dataclasses import asdict, is_dataclass

    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    print(json.dumps(plain, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    from dataclasses import asdict, is_dataclass

    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return dict(value) if hasattr(value, "keys") else list(value)
