"""Time, ids and randomness, injected: nothing in this package reads them from the surroundings."""

from __future__ import annotations

import hashlib
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where the package reads the time."""

    def now(self) -> datetime:
        """Return the present moment, with a time zone."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds since some moment in the past; they never run backwards."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        ...


class SystemClock:
    """The machine's clock, in UTC."""

    def now(self) -> datetime:
        """Return the present moment in UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Return the machine's monotonic seconds."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Do nothing for some seconds."""
        time.sleep(seconds)


class FixedClock:
    """A clock that stands still until it is set, or somebody sleeps by it: for tests and replays."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        """Return the moment the clock was set to."""
        return self.moment

    def monotonic_s(self) -> float:
        """Return the moment the clock was set to, in seconds."""
        return self.moment.timestamp()

    def sleep(self, seconds: float) -> None:
        """Set the clock forward, at once."""
        self.moment += timedelta(seconds=seconds)


class IdSource(Protocol):
    """Where the package takes new identifiers from."""

    def new(self, prefix: str) -> str:
        """Return an identifier that starts with `prefix` and was never returned before."""
        ...


class RandomIds:
    """Identifiers that sort by time and cannot be guessed: prefix, seconds, 40 random bits."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()

    def new(self, prefix: str) -> str:
        """Return a fresh identifier such as `run-20260131-101502-9f3c1a0b7e`."""
        return f"{prefix}-{self._clock.now():%Y%m%d-%H%M%S}-{secrets.token_hex(5)}"


class CountedIds:
    """Identifiers that count from one: for tests and replays."""

    def __init__(self) -> None:
        self._last = 0

    def new(self, prefix: str) -> str:
        """Return `prefix-1`, `prefix-2`, …."""
        self._last += 1
        return f"{prefix}-{self._last}"


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Derive an independent 63-bit seed from a run's seed and a purpose.

    Every generator of a run is made this way, so nothing about randomness has to be saved and a
    resumed run draws the same numbers as one that was never interrupted.

    Args:
        seed: The run's seed.
        purpose: What the numbers are for, such as `("propose", generation)`.

    Returns:
        An integer in [0, 2**63), equal for equal arguments on every machine.
    """
    text = "\x1f".join([str(seed), *(str(part) for part in purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
