"""`Anchor`: who keeps signed heads of a record outside of it, and `Testimony`: what it says against the record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from .signing import Signer

Problem = tuple[float, str]
"""The number of the event it begins at, and what it is."""
NO_EVENT = float("inf")
"""The number of a problem that is not one of the events."""


@dataclass(slots=True)
class Walk:
    """What an audit found on its way along the chain, up to the first event that is not whole."""

    count: int = 0
    head: str = ""
    problems: list[Problem] = field(default_factory=list)
    contradicted: dict[int, int] = field(default_factory=dict)
    """Numbers that another hash was signed for, each with the last number before on which both agree."""
    made: dict[str, int] = field(default_factory=dict)
    """Checksums of the DNA that events made live, with the numbers of the events."""


class Head(Protocol):
    """So many events there were, this was the hash of the last, and this key signed it."""

    @property
    def number(self) -> int:
        """Number of the event."""
        ...

    @property
    def head(self) -> str:
        """Its hash."""
        ...

    @property
    def key(self) -> str:
        """Which key signed."""
        ...


class Testimony(Protocol):
    """What was signed of one application's record, as it was when the anchor was read."""

    @property
    def heads(self) -> Mapping[int, str]:
        """Hashes that were signed, by the numbers of their events."""
        ...

    def problems_of(self, walk: Walk) -> Iterator[Problem]:
        """Yield where the record is not what was signed, and what of the anchor proves nothing."""
        ...

    def confirmed(self, walk: Walk) -> Head | None:
        """Return the newest genuine head that the record agrees with."""
        ...


class Anchor(Protocol):
    """Keeps signed heads of the record where whoever can change the record cannot change them."""

    @property
    def signer(self) -> Signer:
        """Who signs."""
        ...

    @property
    def ready(self) -> bool:
        """Whether `prepare` found everything in place."""
        ...

    def prepare(self, *, known: bool) -> None:
        """See to it that heads can be signed, before anything is stored that must be.

        Args:
            known: Whether the store holds events already.

        Raises:
            StoreError: They cannot.
        """
        ...

    def sign(self, app: str, count: int, head: str) -> None:
        """Take note of a new event; whoever signs each head does so now.

        Raises:
            StoreError: The key or the anchor cannot be used.
        """
        ...

    def newest(self, app: str) -> Head | None:
        """Return the highest head that was signed for an application; None where there is none.

        Raises:
            IntegrityError: The signature is not the key's.
        """
        ...

    def testimony(self, app: str) -> Testimony:
        """Read what was signed of an application's record; to be read before the record is.

        Raises:
            StoreError: The anchor or the public key cannot be read.
        """
        ...

    def exported(self, app: str) -> Iterator[str]:
        """Yield what was signed, as lines of JSON for `audit export`.

        Raises:
            StoreError: The anchor cannot be read.
            IntegrityError: A part of it cannot be written as a line.
        """
        ...


def not_the_signed_one(walk: Walk, number: int) -> Problem:
    """Return the problem that another event of this number was signed."""
    agreed = walk.contradicted[number]
    since = "" if agreed == number - 1 else f"; what was changed comes after event {agreed}"
    return number, f"event {number} is not the one that was signed{since}"


def cut_short(walk: Walk, signed: int) -> Problem:
    """Return the problem that more events were signed than there are."""
    missing, ends = walk.count + 1, f"the record ends with event {walk.count}"
    return missing, f"event {missing} is missing: {signed} events were signed, and {ends}"
