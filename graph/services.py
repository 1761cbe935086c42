"""What the nodes work with: the application, its records, its agents."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..agents.advisor import EvolutionAdvisor
from ..agents.cost_governor import CostGovernor
from ..agents.decision import BedrockDecisionEngine
from ..agents.healer import SelfHealer
from ..bedrock.gateway import ModelGateway, ModelTask
from ..clock import Clock, IdSource
from ..dna.engine import MutationEngine
from ..dna.genes import GeneValue
from ..dna.genome import SystemDNA
from ..dna.mutation import Mutation
from ..dna.store import DNAStore
from ..fitness.cases import Cases
from ..fitness.evaluator import Evaluator
from ..fitness.journal import Journal, TrialRecord
from ..fitness.panels import Panels, plan_panels
from ..fitness.promotion import PromotionRule
from ..fitness.racing import HeadScores, Race
from ..fitness.scorer import Scorer
from ..fitness.workers import Workers
from ..governance.approvals import Approvals
from ..governance.autonomy import AutonomyController
from ..governance.feedback import FeedbackQueue
from ..settings import Budget, Settings
from .state import EvolutionState

_KEPT_SNAPSHOTS = 64


@dataclass(slots=True)
class RunContext:
    """What one run computes once: its scorer, its race, the live DNA's scores."""

    scorer: Scorer
    race: Race
    heads: dict[str, HeadScores] = field(default_factory=dict)

    def head(self, dna: SystemDNA) -> HeadScores:
        """Return the live DNA's scores, scoring what is missing."""
        if dna.checksum not in self.heads:
            self.heads = {dna.checksum: self.race.head(dna.values)}
        return self.heads[dna.checksum]


@dataclass(slots=True)
class Services:
    """Everything a node may use; built once for an `Evolution`."""

    declared: SystemDNA
    settings: Settings
    budget: Budget
    engine: MutationEngine
    store: DNAStore
    journal: Journal
    approvals: Approvals
    feedback: FeedbackQueue
    gateway: ModelGateway
    advisor: EvolutionAdvisor
    decision: BedrockDecisionEngine
    healer: SelfHealer
    governor: CostGovernor
    autonomy: AutonomyController
    evaluator: Evaluator
    cases: Cases
    workers: Workers
    deterministic: bool
    clock: Clock
    ids: IdSource
    _runs: dict[str, RunContext] = field(default_factory=dict)
    _snapshots: OrderedDict[int, SystemDNA] = field(default_factory=OrderedDict)

    @property
    def app(self) -> str:
        """The application's name."""
        return self.declared.app

    def run(self, run_id: str) -> RunContext:
        """Return the context of a run that has begun."""
        if run_id not in self._runs:
            record = self.journal.run(run_id)
            panels = self.panels(seed=record.seed, max_evaluations=record.request.get("max_evaluations"))
            scorer = Scorer(
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
        if generation not in self._snapshots:
            self._snapshots[generation] = self.store.snapshot(self.app, generation)
            if len(self._snapshots) > _KEPT_SNAPSHOTS:
                self._snapshots.popitem(last=False)
        return self._snapshots[generation]

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
        self.journal.begin(run_id, app=self.app, seed=seed, request=self.request(request))

    def request(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a run is bound to: a resumed run must find the same."""
        return {
            **request,
            "max_evaluations": self.budget.max_evaluations,
            "cases": self.cases.fingerprint,
            "sizes": self.cases.sizes,
            "alpha": self.settings.alpha,
            "score_range": self.evaluator.score_range,
            "deterministic": self.deterministic,
        }


def model_task(agent: str, state: EvolutionState) -> ModelTask:
    """Return what an agent's work in this generation is billed to and routed by."""
    return ModelTask(
        agent,
        state["run_id"],
        local_only="local_models" in state.get("measures", []),
        routing=state.get("routing", {}),
        pressure=state.get("pressure", 0.0),
        room_micro_usd=state.get("room_micro_usd"),
    )
