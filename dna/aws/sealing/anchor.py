"""`CloudAnchor`: signs the record in digests, each of which covers all events since the one before."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import takewhile
from typing import NamedTuple, Protocol

import orjson

from ....clock import Clock
from ....errors import IntegrityError, StoreError, StoreUnavailable
from ...digest import Digest, Segment, segment_of
from ...events import GENESIS, EventRow
from ...signing import Signer
from ..calls import ConditionFailed
from ..regions import Regions
from .digest_copies import copy_to_replicas
from .digests import Digests, Entry, read
from .sealed import SealedHead, SealedRecord

SEAL_AFTER = 500
"""So many events may be unsigned before a run signs them without waiting for its end."""
_SEGMENT_EVENTS = 10_000
_LOSSES = 20
"""So often another process may be faster in a row."""


class EventRows(Protocol):
    """Where the events are read that are to be sealed."""

    def event_rows(self, app: str, *, after: int = 0) -> Iterator[list[EventRow]]:
        """Yield the rows of the record in pages, oldest first."""
        ...


class _Newest(NamedTuple):
    """What the next digest follows."""

    digest: Digest | None
    sha256: str

    @property
    def last(self) -> int:
        return self.digest.last if self.digest else 0


class CloudAnchor:
    """Digests and segments beside the record in the cloud (`docs/audit.md`).

    Args:
        regions: Where they are kept: written in the writer's region, and copied to the others.
        signer: Signs the digests.
        clock: Tells when one was signed.
        retain_days: Days for which nobody can remove what is put (S3 Object Lock in compliance mode, which the bucket
            must have been made with); 0 for none.
    """

    ready = True

    def __init__(self, regions: Regions, signer: Signer, clock: Clock, *, retain_days: int = 0) -> None:
        self.signer = signer
        self._regions = regions
        self._clock = clock
        self._retain_days = retain_days
        self._digests = {region: Digests(table, regions.place) for region, table in regions.tables.items()}
        self._sealed: dict[str, int] = {}

    def prepare(self, *, known: bool) -> None:
        """See `Anchor.prepare`: nothing waits for a signature here."""

    def sign(self, app: str, count: int, head: str) -> None:
        """See `Anchor.sign`: heads are signed by `seal`, many events at a time."""

    def newest(self, app: str) -> SealedHead | None:
        """See `Anchor.newest`.

        Raises:
            StoreError: Another key signed it, or it cannot be read now.
            IntegrityError: It was altered.
        """
        entry = self._writers.newest(app)
        digest = self._trusted(app, entry).digest if entry else None
        return SealedHead.of(digest) if digest else None

    def unsealed(self, app: str, count: int) -> int:
        """Return how many of so many events are not signed yet; one read, the first time.

        Raises:
            StoreUnavailable: The table cannot be read now.
        """
        if app not in self._sealed:
            entry = self._writers.newest(app)
            self._sealed[app] = entry.last if entry else 0
        return max(0, count - self._sealed[app])

    def seal(self, app: str, record: EventRows, *, upto: int) -> None:
        """Sign all events up to a number that are not signed yet; one read where there are none.

        Any number of processes may do so at once, and each of them may die at any moment: a digest is there as a
        whole, with its segment, or it is not there.

        Args:
            app: The application.
            record: Holds the events.
            upto: Number of the last event that the cloud has: what is queued may get another number yet.

        Raises:
            IntegrityError: The record does not go on from what was signed, or the newest digest was altered.
            StoreError: Another key signed the newest digest, or there is no key.
            StoreUnavailable: It cannot be done now; whether it was is found when it is done again.
            WriterFenced: Another region is written to now.
        """
        if upto < 1:
            return
        losses, entry = 0, self._seen(app)
        while entry is None or entry.last < upto:
            try:
                entry = self._seal(app, record, entry, upto)
            except ConditionFailed:  # another process made the digest of this number
                losses += 1
                if losses == _LOSSES:
                    raise StoreUnavailable(f"other processes sign the record of {app!r} all the time.") from None
                entry = self._seen(app)

    def testimony(self, app: str) -> SealedRecord:
        """See `Anchor.testimony`."""
        return SealedRecord(self._writers, app, self.signer.public_key())

    def exported(self, app: str) -> Iterator[str]:
        """See `Anchor.exported`: a line for each digest, as it is stored."""
        for entry in self._writers.entries(app):
            content = self._writers.content(entry.object)
            try:
                orjson.loads(content or b"")
                yield f'{{"digest":{(content or b"").decode()}}}'
            except ValueError as error:
                said = "is missing" if content is None else f"cannot be read: {error}"
                raise IntegrityError(
                    f"digest {entry.number} of {app!r} cannot be exported: {entry.object} {said}.",
                    hint="`bedrock-evolution audit verify` tells more; bring an older version of the object back.",
                ) from error

    @property
    def _writers(self) -> Digests:
        return self._digests[self._regions.epoch().region]

    def _seen(self, app: str) -> Entry | None:
        entry = self._writers.newest(app)
        self._sealed[app] = entry.last if entry else 0
        return entry

    def _trusted(self, app: str, entry: Entry) -> _Newest:
        """Read the newest digest, and see that it is what our key signed."""
        try:
            digest = read(self._writers, app, entry)
        except IntegrityError as error:
            raise IntegrityError(
                f"nothing is signed on top of the record of {app!r}: {error.message}.",
                hint="`bedrock-evolution audit verify` tells more; bring an older version of the object back.",
            ) from error
        public_key = self.signer.public_key()
        if digest.key != self.signer.key_id:
            raise StoreError(
                f"the digests of {app!r} were signed by key {digest.key}, not by {self.signer.key_id}.",
                hint="Name that key with the setting `audit_kms_key`.",
            )
        if public_key is None or not digest.genuine(public_key):
            raise IntegrityError(
                f"digest {digest.number} of {app!r} is not signed by its key {digest.key}.",
                hint="`bedrock-evolution audit verify` tells more; bring an older version of the object back.",
            )
        return _Newest(digest, entry.sha256)

    def _seal(self, app: str, record: EventRows, entry: Entry | None, upto: int) -> Entry:
        """Make the next digest."""
        newest = self._trusted(app, entry) if entry else _Newest(None, GENESIS)
        segment = _segment(app, record, newest, min(upto, newest.last + _SEGMENT_EVENTS))
        epoch = self._regions.epoch()
        site = self._digests[epoch.region]
        unsigned = Digest(
            app=app,
            number=newest.digest.number + 1 if newest.digest else 1,
            first=segment.first,
            last=segment.last,
            head=segment.head,
            segment=site.segment_name(app, segment),
            segment_sha256=segment.digest,
            previous=newest.sha256,
            key=self.signer.key_id,
            at=self._clock.now().isoformat(),
        )
        until = self._clock.now() + timedelta(days=self._retain_days) if self._retain_days else None
        site.put(unsigned.segment, segment.packed(), until)
        digest = unsigned.model_copy(update={"signature": self.signer.sign(unsigned.message()).hex()})
        made = Entry.of(digest, site.digest_name(digest))
        site.put(made.object, digest.content(), until)
        self._regions.transact([site.part(app, made)], begun=epoch)
        self._sealed[app] = made.last
        others = [digests for digests in self._digests.values() if digests is not site]
        copy_to_replicas(app, site, others, self._regions.guard(), until)
        return made


def _segment(app: str, record: EventRows, newest: _Newest, upto: int) -> Segment:
    """Return the events that the next digest covers.

    Raises:
        IntegrityError: The record does not go on from the newest digest.
    """
    rows = (row for page in record.event_rows(app, after=newest.last) for row in page)
    head = newest.digest.head if newest.digest else GENESIS
    try:
        segment = segment_of(takewhile(lambda row: row[0] <= upto, rows), app, newest.last, head)
        if segment.last < upto:
            raise IntegrityError(f"event {segment.last + 1} is missing: the record ends with event {segment.last}")
    except IntegrityError as error:
        raise IntegrityError(
            f"the record of {app!r} does not go on from its newest signed head: {error.message}.",
            hint="`bedrock-evolution audit verify` tells more; restore the store from a copy.",
        ) from error
    return segment
