"""Audit: is the record of an application complete and unaltered?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..dna.canonical import canonical_json
from ..dna.events import GENESIS, linked
from ..dna.sqlite import SQLiteDNAStore
from ..dna.testimony import Walk
from ..errors import IntegrityError

FORMAT = "bedrock-evolution-audit/1"
_MAKES_DNA = frozenset({"declared", "applied", "restored"})


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit looked at and what it found wrong; `problems` is empty when all is well.

    Args:
        checked: How many events were found whole, up to the first problem.
        problems: What is wrong, the first bad record first.
        head: Hash of the last event that was found whole.
        signed: Number of the newest event that a signed head confirms.
        unsigned: How many events come after it.
        key: Which key signed.
    """

    checked: int
    problems: tuple[str, ...]
    head: str = ""
    signed: int = 0
    unsigned: int = 0
    key: str = ""

    @property
    def intact(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.problems


def verify(store: SQLiteDNAStore, app: str) -> AuditReport:
    """Check the hash chain of an application's events, its DNA, and both against the signed heads.

    It finds every event that was altered, removed, inserted, reordered or duplicated; against the anchor it also
    finds a tail that was cut, a history that was chained anew and an old copy that was put back. A store without an
    anchor is checked by itself.
    """
    # Before the events: a head that is signed from now on must not look like a cut tail.
    signed = store.anchor.testimony(app) if store.anchor else None
    # Now: within one moment a store in the cloud cannot. What is signed is compared with all of it, or not at all.
    if signed:
        store.bring_up_to_date(app)
    else:
        store.count(app)
    with store.one_moment():
        walk = _walk(store, app, signed.heads if signed else {})
        found = [*walk.problems, *(signed.problems_of(walk) if signed else ())]
        texts = [text for _, text in sorted(found, key=lambda problem: problem[0])]
        if strays := store.unnumbered(app):
            texts.append(f"{strays} of the records have no valid number, and no reading meets them")
        texts += _ancestry(store, app, None if walk.problems else walk.made)
    confirmed = signed.confirmed(walk) if signed else None
    covered = confirmed.number if confirmed else 0
    return AuditReport(
        checked=walk.count,
        problems=tuple(texts),
        head=walk.head,
        signed=covered,
        unsigned=walk.count - covered if signed else 0,
        key=confirmed.key if confirmed else "",
    )


def _walk(store: SQLiteDNAStore, app: str, heads: Mapping[int, str]) -> Walk:
    """Follow the chain to the first event that is not whole, and compare it with the hashes that were signed."""
    walk, count, previous, agreed = Walk(), 0, GENESIS, 0
    try:
        for page in store.event_rows(app):
            for row in page:
                body, previous = linked(row, app, count + 1, previous)
                count += 1
                if (head := heads.get(count)) == previous:
                    agreed = count
                elif head is not None:
                    walk.contradicted[count] = agreed
                if body["kind"] in _MAKES_DNA:
                    walk.made[str(dict(body["data"]).get("dna"))] = count
    except IntegrityError as error:
        walk.problems.append((count + 1, error.message))
    walk.count, walk.head = count, previous if count else ""
    return walk


def _ancestry(store: SQLiteDNAStore, app: str, made: Mapping[str, int] | None) -> Iterator[str]:
    """Yield what is wrong with the DNA, and what of it has no event or only an event.

    Args:
        store: Where both are.
        app: The application.
        made: Checksums that events made live, and the numbers of the events; None where that is not known.
    """
    parent: str | None = None
    found: set[str] = set()
    try:
        for expected, dna in enumerate(store.lineage(app)):
            if dna.generation != expected or dna.parent != parent:
                yield f"generation {dna.generation} does not descend from the one before it"
                return
            if made is not None and dna.checksum not in made:
                yield f"generation {dna.generation} became live without an event"
            parent = dna.checksum
            found.add(parent)
    except IntegrityError as error:
        yield error.message
        return
    for checksum, number in (made or {}).items():
        if checksum not in found:
            yield f"event {number} made the DNA {checksum[:12]} live, which is not in the store"


def export(store: SQLiteDNAStore, app: str) -> Iterator[str]:
    """Yield the record as lines of JSON that can be verified without this package (`docs/audit.md`).

    First a header, then every event as it was hashed with its hash added at the end, then what was signed.

    Raises:
        IntegrityError: A record cannot be written as a line.
    """
    public_key = store.anchor.signer.public_key() if store.anchor else None
    # Before the events: what is signed from now on would speak of events that are not in the export.
    signed = list(store.anchor.exported(app)) if store.anchor else []
    yield canonical_json({"format": FORMAT, "app": app, "public_key": public_key.hex() if public_key else None})
    for page in store.event_rows(app):
        for seq, _, _, digest, document in page:
            try:
                body, added = (document or b"").decode(), json.dumps((digest or b"").decode())
                json.loads(body)
            except ValueError as error:
                raise IntegrityError(
                    f"event {seq} cannot be exported: {error}.", hint="The store was altered."
                ) from error
            yield f'{body[:-1]},"hash":{added}}}'
    yield from signed
