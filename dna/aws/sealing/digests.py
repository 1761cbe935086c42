"""Digests and segments of one region: objects in S3, and an item for each digest, so that nothing has to be listed.

A digest is there when its item is: the segment and the digest are put first. A process that dies between leaves
objects that nothing refers to.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from ....errors import IntegrityError, StoreUnavailable
from ...digest import Digest, Segment
from ..calls import Missing
from ..items import Item, Part, put_new
from ..objects import names
from ..place import CloudPlace
from ..table import Table


@dataclass(frozen=True, slots=True)
class Entry:
    """The item of a digest; nothing in it is signed."""

    number: int
    """Of the digest."""
    last: int
    """Number of the last event it covers."""
    object: str
    """Name of the digest's object."""
    sha256: str
    """Of its content."""

    @classmethod
    def of(cls, digest: Digest, name: str) -> Entry:
        """Return the item of a digest that is stored under a name."""
        return cls(digest.number, digest.last, name, sha256(digest.content()).hexdigest())

    def item(self) -> Item:
        """Return what is stored beside the keys."""
        return {"last": self.last, "object": self.object, "sha256": self.sha256}


class Digests:
    """The digests of all applications in one region.

    Args:
        table: The region's table.
        place: Names the keys.
    """

    def __init__(self, table: Table, place: CloudPlace) -> None:
        self.region = table.site.region
        self.table = table
        self._place = place

    def newest(self, app: str) -> Entry | None:
        """Return the last digest of an application: one read."""
        found = self.table.query(self._partition(app), begins="digest#", newest_first=True, limit=1)
        return next((_entry(item) for item in found), None)

    def events(self, app: str) -> int:
        """Return how many events of an application the region has, as its head says."""
        number = (self.table.get(self._place.partition(app), "head") or {}).get("number")
        return number if isinstance(number, int) else 0

    def entries(self, app: str, *, after: int = 0) -> Iterator[Entry]:
        """Yield the digests of an application above a number in order, as their items say."""
        above = _sk(after) if after > 0 else ""
        for item in self.table.query(self._partition(app), begins="digest#", above=above):
            yield _entry(item)

    def part(self, app: str, entry: Entry) -> Part:
        """Return the part that makes a digest one of the application's: nobody else may have made one of its number."""
        return put_new(self._partition(app), _sk(entry.number), entry.item())

    def content(self, name: str) -> bytes | None:
        """Return an object; None if there is none."""
        if not name:
            return None
        try:
            return bytes(self._s3("get_object", Key=name)["Body"])
        except Missing:
            return None

    def put(self, name: str, content: bytes, until: datetime | None) -> None:
        """Put an object.

        Args:
            name: Its name.
            content: Its content.
            until: Nobody can remove it before (S3 Object Lock in compliance mode); None for no such time.
        """
        # Both headers: what is kept needs the first, and the second says what S3 has to find.
        checked = {
            "ChecksumAlgorithm": "SHA256",
            "ChecksumSHA256": base64.b64encode(sha256(content).digest()).decode(),
        }
        kept = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until} if until else {}
        self._s3("put_object", Key=name, Body=content, **checked, **kept)

    def listed(self, app: str) -> list[str] | None:
        """Return the names of all objects of digests; None where listing is denied."""
        try:
            return list(names(self.table, f"{self._folder(app)}/digests/"))
        except StoreUnavailable as error:
            if error.passing:
                raise
            return None

    def digest_name(self, digest: Digest) -> str:
        """Return the name of a digest's object: of two processes that sign at once, neither overwrites the other's."""
        said = sha256(digest.content()).hexdigest()[:16]
        return f"{self._folder(digest.app)}/digests/{digest.number:012d}-{said}.json"

    def segment_name(self, app: str, segment: Segment) -> str:
        """Return the name of a segment's object."""
        return f"{self._folder(app)}/segments/{segment.first:012d}-{segment.last:012d}.jsonl.gz"

    def _folder(self, app: str) -> str:
        return self._place.folder("audit", app)

    def _partition(self, app: str) -> str:
        return f"{self._place.partition(app)}/audit"

    def _s3(self, operation: str, **arguments: Any) -> dict[str, Any]:
        return self.table.clients.call("s3", self.region, operation, Bucket=self.table.site.bucket, **arguments)


def read(digests: Digests, app: str, entry: Entry) -> Digest:
    """Read the digest that an item names; its signature is not checked.

    Raises:
        IntegrityError: It is not there, or not what the item says; names the digest.
    """
    what = f"digest {entry.number}"
    content = content_of(digests, entry.object, what)
    if content is None:
        raise IntegrityError(f"{what} is missing: {entry.object or 'its object'} is not there")
    if sha256(content).hexdigest() != entry.sha256:
        raise IntegrityError(f"{what} was altered: {entry.object} does not match the SHA-256 in its item")
    try:
        digest = Digest.read(content)
    except ValueError as error:
        raise IntegrityError(f"{what} was altered: {entry.object} cannot be read: {error}") from error
    if (digest.app, digest.number, digest.last) != (app, entry.number, entry.last):
        raise IntegrityError(f"{what} was altered: {entry.object} is not the digest that its item names")
    return digest


def content_of(digests: Digests, name: str, what: str) -> bytes | None:
    """Return an object; None if there is none.

    Raises:
        IntegrityError: It cannot be read, for good; names what it is.
    """
    try:
        return digests.content(name)
    except StoreUnavailable as error:
        # Who may not list a bucket is told that access is denied, also where an object is missing.
        if error.passing:
            raise
        raise IntegrityError(f"{what} cannot be read, or is not there: {error.message}") from error


def _sk(number: int) -> str:
    return f"digest#{number:012d}"


def _entry(item: Item) -> Entry:
    """Read an item; what it does not say, or not in its type, becomes what no digest has."""
    digits = str(item["sk"]).removeprefix("digest#")
    last, name, said = item.get("last"), item.get("object"), item.get("sha256")
    return Entry(
        int(digits) if digits.isdecimal() else 0,
        last if type(last) is int else 0,
        name if type(name) is str else "",
        said if type(said) is str else "",
    )
