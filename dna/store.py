"""`DNAStore`: the seam behind which DNA and its events are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from .events import EventDraft, EvolutionEvent
from .genome import SystemDNA


def always() -> None:
    """Allow a commit."""


@runtime_checkable
class DNAStore(Protocol):
    """Keeps every generation of an application's DNA and the events that explain them."""

    def head(self, app: str) -> SystemDNA | None:
        """Return the live DNA, or None when the application is new.

        Raises:
            IntegrityError: What is stored does not match its checksum.
        """
        ...

    def commit(
        self, expected: str | None, dna: SystemDNA, event: EventDraft, *, allowed: Callable[[], object] = always
    ) -> SystemDNA:
        """Make `dna` live and store its event in one transaction, if the live DNA is still `expected`.

        Idempotent by mutation id: the same mutation of the same parent, committed before, is returned as it was
        stored, if it is still live or the event is on record; only an event with a new key is added.

        Args:
            expected: Checksum of the DNA that must be live now; None for an application's first.
            dna: The DNA to make live.
            event: Why; stored with it or not at all.
            allowed: Raises where it may not be done by now. Asked when everything is known that was stored before, and
                again where another writer was faster.

        Raises:
            StaleParent: Another DNA is live; nothing was written.
            Exception: What `allowed` raises; nothing was written.
        """
        ...

    def snapshot(self, app: str, generation: int) -> SystemDNA:
        """Return the DNA of one generation.

        Raises:
            UnknownRun: There is no such generation.
            IntegrityError: What is stored does not match its checksum.
        """
        ...

    def history(self, app: str, *, limit: int = 50) -> list[SystemDNA]:
        """Return the newest generations, newest first."""
        ...

    def append(self, event: EventDraft) -> EvolutionEvent:
        """Store an event that changes no DNA; an event whose key is known is returned as it was stored."""
        ...

    def events(self, app: str, *, after: int = 0) -> Iterator[EvolutionEvent]:
        """Yield the events with a number above `after`, in order.

        Raises:
            IntegrityError: A stored event does not match its hash.
        """
        ...

    def event(self, app: str, key: str) -> EvolutionEvent | None:
        """Return the event of a key, or None."""
        ...

    def recent(self, app: str, kinds: Sequence[str], *, limit: int) -> list[EvolutionEvent]:
        """Return the newest events of some kinds, newest first."""
        ...
