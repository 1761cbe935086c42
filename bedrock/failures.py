"""What can go wrong with a model call, and what can be done about it: the words that all who deal with it share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol


class FailureKind(StrEnum):
    """What a failure asks for."""

    THROTTLED = "throttled"
    """Too many requests or tokens a minute."""
    BUSY = "busy"
    """The service or the model has trouble of its own."""
    UNREACHABLE = "unreachable"
    """The request was never sent: no connection to the region."""
    TIMED_OUT = "timed out"
    """The request was sent, and no answer came; it may be billed."""
    LOST = "lost"
    """The connection broke, or the answer broke off; it may be billed."""
    OVERFLOW = "overflow"
    """The prompt is longer than the model's context window."""
    QUOTA = "quota"
    """The account's quota for the model is used up."""
    DENIED = "denied"
    """Credentials are missing, expired or not allowed to call the model."""
    NOT_FOUND = "not found"
    """There is no such model in the region."""
    INVALID = "invalid"
    """The request breaks a rule of the service; it would break it again."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt."""

    kind: FailureKind
    code: str
    """The service's error code, or the name of the exception."""
    may_be_billed: bool
    """Whether the service may have done the work all the same."""


class Target(NamedTuple):
    """A model in a region: what an attempt goes to, and what a breaker guards."""

    model: str
    region: str


class Step(StrEnum):
    """Where the next attempt goes."""

    AGAIN = "again"
    """To the same model in the same region."""
    NEXT = "next"
    """To the next region, or to the next model after the last region."""
    NEXT_MODEL = "next model"
    SHRINK = "shrink"
    """To the same model in the same region, with a shorter prompt."""
    STAND_IN = "stand-in"
    """Nowhere: no other attempt can help."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """What to do about a failure."""

    step: Step
    wait_s: float = 0.0


class Healing(Protocol):
    """Decides about attempts; `healing.strategies.CloudHealingStrategies` is the one in use."""

    def admits(self, target: Target) -> bool:
        """Whether an attempt may go to a target now."""
        ...

    def succeeded(self, target: Target) -> None:
        """Learn that a target answered."""
        ...

    def failed(self, target: Target, failure: Failure) -> None:
        """Learn that a target failed."""
        ...

    def remedy(self, failures: Sequence[tuple[Target, Failure]]) -> Remedy:
        """Say what to do after the newest of a call's failures."""
        ...
