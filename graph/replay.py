"""Replay: a run on record is done again, from its recorded answers and evaluations, and compared step by step.

Nothing is called and nothing is stored: the graph runs on a scratch store in memory, with the nodes, tools and rules of
a live run. What reached the run from outside (answers of persons, rollbacks, other runs) reaches the replay at the same
place in the order of events.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from ..dna.database import Database
from ..dna.genome import SystemDNA
from ..errors import EvaluationFailed, EvolutionError, ReplayDiverged
from ..fitness.scorer import genes_key
from .build import EvolutionGraph, build
from .records import incident_name, key_of
from .replaying.differences import Difference, first_difference
from .replaying.final_comparison import compared_at_the_end
from .replaying.recording import RunRecording, read_recording
from .replaying.reports import ReplayReport
from .replaying.scratch import Scratch
from .replaying.transitions import Checkpointer, Leg, Transition
from .state import EvolutionState

_STEPS_PER_GENERATION = 16
_MODES = ["updates", "values"]
_INTERRUPT = "__interrupt__"
_INCIDENT_FIELDS = ("kind", "node", "attempts", "message", "hint")
_OUTSIDE_KINDS = ("storage", "stuck", "integrity", "other")
_OUTSIDE_MESSAGES = ("the executor ", "evaluations that timed out hold ", "the event loop of the evaluator ")
"""Incidents whose cause is not on record, by kind or by how their message begins: they are met where they were met."""


def replay(database: Database, run_id: str, checkpointer: Checkpointer | None = None) -> ReplayReport:
    """Do a run again and compare it with its record.

    Args:
        database: The store that the run is on record in; nothing in it is changed.
        run_id: The run.
        checkpointer: Opens the checkpoints of its steps, if they are not in the file.

    Raises:
        UnknownRun: There is no such run.
        UsageError: It is not on record how it began, or its steps are kept elsewhere.
        IntegrityError: An event, the DNA or the evaluations on record cannot be read.
        StoreUnavailable: The checkpoints cannot be reached.
    """
    began = time.perf_counter()
    recording = read_recording(database, run_id, checkpointer)
    again, difference = _done_again(recording)
    scratch = again.scratch
    return ReplayReport(
        run_id=run_id,
        steps=again.done,
        events=scratch.newest - recording.begun.seq + 1,
        model_calls=scratch.models.given,
        evaluations=scratch.journal.count_evaluations(run_id),
        dna_checksum=scratch.head.checksum,
        seconds=time.perf_counter() - began,
        difference=difference,
    )


def _done_again(recording: RunRecording) -> tuple[Replay, Difference | None]:
    """Replay a run, and tell the first difference.

    The record tells the order of events, and not whether a step that wrote one had looked before an event from outside
    or after it. Where the replay differs with such events seen, it is tried with them not seen.
    """
    found: dict[int, Difference] = {}
    while True:
        again = Replay(recording, Scratch(recording), late=found.keys())
        difference = again.run()
        if difference is None or again.writes in found or not recording.disturbed:
            return again, difference and found.get(again.writes, difference)
        found[again.writes] = difference


class Replay:
    """One replay.

    Args:
        recording: The run.
        scratch: Where it is done again.
        steps: How many steps to do; None for all.
        late: Numbers of events whose steps did not see what happened outside just before.
    """

    def __init__(
        self, recording: RunRecording, scratch: Scratch, *, steps: int | None = None, late: Collection[int] = ()
    ) -> None:
        self.recording = recording
        self.scratch = scratch
        self.steps = len(recording.transitions) if steps is None else steps
        self.done = 0
        self.writes = 0
        """Number of the event that is written next."""
        self._late = late
        self._start: SystemDNA | None = scratch.head
        scratch.services.foreseen = self._foresee
        self.graph: EvolutionGraph = build(scratch.services, InMemorySaver())

    @property
    def config(self) -> RunnableConfig:
        """What the graph is run with."""
        steps = _STEPS_PER_GENERATION * (len(self.recording.transitions) + 10)
        return {"configurable": {"thread_id": self.recording.run.run_id}, "recursion_limit": steps}

    def run(self) -> Difference | None:
        """Do all of it, up to the first difference."""
        try:
            return self.to_last_step() or self._last_events() or compared_at_the_end(self.recording, self.scratch)
        except ReplayDiverged as diverged:
            return Difference.of(diverged)
        except EvolutionError as error:
            return Difference(f"step {self.done + 1}", "error", None, error.message)

    # -- steps

    def to_last_step(self) -> Difference | None:
        """Do every step that is on record, up to the first difference.

        Raises:
            ReplayDiverged: Something was asked or written that is not on record.
        """
        for leg, until in self._legs():
            self._catch_up()
            for transition in self._streamed_to(until, leg):
                if (difference := self._compared(transition)) is not None:
                    return difference
        if self.done < self.steps:
            return Difference(f"step {self.done + 1}", "node", self.recording.transitions[self.done].node, None)
        return None

    def _legs(self) -> Iterator[tuple[Leg, int]]:
        """Yield each leg with the number of steps at its end."""
        legs = [leg for leg in self.recording.legs if leg.after < self.steps]
        for place, leg in enumerate(legs, start=1):
            yield leg, legs[place].after if place < len(legs) else self.steps

    def _streamed_to(self, until: int, leg: Leg) -> Iterator[Transition]:
        """Yield the steps of a leg; where it waited for a person, it goes on with what was answered."""
        given: Any = self._input(leg)
        while self.done < until:
            before = self.done, self.scratch.newest
            yield from self._streamed(given, until)
            if (self.done, self.scratch.newest) == before:
                return
            given = None

    def _input(self, leg: Leg) -> Any:
        if not leg.begins:
            return Command(update={"generations": leg.generations})
        run, given = self.recording.run, {"generations": leg.generations}
        return given if leg.after else {"run_id": run.run_id, "seed": self.recording.begun.data["seed"], **given}

    def _streamed(self, given: Any, until: int) -> Iterator[Transition]:
        """Yield steps up to one with the name of the last one wanted, or up to a question."""
        last, node = self.recording.transitions[until - 1 : until], ""
        for mode, chunk in self.graph.stream(
            given,
            self.config,
            stream_mode=cast(Any, _MODES),
            durability="exit",
            interrupt_after=[step.node for step in last if step.node != "report"],
        ):
            if mode == "updates":
                node = next(iter(chunk))
            elif node not in ("", _INTERRUPT):
                yield Transition(node, cast(Mapping[str, Any], chunk))
                node = ""
                self._prepare()

    def _compared(self, transition: Transition) -> Difference | None:
        place = f"step {self.done + 1}, generation {transition.generation}"
        if self.done >= self.steps:
            return Difference(place, "node", None, transition.node)
        recorded = self.recording.transitions[self.done]
        self.done += 1
        place = f"{place}, {recorded.node}"
        if recorded.damage:
            return Difference(place, "state", recorded.damage, transition.state)
        if recorded.node != transition.node:
            return Difference(place, "node", recorded.node, transition.node)
        return first_difference(place, recorded.state, {name: transition.state.get(name) for name in recorded.state})

    # -- what comes from outside

    def _catch_up(self) -> None:
        """Let happen what happened outside before the event that the run wrote next, and before it looked again."""
        self.writes = self.recording.next_own(self.scratch.newest)
        steps = islice(self.recording.transitions, self.done, self.done + 1 if self.writes in self._late else None)
        looked = next((step.state["seen"] for step in steps if step.looked), None)
        if looked is not None:
            self.scratch.catch_up(before=min(self.writes, looked + 1))
        elif self.writes not in self._late:
            self.scratch.catch_up(before=self.writes)

    def _prepare(self) -> None:
        """Catch up before a step that the graph does not guard."""
        following = self.recording.transitions[self.done : self.done + 1]
        if following and following[0].node in ("heal", "rollback", "report"):
            self._catch_up()
            self._remember_report()

    def _remember_report(self) -> None:
        """Let the books say what they said in the report that comes next."""
        reports = (event for event in self.recording.own.values() if event.kind == "ended")
        following = next((event for event in reports if event.seq > self.scratch.newest), None)
        if following is not None:
            self.scratch.models.ledger.summary = following.data["summary"]

    def _foresee(self, node: str, state: EvolutionState) -> dict[str, Any] | None:
        """Catch up before a step that the graph guards; tell of an incident whose cause is not on record."""
        self._catch_up()
        start, self._start = self._start, None
        if start is not None:
            self._score_early(start)
        if node == "govern":
            following = self.recording.transitions[self.done : self.done + 1]
            self.scratch.models.remember(following[0].state if following else {})
        before = state.get("incident")
        attempts = before["attempts"] + 1 if before and before["node"] == node else 1
        name = incident_name(state, node, attempts, live=self.scratch.head.generation)
        met = self.recording.own.get(key_of(state, name))
        if met is None or not _from_outside(met.data["incident"]):
            return None
        # In the order that the healer was told it in.
        return {name: met.data["incident"][name] for name in _INCIDENT_FIELDS}

    def _score_early(self, start: SystemDNA) -> None:
        """Score what was live when the run began, if that was done and other genes were live by its first step."""
        genes = genes_key(start.values)
        scored = any(key.genes == genes and key.part == "train" for key in self.recording.outcomes)
        if scored and self.scratch.head.checksum != start.checksum:
            # What went wrong with it nobody asked for.
            with suppress(EvaluationFailed):
                self.scratch.services.run(self.recording.run.run_id).race.head(start.values)

    def _last_events(self) -> Difference | None:
        """Do again what was written by a step that is not on record: its process ended, or it began to wait."""
        self._catch_up()
        if self.recording.next_own(self.scratch.newest) <= self.recording.around[-1].seq:
            self._remember_report()
            first = Leg(0, int(self.recording.begun.data["generations"]), begins=True)
            for _ in self._streamed(None if self.done else self._input(first), self.done + 1):
                break
        self.scratch.catch_up()
        return None


def _from_outside(incident: Mapping[str, Any]) -> bool:
    return incident["kind"] in _OUTSIDE_KINDS or incident["message"].startswith(_OUTSIDE_MESSAGES)
