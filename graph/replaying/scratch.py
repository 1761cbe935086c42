"""A copy of an application as it was when a run began, in memory: a graph's services, made from the record alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from ...agents.advisor import EvolutionAdvisor
from ...agents.cost_governor import CostGovernor
from ...agents.decision import BedrockDecisionEngine
from ...agents.healer import SelfHealer
from ...bedrock.recorded import RecordedCalls
from ...clock import CountedIds, FixedClock
from ...dna.database import Database
from ...dna.engine import BUILT_IN_CATEGORIES, MutationEngine
from ...dna.events import EvolutionEvent
from ...dna.genome import SystemDNA
from ...fitness.journal import TrialRecord
from ...governance.approvals import Approvals
from ...governance.autonomy import AutonomyController
from ...governance.safe_mode import SafeMode
from ...settings import Budget, Settings
from ..services import Services, nothing_foreseen
from .bound_settings import settings_of
from .recorded_models import RecordedModels, stand_in_gateway
from .recorded_scores import Application, RecordedScores, recorded_application
from .recording import ALL_DNA, OUTSIDE, RunRecording, trials_of
from .scratch_store import ScratchFeedback, ScratchJournal, ScratchStore

_REMARKS = ("feedback", "feedback_read")


class Scratch:
    """Everything a run is done again with.

    Args:
        recording: The run.
        application: Scores what the run never scored, for forks; None makes that an error.
    """

    def __init__(self, recording: RunRecording, application: Application | None = None) -> None:
        self._recording = recording
        self._application = application or recorded_application(recording.begun.data)
        self._scores = RecordedScores(recording.outcomes, application is not None)
        self.clock = FixedClock(datetime.fromtimestamp(0, UTC))
        self._database = Database.in_memory()
        self.store = ScratchStore(self._database, recording)
        self.journal = ScratchJournal(self._database, self.clock)
        self.models = RecordedModels(recording, self._database, self.clock)
        self._remarks = ScratchFeedback(self._database, self.store, self.clock)
        for row in recording.earlier:
            if row[2] in _REMARKS:
                self._remarks.adopt(EvolutionEvent.read(row[5], row[4]))
        self.services = self._services(recording.begun.data, declared=self.head)
        self.store.catch_up = lambda number: self.catch_up(before=number)

    @property
    def head(self) -> SystemDNA:
        """The DNA that is live in it."""
        return self.store.history(self._recording.run.app, limit=1)[0]

    @property
    def newest(self) -> int:
        """Number of its newest event."""
        return self.store.count(self._recording.run.app)

    def written(self) -> list[EvolutionEvent]:
        """Return the events of the run that are in it."""
        run, first = self._recording.run, self._recording.begun.seq
        return [event for event in self.store.events(run.app, after=first - 1) if event.run_id == run.run_id]

    def trials(self) -> dict[tuple[int, int], TrialRecord]:
        """Return its candidates by generation and slot."""
        return trials_of(self.journal, self._recording.run.run_id)

    def dna(self) -> Iterator[tuple[int, str, str]]:
        """Yield generation, checksum and document of its DNA, oldest first."""
        for row in self._database.rows(ALL_DNA, [self._recording.run.app]):
            yield row[1], row[2], row[5]

    # -- what comes from outside

    def catch_up(self, *, before: int | None = None) -> None:
        """Let everything happen that no step of the run did, up to the event of a number, or to the end of the record.

        The clock is set to when that event happened.
        """
        recording = self._recording
        around = recording.around
        for place in range(max(0, self.newest + 1 - recording.begun.seq), len(around)):
            event = around[place]
            self.clock.moment = event.at
            if before is not None and event.seq >= before:
                return
            if event.key not in recording.own:
                self._adopt(event)
            elif event.kind in OUTSIDE:
                self._redo(event)
            else:
                return

    def _adopt(self, event: EvolutionEvent) -> None:
        self.store.adopt(event)
        if event.kind in _REMARKS:
            self._remarks.adopt(event)
        if event.kind == "declared":
            self.services.declared = self.head

    def _redo(self, event: EvolutionEvent) -> None:
        """Do again what a person, or the time, did to the run."""
        if event.kind == "resumed":
            self._bind(event.data)
            self.services.reopen_run(self._recording.run.run_id, {"generations": event.data["generations"]})
            return
        approval_id, approvals = event.data["approval_id"], self.services.approvals
        if event.kind == "answer_refused" or approvals.get(approval_id).status != "pending":
            # It had no effect: another end of the question was on record before, perhaps from another machine.
            self.store.adopt(event)
        elif event.kind == "answered":
            approvals.answer(approval_id, event.data["verdict"], by=event.actor, why=event.why)
        else:
            approvals.settle(approval_id)

    # -- services

    def _bind(self, request: Mapping[str, Any]) -> None:
        """Bind the run to other conditions; the graph holds on to the services, so they are changed in place."""
        bound = self._services(request, declared=self.services.declared)
        bound.foreseen = self.services.foreseen
        for field in fields(bound):
            setattr(self.services, field.name, getattr(bound, field.name))

    def depart(self, settings: Settings | None) -> None:
        """Leave the record: from now on nothing has to be as it was.

        Args:
            settings: The policy from now on; None leaves it as it was.
        """
        self.store.strict = False
        services = self.services
        services.foreseen = nothing_foreseen
        if settings is not None:
            services.settings, services.autonomy = settings, AutonomyController(settings.autonomy)
            services.approvals = self._approvals(settings)
            services.forget_runs()
        self.models.fallback = stand_in_gateway(services.settings, self.models, self._database, self.clock)

    def _services(self, request: Mapping[str, Any], *, declared: SystemDNA) -> Services:
        """Return the services of a run under the conditions that it was bound to."""
        settings, models, application = settings_of(request), self.models, self._application
        models.stood_in = request["model"] == "local"
        attempts = settings.model_attempts
        return Services(
            declared=declared,
            settings=settings,
            budget=Budget(max_evaluations=request["max_evaluations"]),
            engine=MutationEngine(request["categories"][len(BUILT_IN_CATEGORIES) :]),
            database=self._database,
            store=self.store,
            journal=self.journal,
            approvals=self._approvals(settings),
            feedback=self._remarks,
            gateway=models,
            advisor=EvolutionAdvisor(models, attempts=attempts),
            decision=BedrockDecisionEngine(models, attempts=attempts),
            healer=SelfHealer(models, attempts=attempts),
            governor=CostGovernor(models, attempts=attempts),
            autonomy=AutonomyController(settings.autonomy),
            safe_mode=SafeMode(self.store, self.clock),
            calls=RecordedCalls(self._database),
            evaluator=application.evaluator,
            cases=application.cases,
            workers=application.workers,
            deterministic=request["deterministic"],
            clock=self.clock,
            ids=CountedIds(),
            new_scorer=self._scores.scorer,
        )

    def _approvals(self, settings: Settings) -> Approvals:
        return Approvals(self._database, self.store, self.clock, hours=settings.autonomy.approval_hours)
