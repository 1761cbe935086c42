"""What a replica lacks, brought to it from the record in the writer's region."""

from __future__ import annotations

import json

from ...working_copy import MAKES_DNA
from ..mending import Mender
from ..record import Record
from ..regions import Regions
from ..stored import Batch, Head, Snapshot, StoredEvent

_EVENTS_AT_ONCE = 20


def bring_up(app: str, end: Head, source: Record, target: Record, regions: Regions) -> None:
    """Bring a replica that lacks the newest events up to an end of the record.

    Args:
        app: The application.
        end: Up to where.
        source: The record in the writer's region.
        target: The record in the replica.
        regions: Demand the epoch.

    Raises:
        ConditionFailed: The replica was written to meanwhile.
        StoreUnavailable: A region cannot be reached.
        IntegrityError: The source is not sound.
    """
    mender = Mender([source])
    while (before := target.head(app)) != end:
        batch = _following(app, before, end, source, mender)
        target.put_objects(batch)
        target.table.transact([*target.parts(batch, judged=True), regions.guard()])


def _following(app: str, before: Head, end: Head, source: Record, mender: Mender) -> Batch:
    """Return what follows a position: no more than a transaction holds, and ending with the first that makes DNA."""
    upto, after = min(end.number, before.number + _EVENTS_AT_ONCE), before
    following = source.snapshot(app, before.generation + 1) if before.generation < end.generation else None
    dna: Snapshot | None = mender.snapshot(app, following) if following else None
    events: list[StoredEvent] = []
    for stored in source.events(app, after=before.number, upto=upto):
        event = mender.event(app, stored, after.hash)
        events.append(event)
        after = after._replace(number=event.number, hash=event.hash)
        if dna and event.kind in MAKES_DNA and json.loads(event.document)["data"].get("dna") == dna.checksum:
            return Batch(app, before, _with(after, dna), tuple(events), dna)
    if not events and dna:
        # It became live with an event that was on record before.
        return Batch(app, before, _with(before, dna), (), dna)
    return Batch(app, before, after, tuple(events))


def _with(head: Head, dna: Snapshot) -> Head:
    return head._replace(generation=dna.generation, checksum=dna.checksum)
