"""Pulling: what other machines stored, verified and taken over into this machine's working copy."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import IntegrityError, StoreUnavailable
from .aws.mending import Mender
from .aws.record import Record
from .aws.stored import Head, Snapshot, StoredEvent
from .working_copy import WorkingCopy

_PAGE = 200
_PAUSES_S = (0.05, 0.5)
"""DynamoDB may show a transaction by half for a moment
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html#transaction-isolation)."""
_ROUNDS = 50
"""So often the record is read again when others write to it meanwhile."""


class Pulling:
    """Takes over what follows a machine's position in the record.

    Where the region has not got what this machine knows to be on record, because another one was promoted before it had
    been copied there, the machine goes back to what both have in common, and queues the rest again.

    Args:
        copy: The machine's working copy.
        records: The record in each region.
    """

    def __init__(self, copy: WorkingCopy, records: Mapping[str, Record]) -> None:
        self._copy = copy
        self._records = records

    def mender(self, first: Record) -> Mender:
        """Return what finds sound copies, with one region before the others."""
        return Mender([first, *(record for record in self._records.values() if record is not first)])

    def pull(self, app: str, record: Record, *, back: bool = True) -> bool:
        """Take over what follows this machine's position in a region's record; tell whether something was queued again.

        Args:
            app: The application.
            record: The record in a region.
            back: Whether to go back where the region has not got all that this machine knows.

        Raises:
            StoreUnavailable: The region cannot be read, or lacks something, and may not be gone back for.
            IntegrityError: Something was altered, and no copy is sound.
        """
        went_back, pauses = False, iter(_PAUSES_S)
        for _ in range(_ROUNDS):
            # In this order: read before it, the head would be behind what another thread took over.
            since = self._copy.position(app)
            head = record.head(app)
            if head != since and not self._goes_on(app, record, since, head):
                if not back:
                    raise StoreUnavailable(f"the record of {app!r} in {record.site.region} is behind, or another one.")
                self._copy.go_back(app, since, self._fork(app, record, since, head))
                went_back = True
                continue
            try:
                if head == since or self._taken(app, record, since, head):
                    return went_back
            except _Incomplete:
                if (pause_s := next(pauses, None)) is None:
                    raise
                record.table.clients.clock.sleep(pause_s)
        raise StoreUnavailable(f"the record of {app!r} changes faster than it can be read.", hint="Try again.")

    def _taken(self, app: str, record: Record, since: Head, head: Head) -> bool:
        mender, at = self.mender(record), since
        page: list[StoredEvent] = []
        for stored in record.events(app, after=since.number, upto=head.number):
            if stored.number != at.number + 1:
                raise _altered(f"event {at.number + 1} of {app!r} is missing in {record.site.region}")
            page.append(mender.event(app, stored, at.hash))
            at = at._replace(number=stored.number, hash=page[-1].hash)
            if len(page) == _PAGE:
                if not self._copy.take(app, since, page, [], at):
                    return False
                since, page = at, []
        if at.number < head.number and at.hash != head.hash:
            raise _altered(f"event {at.number + 1} of {app!r} is missing in {record.site.region}")
        if (at.number, at.hash) != (head.number, head.hash):
            raise _altered(f"the head of {app!r} in {record.site.region} names another event than the last one")
        made = [mender.snapshot(app, dna) for dna in self._snapshots(app, record, since, head)]
        if head.checksum != (made[-1].checksum if made else since.checksum):
            raise _altered(f"the head of {app!r} in {record.site.region} names another DNA than the last one")
        return self._copy.take(app, since, page, made, head)

    def _snapshots(self, app: str, record: Record, since: Head, head: Head) -> list[Snapshot]:
        if since.generation == head.generation:
            return []
        found = list(record.snapshots(app, after=since.generation, upto=head.generation))
        wanted = range(since.generation + 1, head.generation + 1)
        if missing := sorted(set(wanted) - {dna.generation for dna in found}):
            if found and found[-1].checksum == head.checksum:
                raise _altered(f"the head of {app!r} in {record.site.region} names another generation than the last")
            raise _altered(f"generation {missing[0]} of {app!r} is missing in {record.site.region}")
        return found

    def _goes_on(self, app: str, record: Record, since: Head, head: Head) -> bool:
        """Whether a region's record holds all that this machine took over before."""
        if since.number == 0:
            return True
        if head.number < since.number:
            return False
        there = record.event(app, since.number)
        return there is not None and there.hash == since.hash

    def _fork(self, app: str, record: Record, since: Head, head: Head) -> Head:
        """Return the last position that a region's record and this machine's copy have in common."""
        low, high = 0, min(head.number, since.number)
        while low < high:
            middle = (low + high + 1) // 2
            there = record.event(app, middle)
            if there is not None and there.hash == self._copy.hash_of(app, middle):
                low = middle
            else:
                high = middle - 1
        return self._copy.as_of(app, low)


class _Incomplete(IntegrityError):
    """A record names what is not there."""


def _altered(what: str) -> _Incomplete:
    return _Incomplete(f"{what}: it was altered.", hint="`bedrock-evolution store verify` tells more.")
