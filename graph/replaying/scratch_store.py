"""The tables of a scratch store in memory: they take no event that is not on record."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from sqlite3 import Connection

from ...clock import Clock
from ...dna.database import Database
from ...dna.events import EventDraft, EvolutionEvent
from ...dna.sqlite import SQLiteDNAStore
from ...errors import ReplayDiverged
from ...fitness.journal import EvaluationKey, Journal
from ...fitness.score import Outcome
from ...governance.feedback import FeedbackQueue, project
from .differences import first_difference
from .recording import Row, RunRecording

_INSERT_DNA = (
    "INSERT OR IGNORE INTO dna (app, generation, checksum, parent, mutation, document) VALUES (?, ?, ?, ?, ?, ?)"
)
_INSERT_EVENT = "INSERT INTO events (app, seq, kind, key, hash, document) VALUES (?, ?, ?, ?, ?, ?)"


class ScratchStore(SQLiteDNAStore):
    """DNA and events of a replay: each event must be as it is on record, and gets the time it was recorded with.

    Args:
        database: The scratch database.
        recording: The run.
    """

    def __init__(self, database: Database, recording: RunRecording) -> None:
        super().__init__(database)
        self.strict = True
        """Whether every event must be as it is on record."""
        self.catch_up: Callable[[int], None] = _nothing_outside
        """Lets happen what happened outside before the event of a number."""
        self._recorded = recording.by_key
        self._dna = recording.dna
        generation = recording.dna[recording.start][1]
        self._copy(recording.earlier, [row for row in recording.dna.values() if row[1] <= generation])

    def adopt(self, event: EvolutionEvent) -> None:
        """Take over an event, with the DNA that it made live."""
        made = self._dna.get(str(event.data.get("dna")))
        row = (event.app, event.seq, event.kind, event.key, event.hash, event.document())
        self._copy([row], [made] if made else [])

    def _copy(self, events: Iterable[Row], dna: Iterable[Row]) -> None:
        with self._database.transaction("dna.commit") as connection:
            connection.executemany(_INSERT_DNA, dna)
            connection.executemany(_INSERT_EVENT, events)

    def _record(self, connection: Connection, draft: EventDraft) -> EvolutionEvent:
        known = self._recorded.get(draft.key)
        if not self.strict or (known is None and self.event(draft.app, draft.key) is not None):
            return super()._record(connection, draft)
        where = f"event {draft.key}"
        if known is None:
            raise ReplayDiverged("kind", step=where, found=draft.kind)
        self.catch_up(known.seq)
        event = super()._record(connection, draft.model_copy(update={"at": known.at}))
        if event.hash != known.hash:
            difference = first_difference(where, known.model_dump(mode="json"), event.model_dump(mode="json"))
            if difference is not None:
                raise difference.as_error()
        return event


def _nothing_outside(number: int) -> None:
    """Let nothing happen before the event of this number."""


class ScratchFeedback(FeedbackQueue):
    """The remarks of a replay, made from the events that tell of them."""

    def adopt(self, event: EvolutionEvent) -> None:
        """Queue a remark that was left, or mark those that an advisor has read."""
        with self._database.transaction("feedback.add") as connection:
            project(connection, event)


class ScratchJournal(Journal):
    """The journal of a replay: evaluations are kept as they are, since they are read far more often than written."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__(database, clock)
        self._outcomes: dict[tuple[str, str, int], dict[int, Outcome]] = {}
        self._made = 0

    def record_outcomes(self, run_id: str, outcomes: Iterable[tuple[EvaluationKey, Outcome]]) -> None:
        """See `Journal.record_outcomes`."""
        for key, outcome in outcomes:
            known = self._outcomes.setdefault((key.genes, key.part, key.sample), {})
            if key.case not in known or known[key.case].value is None:
                known[key.case] = outcome
                self._made += 1

    def outcomes(self, run_id: str, genes: str, part: str, sample: int = 0) -> dict[int, Outcome]:
        """See `Journal.outcomes`."""
        return dict(self._outcomes.get((genes, part, sample), {}))

    def count_evaluations(self, run_id: str) -> int:
        """See `Journal.count_evaluations`."""
        return self._made
