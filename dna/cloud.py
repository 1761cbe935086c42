"""`CloudDNAStore`: DNA and events in S3 and DynamoDB, with a working copy on this machine."""

from __future__ import annotations

import logging
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TypeVar

from ..clock import Clock, IdSource
from ..errors import IntegrityError, StoreError, StoreUnavailable, UsageError, WriterFenced
from .aws.calls import ConditionFailed
from .aws.record import Record
from .aws.regions import CONTROL, Regions
from .aws.replication import Replication
from .aws.sealing.anchor import SEAL_AFTER, CloudAnchor
from .aws.stored import Batch, Head, Snapshot, StoredEvent
from .database import Database
from .events import EventDraft, EventRow, EvolutionEvent
from .genome import SystemDNA
from .pulling import Pulling
from .shipping import Shipping
from .sqlite import SQLiteDNAStore, chain, read_dna, stale, write_dna
from .store import always
from .sync import Queue, StorageSync
from .working_copy import Projection, WorkingCopy

log = logging.getLogger(__name__)

_ROUNDS = 50
"""So often a write is tried again when other machines are faster each time."""
_MACHINE = "CREATE TABLE IF NOT EXISTS machine (id TEXT PRIMARY KEY) WITHOUT ROWID"

Result = TypeVar("Result")


class CloudDNAStore(SQLiteDNAStore):
    """A `DNAStore` in S3 and DynamoDB, which many machines share.

    Each machine works on a file of its own. Its tables are a verified copy of the record in the cloud, and events that
    are stored here are chained onto that copy, queued in the same transaction, and sent when it ends. Where another
    machine was faster, its events come first and the queued ones are chained anew behind them. While the cloud cannot
    be reached, what is read comes from the copy, and what is written stays queued.

    Only what changes the live DNA waits for the cloud: of all machines that propose for the same parent one wins.

    Args:
        database: This machine's file.
        regions: Where the record is.
        clock: Tells when something was queued, and when to try again.
        ids: Names this machine.
        draws: Of the jitter.
        project: Told of each event that another machine stored.
        anchor: Seals the record; None seals nothing.
        patience_s: Seconds that a change of the live DNA waits for a store that cannot be reached.
    """

    shared = True

    def __init__(
        self,
        database: Database,
        regions: Regions,
        *,
        clock: Clock,
        ids: IdSource,
        draws: random.Random,
        project: Projection,
        anchor: CloudAnchor | None = None,
        patience_s: float = 60.0,
    ) -> None:
        super().__init__(database)
        self.anchor = self._sealing = anchor
        self.regions = regions
        self._clock, self._ids, self._draws = clock, ids, draws
        self._project = project
        self._patience_s = patience_s
        self._records = {region: Record(table, regions.place) for region, table in regions.tables.items()}
        self.sync = StorageSync(database, clock, draws, self._push_all)
        self._shipping = Shipping(database)
        self._copy = WorkingCopy(database, self.sync, self._shipping, project)
        self._pulling = Pulling(self._copy, self._records)
        self.replication = Replication(
            regions,
            self._records,
            following=self._copy.following,
            apps=super().apps,
            runs=self._shipping.runs,
            clock=clock,
            draws=draws,
        )
        with database.transaction("tables") as connection:
            connection.execute(_MACHINE)
            connection.execute("INSERT INTO machine SELECT ? WHERE NOT EXISTS (SELECT 1 FROM machine)", [ids.new("at")])

    @cached_property
    def machine(self) -> str:
        """The name of this machine's file, by which a run knows who works on it."""
        return str(self._database.rows("SELECT id FROM machine")[0][0])

    def on(self, database: Database) -> CloudDNAStore:
        """See `SQLiteDNAStore.on`; it seals nothing, which the parent does."""
        return CloudDNAStore(
            database,
            Regions(self.regions.clients.anew(), self.regions.place, self._clock),
            clock=self._clock,
            ids=self._ids,
            draws=self._draws,
            project=self._project,
            patience_s=self._patience_s,
        )

    def close(self) -> None:
        """Send what waits, if it can be sent: otherwise it stays queued until the file is opened again."""
        self.sync.close()
        self.replication.close()
        self.flush()

    def queue(self) -> Queue:
        """See `SQLiteDNAStore.queue`."""
        return self.sync.queue()

    def flush(self) -> None:
        """See `SQLiteDNAStore.flush`: what cannot be sent stays queued."""
        if not self.sync.resting and self.sync.drain():
            for app in super().apps():
                self._seal(app)

    # -- reading

    def head(self, app: str) -> SystemDNA | None:
        """See `DNAStore.head`."""
        self.refresh(app)
        return super().head(app)

    def snapshot(self, app: str, generation: int) -> SystemDNA:
        """See `DNAStore.snapshot`; one read where this machine has not met it yet."""
        known = self._database.row("SELECT 1 FROM dna WHERE app = ? AND generation = ?", [app, generation])
        if known is None and not self.sync.resting:
            found = self._writer.snapshot(app, generation)
            if found is not None:
                found = self._pulling.mender(self._writer).snapshot(app, found)
                return read_dna(found.checksum, found.document)
            # It is not there, or it was lost: then the head names it.
            self.refresh(app)
        return super().snapshot(app, generation)

    def history(self, app: str, *, limit: int = 50) -> list[SystemDNA]:
        """See `DNAStore.history`."""
        self.refresh(app)
        return super().history(app, limit=limit)

    def events(self, app: str, *, after: int = 0) -> Iterator[EvolutionEvent]:
        """See `DNAStore.events`."""
        self.refresh(app)
        return super().events(app, after=after)

    def event(self, app: str, key: str) -> EvolutionEvent | None:
        """See `DNAStore.event`."""
        self.refresh(app)
        return super().event(app, key)

    def recent(self, app: str, kinds: Sequence[str], *, limit: int) -> list[EvolutionEvent]:
        """See `DNAStore.recent`."""
        self.refresh(app)
        return super().recent(app, kinds, limit=limit)

    def count(self, app: str) -> int:
        """See `SQLiteDNAStore.count`."""
        self.refresh(app)
        return super().count(app)

    def event_rows(self, app: str, *, after: int = 0) -> Iterator[list[EventRow]]:
        """See `SQLiteDNAStore.event_rows`."""
        self.refresh(app)
        return super().event_rows(app, after=after)

    def lineage(self, app: str) -> Iterator[SystemDNA]:
        """See `SQLiteDNAStore.lineage`."""
        self.refresh(app)
        return super().lineage(app)

    def one_moment(self) -> AbstractContextManager[None]:
        """See `SQLiteDNAStore.one_moment`."""
        for app in super().apps():
            try:
                self.refresh(app)
            except IntegrityError as error:
                log.warning("app=<%s> | cannot be read, which others need not mind: %s", app, error.message)
        return super().one_moment()

    def apps(self) -> list[str]:
        """See `SQLiteDNAStore.apps`."""
        known = set(super().apps())
        if not self.sync.resting:
            try:
                known.update(self._asked(Record.apps))
            except StoreUnavailable as error:
                known.update(self._apps_of_replicas())
                if not known:
                    raise
                self.sync.failed(error)
        return sorted(known)

    def _apps_of_replicas(self) -> list[str]:
        """Return what a replica holds, as the writer's region cannot be reached."""
        for record in self._records.values():
            try:
                if record is not self._writer:
                    return record.apps()
            except (StoreError, IntegrityError):
                continue  # whatever is wrong with it, another one may do
        return []

    def refresh(self, app: str) -> None:
        """Take over what other machines stored; inside a transaction, and while the cloud is left alone, nothing.

        Raises:
            StoreUnavailable: No region can be reached, and this machine knows nothing of the application.
            IntegrityError: What is stored was altered, and no copy is sound.
        """
        if self._database.inside or (self.sync.resting and self._knows(app)):
            return
        try:
            self._heed_promotion()
            if self._asked(lambda record: self._pulling.pull(app, record)):
                self._push_all()
            self.sync.reached()
        except StoreUnavailable as error:
            if not self._pulled_from_replica(app) and not self._knows(app):
                raise
            self.sync.failed(error)

    def bring_up_to_date(self, app: str) -> None:
        """See `SQLiteDNAStore.bring_up_to_date`; unlike `refresh` it asks the cloud also after a failure.

        Raises:
            StoreUnavailable: The writer's region cannot be reached.
            IntegrityError: What is stored was altered, and no copy is sound.
        """
        if self._database.inside:
            return
        self._heed_promotion()
        if self._pulling.pull(app, self._writer):
            self._push_all()

    def _asked(self, what: Callable[[Record], Result]) -> Result:
        """Ask the writer's region something, and leave it alone for a while if it cannot be reached."""
        writer = self._reachable()
        try:
            return what(writer)
        except StoreUnavailable:
            self.regions.rest(writer.site.region)
            raise

    def _reachable(self) -> Record:
        """Return the record in the writer's region, unless a replica has to do as that could not be reached."""
        writer = self._writer
        if self.regions.several and self.regions.resting(writer.site.region):
            raise StoreUnavailable(f"{writer.site.region} could not be reached a moment ago.")
        return writer

    def _heed_promotion(self) -> None:
        try:
            self.regions.check()
        except WriterFenced:
            self.regions.follow()

    def _knows(self, app: str) -> bool:
        return self._copy.position(app) != Head()

    @property
    def _writer(self) -> Record:
        return self._records[self.regions.table().site.region]

    # -- pulling

    def _pulled_from_replica(self, app: str) -> bool:
        """Read a replica, as the writer's region cannot be reached; tell whether one could."""
        for record in self._records.values():
            try:
                if record is not self._writer and record.head(app).number >= self._copy.position(app).number:
                    self._pulling.pull(app, record, back=False)
                    return True
            except (StoreError, IntegrityError):
                continue
        return False

    # -- events

    def append(self, event: EventDraft) -> EvolutionEvent:
        """See `DNAStore.append`: it is on record here at once, and elsewhere when the cloud has it."""
        stored = super().append(event)
        # Another machine may have been faster: then it has another number by now, or is another's.
        return super().event(event.app, event.key) or stored

    def _record(self, connection: sqlite3.Connection, draft: EventDraft) -> EvolutionEvent:
        event, new = chain(connection, draft)
        if new:
            self.sync.add(connection, draft.app, draft.key, draft.run_id)
        return event

    def sign_head(self, app: str) -> None:
        """Seal what a process that died could not.

        Raises:
            IntegrityError: The record does not go on from what is sealed; nothing was sealed.
            StoreError: The key cannot be used.
        """
        self._seal(app)

    def _seal(self, app: str, *, least: int = 1) -> None:
        """Seal the record up to where the cloud has it, if so many events are not sealed yet."""
        number = self._copy.position(app).number
        if self._sealing is None or self.sync.resting:
            return
        try:
            if self._sealing.unsealed(app, number) >= least:
                self._sealing.seal(app, self, upto=number)
        except (StoreUnavailable, WriterFenced) as error:
            log.warning("app=<%s> | the record cannot be sealed now: %s", app, error.message)

    # -- the live DNA

    def ready(self) -> None:
        """See `SQLiteDNAStore.ready`."""
        deadline_s = self._clock.monotonic_s() + self._patience_s
        while True:
            try:
                self._push_all()
            except StoreUnavailable as error:
                self.sync.failed(error)
                if self._clock.monotonic_s() >= deadline_s:
                    raise
                self._clock.sleep(self._draws.uniform(0.1, 1.0))
            else:
                self.sync.succeeded()
                return

    def commit(
        self, expected: str | None, dna: SystemDNA, event: EventDraft, *, allowed: Callable[[], object] = always
    ) -> SystemDNA:
        """See `DNAStore.commit`.

        Raises:
            StaleParent: Another DNA is live; nothing was written.
            StoreUnavailable: The cloud cannot be reached; it may have been written, and is found so when repeated.
            Exception: What `allowed` raises; nothing was written.
        """
        if not self._database.inside:
            self.ready()
        try:
            with self._database.transaction("dna.commit") as connection:
                return self._heeding(lambda: self._commit(connection, expected, dna, event, allowed))
        except StoreUnavailable as error:
            self.sync.failed(error)
            raise

    def _commit(
        self,
        connection: sqlite3.Connection,
        expected: str | None,
        dna: SystemDNA,
        event: EventDraft,
        allowed: Callable[[], object],
    ) -> SystemDNA:
        pulled = False
        for _ in range(_ROUNDS):
            # What is queued comes first.
            self._push(dna.app)
            self._copy.drop_strays(connection, dna.app)
            known = connection.execute(
                "SELECT checksum, document FROM dna WHERE app = ? AND mutation = ? AND parent IS ?",
                [dna.app, dna.mutation, expected],
            ).fetchone()
            head = super().head(dna.app)
            live = head.checksum if head else None
            if known and dna.mutation is not None and (live == known[0] or super().event(dna.app, event.key)):
                self._record(connection, event)
                return read_dna(*known)
            if live == expected:
                # Each time: what was just taken over may be why it is not.
                allowed()
                batch = self._change(dna, event)
                try:
                    self._send(batch)
                except ConditionFailed:
                    pass
                else:
                    self._copy.add(connection, batch)
                    return dna
            elif pulled:
                if live == dna.checksum and self._made_by(event, live):
                    return dna  # by an earlier attempt, whose answer was lost
                raise stale(dna.app, live, expected)
            self._pulling.pull(dna.app, self._writer)
            pulled = True
        raise StoreUnavailable(f"other machines change the DNA of {dna.app!r} all the time.", hint="Try again.")

    def _made_by(self, event: EventDraft, checksum: str) -> bool:
        """Whether the event on record under a key is the one that made this DNA live."""
        known = super().event(event.app, event.key)
        return known is not None and known.data.get("dna") == checksum == event.data.get("dna")

    def _change(self, dna: SystemDNA, draft: EventDraft) -> Batch:
        before = self._copy.position(dna.app)
        after = before._replace(generation=dna.generation, checksum=dna.checksum)
        made = Snapshot(dna.generation, dna.checksum, dna.parent, dna.mutation, write_dna(dna))
        if super().event(dna.app, draft.key) is not None:
            return Batch(dna.app, before, after, (), made)
        event, document = EvolutionEvent.sealed(draft, seq=before.number + 1, previous=before.hash)
        return Batch(
            dna.app, before, after._replace(number=event.seq, hash=event.hash), (StoredEvent.of(event, document),), made
        )

    def adopt(self, batch: Batch) -> None:
        """Make events and DNA of another store part of the record, as they are.

        Raises:
            UsageError: The record does not end where they begin.
        """
        try:
            with self._database.transaction("dna.commit") as connection:
                self._send(batch)
                self._copy.add(connection, batch)
                for event in batch.events:
                    self._project(connection, EvolutionEvent.read(event.document, event.hash))
        except ConditionFailed as lost:
            # By somebody else, or by an earlier attempt whose answer was lost.
            self._pulling.pull(batch.app, self._writer)
            if self._copy.position(batch.app) != batch.after:
                raise UsageError(
                    f"the record of {batch.app!r} was written to by somebody else meanwhile.",
                    hint="Stop what works with it, and try again.",
                ) from lost

    # -- sending

    def _push_all(self) -> None:
        if self.sync.failing and not self._waiting():
            # Nothing is sent, so it takes a look to know whether it is over.
            self._heeding(lambda: self.regions.table().get(self.regions.place.prefix, CONTROL))
        with self._database.alone():
            # Again, as long as something waits: where a promotion was followed, more does.
            for _ in range(_ROUNDS):
                if not (waiting := self._waiting()):
                    return
                for app in sorted(waiting):
                    self._heeding(lambda app=app: self._push(app))  # type: ignore[misc]
                    self._seal(app, least=SEAL_AFTER)

    def _waiting(self) -> set[str]:
        """Return the applications of which something waits."""
        return {app for (app,) in self._database.rows("SELECT DISTINCT app FROM outbox")} | {*self._shipping.apps()}

    def _push(self, app: str) -> None:
        losses = 0
        while (queued := self._copy.queued(app, self.machine)) is not None:
            batch, packed = queued
            try:
                self._send(batch)
            except ConditionFailed:
                losses += 1
                if losses == _ROUNDS:
                    raise StoreUnavailable(
                        f"other machines write to the record of {app!r} all the time.", hint="Try again."
                    ) from None
                self._overtaken(batch)
            else:
                self._copy.sent(batch, packed)

    def _send(self, batch: Batch) -> None:
        self.replication.prepare()
        epoch = self.regions.epoch()
        record = self._records[epoch.region]
        record.put_objects(batch)
        self.regions.transact(record.parts(batch), begun=epoch)
        self.replication.copy(batch)

    def _overtaken(self, batch: Batch) -> None:
        """Make what is queued fit what is stored by now.

        Raises:
            WriterFenced: A run of this process goes on at another machine; what was queued of it is set aside.
        """
        lost = [run for run in batch.runs if self._writer.owner(batch.app, run) not in (None, self.machine)]
        for run in lost:
            self._copy.set_aside(batch.app, run)
        with self._database.transaction("store.pull") as connection:
            for segment in batch.segments:
                if segment.run_id not in lost:
                    last = self._writer.last_segment(batch.app, segment.run_id)
                    self._shipping.reached(connection, segment.run_id, last)
        self._pulling.pull(batch.app, self._writer)
        for run in lost:
            said = f"run {run} goes on at another machine; what this one did of it since then is set aside."
            if run in self.sync.runs:
                raise WriterFenced(said, hint="Let it go on there: `bedrock-evolution status` tells how it stands.")
            # It was another process that did it: whoever sends what is queued is not at fault.
            log.warning("%s", said)

    def _heeding(self, work: Callable[[], Result]) -> Result:
        """Do something, and again where another region is written to by now."""
        begun = self.regions.known
        try:
            return work()
        except (WriterFenced, StoreUnavailable):
            # Another thread may have followed already.
            if not self.regions.several or not (self.regions.follow() or begun not in (None, self.regions.known)):
                raise
        for app in super().apps():
            self._pulling.pull(app, self._writer)
        return work()

    # -- runs

    def watch_runs(self) -> None:
        """See `SQLiteDNAStore.watch_runs`."""
        self._shipping.watch()

    def fetch_run(self, app: str, run_id: str) -> None:
        """See `SQLiteDNAStore.fetch_run`.

        The machine that worked on it before is refused from then on.

        Raises:
            StoreUnavailable: The cloud cannot be reached.
            IntegrityError: What is stored of it was altered.
        """
        record = self._writer
        owner = record.owner(app, run_id)
        if owner is None or (owner == self.machine and not self._shipping.fetching(run_id)):
            return
        # Noted first: who dies after it has taken the run over, and before the rows are here, has to fetch them.
        with self._database.transaction("store.pull") as connection:
            self._shipping.fetch(connection, run_id)
        if owner != self.machine:
            self.regions.transact([record.take_over(app, run_id, self.machine)])
        self._unpack(app, run_id, self._writer)

    def read_run(self, app: str, run_id: str) -> None:
        """See `SQLiteDNAStore.read_run`: the machine that works on it is left alone.

        While the cloud cannot be reached, what is here is looked at.

        Raises:
            StoreUnavailable: The cloud was lost on the way, or this machine knows nothing of the application.
            IntegrityError: What is stored of it was altered.
        """
        self.refresh(app)
        if not self.works_on(app, run_id):
            self._unpack(app, run_id, self._writer)

    def works_on(self, app: str, run_id: str) -> bool:
        """See `SQLiteDNAStore.works_on`."""
        try:
            return self.sync.resting or self._writer.owner(app, run_id) in (None, self.machine)
        except StoreUnavailable as error:
            self.sync.failed(error)
            return True

    def _unpack(self, app: str, run_id: str, record: Record) -> None:
        segments = list(self._pulling.mender(record).segments(app, run_id))
        with self._database.transaction("store.pull") as connection:
            # What this machine did of it before, and could not send, is not what the run went on from.
            self._shipping.clear(connection, run_id)
            for number, content in segments:
                self._shipping.unpack(connection, run_id, number, content)
            self._shipping.fetched(connection, run_id)
        self.refresh(app)
