"""`SealedRecord`: what the digests and segments of an application say against its record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import NamedTuple

from ....errors import IntegrityError
from ...digest import Digest, hashes_of, unpacked
from ...events import GENESIS
from ...signing import key_id
from ...testimony import NO_EVENT, Problem, Walk, cut_short, not_the_signed_one
from .digests import Digests, Entry, content_of, read

_AT_ONCE = 8


class SealedHead(NamedTuple):
    """The head that a digest signs."""

    number: int
    head: str
    key: str

    @classmethod
    def of(cls, digest: Digest) -> SealedHead:
        """Return the head of a digest."""
        return cls(digest.last, digest.head, digest.key)


class _End(NamedTuple):
    """What the next digest follows; None where that is not known, because a digest proves nothing."""

    last: int | None
    head: str | None
    sha256: str | None


_START, _UNKNOWN = _End(0, GENESIS, GENESIS), _End(None, None, None)


class _Fetched(NamedTuple):
    """A digest and its segment as it is stored; None with what is wrong where one could not be read."""

    digest: Digest | None
    segment: bytes | None
    wrong: str


class SealedRecord:
    """The digests of one application, read and judged before its events are read.

    Args:
        digests: Where they are.
        app: The application.
        public_key: Judges the signatures: it comes from the key, and from nowhere near the digests.
    """

    def __init__(self, digests: Digests, app: str, public_key: bytes | None) -> None:
        self.heads: dict[int, str] = {}
        self._digests = digests
        self._app = app
        self._public_key = public_key
        self._genuine: list[Digest] = []
        self._twice: set[int] = set()
        self._problems: list[str] = []
        entries = list(digests.entries(app))
        if entries and public_key is None:
            self._problems.append("the signatures cannot be checked: there is no KMS key as `audit_kms_key` names it")
        self._read(entries)
        self._look_beside({entry.object for entry in entries})

    def problems_of(self, walk: Walk) -> Iterator[Problem]:
        """See `Testimony.problems_of`."""
        if walk.contradicted:
            yield not_the_signed_one(walk, min(walk.contradicted))
        if twice := self._twice - walk.contradicted.keys():
            yield min(twice), f"event {min(twice)} is one of two that were signed under this number"
        signed = max(self.heads, default=0)
        if signed > walk.count and not walk.problems:
            yield cut_short(walk, signed)
        yield from ((NO_EVENT, text) for text in self._problems)

    def confirmed(self, walk: Walk) -> SealedHead | None:
        """See `Testimony.confirmed`."""
        agreeing = [d for d in self._genuine if d.last <= walk.count and d.last not in walk.contradicted]
        newest = max(agreeing, key=lambda digest: digest.last, default=None)
        return SealedHead.of(newest) if newest else None

    def _read(self, entries: Sequence[Entry]) -> None:
        number, end = 0, _START
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for entry, fetched in zip(entries, pool.map(self._fetched, entries), strict=True):
                if entry.number != number + 1:
                    self._problems.append(f"digest {number + 1} is missing: its item is not in the table")
                    end = _UNKNOWN
                number = entry.number
                digest = self._hold(fetched, end)
                end = _End(digest.last, digest.head, entry.sha256) if digest else _UNKNOWN

    def _fetched(self, entry: Entry) -> _Fetched:
        try:
            digest = read(self._digests, self._app, entry)
        except IntegrityError as error:
            return _Fetched(None, None, error.message)
        what = _segment(digest)
        try:
            content = content_of(self._digests, digest.segment, what)
        except IntegrityError as error:
            return _Fetched(digest, None, error.message)
        return _Fetched(digest, content, f"{what} is missing: {digest.segment} is not there" if content is None else "")

    def _hold(self, fetched: _Fetched, end: _End) -> Digest | None:
        """Take note of what a digest signs and of what is wrong; return it if its key signed it."""
        digest = fetched.digest
        if wrong := fetched.wrong if digest is None else self._unsigned(digest):
            self._problems.append(wrong)
        if digest is None or wrong:
            return None
        try:
            _follows(digest, end)
            hashes = _hashes(digest, fetched, end.head)
        except IntegrityError as error:
            self._problems.append(error.message)
            hashes = [digest.head]
        self._genuine.append(digest)
        for event, head in enumerate(hashes, digest.last - len(hashes) + 1):
            self._sign(event, head)
        return digest

    def _sign(self, event: int, head: str) -> None:
        if self.heads.setdefault(event, head) != head:
            self._twice.add(event)

    def _unsigned(self, digest: Digest) -> str:
        """Return why a digest proves nothing; an empty text if our key signed it."""
        if self._public_key is None:
            return ""
        ours = key_id(self._public_key)
        if digest.key != ours:
            return f"digest {digest.number} was signed by key {digest.key}, and the public key is that of {ours}"
        return "" if digest.genuine(self._public_key) else f"digest {digest.number} is not signed by its key"

    def _look_beside(self, known: set[str]) -> None:
        """Take note of what was signed by digests that have no item: it was removed, or a process died before it."""
        for name in self._digests.listed(self._app) or ():
            if name in known or self._public_key is None:
                continue
            try:
                digest = Digest.read(content_of(self._digests, name, name) or b"")
            except (ValueError, IntegrityError):
                continue  # anybody who may put objects may have put it: it proves nothing
            if digest.app == self._app and not self._unsigned(digest):
                self._sign(digest.last, digest.head)


def _segment(digest: Digest) -> str:
    return f"segment {digest.first}-{digest.last} of digest {digest.number}"


def _hashes(digest: Digest, fetched: _Fetched, before: str | None) -> list[str]:
    """Return the hashes of a segment's events, when all is as it was signed."""
    if fetched.segment is None:
        raise IntegrityError(fetched.wrong)
    what = _segment(digest)
    try:
        lines = unpacked(fetched.segment)
    except ValueError as error:
        raise IntegrityError(f"{what} was altered: {digest.segment} cannot be read: {error}") from error
    if sha256(lines).hexdigest() != digest.segment_sha256:
        raise IntegrityError(f"{what} was altered: {digest.segment} does not match its SHA-256")
    try:
        return hashes_of(lines, digest, before)
    except IntegrityError as error:
        raise IntegrityError(f"{what} is not the record that was signed: {error.message}") from error


def _follows(digest: Digest, end: _End) -> None:
    before = f"digest {digest.number - 1}" if digest.number > 1 else "the beginning"
    if end.sha256 is not None and digest.previous != end.sha256:
        raise IntegrityError(f"digest {digest.number} does not follow from {before}: it names another SHA-256")
    if digest.last < digest.first or (end.last is not None and digest.first != end.last + 1):
        raise IntegrityError(
            f"digest {digest.number} does not follow from {before}: it covers events {digest.first} to {digest.last}"
        )
