"""Rollback: the gene values of an earlier generation become live again, by a person's word or on evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from ..clock import Clock
from ..dna.events import EventDraft, EvolutionEvent
from ..dna.genes import GeneValue
from ..dna.genome import SystemDNA
from ..dna.sqlite import SQLiteDNAStore
from ..dna.store import DNAStore
from ..errors import IntegrityError, InvalidGene, SafeModeActive, StaleParent, UnknownRun
from ..fitness.scorer import genes_key
from ..settings import Safety
from .audit import verify
from .feedback import named
from .safe_mode import SafeMode

_RESTORED = 100_000
"""More rollbacks than an application will ever have."""
_IN_A_ROW = 1000
"""Events that are looked at for rollbacks in a row."""


def roll_back(store: DNAStore, app: str, generation: int, *, by: str, why: str, clock: Clock) -> SystemDNA:
    """Make the gene values of an earlier generation live again, as a new generation.

    Genes that are locked, or unknown to the earlier generation, keep their values.

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
        InvalidGene: The application declares other bounds by now.
        StaleParent: The live DNA changed meanwhile.
        IntegrityError: The stored generation does not match its checksum; in all these cases nothing was changed.
    """
    by, why = named(by, why, "a rollback")
    head = store.head(app)
    if head is None:
        raise UnknownRun(f"{app!r} has no DNA.", hint="Run it once first.")
    dna = _restored(head, store.snapshot(app, generation))
    why = why or f"rolled back to generation {generation}"
    event = _event(head, dna, to=generation, automatic=False, evidence={}, actor=by, why=why, clock=clock)
    return store.commit(head.checksum, dna, event)


def stable(store: DNAStore, app: str, *, limit: int = 5) -> list[SystemDNA]:
    """Return the newest generations that were live and were not rolled back from without a person.

    Of generations with equal values only the newest is named. All of them are kept for ever, whatever the limit.
    """
    return list(islice(_stable(store, app), limit))


def roll_back_automatically(
    store: SQLiteDNAStore,
    head: SystemDNA,
    *,
    why: str,
    evidence: Mapping[str, Any],
    actor: str,
    clock: Clock,
    safety: Safety,
    better: str = "",
) -> SystemDNA | None:
    """Go back to the newest stable generation before the live one, without a person.

    Safe mode begins when this happened too often without a change between that lasted, when the record is no longer
    whole, or when there is nothing to go back to. In safe mode nothing is changed. It is called outside transactions:
    the record is verified as others see it.

    Args:
        store: Where the DNA is kept.
        head: The live DNA that is worse, or fails; if another is live by now, nothing is done.
        why: The reason, for the record.
        evidence: What the reason rests on, JSON-plain.
        actor: What noticed it.
        clock: Tells when.
        safety: Says how often is too often.
        better: Name of the earlier gene values (`genes_key`) that are known to be better; the newest stable ones where
            none are named, or where those cannot be live again.

    Returns:
        The new live DNA, or None where nothing was changed.
    """
    app = head.app
    live, safe_mode = store.head(app), SafeMode(store, clock)
    if safe_mode.since(app) is not None or live is None or live.checksum != head.checksum:
        return None
    try:
        old, dna = _earlier(store, head, better)
        event = _event(
            head, dna, to=old.generation, automatic=True, evidence=evidence, actor=actor, why=why, clock=clock
        )
        restored = store.commit(head.checksum, dna, event, allowed=lambda: safe_mode.check(app))
    except (StaleParent, SafeModeActive):
        return None
    except (IntegrityError, UnknownRun) as error:
        safe_mode.enter(app, why=f"{why}; {error.message}", actor=actor)
        return None
    conclude(store, app, clock=clock, safety=safety)
    return restored


def conclude(store: SQLiteDNAStore, app: str, *, clock: Clock, safety: Safety) -> None:
    """Do what follows from the newest automatic rollback: verify the record, and enter safe mode where that is due.

    It may be repeated; a process that died right after a rollback is made up for by the next one that calls it.
    """
    newest = store.recent(app, ["restored", "applied", "declared", "safe_mode_lifted"], limit=1)
    if not newest or not _automatic(newest[0]):
        return
    safe_mode = SafeMode(store, clock)
    report = verify(store, app)
    if not report.intact:
        safe_mode.enter(app, why=f"the record is not intact after a rollback: {report.problems[0]}", actor="audit")
        return
    rollbacks = rollbacks_in_a_row(store, app)
    if rollbacks >= safety.max_rollbacks:
        why = f"{rollbacks} automatic rollbacks without a change that lasted, the last one because {newest[0].why}"
        safe_mode.enter(app, why=why, actor=newest[0].actor)


def rollbacks_in_a_row(store: DNAStore, app: str) -> int:
    """Count the automatic rollbacks since a change lasted, or a person lifted safe mode.

    A change lasted if it is live, or another change replaced it, rather than a rollback.
    """
    count, later = 0, "applied"
    for event in store.recent(app, ["applied", "restored", "safe_mode_lifted"], limit=_IN_A_ROW):
        if event.kind == "safe_mode_lifted" or (event.kind == later == "applied"):
            break
        count += _automatic(event)
        later = event.kind
    return count


def _automatic(event: EvolutionEvent) -> bool:
    return event.kind == "restored" and bool(event.data.get("automatic"))


def _earlier(store: DNAStore, head: SystemDNA, better: str) -> tuple[SystemDNA, SystemDNA]:
    """Return the newest stable generation that other values than the live ones come from, and the DNA it gives."""
    problem = "there is no earlier generation"
    generations = sorted(_stable(store, head.app), key=lambda dna: genes_key(dna.values) != better)
    for old in generations:
        try:
            dna = _restored(head, old)
        except InvalidGene as error:
            problem = f"generation {old.generation} cannot be live again: {error.message}"
            continue
        if dna.values != head.values:
            return old, dna
    raise UnknownRun(f"{problem}, so there is nothing to roll back to.", hint="Declare genes that work.")


def _stable(store: DNAStore, app: str) -> Iterator[SystemDNA]:
    """Yield the stable generations, newest first, each set of values once."""
    head = store.head(app)
    if head is None:
        return
    passed = _condemned(store, app)
    for generation in range(head.generation, -1, -1):
        dna = head if generation == head.generation else store.snapshot(app, generation)
        if genes_key(dna.values) not in passed:
            passed.add(genes_key(dna.values))
            yield dna


def undone(store: DNAStore, app: str) -> set[str]:
    """Return the names of the gene values (`genes_key`) that were rolled back from, and not brought back since."""
    found: set[str] = set()
    for event in reversed(store.recent(app, ["restored"], limit=_RESTORED)):
        found.add(genes_key(store.snapshot(app, event.data["from"]).values))
        found.discard(genes_key(store.snapshot(app, event.data["to"]).values))
    return found


def _condemned(store: DNAStore, app: str) -> set[str]:
    """Return the names of the values that were rolled back from automatically, unless a person brought them back."""
    condemned: set[str] = set()
    for event in reversed(store.recent(app, ["restored"], limit=_RESTORED)):
        if _automatic(event):
            condemned.add(genes_key(store.snapshot(app, event.data["from"]).values))
        else:
            condemned.discard(genes_key(store.snapshot(app, event.data["to"]).values))
    return condemned


def _restored(head: SystemDNA, old: SystemDNA) -> SystemDNA:
    """Return the DNA that follows the live one and has the values of an earlier one.

    Raises:
        InvalidGene: A value is out of the bounds that the live DNA has.
    """
    values: dict[str, GeneValue] = {}
    for name, gene in head.genes.items():
        if name in old.genes and not gene.locked:
            try:
                values[name] = gene.check(old.genes[name].value)
            except InvalidGene as error:
                raise InvalidGene(
                    f"gene {name!r} had {error.message}.", hint="The application declares other bounds by now."
                ) from None
    return head.successor(values, mutation=f"restore-{old.generation}", fitness=old.fitness)


def _event(
    head: SystemDNA,
    dna: SystemDNA,
    *,
    to: int,
    automatic: bool,
    evidence: Mapping[str, Any],
    actor: str,
    why: str,
    clock: Clock,
) -> EventDraft:
    return EventDraft(
        app=head.app,
        kind="restored",
        key=f"restored/{head.checksum}/{to}",
        at=clock.now(),
        actor=actor,
        why=why,
        data={
            "from": head.generation,
            "to": to,
            "automatic": automatic,
            "evidence": dict(evidence),
            "dna": dna.checksum,
        },
    )
