"""The record of a store in one region: events, DNA and the rows of runs.

Each has its body in S3 and its item in DynamoDB. The objects are put first, and one DynamoDB transaction makes all of
them part of the record, so nothing is visible by half. A process that dies between leaves objects that nothing refers
to; the same write, repeated, puts them again.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from ...errors import IntegrityError
from .calls import Missing
from .items import Item, Part, put, put_new
from .objects import folders
from .place import CloudPlace, Site
from .stored import (
    HEAD_FORM,
    VERIFY,
    Batch,
    Head,
    Segment,
    Snapshot,
    StoredEvent,
    StoredSegment,
    dna_sk,
    event_sk,
    key_sk,
    numbered,
    odd,
    owned,
    owner_in,
    owner_item,
    segment_sk,
    stored_event,
    stored_segment,
    stored_snapshot,
)
from .table import Table

INLINE_BYTES = 32_768
"""Up to this size a body is kept in the item too: one read gets both, and each is a copy of the other."""
INLINE_SNAPSHOT_BYTES = 300_000
"""The same for DNA; an item may have 400 KB
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html)."""


class Record:
    """The record in one region.

    Args:
        table: The region's table.
        place: Names the keys.
    """

    def __init__(self, table: Table, place: CloudPlace) -> None:
        self.table = table
        self.site: Site = table.site
        self._place = place

    # -- writing

    def put_objects(self, batch: Batch) -> None:
        """Put the bodies of a batch, which is not visible yet.

        Raises:
            StoreUnavailable: One could not be put.
        """
        bodies = [(self.event_object(batch.app, event), event.document.encode()) for event in batch.events]
        if batch.snapshot is not None:
            bodies.append((self.snapshot_object(batch.app, batch.snapshot), batch.snapshot.document.encode()))
        bodies += [(self.segment_object(batch.app, segment), segment.content) for segment in batch.segments]
        if len(bodies) == 1:
            self.put_object(*bodies[0])
            return
        self.table.clients.at_once(lambda body: self.put_object(*body), bodies)

    def parts(self, batch: Batch, *, judged: bool = False) -> list[Part]:
        """Return the transaction that makes a batch part of the record: the head first, then all else.

        Args:
            batch: The batch.
            judged: Whether the writer's region has it already, so that whose runs they are was judged there.
        """
        pk = self._place.partition(batch.app)
        parts = [] if batch.before == batch.after else [self._move_head(pk, batch)]
        if batch.before.generation < 0 <= batch.after.generation:
            parts.append(put(self._place.prefix, f"app#{batch.app}", {}))
        for event in batch.events:
            parts += [put_new(pk, event_sk(event.number), self._event_item(batch.app, event))]
            parts += [put_new(pk, key_sk(event.key), {"number": event.number})]
        if batch.snapshot is not None:
            parts.append(put_new(pk, dna_sk(batch.snapshot.generation), self._snapshot_item(batch.app, batch.snapshot)))
        last = {segment.run_id: segment.number for segment in batch.segments}
        for run_id in batch.runs:
            mine = "" if judged else "attribute_not_exists(pk) OR #owner = :owner"
            pk = self.run_partition(batch.app, run_id)
            parts.append(owned(pk, batch.machine, condition=mine, last=last.get(run_id)))
        for segment in batch.segments:
            part = self.segment_part(batch.app, segment)
            parts.append(put_new(part.key.pk, part.key.sk, part.item))
        return parts

    def _move_head(self, pk: str, batch: Batch) -> Part:
        after = batch.after._asdict()
        if batch.before == Head():
            return put_new(pk, "head", after)
        unchanged = "#number = :number AND #hash = :hash AND #checksum = :checksum"
        before = {name: getattr(batch.before, name) for name in ("number", "hash", "checksum")}
        return put(pk, "head", after, condition=unchanged, **before)

    def _event_item(self, app: str, event: StoredEvent) -> Item:
        inline = {"document": event.document} if len(event.document.encode()) <= INLINE_BYTES else {}
        about = {"number": event.number, "kind": event.kind, "key": event.key, "hash": event.hash, "day": event.day}
        return {**about, "object": self.event_object(app, event), **inline}

    def _snapshot_item(self, app: str, dna: Snapshot) -> Item:
        inline = {"document": dna.document} if len(dna.document.encode()) <= INLINE_SNAPSHOT_BYTES else {}
        about = {"generation": dna.generation, "checksum": dna.checksum, "parent": dna.parent, "mutation": dna.mutation}
        return {**about, "object": self.snapshot_object(app, dna), **inline}

    def put_object(self, name: str, body: bytes) -> None:
        """Put an object, with the SHA-256 that S3 has to find."""
        self._s3("put_object", Key=name, Body=body, ChecksumSHA256=_checksum(body))

    def rewrite(self, part: Part) -> None:
        """Write one item, to mend it."""
        self.table.write(part)

    # -- reading

    def head(self, app: str) -> Head:
        """Return where the record of an application ends: one read.

        Raises:
            IntegrityError: What is there is no head.
        """
        item = self.table.get(self._place.partition(app), "head")
        if item is None and self.holds(app):
            # Unless the first event was stored a moment ago.
            item = self.table.get(self._place.partition(app), "head")
            if item is None:
                raise IntegrityError(f"the head of {app!r} in {self.site.region} is missing.", hint=VERIFY)
        if item is None:
            return Head()
        wrong = odd(item, HEAD_FORM)
        if wrong:
            raise IntegrityError(f"the head of {app!r} in {self.site.region} was altered: {wrong}.", hint=VERIFY)
        return Head(*(item[name] for name in Head._fields))

    def holds(self, app: str) -> bool:
        """Whether there is any event of an application."""
        return next(self.table.query(self._place.partition(app), begins="event#", limit=1), None) is not None

    def apps(self) -> list[str]:
        """Return the names of the applications in the store: those that its items and its objects agree on."""
        named = {str(item["sk"]).removeprefix("app#") for item in self.table.query(self._place.prefix, begins="app#")}
        kept = set(folders(self.table, f"{self._place.prefix}/dna/"))
        # Where they do not agree, the record itself tells.
        return sorted((named & kept) | {app for app in named ^ kept if self.snapshot(app, 0) is not None})

    def events(self, app: str, *, after: int, upto: int) -> Iterator[StoredEvent]:
        """Yield events as their items say, in order; nothing is verified."""
        pk = self._place.partition(app)
        for item in self.table.query(pk, begins="event#", above=event_sk(after)):
            event = stored_event(item)
            if event.number > upto:
                return
            yield event

    def event(self, app: str, number: int) -> StoredEvent | None:
        """Return the event of a number as its item says."""
        item = self.table.get(self._place.partition(app), event_sk(number))
        return None if item is None else stored_event(item)

    def snapshot(self, app: str, generation: int) -> Snapshot | None:
        """Return the DNA of a generation as its item says: one read."""
        item = self.table.get(self._place.partition(app), dna_sk(generation))
        return None if item is None else stored_snapshot(item)

    def snapshots(self, app: str, *, after: int, upto: int) -> Iterator[Snapshot]:
        """Yield the DNA of generations above `after`, in order, as their items say."""
        for item in self.table.query(self._place.partition(app), begins="dna#", above=dna_sk(after)):
            dna = stored_snapshot(item)
            if dna.generation > upto:
                return
            yield dna

    def document(self, name: str) -> bytes | None:
        """Return the content of an object; None if there is none."""
        try:
            return bytes(self._s3("get_object", Key=name)["Body"])
        except Missing:
            return None

    # -- runs

    def segments(self, app: str, run_id: str) -> Iterator[StoredSegment]:
        """Yield the segments of a run in order, as their items say; nothing is verified."""
        for item in self.table.query(self.run_partition(app, run_id), begins="segment#"):
            yield stored_segment(item)

    def segment(self, app: str, run_id: str, number: int) -> StoredSegment | None:
        """Return one segment of a run as its item says."""
        item = self.table.get(self.run_partition(app, run_id), segment_sk(number))
        return None if item is None else stored_segment(item)

    def last_segment(self, app: str, run_id: str) -> int:
        """Return the number of the last segment of a run; 0 for none."""
        newest = self.table.query(self.run_partition(app, run_id), begins="segment#", newest_first=True, limit=1)
        return next((numbered(item["sk"]) for item in newest), 0)

    def sent(self, app: str, run_id: str) -> int:
        """Return how many segments of a run were stored, as the item of its owner says."""
        item = self.table.get(self.run_partition(app, run_id), "owner") or {}
        last = item.get("last", 0)
        return last if isinstance(last, int) else 0

    def owner(self, app: str, run_id: str) -> str | None:
        """Return which machine works on a run; its item is mended where one of its three copies was altered.

        Raises:
            IntegrityError: More of it was altered.
        """
        pk = self.run_partition(app, run_id)
        item = self.table.get(pk, "owner")
        if item is None and self.last_segment(app, run_id):
            # Unless its first segment was stored a moment ago.
            item = self.table.get(pk, "owner") or {}
        if item is None:
            return None
        owner = owner_in(item)
        if owner is None:
            wrong = "was altered" if item else "is missing"
            raise IntegrityError(f"the owner of run {run_id} in {self.site.region} {wrong}.", hint=VERIFY)
        if any(item.get(name) != value for name, value in owner_item(owner).items()):
            self.rewrite(owned(pk, owner))
        return owner

    def take_over(self, app: str, run_id: str, owner: str) -> Part:
        """Return the part that makes a machine the one that works on a run; the one before is refused from then on."""
        return owned(self.run_partition(app, run_id), owner)

    # -- names

    def event_object(self, app: str, event: StoredEvent) -> str:
        """Return the name of an event's object: by application and day."""
        return f"{self._place.folder('events', app)}/{event.day}/{event.number:012d}-{event.hash}.json"

    def snapshot_object(self, app: str, dna: Snapshot) -> str:
        """Return the name of a generation's object."""
        return f"{self._place.folder('dna', app)}/{dna.generation:012d}-{dna.checksum}.json"

    def event_part(self, app: str, event: StoredEvent) -> Part:
        """Return the part that writes an event's item anew, to mend it."""
        return put(self._place.partition(app), event_sk(event.number), self._event_item(app, event))

    def snapshot_part(self, app: str, dna: Snapshot) -> Part:
        """Return the part that writes a generation's item anew, to mend it."""
        return put(self._place.partition(app), dna_sk(dna.generation), self._snapshot_item(app, dna))

    def segment_object(self, app: str, segment: Segment) -> str:
        """Return the name of a segment's object."""
        return f"{self._place.folder('runs', app)}/{segment.run_id}/{segment.number:08d}-{segment.digest[:16]}.rows"

    def segment_part(self, app: str, segment: Segment) -> Part:
        """Return the part that writes a segment's item anew, to mend it."""
        item = {"object": self.segment_object(app, segment), "sha256": segment.digest}
        return put(self.run_partition(app, segment.run_id), segment_sk(segment.number), item)

    def run_partition(self, app: str, run_id: str) -> str:
        """Return the partition key of a run's items."""
        return f"{self._place.partition(app)}/run/{run_id}"

    def _s3(self, operation: str, **arguments: object) -> dict[str, Any]:
        return self.table.clients.call("s3", self.site.region, operation, Bucket=self.site.bucket, **arguments)


def _checksum(body: bytes) -> str:
    return base64.b64encode(sha256(body).digest()).decode()
