"""Digests: a signed head, the SHA-256 of the segment that holds the events up to it, and the digest before.

After CloudTrail's chain of digest files
(https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-log-file-validation-digest-file-structure.html).
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Annotated, Literal, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import IntegrityError
from .canonical import canonical_json
from .events import EventRow, linked
from .signing import genuine

FORMAT: Literal["bedrock-evolution-digest/1"] = "bedrock-evolution-digest/1"
_DIGITS = 64
_HASH_BYTES = len(b',"hash":""}') + _DIGITS
"""What an exported line has at its end in place of the last brace of the document."""

_Count = Annotated[int, Field(ge=1)]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Digest(BaseModel):
    """One digest; its fields are those of the JSON object that is stored."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    format: Literal["bedrock-evolution-digest/1"] = FORMAT
    app: str
    number: _Count
    """Of the digest, from 1."""
    first: _Count
    """Number of the first event it covers."""
    last: _Count
    """Number of the last one, which is how many there were."""
    head: _Digest
    """Hash of the last one."""
    segment: str
    """Name of the object that holds the events."""
    segment_sha256: _Digest
    """Of its lines, before they were packed."""
    previous: _Digest
    """SHA-256 of the digest before it, as it is stored; 64 zeros for the first."""
    key: str
    """Which key signed."""
    at: str
    """When, ISO 8601 with its time zone."""
    signature: str = ""
    """In hexadecimal, over `message`."""

    @classmethod
    def read(cls, content: bytes) -> Digest:
        """Read a digest from the content of its object.

        Raises:
            ValueError: It is no digest, or not written as one.
        """
        try:
            digest = cls.model_validate_json(content)
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"]) from error
        if digest.content() != content:
            raise ValueError("it is not in the canonical form")
        return digest

    def message(self) -> bytes:
        """Return what is signed: canonical JSON of all but the signature."""
        return canonical_json(self.model_dump(exclude={"signature"})).encode()

    def content(self) -> bytes:
        """Return what is stored: canonical JSON."""
        return canonical_json(self.model_dump()).encode()

    def genuine(self, public_key: bytes) -> bool:
        """Whether the owner of the key signed it."""
        try:
            signature = bytes.fromhex(self.signature)
        except ValueError:
            return False
        return genuine(public_key, self.message(), signature)


class Segment(NamedTuple):
    """Events that follow one another."""

    first: int
    last: int
    head: str
    """Hash of the last one."""
    lines: bytes
    """Each event as `audit export` writes it, ended by a newline."""

    @property
    def digest(self) -> str:
        """SHA-256 of the lines, which does not depend on who packed them."""
        return sha256(self.lines).hexdigest()

    def packed(self) -> bytes:
        """Return what is stored."""
        return gzip.compress(self.lines, mtime=0)


def segment_of(rows: Iterable[EventRow], app: str, after: int, head: str) -> Segment:
    """Make a segment of verified events.

    Args:
        rows: The events, in order.
        app: The application.
        after: The number of the event before them.
        head: Its hash.

    Raises:
        IntegrityError: One is not whole, or does not follow from the one before it.
    """
    last, lines = after, []
    for row in rows:
        _, head = linked(row, app, last + 1, head)
        last += 1
        lines.append(b'%b,"hash":"%b"}\n' % ((row[4] or b"")[:-1], head.encode()))
    return Segment(after + 1, last, head, b"".join(lines))


def unpacked(content: bytes) -> bytes:
    """Return the lines of a stored segment.

    Raises:
        ValueError: It is no segment.
    """
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(str(error)) from error


def hashes_of(lines: bytes, digest: Digest, head: str | None) -> list[str]:
    """Verify that the lines of a segment are the events that a digest covers; return their hashes.

    Args:
        lines: The lines.
        digest: The digest.
        head: Hash of the event before the first one; None where that is not known.

    Raises:
        IntegrityError: They are not.
    """
    found: list[str] = []
    for seq, row in enumerate(_rows(lines), digest.first):
        previous = orjson.loads(row[4] or b"").get("previous") if head is None else head
        _, head = linked(row, digest.app, seq, previous)
        found.append(head)
    if len(found) != digest.last - digest.first + 1 or head != digest.head:
        raise IntegrityError(f"its events do not end with the event {digest.last} that was signed")
    return found


def _rows(lines: bytes) -> Iterator[EventRow]:
    for line in lines.split(b"\n")[:-1]:
        document = line[:-_HASH_BYTES] + b"}"
        try:
            body = orjson.loads(document)
            yield body["seq"], body["kind"].encode(), body["key"].encode(), line[-_DIGITS - 2 : -2], document
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise IntegrityError(f"a line of it is no event: {error}") from error
