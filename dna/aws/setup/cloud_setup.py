"""`CloudSetup`: builds a store's keys, buckets and tables as its blueprint says, and tells what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from ..calls import Clients
from ..place import CloudPlace
from .blueprint import Blueprint, encryption_alias, signing_alias
from .bucket import BucketSetup
from .calls import SetupCalls
from .comparing import Difference, Document, compare, merged, plain
from .keys import Key
from .table import TableSetup


class Resource(Protocol):
    """A key, a bucket or a table."""

    fixed: ClassVar[frozenset[str]]
    """Aspects that cannot be changed, or not without a person's judgement."""
    entries: ClassVar[frozenset[str]]
    """Aspects made of entries by name, of which only ours are compared."""

    @property
    def what(self) -> str:
        """Its kind, its name and where it is."""
        ...

    def wanted(self) -> dict[str, Document]:
        """Return how each of its aspects has to be, in the order in which they are changed."""
        ...

    def found(self) -> dict[str, Document] | None:
        """Return how they are; None where there is no such thing."""
        ...

    def create(self) -> None:
        """Make it."""
        ...

    def change(self, aspect: str, document: Document) -> None:
        """Write an aspect."""
        ...


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that was compared.

    Args:
        resource: What it belongs to.
        name: Its aspect and its path in it.
        wanted: How it has to be.
        found: How it is; None where it is not there.
        ok: Whether it is as wanted.
    """

    resource: str
    name: str
    wanted: Any
    found: Any
    ok: bool


Action = Literal["create", "set", "leave"]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that `store init` does.

    Args:
        action: `create`, `set` or, for what it must not or cannot change, `leave`.
        resource: What it is done to.
        field: What is set: a field, or a rule or statement that is new; empty where the resource is created.
        wanted: The value that is set.
        found: The value before.
    """

    action: Action
    resource: str
    field: str = ""
    wanted: Any = None
    found: Any = None


class CloudSetup:
    """Compares a store with its blueprint, and builds what is missing.

    Nothing is ever deleted, and what is stronger than the blueprint stays as it is.

    Args:
        clients: Make the calls.
        place: Names the store.
        blueprint: How it has to be.
        replication_role: ARN of the role with which S3 replicates the home bucket by itself; empty for none.
    """

    def __init__(
        self, clients: Clients, place: CloudPlace, blueprint: Blueprint | None = None, replication_role: str = ""
    ) -> None:
        calls, blueprint = SetupCalls(clients), blueprint or Blueprint()
        keys = {site.region: Key(calls, site.region, encryption_alias(site), blueprint) for site in place.sites}
        alias, home, *others = signing_alias(place), *place.sites
        signing = Key(calls, home.region, alias, blueprint, signs=True)
        replicas = [Key(calls, site.region, alias, blueprint, signs=True, primary=signing) for site in others]
        buckets = [BucketSetup(calls, place, site, blueprint, keys, replication_role) for site in place.sites]
        tables = [TableSetup(calls, site, blueprint, keys[site.region]) for site in place.sites]
        # Keys before what they encrypt, and the home bucket after those that S3 replicates it to.
        self._resources: list[Resource] = [*keys.values(), signing, *replicas, *reversed(buckets), *tables]

    def fields(self) -> Iterator[Field]:
        """Yield each field with what is wanted and what is there; nothing is changed.

        Raises:
            StoreError: AWS refuses a question.
            StoreUnavailable: It cannot be reached, or denies the question.
        """
        for resource in self._resources:
            found = resource.found()
            yield Field(resource.what, "exists", wanted=True, found=found is not None, ok=found is not None)
            for aspect, each in _differences(resource, found) if found is not None else ():
                yield Field(resource.what, f"{aspect}.{each.name}", plain(each.wanted), each.found, each.ok)

    def apply(self, *, dry_run: bool = False) -> Iterator[Step]:
        """Create what is missing and change what differs; yield each step when it is done.

        Args:
            dry_run: Only tell the steps.

        Raises:
            StoreError: AWS refuses a call; what was done before it stays.
            StoreUnavailable: It cannot be reached, or denies the call.
        """
        for resource in self._resources:
            found = resource.found()
            if found is None:
                if not dry_run:
                    resource.create()
                yield Step("create", resource.what)
                found = {} if dry_run else resource.found() or {}
            for aspect in resource.wanted():
                yield from _settle(resource, aspect, found, dry_run=dry_run)


def _settle(resource: Resource, aspect: str, found: Document, *, dry_run: bool) -> Iterator[Step]:
    wanted, there, entries = resource.wanted()[aspect], found.get(aspect, {}), aspect in resource.entries
    wrong = [each for each in compare(wanted, there, entries=entries) if not each.ok]
    fixed = aspect in resource.fixed
    # What does not exist yet is created with what cannot be changed later.
    if not wrong or (fixed and not found):
        return
    if not fixed and not dry_run:
        resource.change(aspect, merged(wanted, there, entries=entries))
    new = {name for name, entry in wanted.items() if entries and isinstance(entry, Mapping) and name not in there}
    for name in wanted:
        if name in new:
            yield Step("set", resource.what, f"{aspect}.{name}", plain(wanted[name]))
    for each in wrong:
        if each.name.partition(".")[0] not in new:
            action: Action = "leave" if fixed else "set"
            yield Step(action, resource.what, f"{aspect}.{each.name}", plain(each.wanted), each.found)


def _differences(resource: Resource, found: Document) -> Iterator[tuple[str, Difference]]:
    for aspect, wanted in resource.wanted().items():
        for each in compare(wanted, found.get(aspect, {}), entries=aspect in resource.entries):
            yield aspect, each
