"""trial: candidates are raced on training cases; the most promising one is put to the promotion rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..errors import EvaluationFailed
from ..fitness.journal import TrialRecord
from ..fitness.racing import HeadScores, Screening
from .ahead import advised_ahead
from .services import RunContext, Services
from .state import POOL_SIZE, Ending, EvolutionState, PoolEntry

_WORTH_A_LAST_TRY = 0.5
"""Training gain in standard errors below which even the last generation does not bother the promotion rule."""
_MESSAGES = {
    "budget": "the evaluation budget ended the search before its last generation",
    "candidates": "the advisor has nothing left to propose that was not trialled before",
}


def trial(services: Services, state: EvolutionState) -> dict[str, Any]:
    """Trial this generation's candidates.

    Raises:
        EvaluationFailed: Too many trials in a row failed.
    """
    run, head = services.run(state["run_id"]), services.snapshot(state["head"]["generation"])
    scores = run.head(head)
    with advised_ahead(services, state):
        return _tried(services, run, scores, state)


def _tried(services: Services, run: RunContext, scores: HeadScores, state: EvolutionState) -> dict[str, Any]:
    run_id, generation = state["run_id"], state["generation"]
    fresh = [_as_proposed(record) for record in services.journal.trials(run_id, generation=generation)]
    best_gain = max((entry["gain"] for entry in state["pool"]), default=0.0)
    screening = run.race.screen(scores, [(record, services.values_of(record)) for record in fresh], best_gain=best_gain)
    services.journal.record(run_id, screening.trials)
    failed = _failed_in_a_row(state["failed_trials"], screening.trials)
    if failed >= services.settings.max_failed_trials:
        raise EvaluationFailed(
            f"{failed} trials in a row failed; the last one: {screening.trials[-1].reason}.",
            hint="Mend the evaluator and resume the run.",
        )
    pool = _bred_from(state["pool"], screening.trials)
    ending = _ending(state, screening)
    gated = _gate(services, run, scores, state, pool, final=bool(ending))
    return {"failed_trials": failed, "ending": ending, "message": _MESSAGES.get(ending, ""), **gated}


def _ending(state: EvolutionState, screening: Screening) -> Ending:
    if screening.out_of_budget:
        return "budget"
    if not screening.trials:
        return "candidates"
    return "generations" if state["generation"] >= state["generations"] else ""


def _as_proposed(record: TrialRecord) -> TrialRecord:
    """Forget what an interrupted attempt at this node recorded; its evaluations are kept and used again."""
    return replace(record, status="proposed", fitness=None, gain=None, z=None, cases=0, evidence={}, reason="")


def _failed_in_a_row(before: int, trials: list[TrialRecord]) -> int:
    count = before
    for record in trials:
        count = count + 1 if record.status == "failed" else 0
    return count


def _bred_from(pool: list[PoolEntry], trials: list[TrialRecord]) -> list[PoolEntry]:
    """Add what did better than the live DNA on all training cases; keep the best, by a gain shrunk for noise."""
    bred = [
        PoolEntry(
            generation=record.generation,
            slot=record.slot,
            gain=record.gain,
            z=record.z or 0.0,
            cases=record.cases,
            gated=False,
        )
        for record in trials
        if record.status == "scored" and record.gain is not None and record.gain > 0
    ]
    return sorted([*pool, *bred], key=_shrunk_gain, reverse=True)[:POOL_SIZE]


def _shrunk_gain(entry: PoolEntry) -> float:
    """Shrink a gain towards zero by its noise, as James and Stein would."""
    return entry["gain"] * max(0.05, 1 - 1 / max(entry["z"], 1e-9) ** 2)


def _gate(
    services: Services,
    run: RunContext,
    scores: HeadScores,
    state: EvolutionState,
    pool: list[PoolEntry],
    *,
    final: bool,
) -> dict[str, Any]:
    """Put the best candidate to the promotion rule, if it would probably pass or there is no later chance."""
    run_id, test = state["run_id"], state["tests"] + 1
    preferred = state.get("preferred")
    waiting = min(
        (entry for entry in pool if not entry["gated"]),
        key=lambda entry: [entry["generation"], entry["slot"]] != preferred,
        default=None,
    )
    nothing = {"pool": pool, "tests": state["tests"], "gate": None, "release": None}
    if waiting is None:
        return nothing
    [record] = services.journal.trials_at(run_id, [(waiting["generation"], waiting["slot"])])
    # Its gain may have been measured against an earlier live DNA.
    record = replace(record, gain=waiting["gain"], z=waiting["z"], cases=waiting["cases"])
    values = services.values_of(record)
    last_chance = final and waiting["z"] >= _WORTH_A_LAST_TRY
    if not last_chance and not run.race.promising(scores, record, values, test=test):
        return nothing
    left = run.scorer.left()
    if not run.race.single and left is not None and left < len(run.scorer.panels.validation):
        return nothing
    record, evidence = run.race.gate(scores, record, values, test=test)
    services.journal.record(run_id, [record])
    pool = [{**entry, "gated": True} if entry is waiting else entry for entry in pool]
    release = None
    if evidence.credible:
        head = services.snapshot(state["head"]["generation"])
        release = {
            "generation": record.generation,
            "slot": record.slot,
            "mutation_id": services.mutation_of(record, head).id,
            "evidence": dict(record.evidence),
        }
    return {"pool": pool, "tests": test, "gate": dict(record.evidence), "release": release}
