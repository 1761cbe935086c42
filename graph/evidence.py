"""What an advisor may read of a run: recent trials, failures of the best parent, remarks of people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..dna.genome import SystemDNA
from ..fitness.journal import TrialRecord
from ..fitness.racing import HeadScores
from ..fitness.scorer import Request
from ..governance.feedback import Remark
from .services import Services
from .state import EvolutionState

_FEEDBACK_CHARS = 300
_MOST_READ = 1000
"""Trials that the advisor's tool gives at most."""


class Evidence:
    """Answers the advisor's one question about the past: recent trials, and failures of the best parent.

    Args:
        services: The application.
        state: The run's.
        head: The live DNA.
        remarks: Feedback of people that the advisor is to read.
    """

    def __init__(self, services: Services, state: EvolutionState, head: SystemDNA, remarks: Sequence[Remark]) -> None:
        self._services = services
        self._state = state
        self._head = head
        self._remarks = remarks
        self._share = 2 if "shorter_context" in state.get("measures", []) else 1
        self._kept: list[TrialRecord] | None = None

    def as_of_now(self) -> Evidence:
        """Answer with what is known now, whatever is recorded later; return itself."""
        self._kept, self._best = self._recent(_MOST_READ), self._best_before()
        return self

    def __call__(self, trials: int, failures: int) -> dict[str, Any]:
        """Tell of so many recent trials, with the best older ones, and of so many failures."""
        scores = self._services.run(self._state["run_id"]).head(self._head)
        limit = trials // self._share
        recent = self._recent(limit) if self._kept is None else self._kept[max(0, len(self._kept) - limit) :]
        best = self._best_before() if self._kept is None else self._best
        places = {(trial.generation, trial.slot) for trial in recent}
        older = [trial for trial in best if (trial.generation, trial.slot) not in places]
        known = sorted([*older, *recent], key=lambda trial: (trial.generation, trial.slot)) if trials else []
        return {
            "live_fitness": scores.train_fitness,
            "cases": len(scores.train),
            "trials": [self._told(trial) for trial in known],
            "failures": self._failures(scores, failures // self._share),
            "feedback": [
                {"number": remark.number, "source": remark.source, "text": remark.text[:_FEEDBACK_CHARS]}
                for remark in self._remarks
            ],
        }

    def _recent(self, limit: int) -> list[TrialRecord]:
        return self._services.journal.recent_trials(
            self._state["run_id"], before=self._state["generation"], limit=limit
        )

    def _best_before(self) -> list[TrialRecord]:
        places = [(entry["generation"], entry["slot"]) for entry in self._state["pool"]]
        return self._services.journal.trials_at(self._state["run_id"], places)

    def _told(self, trial: TrialRecord) -> dict[str, Any]:
        values = self._services.values_of(trial)
        live = self._head.values
        return {
            "generation": trial.generation,
            "differs": {name: value for name, value in values.items() if name in live and value != live[name]},
            "fitness": trial.fitness if trial.status != "failed" else None,
            "cases": trial.cases,
            "status": trial.status,
            "origin": trial.about["origin"].partition(":")[2] or trial.about["origin"],
        }

    def _failures(self, scores: HeadScores, limit: int) -> dict[str, list[str]]:
        """Feedback on the training cases that the best parent scores lowest on, by the gene it is about.

        Each gene is named once: an advisor pays for every word it reads.
        """
        state, run = self._state, self._services.run(self._state["run_id"])
        values, sample = scores.values, 0 if self._services.deterministic else 1
        if state["pool"]:
            first = state["pool"][0]
            [trial] = self._services.journal.trials_at(state["run_id"], [(first["generation"], first["slot"])])
            values, sample = self._services.values_of(trial), 0
        outcomes = run.scorer.recorded(Request(values, "train", (), sample))
        worst = sorted((o.value or 0.0, index, o) for index, o in outcomes.items() if o.feedback or o.gene_feedback)
        told: list[tuple[str, str]] = []
        for _, _, outcome in worst:
            told += list(outcome.gene_feedback.items()) or [("", outcome.feedback)]
        by_gene: dict[str, list[str]] = {}
        for gene, text in told[:limit]:
            by_gene.setdefault(gene, []).append(text[:_FEEDBACK_CHARS])
        return by_gene
