"""Rollback: an earlier generation's gene values become live again, on record and by name."""

from __future__ import annotations

from ..clock import Clock
from ..dna.events import EventDraft
from ..dna.genome import SystemDNA
from ..dna.store import DNAStore
from ..errors import UnknownRun, UsageError


def roll_back(store: DNAStore, app: str, generation: int, *, by: str, why: str, clock: Clock) -> SystemDNA:
    """Make the gene values of an earlier generation live again, as a new generation.

    Args:
        store: Where the DNA is kept.
        app: The application.
        generation: The generation to go back to.
        by: The person who answers for it.
        why: The reason, for the record.
        clock: Tells when.

    Raises:
        UnknownRun: There is no such generation.
        UsageError: Nobody answers for it.
        IntegrityError: The stored generation does not match its checksum; nothing was changed.
    """
    if not by.strip():
        raise UsageError("a rollback needs the name of the person who answers for it.", hint="Give --by NAME.")
    head = store.head(app)
    if head is None:
        raise UnknownRun(f"{app!r} has no DNA.", hint="Run it once first.")
    event = EventDraft(
        app=app,
        kind="restored",
        key=f"restored/{head.checksum}/{generation}",
        at=clock.now(),
        actor=by.strip(),
        why=why or f"rolled back to generation {generation}",
        data={"from": head.generation, "to": generation},
    )
    return store.restore(app, generation, event)
