"""A run as it is on record: all that a replay is made from, and all that it is compared with."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any

from ...clock import SystemClock
from ...dna.database import Database
from ...dna.events import EvolutionEvent
from ...dna.sqlite import SQLiteDNAStore
from ...errors import IntegrityError, UsageError
from ...fitness.journal import EvaluationKey, Journal, RunRecord, TrialRecord
from ...fitness.score import Outcome
from .transitions import Checkpointer, Leg, Transition, kept_elsewhere, legs_of, read_steps

OUTSIDE = ("answered", "answer_refused", "expired", "voided", "resumed")
"""Events of a run that no step of it writes, but a person or the time."""
_HEALER = "healer"

Row = tuple[Any, ...]


@dataclass(frozen=True)
class RunRecording:
    """Everything that is on record of a run; nothing else is read to replay it.

    Args:
        run: The run.
        earlier: Rows of the application's events before the run, unread.
        around: All events of the application from the run's first one to its last one, in order.
        dna: Rows of the application's DNA, unread, by checksum.
        start: Checksum of the DNA that was live when the run began.
        transitions: Its steps, in order.
        legs: Where it was begun, and where it went on under another limit of generations.
        answers: What models answered, unread, by step.
        outcomes: The attempts at each evaluation.
        trials: Its candidates by generation and slot.
    """

    run: RunRecord
    earlier: tuple[Row, ...]
    around: tuple[EvolutionEvent, ...]
    dna: Mapping[str, Row]
    start: str
    transitions: tuple[Transition, ...]
    legs: tuple[Leg, ...]
    answers: Mapping[str, tuple[bytes, ...]]
    outcomes: Mapping[EvaluationKey, list[Outcome]]
    trials: Mapping[tuple[int, int], TrialRecord]

    @property
    def begun(self) -> EvolutionEvent:
        """The event it began with."""
        return self.around[0]

    @property
    def ended(self) -> EvolutionEvent | None:
        """The event it ended with; None while it has not."""
        return next((event for event in reversed(self.around) if event.kind == "ended" and self._is_own(event)), None)

    @cached_property
    def by_key(self) -> Mapping[str, EvolutionEvent]:
        """All events from its first one on, by key."""
        return {event.key: event for event in self.around}

    @cached_property
    def own(self) -> Mapping[str, EvolutionEvent]:
        """Its own events by key: those that name it, and the rollbacks of its healer."""
        return {event.key: event for event in self.around if self._is_own(event)}

    @property
    def disturbed(self) -> bool:
        """Whether anything reached it from outside."""
        return len(self._written) < len(self.around)

    def next_own(self, seq: int) -> int:
        """Return the number of the first event after `seq` that a step of the run wrote, or a number above all."""
        place = bisect_right(self._written, seq)
        return self._written[place] if place < len(self._written) else self.around[-1].seq + 1

    @cached_property
    def _written(self) -> list[int]:
        return [event.seq for event in self.own.values() if event.kind not in OUTSIDE]

    @cached_property
    def _incidents(self) -> list[Any]:
        met = (event.data for event in self.around if event.run_id == self.run.run_id and event.kind == "incident")
        return [data["incident"] | {"action": data["action"], "dna": data["dna"]} for data in met]

    def _is_own(self, event: EvolutionEvent) -> bool:
        if event.kind == "restored" and event.actor == _HEALER:
            return event.data["evidence"].get("incident") in self._incidents
        return event.run_id == self.run.run_id


def read_recording(database: Database, run_id: str, checkpointer: Checkpointer | None = None) -> RunRecording:
    """Read a run as of one moment.

    Args:
        database: The store that it is on record in; nothing in it is changed.
        run_id: The run.
        checkpointer: Opens the checkpoints of its steps, if they are not in the file.

    Raises:
        UnknownRun: There is no such run.
        UsageError: It is not on record how it began, or its steps are kept elsewhere.
        IntegrityError: An event, the DNA or the evaluations on record cannot be read.
        StoreUnavailable: The checkpoints cannot be reached.
    """
    store, journal = SQLiteDNAStore(database), Journal(database, SystemClock())
    journal.run(run_id)
    # Not within the moment: it may take a while, and what is elsewhere is no part of it.
    kept = kept_elsewhere(database, run_id, checkpointer)
    with database.snapshot():
        run = journal.run(run_id)
        begun = store.event(run.app, f"{run_id}/begun")
        if begun is None:
            raise UsageError(f"it is not on record how run {run_id} began.", hint="It cannot be replayed.")
        dna = {row[2]: row for row in database.rows(ALL_DNA, [run.app])}
        steps = list(read_steps(database, run_id, kept))
        recording = RunRecording(
            run=run,
            earlier=tuple(database.rows(_EARLIER, [run.app, begun.seq])),
            around=_around(database, store, begun),
            dna=dna,
            start=_live_before(database, begun, dna),
            transitions=tuple(step for step in steps if step is not None),
            legs=tuple(legs_of(steps)),
            answers=_answers(database, run_id),
            outcomes=_outcomes(journal, run_id),
            trials=trials_of(journal, run_id),
        )
    if not steps and recording.next_own(begun.seq) <= recording.around[-1].seq:
        raise UsageError(
            f"the steps of run {run_id} are not where its checkpoints should be: they have expired, or are elsewhere.",
            hint="Set `checkpoints` to what it ran with; a graph with a checkpointer of your own cannot be replayed.",
        )
    return recording


ALL_DNA = "SELECT app, generation, checksum, parent, mutation, document FROM dna WHERE app = ? ORDER BY generation"
_EARLIER = "SELECT app, seq, kind, key, hash, document FROM events WHERE app = ? AND seq < ? ORDER BY seq"
_LAST = "SELECT max(seq) FROM events WHERE app = ? AND instr(document, ?)"
_LIVE_BEFORE = (
    "SELECT json_extract(document, '$.data.dna') FROM events WHERE app = ? AND seq < ?"
    " AND kind IN ('declared', 'applied', 'restored')"
)
# As bytes, because a text that is no UTF-8 could not be read, let alone be reported.
_ANSWERS = "SELECT step, CAST(document AS BLOB) FROM model_calls WHERE run_id = ? ORDER BY step, number"


def _around(database: Database, store: SQLiteDNAStore, begun: EvolutionEvent) -> tuple[EvolutionEvent, ...]:
    row = database.row(_LAST, [begun.app, begun.run_id])
    last = int(row[0]) if row else begun.seq
    return tuple(takewhile(lambda event: event.seq <= last, store.events(begun.app, after=begun.seq - 1)))


def _live_before(database: Database, begun: EvolutionEvent, dna: Mapping[str, Row]) -> str:
    made = [row[0] for row in database.rows(_LIVE_BEFORE, [begun.app, begun.seq])]
    known = [checksum for checksum in made if checksum in dna]
    if not known:
        raise _unreadable("the DNA that was live when the run began", "it is not in the store")
    return str(max(known, key=lambda checksum: dna[checksum][1]))


def _answers(database: Database, run_id: str) -> dict[str, tuple[bytes, ...]]:
    answers: dict[str, tuple[bytes, ...]] = {}
    for step, document in database.rows(_ANSWERS, [run_id]):
        answers[step] = (*answers.get(step, ()), document)
    return answers


def _outcomes(journal: Journal, run_id: str) -> dict[EvaluationKey, list[Outcome]]:
    try:
        return dict(journal.attempts(run_id))
    except (ValueError, TypeError, AttributeError) as error:
        raise _unreadable("an evaluation", str(error)) from error


def trials_of(journal: Journal, run_id: str) -> dict[tuple[int, int], TrialRecord]:
    """Return the candidates of a run by generation and slot.

    Raises:
        IntegrityError: One cannot be read.
    """
    try:
        found = journal.recent_trials(run_id, before=_AFTER_ALL, limit=_AFTER_ALL)
    except (ValueError, TypeError) as error:
        raise _unreadable("a trial", str(error)) from error
    return {(trial.generation, trial.slot): trial for trial in found}


_AFTER_ALL = 2**62


def _unreadable(what: str, why: str) -> IntegrityError:
    return IntegrityError(f"{what} cannot be read: {why}.", hint="The store was altered; restore it from a copy.")
