"""observe: the live DNA, its scores, its trend; where every generation begins."""

from __future__ import annotations

from typing import Any

from ..dna.events import EventDraft
from ..dna.genes import Gene
from ..dna.genome import SystemDNA
from ..errors import EvaluationFailed, InvalidGene, LiveGenesFailed, StaleParent
from .services import RunContext, Services
from .state import TREND_LENGTH, EvolutionState, PoolEntry

DEFAULT_GENERATIONS = 10
_INSIDE = ("diagnose", "govern", "advise", "trial", "decide")
"""Steps that a generation begins with; what comes after them has decided on it."""


def begin(services: Services, state: EvolutionState) -> dict[str, Any]:
    """Open a run, or go on with one that had stopped.

    Raises:
        SafeModeActive: A person has to lift it first.
        IntegrityError: The record was altered.
    """
    run_id = state.get("run_id") or services.ids.new("run")
    seed, generations = state.get("seed", 0), state.get("generations", DEFAULT_GENERATIONS)
    services.begin()
    live_dna(services)
    services.open_run(run_id, seed=seed, request={"generations": generations})
    return {
        "run_id": run_id,
        "seed": seed,
        "generations": generations,
        "status": "running",
        "message": "",
        "visit": state.get("visit", 0) + 1,
        "generation": _completed(state),
        "pool": state.get("pool", []),
        "trend": state.get("trend", []),
        "tests": state.get("tests", 0),
        "failed_trials": 0,
        "incident": None,
    }


def _completed(state: EvolutionState) -> int:
    """Return the number of generations that are done: one that a failure stopped in the middle is tried again."""
    incident, generation = state.get("incident"), state.get("generation", 0)
    stopped = state.get("status") == "failed" and incident is not None and incident["node"] in _INSIDE
    return generation - 1 if stopped else generation


def observe(services: Services, state: EvolutionState) -> dict[str, Any]:
    """Begin a generation: read the live DNA again, score what is missing, bring the pool up to date.

    Raises:
        LiveGenesFailed: The live genes, which evolution made so, cannot be scored.
        EvaluationFailed: The genes as they were declared cannot be scored.
        BudgetExhausted: Scoring them does not fit the limit.
    """
    run_id = state["run_id"]
    run = services.run(run_id)
    live_dna(services)
    # As of one moment: a replay tells by `seen` what had happened before the live DNA was read.
    with services.store.one_moment():
        seen, degraded = services.store.count(services.app), services.undiagnosed()
        head = services.store.head(services.app) or services.declared
    try:
        scores = run.head(head)
    except EvaluationFailed as error:
        if services.evolved(head):
            raise LiveGenesFailed(error.message, hint=error.hint) from error
        raise
    moved = state.get("head", {}).get("checksum") != head.checksum
    return {
        "generation": state["generation"] + 1,
        "head": {"checksum": head.checksum, "generation": head.generation},
        "seen": seen,
        "degraded": degraded,
        "start": state.get("start") or {"generation": head.generation, "fitness": scores.fitness},
        "fitness": scores.fitness,
        "trend": [*state["trend"], scores.fitness][-TREND_LENGTH:],
        "pool": _rebased(services, run, head, state["pool"], run_id) if moved else state["pool"],
        "ending": "",
        "gate": None,
        "release": None,
        "decision": None,
    }


def live_dna(services: Services) -> SystemDNA:
    """Return the live DNA, made from the application's declaration when it is new or was declared anew.

    What evolution found is kept for every gene whose declaration still allows it.
    """
    head = services.store.head(services.app)
    wanted, why = _wanted(services.declared, head)
    if head is not None and wanted is head:
        return head
    try:
        return services.store.commit(head.checksum if head else None, wanted, _declared_event(services, wanted, why))
    except StaleParent:
        # Another process declared the application, or changed it, between the two steps.
        return live_dna(services)


def _wanted(declared: SystemDNA, head: SystemDNA | None) -> tuple[SystemDNA, str]:
    """Return the DNA that should be live, and why it is another one than the head."""
    if head is None:
        return declared, "first declaration"
    genes = {name: _carried(gene, head, name) for name, gene in declared.genes.items()}
    if list(genes.items()) == list(head.genes.items()):
        return head, ""
    generation = head.generation + 1
    redeclared = SystemDNA(
        app=head.app, generation=generation, genes=genes, parent=head.checksum, mutation=f"declare-{generation}"
    )
    return redeclared, "the application declares other genes or bounds"


def _carried(gene: Gene, head: SystemDNA, name: str) -> Gene:
    old = head.genes.get(name)
    if old is None or old.kind != gene.kind or gene.locked:
        return gene
    try:
        return gene.with_value(old.value)
    except InvalidGene:
        return gene


def _declared_event(services: Services, dna: SystemDNA, why: str) -> EventDraft:
    return EventDraft(
        app=services.app,
        kind="declared",
        key=f"declared/{dna.checksum}",
        at=services.clock.now(),
        actor="application",
        why=why,
        data={"dna": dna.checksum, "genes": dict(dna.values)},
    )


def _rebased(
    services: Services, run: RunContext, head: SystemDNA, pool: list[PoolEntry], run_id: str
) -> list[PoolEntry]:
    """Compare the pool with the new live DNA, on recorded training scores; drop what it can no longer become."""
    scores = run.head(head)
    kept: list[PoolEntry] = []
    for entry in pool:
        [trial] = services.journal.trials_at(run_id, [(entry["generation"], entry["slot"])])
        values = services.values_of(trial)
        if not head.reachable(values):
            continue
        gain, z, cases = run.race.paired_gain(scores, values)
        if gain > 0:
            kept.append({**entry, "gain": gain, "z": z, "cases": cases, "gated": False})
    return kept
