"""Fork: the same history up to a generation, then another policy or another answer: what would have happened."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langgraph.types import Command

from ..dna.database import Database
from ..dna.events import EvolutionEvent
from ..errors import EvolutionError, ReplayDiverged, UsageError
from .replay import Replay
from .replaying.alternatives import Alternative, alternative_of
from .replaying.recorded_scores import Application
from .replaying.recording import RunRecording, read_recording
from .replaying.reports import ForkReport, Outcome
from .replaying.scratch import Scratch
from .replaying.transitions import Checkpointer

__all__ = ["Alternative", "ForkReport", "Outcome", "alternative_of", "fork"]

_OUTCOMES = ("applied", "rejected", "deferred", "lost", "trialled")
_FORK = "fork"


def fork(
    database: Database,
    run_id: str,
    *,
    at: int,
    alternative: Alternative,
    application: Application | None = None,
    checkpointer: Checkpointer | None = None,
) -> ForkReport:
    """Do a run again up to a generation, and from there on otherwise.

    Answers and scores on record are used as long as the same is asked; then the stand-in answers, and the application
    scores, if it is given. What else reached the run from outside after that generation does not reach the fork.

    Args:
        database: The store that the run is on record in; nothing in it is changed.
        run_id: The run.
        at: The first generation to do otherwise, from 1.
        alternative: What is otherwise.
        application: Scores what was never scored.
        checkpointer: Opens the checkpoints of its steps, if they are not in the file.

    Raises:
        UnknownRun: There is no such run.
        UsageError: It has no such generation, or the application has other cases by now.
        ReplayDiverged: It cannot be replayed up to there.
        IntegrityError: An event, the DNA or the evaluations on record cannot be read.
        StoreUnavailable: The checkpoints cannot be reached.
    """
    recording = read_recording(database, run_id, checkpointer)
    if application is not None and application.cases.fingerprint != recording.begun.data["cases"]:
        raise UsageError(f"the cases changed since run {run_id} began.", hint="Restore them, or fork a newer run.")
    forked = _Fork(recording, scratch := Scratch(recording, application), steps=_steps_before(recording, at))
    stopped = forked.depart(alternative)
    ended, head = recording.ended, scratch.head
    summary = ended.data["summary"] if ended else {}
    return ForkReport(
        run_id=run_id,
        at=at,
        outcomes=_outcomes(at, recording.own.values(), scratch.written()),
        recorded_dna=summary.get("dna_checksum") or _newest_dna(recording),
        forked_dna=head.checksum,
        recorded_fitness=summary.get("fitness"),
        forked_fitness=head.fitness,
        genes=dict(head.values),
        stopped=stopped,
    )


def _steps_before(recording: RunRecording, at: int) -> int:
    steps = recording.transitions
    first = next((n for n, step in enumerate(steps) if step.node == "observe" and step.generation == at), None)
    if first is None:
        run_id, last = recording.run.run_id, max((step.generation for step in steps), default=0)
        raise UsageError(f"run {run_id} has no generation {at}.", hint=f"It has generations 1 to {last}.")
    return first


def _newest_dna(recording: RunRecording) -> str:
    """Return the DNA that was live when the record of a run that has not ended breaks off."""
    changes = (event for event in recording.own.values() if event.kind == "applied")
    return str([recording.start, *(event.data["dna"] for event in changes)][-1])


class _Fork(Replay):
    """A replay that leaves the record where it ends."""

    def depart(self, alternative: Alternative) -> str:
        """Do the rest otherwise, and say why that could not be done to its end; empty if it could.

        Raises:
            ReplayDiverged: The run cannot be replayed up to there.
        """
        if (difference := self.to_last_step()) is not None:
            raise ReplayDiverged(
                f"the run cannot be replayed up to there: {difference}",
                step=difference.where,
                expected=difference.recorded,
                found=difference.replayed,
            )
        self._catch_up()
        self.scratch.depart(alternative.settings)
        # The run may have been given more generations later on.
        given: Any = Command(update={"generations": self.recording.legs[-1].generations})
        try:
            while True:
                for _ in self.graph.stream(given, self.config, durability="exit"):
                    pass
                state = self.graph.get_state(self.config)
                if not state.tasks:
                    return "" if state.values.get("status") != "failed" else str(state.values.get("message"))
                [pause] = [pause.value for task in state.tasks for pause in task.interrupts]
                given = self._answered(pause["approval_id"], alternative)
                if given is None:
                    return f"generation {state.values['generation']} waits for a person: say how to answer."
        except EvolutionError as error:
            return str(error)

    def _answered(self, approval_id: str, alternative: Alternative) -> Any:
        """Return how a question is answered: as the alternative says, or as this very question was."""
        own = self.recording.own
        verdict = alternative.answer
        if verdict is None and (answered := own.get(f"{approval_id}/answered")) is not None:
            verdict = answered.data["verdict"]
        if verdict is not None:
            return Command(resume={"verdict": verdict, "by": _FORK, "why": "what would have happened"})
        if (expired := own.get(f"{approval_id}/expired")) is not None:
            self.scratch.clock.moment = expired.at
            return Command(resume={})
        return None


def _outcomes(at: int, recorded: Iterable[EvolutionEvent], forked: Iterable[EvolutionEvent]) -> tuple[Outcome, ...]:
    was, would_be = _by_generation(recorded), _by_generation(forked)
    generations = sorted({generation for generation in (*was, *would_be) if generation >= at})
    return tuple(Outcome(generation, was.get(generation), would_be.get(generation)) for generation in generations)


def _by_generation(events: Iterable[EvolutionEvent]) -> dict[int, str]:
    return {
        event.generation: f"{event.kind} by {event.actor}"
        for event in events
        if event.kind in _OUTCOMES and event.generation is not None
    }
