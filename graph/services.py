"""What the nodes work with: the application, its records, its agents."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ..agents.advisor import EvolutionAdvisor
from ..agents.cost_governor import CostGovernor
from ..agents.decision import BedrockDecisionEngine
from ..agents.healer import SelfHealer
from ..bedrock.gateway import Gateway, ModelTask
from ..bedrock.money.ledger import Ledger
from ..bedrock.recorded import RecordedCalls
from ..bedrock.routing.performance import PerformanceTracker
from ..clock import Clock, IdSource
from ..dna.database import Database
from ..dna.engine import MutationEngine
from ..dna.events import EventDraft
from ..dna.genes import GeneValue
from ..dna.genome import SystemDNA
from ..dna.mutation import MUTATION_PREFIX, Mutation
from ..dna.sqlite import SQLiteDNAStore
from ..errors import IntegrityError
from ..fitness.cases import Cases
from ..fitness.evaluator import Evaluator
from ..fitness.journal import Journal, TrialRecord
from ..fitness.panels import Panels, plan_panels
from ..fitness.scorer import Scorer
from ..fitness.workers import Workers, beside
from ..governance.approvals import Approvals
from ..governance.audit import verify
from ..governance.autonomy import AutonomyController
from ..governance.feedback import FeedbackQueue, Remark
from ..governance.safe_mode import SafeMode
from ..settings import Budget, Settings

if TYPE_CHECKING:
    from ..fitness.racing import HeadScores, Race
    from .state import EvolutionState

_KEPT_SNAPSHOTS = 64


Foreseen: TypeAlias = "Callable[[str, EvolutionState], dict[str, Any] | None]"


def nothing_foreseen(node: str, state: EvolutionState) -> dict[str, Any] | None:  # noqa: ARG001  # what a foresight is given
    """Let every step run."""
    return None


def stuck_at(step: str, times: int) -> Foreseen:
    """Foresee that a step will kill the process again, once: after that it is the healer's to decide."""
    met: list[str] = []

    def foresee(node: str, state: EvolutionState) -> dict[str, Any] | None:
        if node != step or met:
            return None
        met.append(node)
        before = state.get("incident")
        return {
            "kind": "stuck",
            "node": node,
            "attempts": before["attempts"] + 1 if before and before["node"] == node else 1,
            "message": f"the run died {times} times in its step {node!r}.",
            "hint": "Look at what the application logged then, and resume the run.",
        }

    return foresee


class Models(Gateway, Protocol):
    """What nodes ask of the models: answers, what is left of the budgets, and what the router has learned."""

    @property
    def ledger(self) -> Ledger:
        """Keeps the money."""
        ...

    @property
    def tracker(self) -> PerformanceTracker:
        """Learns which models do well."""
        ...


@dataclass(slots=True)
class RunContext:
    """What one run computes once: its scorer, its race, the live DNA's scores."""

    scorer: Scorer
    race: Race
    heads: dict[str, HeadScores] = field(default_factory=dict)
    _early: dict[str, Future[HeadScores]] = field(default_factory=dict)

    def head(self, dna: SystemDNA) -> HeadScores:
        """Return the live DNA's scores, scoring what is missing."""
        if (early := self._early.pop(dna.checksum, None)) is not None:
            self.heads = {dna.checksum: early.result()}
        if dna.checksum not in self.heads:
            self.heads = {dna.checksum: self.race.head(dna.values)}
        return self.heads[dna.checksum]

    @contextmanager
    def scored_early(self, dna: SystemDNA) -> Iterator[None]:
        """Score the live DNA during a block; what goes wrong with it is met where the scores are asked for."""
        with beside(lambda: self.race.head(dna.values)) as scores:
            self._early[dna.checksum] = scores
            yield


@dataclass(slots=True)
class Services:
    """Everything a node may use; built once for an `Evolution`."""

    declared: SystemDNA
    settings: Settings
    budget: Budget
    engine: MutationEngine
    database: Database
    store: SQLiteDNAStore
    journal: Journal
    approvals: Approvals
    feedback: FeedbackQueue
    gateway: Models
    advisor: EvolutionAdvisor
    decision: BedrockDecisionEngine
    healer: SelfHealer
    governor: CostGovernor
    autonomy: AutonomyController
    safe_mode: SafeMode
    calls: RecordedCalls
    evaluator: Evaluator
    cases: Cases
    workers: Workers
    deterministic: bool
    clock: Clock
    ids: IdSource
    new_scorer: Callable[..., Scorer] = Scorer
    foreseen: Foreseen = nothing_foreseen
    """Tells of an incident that is met before a node is run: a run that died in it again and again."""
    _runs: dict[str, RunContext] = field(default_factory=dict)
    _snapshots: OrderedDict[int, SystemDNA] = field(default_factory=OrderedDict)

    @property
    def app(self) -> str:
        """The application's name."""
        return self.declared.app

    def begin(self) -> None:
        """Make sure that work may begin: no safe mode, a record that is whole, its newest event signed.

        Raises:
            SafeModeActive: A person has to lift it first.
            IntegrityError: The record was altered; names the first event.
            StoreError: The anchor or its key cannot be used.
        """
        self.safe_mode.check(self.app)
        self.store.sign_head(self.app)
        report = verify(self.store, self.app)
        if not report.intact:
            raise IntegrityError(
                f"the record of {self.app!r} is not intact: {report.problems[0]}",
                hint="`bedrock-evolution audit verify` tells more; restore it from a copy. Nothing was changed.",
            )

    def evolved(self, dna: SystemDNA) -> bool:
        """Whether a mutation made this DNA, so that there is something to go back to."""
        return bool(dna.mutation and dna.mutation.startswith(MUTATION_PREFIX))

    def undiagnosed(self) -> int:
        """Return the number of the newest automatic rollback if nobody has looked into its cause yet, or 0."""
        found = self.store.recent(self.app, ["restored", "diagnosed"], limit=1)
        return found[0].seq if found and found[0].kind == "restored" and found[0].data["automatic"] else 0

    def forget_runs(self) -> None:
        """Compute anew what runs compute once: their conditions changed."""
        self._runs = {}

    def remarks(self) -> list[Remark]:
        """Return the feedback that the advisor is shown: what nobody has read yet, oldest first.

        No more than it can answer: what it was shown counts as read.
        """
        return self.feedback.queued(self.app, limit=max(2, self.settings.candidates // 2))

    def run(self, run_id: str) -> RunContext:
        """Return the context of a run that has begun."""
        from ..fitness.promotion import PromotionRule
        from ..fitness.racing import Race

        if run_id not in self._runs:
            record = self.journal.run(run_id)
            panels = self.panels(seed=record.seed, max_evaluations=record.request["planned_evaluations"])
            scorer = self.new_scorer(
                run_id=run_id,
                seed=record.seed,
                evaluator=self.evaluator,
                cases=self.cases,
                panels=panels,
                journal=self.journal,
                workers=self.workers,
                limit=self.budget.max_evaluations,
                # The report scores the sealed cases for the DNA a run started from and for the one it ends with.
                reserve=0 if self.cases.single else 2 * len(panels.test),
            )
            rule = PromotionRule(alpha=self.settings.alpha, score_range=self.evaluator.score_range)
            self._runs = {run_id: RunContext(scorer, Race(scorer, rule, deterministic=self.deterministic))}
        return self._runs[run_id]

    def panels(self, *, seed: int, max_evaluations: int | None) -> Panels:
        """Return the panels of a run."""
        return plan_panels(self.cases.sizes, max_evaluations=max_evaluations, seed=seed)

    def snapshot(self, generation: int) -> SystemDNA:
        """Return the DNA of a generation, from memory where possible."""
        found = self._snapshots.get(generation)
        if found is None:
            found = self._snapshots[generation] = self.store.snapshot(self.app, generation)
            if len(self._snapshots) > _KEPT_SNAPSHOTS:
                self._snapshots.popitem(last=False)
        return found

    def values_of(self, trial: TrialRecord) -> dict[str, GeneValue]:
        """Return all gene values a trial was scored with."""
        return {**self.snapshot(trial.parent_generation).values, **trial.changes}

    def mutation_of(self, trial: TrialRecord, head: SystemDNA) -> Mutation:
        """Return a trial's gene values as a mutation of the live DNA, which may be younger than its own parent."""
        values, about = self.values_of(trial), trial.about
        return self.engine.propose(
            head,
            {name: value for name, value in values.items() if name in head.genes and value != head.values[name]},
            category=about["category"],
            rationale=about["rationale"],
            predicted_gain=about["predicted_gain"],
            probability=about["probability"],
            origin=about["origin"],
        )

    def open_run(self, run_id: str, *, seed: int, request: Mapping[str, Any]) -> None:
        """Record a run before anything else happens in it; a run that is known stays as it was."""
        wanted = self.request(request) | {"planned_evaluations": self.budget.max_evaluations}
        with self.database.transaction("run.begin"):
            self.journal.begin(run_id, app=self.app, seed=seed, request=wanted)
            self.store.append(self._run_event(run_id, "begun", "begun", "a run begins", {"seed": seed, **wanted}))

    def reopen_run(self, run_id: str, request: Mapping[str, Any]) -> None:
        """Put on record that a run goes on under other conditions than before."""
        known = self.journal.run(run_id).request
        # The cases that it scores stay those it began with, whatever it may spend by now.
        planned = {"planned_evaluations": known["planned_evaluations"]}
        wanted = json.loads(json.dumps(self.request(request) | planned))
        if wanted != known:
            with self.database.transaction("run.begin"):
                number = self.journal.rebind(run_id, wanted)
                changed = {name: value for name, value in wanted.items() if value != known.get(name)}
                why = f"the run goes on with another {', '.join(changed)}"
                self.store.append(self._run_event(run_id, "resumed", f"resumed/{number}", why, wanted))

    def _run_event(self, run_id: str, kind: str, what: str, why: str, data: Mapping[str, Any]) -> EventDraft:
        return EventDraft(
            app=self.app,
            kind=kind,
            key=f"{run_id}/{what}",
            at=self.clock.now(),
            actor="application",
            why=why,
            run_id=run_id,
            data=dict(data),
        )

    def request(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a run is bound to, and what it is allowed to do: a replay needs no more than this."""
        settings = self.settings
        return {
            **request,
            "max_evaluations": self.budget.max_evaluations,
            "cases": self.cases.fingerprint,
            "sizes": self.cases.sizes,
            "alpha": settings.alpha,
            "score_range": self.evaluator.score_range,
            "deterministic": self.deterministic,
            "candidates": settings.candidates,
            "advise_ahead": settings.advise_ahead,
            "max_failed_trials": settings.max_failed_trials,
            "model_attempts": settings.model_attempts,
            "categories": list(self.engine.categories),
            "autonomy": settings.autonomy.model_dump(mode="json"),
            "safety": settings.safety.model_dump(mode="json"),
            "model": "local" if self.gateway.local else "bedrock",
        }


def step_of(agent: str, state: EvolutionState, what: str = "") -> str:
    """Name an agent's work in this generation, as its calls are recorded under."""
    return f"{state.get('generation', 0)}/{agent}{f'/{what}' if what else ''}"


def model_task(agent: str, state: EvolutionState, what: str = "") -> ModelTask:
    """Return what an agent's work in this generation is billed to, routed by and recorded under."""
    pressure = state.get("pressure") or {"share": 0.0, "room_micro_usd": None}
    return ModelTask(
        agent,
        state["run_id"],
        step=step_of(agent, state, what),
        local_only="local_models" in state.get("measures", []),
        routing=state.get("routing", {}),
        pressure=pressure["share"],
        room_micro_usd=pressure["room_micro_usd"],
    )
