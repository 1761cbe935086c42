"""Audit: is the record of an application complete and unaltered?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ..dna.anchor import HeadAnchor, SignedHead
from ..dna.canonical import canonical_json
from ..dna.events import GENESIS, linked
from ..dna.signing import key_id
from ..dna.sqlite import SQLiteDNAStore
from ..errors import IntegrityError

FORMAT = "bedrock-evolution-audit/1"
_MAKES_DNA = frozenset({"declared", "applied", "restored"})
_NEWEST = 256
"""So many of the newest signatures are checked whatever they sign. The newest one covers all events before it, so of
the others only those are checked that contradict the record."""


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
    signed = _Signed(store.anchor, app) if store.anchor else None
    with store.one_moment():
        walk = _Walk.along(store, app, signed.heads if signed else {})
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


_Problem = tuple[float, str]
"""The number of the event it begins at, and what it is."""
_NO_EVENT = float("inf")


@dataclass(slots=True)
class _Walk:
    """What was found on the way along the chain, up to the first event that is not whole."""

    count: int = 0
    head: str = ""
    problems: list[_Problem] = field(default_factory=list)
    contradicted: dict[int, int] = field(default_factory=dict)
    """Numbers that another hash was signed for, each with the last number before on which both agree."""
    made: dict[str, int] = field(default_factory=dict)
    """Checksums of the DNA that events made live, with the numbers of the events."""

    @classmethod
    def along(cls, store: SQLiteDNAStore, app: str, heads: Mapping[int, str]) -> _Walk:
        walk, count, previous, agreed = cls(), 0, GENESIS, 0
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


class _Signed:
    """The signed heads of one application, read before its events."""

    def __init__(self, anchor: HeadAnchor, app: str) -> None:
        self.anchor = anchor
        self.app = app
        self.heads, self.twice, self.odd = anchor.heads(app)
        self._public_key = anchor.signer.public_key()
        self._newest = anchor.last(app, _NEWEST)
        self._judged: dict[SignedHead, bool] = {}

    def problems_of(self, walk: _Walk) -> Iterator[_Problem]:
        """Yield where the record is not what was signed, and which lines prove nothing."""
        if not (walk.count or walk.problems or self.heads):
            return
        if not self.heads and walk.count == 1 and not walk.problems and self.anchor.path.exists():
            # The process that stored the first event died before it signed it; the next run signs it.
            return
        if not self.heads:
            what = "has no signed head of it" if self.anchor.path.exists() else "is missing"
            yield _NO_EVENT, f"the record cannot be compared: the anchor {self.anchor.path} {what}"
            return
        if self._public_key is None:
            yield _NO_EVENT, "the signatures cannot be checked: the public key of the anchor is missing"
        beyond = () if walk.problems else sorted((n for n in self.heads if n > walk.count), reverse=True)
        lines = self._lines({*walk.contradicted, *self.twice, *beyond})
        if first := self._genuinely(head for n in walk.contradicted for head in lines[n] if head.head == self.heads[n]):
            agreed = walk.contradicted[first]
            since = "" if agreed == first - 1 else f"; what was changed comes after event {agreed}"
            yield first, f"event {first} is not the one that was signed{since}"
        twice = sorted(self.twice - walk.contradicted.keys())
        if first := self._genuinely(head for n in twice for head in lines[n] if head.head != self.heads[n]):
            yield first, f"event {first} is one of two that were signed under this number"
        if newest := self._genuinely(head for n in beyond for head in lines[n]):
            missing, ends = walk.count + 1, f"the record ends with event {walk.count}"
            yield missing, f"event {missing} is missing: {newest} events were signed, and {ends}"
        yield from ((_NO_EVENT, text) for text in self._lines_that_prove_nothing())

    def confirmed(self, walk: _Walk) -> SignedHead | None:
        """Return the newest genuine head that the record agrees with."""
        agreeing = [h for h in self._newest if h.number <= walk.count and h.number not in walk.contradicted]
        agreeing.sort(key=lambda head: -head.number)
        return next((head for head in agreeing if self._genuine(head)), None)

    def _lines(self, numbers: set[int]) -> dict[int, list[SignedHead]]:
        """Return the lines on some numbers."""
        found: dict[int, list[SignedHead]] = {number: [] for number in numbers}
        for _, head in self.anchor.lines(self.app) if numbers else ():
            if head and head.number in found:
                found[head.number].append(head)
        return found

    def _genuinely(self, heads: Iterable[SignedHead]) -> int:
        """Return the number of the first head that its key signed, or 0."""
        return next((head.number for head in heads if self._genuine(head)), 0)

    def _genuine(self, head: SignedHead) -> bool:
        if self._public_key is None:
            return True
        head = head._replace(line=0)
        if head not in self._judged:
            self._judged[head] = head.key == key_id(self._public_key) and head.genuine(self._public_key)
        return self._judged[head]

    def _lines_that_prove_nothing(self) -> Iterator[str]:
        """Yield the lines that are no heads, and those that were looked at and are not genuine."""
        wrong = {head for head in (*self._newest, *self._judged) if not self._genuine(head)}
        if not (wrong or self.odd):
            return
        ours = key_id(self._public_key) if self._public_key else ""
        for other in sorted({head.key for head in wrong} - {ours}):
            yield f"heads in the anchor were signed by key {other}, and the public key is that of {ours}"
        for place, head in self.anchor.lines(self.app):
            if head is None:
                yield f"line {place} of the anchor is no signed head"
            elif head.key == ours and head._replace(line=0) in wrong:
                yield f"line {place} of the anchor, on event {head.number}, is not signed by its key"


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

    First a header, then every event as it was hashed with its hash added at the end, then the signed heads.

    Raises:
        IntegrityError: A record cannot be written as a line.
    """
    public_key = store.anchor.signer.public_key() if store.anchor else None
    heads = [head for _, head in store.anchor.lines(app) if head] if store.anchor else []
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
    for head in heads:
        yield canonical_json({"signed_head": head.as_json()})
