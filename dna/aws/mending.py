"""Copies of what is stored, judged one by one: what was altered is named, and mended from a copy that was not."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar

from pydantic import ValidationError

from ...errors import IntegrityError, StoreError, StoreUnavailable
from ..database import Database
from ..genome import SystemDNA
from ..sqlite import write_dna
from .items import Part
from .objects import older
from .record import Record
from .stored import VERIFY, Segment, Snapshot, StoredEvent, StoredSegment, day_of, sound

log = logging.getLogger(__name__)

_SHORT_DIGITS = 16

Item = TypeVar("Item", StoredEvent, Snapshot)
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of a body.

    Args:
        where: Where it was found, for people.
        content: Its bytes; None where there is no such object.
        name: Name of the object in the first region, if it is one.
    """

    where: str
    content: bytes | None
    name: str = ""


class Mender:
    """Finds sound copies of events, DNA and the rows of runs, and brings them to where the copy is not sound.

    Args:
        records: The record in each region, the one that is read first.
        copy: The working copy of this machine, where it may be a source too.
        thorough: Whether older versions of an object are a source too.
    """

    def __init__(self, records: Sequence[Record], *, copy: Database | None = None, thorough: bool = False) -> None:
        self._records = records
        self._first = records[0]
        self._copy = copy
        self._thorough = thorough

    # -- events

    def event(self, app: str, event: StoredEvent, previous: str) -> StoredEvent:
        """Return an event with its document, sound, and mended where it was not.

        Args:
            app: The application.
            event: The event as the first region's item says.
            previous: Hash of the event before it.

        Raises:
            IntegrityError: No copy is sound; names the event.
        """
        if event.document and not event.odd and not sound(app, event, previous):
            return event
        found, copy, tried = self.sound_event(app, event, previous)
        self._mend_item(app, event, found, copy, self._first.event_part(app, found))
        self._mend_object(self._first.event_object(app, found), found.document.encode(), copy, tried)
        return found

    def sound_event(self, app: str, event: StoredEvent, previous: str) -> tuple[StoredEvent, Copy, list[Copy]]:
        """Return an event as a sound copy of it says, that copy, and those that were tried; nothing is mended.

        Raises:
            IntegrityError: No copy is sound; names the event.
        """
        tried: list[Copy] = []
        confirmed = {event.hash, _digits(event.object)}
        for copy in self._event_copies(app, event):
            tried.append(copy)
            found = event_of(copy.content or b"", event, confirmed)
            if found is not None and not sound(app, found, previous):
                return found, copy, tried
        wrong = event.odd or (event.document and sound(app, event, previous))
        raise IntegrityError(self._lost(wrong, f"event {event.number}", app, tried), hint=VERIFY)

    def lost_event(self, app: str, number: int, digest: str, names: Collection[str]) -> StoredEvent | None:
        """Return an event whose item is missing, by its number and hash, if there is a copy.

        Args:
            app: The application.
            number: Its number.
            digest: Its hash.
            names: Names of the objects that may be it.
        """
        blank = StoredEvent(number, "", "", digest, "", "")
        for copy in self._copies_elsewhere(app, blank, names):
            found = event_of(copy.content or b"", blank, {digest})
            if found is not None and found.number == number:
                return found
        return None

    def _event_copies(self, app: str, event: StoredEvent) -> Iterator[Copy]:
        if event.document:
            yield Copy("its item", event.document.encode())
        yield from self._objects(self._first, event.object, self._first.event_object(app, event))
        yield from self._copies_elsewhere(app, event)

    def _copies_elsewhere(self, app: str, event: StoredEvent, names: Collection[str] = ()) -> Iterator[Copy]:
        yield from self._objects(self._first, *names)
        for record in self._others():
            with_item = _asked(record, partial(record.event, app, event.number))
            if with_item is None:
                continue
            if with_item.document:
                yield Copy(f"its item in {record.site.region}", with_item.document.encode())
            yield from self._objects(record, with_item.object, record.event_object(app, with_item))
        if self._copy is not None:
            yield from self._kept("SELECT document FROM events WHERE app = ? AND seq = ?", app, event.number)

    # -- DNA

    def snapshot(self, app: str, dna: Snapshot) -> Snapshot:
        """Return the DNA of a generation with its document, sound, and mended where it was not.

        Raises:
            IntegrityError: No copy is sound; names the generation.
        """
        if dna.document and not dna.odd and not wrong_with(app, dna):
            return dna
        found, copy, tried = self.sound_snapshot(app, dna)
        self._mend_item(app, dna, found, copy, self._first.snapshot_part(app, found))
        self._mend_object(self._first.snapshot_object(app, found), found.document.encode(), copy, tried)
        return found

    def sound_snapshot(self, app: str, dna: Snapshot) -> tuple[Snapshot, Copy, list[Copy]]:
        """Return DNA as a sound copy of it says, that copy, and those that were tried; nothing is mended.

        Raises:
            IntegrityError: No copy is sound; names the generation.
        """
        tried: list[Copy] = []
        confirmed = {dna.checksum, _digits(dna.object)}
        for copy in self._snapshot_copies(app, dna):
            tried.append(copy)
            found = _snapshot_of(copy.content or b"", dna.generation, confirmed)
            if found is not None and not wrong_with(app, found):
                return found, copy, tried
        named = f"generation {dna.generation}"
        raise IntegrityError(
            self._lost(dna.odd or (dna.document and wrong_with(app, dna)), named, app, tried), hint=VERIFY
        )

    def lost_snapshot(self, app: str, generation: int, checksum: str, names: Collection[str]) -> Snapshot | None:
        """Return DNA whose item is missing, by its generation and checksum, if there is a copy."""
        blank = Snapshot(generation, checksum, None, None, "")
        for copy in (*self._objects(self._first, *names), *self._snapshots_elsewhere(app, blank)):
            found = _snapshot_of(copy.content or b"", generation, {checksum})
            if found is not None and not wrong_with(app, found):
                return found
        return None

    def _snapshot_copies(self, app: str, dna: Snapshot) -> Iterator[Copy]:
        if dna.document:
            yield Copy("its item", dna.document.encode())
        yield from self._objects(self._first, dna.object, self._first.snapshot_object(app, dna))
        yield from self._snapshots_elsewhere(app, dna)

    def _snapshots_elsewhere(self, app: str, dna: Snapshot) -> Iterator[Copy]:
        for record in self._others():
            with_item = _asked(record, partial(record.snapshot, app, dna.generation))
            if with_item is None:
                continue
            if with_item.document:
                yield Copy(f"its item in {record.site.region}", with_item.document.encode())
            yield from self._objects(record, with_item.object, record.snapshot_object(app, with_item))
        if self._copy is not None:
            yield from self._kept("SELECT document FROM dna WHERE app = ? AND generation = ?", app, dna.generation)

    # -- the rows of runs

    def segments(self, app: str, run_id: str) -> Iterator[tuple[int, bytes]]:
        """Yield the segments of a run in order, each with its number, sound, and mended where they were not.

        Raises:
            IntegrityError: One is missing, or no copy of it is sound.
        """
        count, sent = 0, self._first.sent(app, run_id)
        for item in self._first.segments(app, run_id):
            if item.number != count + 1:
                sent = max(sent, item.number, count + 1)
                break
            yield item.number, self.segment(app, run_id, item).content
            count = item.number
        if count < sent:
            raise IntegrityError(
                f"segment {count + 1} of run {run_id} is missing in {self._first.site.region}: {sent} were stored.",
                hint=VERIFY,
            )

    def lost_segment(self, app: str, run_id: str, number: int, names: Collection[str]) -> Segment | None:
        """Return a segment whose item is missing, if there is a copy.

        Args:
            app: The application.
            run_id: The run.
            number: Its number.
            names: Names of the objects in the first region that may be it.
        """
        there = [(self._first, StoredSegment(number, name, "")) for name in names]
        for record in self._others():
            known = _asked(record, partial(record.segment, app, run_id, number))
            there += [(record, known)] if known else []
        for record, item in there:
            for copy in self._objects(record, item.object):
                found = Segment(run_id, number, copy.content or b"")
                if copy.content and self._first.segment_object(app, found) == item.object:
                    return found
        return None

    def segment(self, app: str, run_id: str, item: StoredSegment) -> Segment:
        """Return a segment, sound, and mended where it was not.

        Raises:
            IntegrityError: No copy is sound; names the segment.
        """
        found, copy, tried = self.sound_segment(app, run_id, item)
        name = self._first.segment_object(app, found)
        if item.odd or (item.object, item.sha256) != (name, found.digest):
            log.warning("app=<%s> | the item of segment %d of %s was altered; mended", app, item.number, run_id)
            self._rewrite(self._first.segment_part(app, found))
        self._mend_object(name, found.content, copy, tried)
        return found

    def sound_segment(self, app: str, run_id: str, item: StoredSegment) -> tuple[Segment, Copy, list[Copy]]:
        """Return a segment as a sound copy of it says, that copy, and those that were tried; nothing is mended.

        Raises:
            IntegrityError: No copy is sound; names the segment.
        """
        tried: list[Copy] = []
        confirmed = {item.sha256[:_SHORT_DIGITS], _digits(item.object)}
        for copy in self._segment_copies(app, run_id, item):
            tried.append(copy)
            found = Segment(run_id, item.number, copy.content or b"")
            if copy.content and found.digest[:_SHORT_DIGITS] in confirmed:
                return found, copy, tried
        wrong = item.odd or "it does not match its SHA-256"
        raise IntegrityError(self._lost(wrong, f"segment {item.number} of run {run_id}", app, tried), hint=VERIFY)

    def _segment_copies(self, app: str, run_id: str, item: StoredSegment) -> Iterator[Copy]:
        folder = self._first.segment_object(app, Segment(run_id, item.number, b"")).rpartition("-")[0]
        name = f"{folder}-{item.sha256[:_SHORT_DIGITS]}.rows"
        yield from self._objects(self._first, item.object, name)
        for record in self._others():
            yield from self._objects(record, item.object, name)

    # -- copies

    def _others(self) -> Iterator[Record]:
        return iter(self._records[1:])

    def _objects(self, record: Record, *names: str) -> Iterator[Copy]:
        for name in dict.fromkeys(name for name in names if name):
            where = f"{record.site.bucket}/{name}"
            if record is self._first:
                yield Copy(where, record.document(name), name)
            else:
                yield Copy(where, _asked(record, partial(record.document, name)))
            if self._thorough:
                versions = _asked(record, lambda: list(older(record.table, name))) or ()  # noqa: B023  # called at once
                yield from (Copy(f"an older version of {where}", each) for each in versions)

    def _kept(self, query: str, app: str, number: int) -> Iterator[Copy]:
        row = self._copy.row(query, [app, number]) if self._copy is not None else None
        if row is not None:
            yield Copy("the working copy of this machine", str(row[0]).encode())

    # -- mending

    def _mend_item(self, app: str, item: Item, found: Item, copy: Copy, right: Part) -> None:
        """Write an item anew that is not what it has to be."""
        said = replace(found, document=item.document, object=item.object, odd=item.odd)
        whole = item.document == right.item.get("document", "") and item.object == right.item["object"]
        if said == item and whole and not item.odd:
            return
        place = f"{right.key.sk} of {app!r} in {self._first.site.region}"
        log.warning("app=<%s> | item %s was altered; mended from %s", app, place, copy.where)
        self._rewrite(right)

    def _mend_object(self, name: str, content: bytes, copy: Copy, tried: Sequence[Copy]) -> None:
        """Put an object anew that was met and is not what it has to be."""
        if any(each.name == name and each.content != content for each in tried):
            log.warning("object=<%s/%s> | was altered; mended from %s", self._first.site.bucket, name, copy.where)
            try:
                self._first.put_object(name, content)
            except StoreError as error:
                log.warning("object=<%s> | cannot be mended: %s", name, error.message)

    def _rewrite(self, part: Part) -> None:
        try:
            self._first.rewrite(part)
        except StoreError as error:
            # What was read is right all the same.
            log.warning("item=<%s> | cannot be mended: %s", part.key.sk, error.message)

    def _lost(self, wrong: str, named: str, app: str, tried: Sequence[Copy]) -> str:
        looked = ", ".join(copy.where for copy in tried) or "nowhere else"
        told = wrong if named in wrong else f"{named} of {app!r} was altered: {wrong or 'it has no such object'}"
        return f"{told.rstrip('.')}; in {self._first.site.region} no copy is sound (looked at: {looked})."


def _asked(record: Record, question: Callable[[], Answer]) -> Answer | None:
    """Ask a region for a copy; None where it cannot be reached, or what it has cannot be read."""
    try:
        return question()
    except (StoreUnavailable, IntegrityError) as error:
        log.warning("region=<%s> | cannot be asked for a copy: %s", record.site.region, error.message)
        return None


def _digits(name: str) -> str:
    """Return the hash in the name of an object."""
    return name.rpartition("-")[2].partition(".")[0]


def event_of(content: bytes, event: StoredEvent, confirmed: Collection[str]) -> StoredEvent | None:
    """Return the event that a document is, if its hash is one that is confirmed."""
    digest = sha256(content).hexdigest()
    if digest not in confirmed:
        return None
    try:
        text = content.decode()
        body: dict[str, Any] = json.loads(text)
        known = {"number": body["seq"], "kind": body["kind"], "key": body["key"], "day": day_of(text)}
    except (ValueError, TypeError, KeyError):
        return None
    return replace(event, **known, hash=digest, document=text, odd="")


def _snapshot_of(content: bytes, generation: int, confirmed: Collection[str]) -> Snapshot | None:
    """Return the DNA that a document is, if its checksum is one that is confirmed."""
    try:
        text = content.decode()
        dna = SystemDNA.model_validate_json(text)
    except (UnicodeDecodeError, ValidationError):
        return None
    if dna.checksum not in confirmed:
        return None
    return Snapshot(generation, dna.checksum, dna.parent, dna.mutation, text)


def wrong_with(app: str, dna: Snapshot) -> str:
    """Return what is wrong with stored DNA, or an empty text."""
    named = f"generation {dna.generation} of {app!r}"
    try:
        found = SystemDNA.model_validate_json(dna.document)
    except ValidationError:
        return f"the stored DNA of {named} cannot be read"
    if found.checksum != dna.checksum:
        return f"{named} does not match its checksum {dna.checksum[:12]}"
    fields = (found.app, found.generation, found.parent, found.mutation)
    if fields != (app, dna.generation, dna.parent, dna.mutation):
        return f"{named} was altered: its content does not match its item"
    if write_dna(found) != dna.document:
        return f"{named} was altered: it is not spelt as it was stored"
    return ""
