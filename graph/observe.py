"""observe: the live DNA, its scores, its trend; where every generation begins."""

from __future__ import annotations

from typing import Any

from ..dna.genome import SystemDNA
from ..errors import EvaluationFailed, LiveGenesFailed
from ..settings import DEFAULT_GENERATIONS
from .live_dna import live_dna
from .services import RunContext, Services
from .state import TREND_LENGTH, EvolutionState, PoolEntry

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
