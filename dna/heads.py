"""`SignedHeads`: what the lines of a `HeadAnchor` say against a record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .signing import key_id
from .testimony import NO_EVENT, Problem, Walk, cut_short, not_the_signed_one

if TYPE_CHECKING:
    from .anchor import HeadAnchor, SignedHead

_NEWEST = 256
"""So many of the newest signatures are checked whatever they sign. The newest one covers all events before it, so of
the others only those are checked that contradict the record."""


class SignedHeads:
    """The signed heads of one application, read before its events.

    Args:
        anchor: The file.
        app: The application.
    """

    def __init__(self, anchor: HeadAnchor, app: str) -> None:
        self.anchor = anchor
        self.app = app
        self.heads, self.twice, self.odd = anchor.heads(app)
        self._public_key = anchor.signer.public_key()
        self._newest = anchor.last(app, _NEWEST)
        self._judged: dict[SignedHead, bool] = {}

    def problems_of(self, walk: Walk) -> Iterator[Problem]:
        """See `Testimony.problems_of`."""
        if not (walk.count or walk.problems or self.heads):
            return
        if not self.heads and walk.count == 1 and not walk.problems and self.anchor.path.exists():
            # The process that stored the first event died before it signed it; the next run signs it.
            return
        if not self.heads:
            what = "has no signed head of it" if self.anchor.path.exists() else "is missing"
            yield NO_EVENT, f"the record cannot be compared: the anchor {self.anchor.path} {what}"
            return
        if self._public_key is None:
            yield NO_EVENT, "the signatures cannot be checked: the public key of the anchor is missing"
        beyond = () if walk.problems else sorted((n for n in self.heads if n > walk.count), reverse=True)
        lines = self._lines({*walk.contradicted, *self.twice, *beyond})
        if first := self._genuinely(head for n in walk.contradicted for head in lines[n] if head.head == self.heads[n]):
            yield not_the_signed_one(walk, first)
        twice = sorted(self.twice - walk.contradicted.keys())
        if first := self._genuinely(head for n in twice for head in lines[n] if head.head != self.heads[n]):
            yield first, f"event {first} is one of two that were signed under this number"
        if newest := self._genuinely(head for n in beyond for head in lines[n]):
            yield cut_short(walk, newest)
        yield from ((NO_EVENT, text) for text in self._lines_that_prove_nothing())

    def confirmed(self, walk: Walk) -> SignedHead | None:
        """See `Testimony.confirmed`."""
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
