"""`HeadAnchor`: signed heads of the record, in a file outside the database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import orjson

from ..errors import IntegrityError, StoreError
from .canonical import canonical_json
from .commit_points import Reached
from .database import Database
from .heads import SignedHeads
from .signing import KeyFile, Signer, genuine

_TAIL_BYTES = 1 << 16
_OUT_OF_ORDER = 64
"""Lines of several processes may stand in another order than their events, by no more than a few."""


class SignedHead(NamedTuple):
    """One line of the anchor: so many events there were, and this was the hash of the last.

    Args:
        line: Its place in the file, from 1; 0 where it was not read from one.
        app: The application.
        number: Number of that event, which is how many there were; `count` in the file.
        head: Its hash.
        key: Which key signed.
        signature: Ed25519, over the canonical JSON of the four, in hexadecimal.
    """

    line: int
    app: str
    number: int
    head: str
    key: str
    signature: str

    def genuine(self, public_key: bytes) -> bool:
        """Whether the owner of the key signed it."""
        try:
            signature = bytes.fromhex(self.signature)
        except ValueError:
            return False
        return genuine(public_key, _message(self.app, self.number, self.head, self.key), signature)

    def as_json(self) -> dict[str, str | int]:
        """Return the line as it is written."""
        return {
            "app": self.app,
            "count": self.number,
            "head": self.head,
            "key": self.key,
            "signature": self.signature,
        }


class HeadAnchor:
    """An append-only file with one signed head a line; nothing is touched before something is signed.

    Args:
        path: The file.
        signer: Signs the heads.
        reached: Told just before and just after each line is written.
    """

    def __init__(self, path: Path, signer: Signer, reached: Reached) -> None:
        self.path = path
        self.signer = signer
        self._reached = reached
        self.ready = False
        """Whether `prepare` found everything in place."""

    @classmethod
    def beside(cls, database: Database, *, anchor: Path | None = None, key: Path | None = None) -> HeadAnchor:
        """Return the anchor of a store.

        Args:
            database: The store.
            anchor: The file of signed heads; by default `<store file>.anchor.jsonl`.
            key: The file of the private key; by default `<store file>.key`.
        """
        path = anchor or database.path.with_name(f"{database.path.name}.anchor.jsonl")
        signer = KeyFile((key or database.path.with_name(f"{database.path.name}.key")).expanduser())
        # Whoever watches the database may come later than the anchor.
        return cls(path.expanduser(), signer, lambda point, moment: database.reached(point, moment))  # noqa: PLW0108

    def sign(self, app: str, count: int, head: str) -> None:
        """Sign a head and write it down.

        Raises:
            StoreError: The key or the file cannot be used.
        """
        if not self.ready:
            self.prepare(known=False)
        message = _message(app, count, head, self.signer.key_id)
        line = b'%b,"signature":"%b"}\n' % (message[:-1], self.signer.sign(message).hex().encode())
        self._reached("anchor.sign", "before")
        self._write(line)
        self._reached("anchor.sign", "after")

    def prepare(self, *, known: bool) -> None:
        """See to it that a head can be signed, before anything is stored that must be.

        Args:
            known: Whether the store holds events already, so that an anchor must be there.

        Raises:
            StoreError: The key or the file cannot be used, another key signed, or the file was removed.
        """
        if known and not self.path.exists():
            raise StoreError(
                f"the anchor {self.path} is gone: the record cannot be compared with what was signed.",
                hint="Put it back. If it is lost and you trust the record as it is, make an empty file there.",
            )
        newest = next(self._backwards(), None)
        if newest is not None and not self.signer.exists():
            raise StoreError(
                f"the key that signed the heads in {self.path} is gone, so nothing more can be signed.",
                hint="Put it back, or name it with the setting `audit_key`; or, to begin with a new key, keep the"
                " anchor elsewhere and make an empty file in its place.",
            )
        ours = self.signer.key_id
        if newest is not None and newest.key != ours:
            raise StoreError(
                f"the heads in {self.path} were signed by key {newest.key}, not by {ours}.",
                hint="Name that key with the setting `audit_key`; or, to go on with this one, keep the anchor and its"
                " public key elsewhere and make an empty file in its place.",
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the anchor {self.path} cannot be written: {error}.", hint=_WRITABLE) from error
        self._write(b"" if self._ends_whole() else b"\n")
        self.ready = True

    def newest(self, app: str) -> SignedHead | None:
        """Return the highest head that was signed for an application; None where there is none.

        Raises:
            IntegrityError: The signature is not the key's.
        """
        found = max(self.last(app, _OUT_OF_ORDER), key=lambda head: head.number, default=None)
        public_key = self.signer.public_key()
        if found is not None and (public_key is None or not found.genuine(public_key)):
            raise IntegrityError(
                f"{self.path} holds a head of {app!r} whose signature is not that of the key {found.key}.",
                hint="`bedrock-evolution audit verify` names the line; put an untouched copy of the anchor back.",
            )
        return found

    def heads(self, app: str) -> tuple[dict[int, str], set[int], bool]:
        """Read all signed heads of an application, without checking signatures.

        Returns:
            The hash that the file's first line on each number names; the numbers on which a later line names another;
            and whether some line is no signed head.

        Raises:
            StoreError: The file cannot be read.
        """
        heads: dict[int, str] = {}
        twice: set[int] = set()
        odd = False
        for line in self._content():
            try:
                body = orjson.loads(line)
                if body["app"] == app and heads.setdefault(body["count"], body["head"]) != body["head"]:
                    twice.add(body["count"])
            except (ValueError, TypeError, KeyError):
                odd = True
        named = {number: head for number, head in heads.items() if type(number) is int}
        return named, twice & named.keys(), odd or len(named) < len(heads)

    def lines(self, app: str) -> Iterator[tuple[int, SignedHead | None]]:
        """Yield the signed heads of an application with their places in the file, from 1; None for what is no head."""
        for place, line in enumerate(self._content(), 1):
            # A line that a failing machine cut short proves nothing, and hides nothing that removing would not.
            if line.rstrip().endswith(b"}") and ((head := _read(line, place)) is None or head.app == app):
                yield place, head

    def last(self, app: str, limit: int) -> list[SignedHead]:
        """Return the last heads of an application in the file, last first."""
        return list(islice((head for head in self._backwards() if head.app == app), limit))

    def testimony(self, app: str) -> SignedHeads:
        """See `Anchor.testimony`."""
        return SignedHeads(self, app)

    def exported(self, app: str) -> Iterator[str]:
        """See `Anchor.exported`: a line for each signed head."""
        for _, head in self.lines(app):
            if head is not None:
                yield canonical_json({"signed_head": head.as_json()})

    def _content(self) -> Iterator[bytes]:
        if not self.path.exists():
            return
        try:
            with self.path.open("rb") as file:
                yield from file
        except OSError as error:
            raise StoreError(f"the anchor {self.path} cannot be read: {error}.", hint=_WRITABLE) from error

    def _backwards(self) -> Iterator[SignedHead]:
        if not self.path.exists():
            return
        try:
            for line in _lines_backwards(self.path):
                if line.endswith(b"}") and (head := _read(line, 0)) is not None:
                    yield head
        except OSError as error:
            raise StoreError(f"the anchor {self.path} cannot be read: {error}.", hint=_WRITABLE) from error

    def _ends_whole(self) -> bool:
        return next(_lines_backwards(self.path), b"") == b"" if self.path.exists() else True

    def _write(self, line: bytes) -> None:
        """Append in one write, so that lines of two processes do not mix."""
        # The disk is not waited for: a line lost with the power means only that the anchor lags behind the record,
        # and the next run signs again.
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                written = os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreError(f"the anchor {self.path} cannot be written: {error}.", hint=_WRITABLE) from error
        if written != len(line):
            self.ready = False
            raise StoreError(f"the anchor {self.path} took a part of a line only.", hint="Free some disk space.")


_WRITABLE = "Make it readable and writable, or name another file with the setting `audit_anchor`."


def _message(app: str, count: int, head: str, key: str) -> bytes:
    return canonical_json({"app": app, "count": count, "head": head, "key": key}).encode()


def _read(line: bytes, place: int) -> SignedHead | None:
    try:
        body = orjson.loads(line)
        head = SignedHead(place, body["app"], body["count"], body["head"], body["key"], body["signature"])
    except (ValueError, TypeError, KeyError):
        return None
    texts = (head.app, head.head, head.key, head.signature)
    return head if type(head.number) is int and all(type(text) is str for text in texts) else None


def _lines_backwards(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, last first; the first one is empty where the file ends as it should."""
    with path.open("rb") as file:
        place = file.seek(0, os.SEEK_END)
        rest = b""
        while place > 0:
            size = min(_TAIL_BYTES, place)
            place = file.seek(place - size)
            first, *lines = (file.read(size) + rest).split(b"\n")
            yield from reversed(lines)
            rest = first
        yield rest
