"""What a run tells on the way and at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .dna.genes import GeneValue
from .dna.genome import SystemDNA
from .errors import ExitCode
from .governance.approvals import Approval

Status = Literal["done", "failed", "waiting", "budget", "interrupted"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, after each step of the graph."""

    run_id: str
    step: str
    generation: int
    generations: int
    fitness: float | None
    baseline_fitness: float | None
    trials: int
    evaluations: int
    cost_usd: float
    dna_generation: int | None


@dataclass(frozen=True, slots=True)
class GeneChange:
    """One gene before and after; None where the application did not declare it then."""

    gene: str
    kind: str
    before: GeneValue | None
    after: GeneValue | None


@dataclass(frozen=True, slots=True)
class EvolutionResult:
    """What a run ended with.

    Fitness is the mean score on the validation cases; test fitness that on the sealed test cases, which nothing in
    the run has seen before. Baselines are those of the DNA the run started from.
    """

    run_id: str
    app: str
    status: Status
    message: str
    generations: int
    trials: int
    evaluations: int
    baseline_fitness: float | None
    fitness: float | None
    baseline_test_fitness: float | None
    test_fitness: float | None
    cost_usd: float
    model_calls: int
    failed_model_calls: int
    stand_in_trials: int
    """Trials that the stand-in proposed, because no model did or none is asked."""
    model: str
    dna_checksum: str
    dna_generation: int
    baseline_generation: int
    cases: Mapping[str, int]
    confidence: float | None = None
    """Lowest confidence of the run's promotions, each corrected for all the tests before it; None without any."""
    changes: tuple[GeneChange, ...] = ()
    approval: Approval | None = None
    """What the run waits for, with status `waiting`."""

    @property
    def exit_code(self) -> ExitCode:
        """What the command line answers to the shell."""
        return {
            "done": ExitCode.DONE,
            "waiting": ExitCode.WAITING_FOR_APPROVAL,
            "budget": ExitCode.STOPPED_BY_BUDGET,
        }.get(self.status, ExitCode.FAILED)

    def as_json(self) -> dict[str, Any]:
        """Return the result, JSON-plain."""
        return asdict(self)


def gene_changes(before: SystemDNA, after: SystemDNA) -> tuple[GeneChange, ...]:
    """Return the genes whose values differ, in the order of declaration, and those that only one DNA has."""
    genes = {**before.genes, **after.genes}
    pairs = {name: (before.values.get(name), after.values.get(name)) for name in genes}
    return tuple(GeneChange(name, genes[name].kind, *pair) for name, pair in pairs.items() if pair[0] != pair[1])
