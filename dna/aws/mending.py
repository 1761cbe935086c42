"""Copies of what is stored, judged one by one: what was altered is named, and mended from a copy that was not."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from pydantic import ValidationError

from ...errors import IntegrityError, StoreUnavailable
from ..genome import SystemDNA
from .record import Record, Snapshot, StoredEvent, day_of, sound

log = logging.getLogger(__name__)

_HASH_DIGITS = 64
_HINT = "`bedrock-evolution store verify` tells more; S3 keeps older versions of every object."


class Mender:
    """Finds sound copies of events and DNA.

    Args:
        records: The record in each region, the one that is read first.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    def event(self, app: str, event: StoredEvent, previous: str) -> StoredEvent:
        """Return an event with its document, sound, and mended where it was not.

        Args:
            app: The application.
            event: The event as the first region's item says.
            previous: Hash of the event before it.

        Raises:
            IntegrityError: No copy is sound; names the event.
        """
        if event.document and not (wrong := sound(app, event, previous)):
            return event
        wrong = wrong if event.document else ""
        for where, document in self._documents(app, event):
            found = _rebuilt(event, document)
            if found is not None and not sound(app, found, previous):
                if wrong:
                    log.warning("app=<%s> | %s in %s; mended from %s", app, wrong, self._records[0].site.region, where)
                    self._records[0].rewrite(self._records[0].event_part(app, found))
                return found
        raise IntegrityError(f"{wrong or f'event {event.number} has no body'}, and no copy is sound.", hint=_HINT)

    def _documents(self, app: str, event: StoredEvent) -> Iterator[tuple[str, bytes]]:
        """Yield the copies of an event's document, and where they are."""
        yield "its item", event.document.encode()
        for record in self._records:
            known = event if record is self._records[0] else record.event(app, event.number)
            if known is None:
                continue
            if known is not event and known.document:
                yield f"its item in {record.site.region}", known.document.encode()
            for name in dict.fromkeys((known.object, record.event_object(app, known))):
                if (content := record.document(name)) is not None:
                    yield name, content

    def snapshot(self, app: str, dna: Snapshot) -> Snapshot:
        """Return the DNA of a generation with its document, sound, and mended where it was not.

        Raises:
            IntegrityError: No copy is sound; names the generation.
        """
        if dna.document and not (wrong := wrong_with(app, dna)):
            return dna
        wrong = wrong if dna.document else ""
        for where, found in self._snapshots(app, dna):
            if not wrong_with(app, found):
                if wrong:
                    log.warning("app=<%s> | %s in %s; mended from %s", app, wrong, self._records[0].site.region, where)
                    self._records[0].rewrite(self._records[0].snapshot_part(app, found))
                return found
        raise IntegrityError(wrong or f"generation {dna.generation} of {app!r} has no body.", hint=_HINT)

    def _snapshots(self, app: str, dna: Snapshot) -> Iterator[tuple[str, Snapshot]]:
        for record in self._records:
            known = dna if record is self._records[0] else record.snapshot(app, dna.generation)
            if known is None:
                continue
            if known is not dna and known.document:
                yield f"its item in {record.site.region}", known
            for name in dict.fromkeys((known.object, record.snapshot_object(app, known))):
                if (content := record.document(name)) is not None:
                    yield name, _snapshot_of(content, name, dna.generation)


def _rebuilt(event: StoredEvent, document: bytes) -> StoredEvent | None:
    """Return the event that a document is, if it is one whose hash the item or the name of its object confirms."""
    digest = sha256(document).hexdigest()
    if digest not in (event.hash, event.object.rpartition("-")[2].removesuffix(".json")):
        return None
    try:
        text = document.decode()
        body: dict[str, Any] = json.loads(text)
        return replace(
            event, number=body["seq"], kind=body["kind"], key=body["key"], hash=digest, document=text, day=day_of(text)
        )
    except (ValueError, TypeError, KeyError):
        return None


def _snapshot_of(content: bytes, name: str, generation: int) -> Snapshot:
    """Return the DNA in an object; the name of the object holds its checksum."""
    checksum = name.rpartition("-")[2].removesuffix(".json")[:_HASH_DIGITS]
    try:
        text = content.decode()
        dna = SystemDNA.model_validate_json(text)
    except (UnicodeDecodeError, ValidationError):
        return Snapshot(generation, checksum, None, None, "")
    return Snapshot(generation, checksum, dna.parent, dna.mutation, text, name)


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
    return ""


def reachable(work: Iterator[Any]) -> Iterator[Any]:
    """Yield until a region cannot be reached."""
    try:
        yield from work
    except StoreUnavailable:
        return
