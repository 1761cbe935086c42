"""The run journal: runs, their trials and every evaluation, recorded as they happen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..clock import Clock
from ..dna.database import Database
from ..errors import UnknownRun
from .score import Outcome, failed

RunStatus = Literal["running", "done", "failed", "waiting", "budget", "interrupted"]
TrialStatus = Literal["proposed", "failed", "dropped", "scored", "gated", "promoted", "rejected"]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run as it is listed: what it was asked for and how far it came."""

    run_id: str
    app: str
    seed: int
    status: RunStatus
    started_at: str
    request: Mapping[str, Any]
    summary: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One candidate of one generation of a run, and what became of it."""

    generation: int
    slot: int
    mutation: str
    genes: str
    """Checksum of the gene values it was scored with."""
    parent_generation: int
    """Generation of the DNA that its changes are relative to."""
    changes: Mapping[str, Any]
    about: Mapping[str, Any]
    """Category, rationale, origin, predicted gain and probability."""
    status: TrialStatus = "proposed"
    fitness: float | None = None
    """Mean training score, on the scale of the live DNA's."""
    gain: float | None = None
    """Mean paired difference to the live DNA on the training cases seen."""
    z: float | None = None
    """That difference in its own standard errors."""
    cases: int = 0
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """What the promotion rule found on the validation cases; empty when it was not asked."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EvaluationKey:
    """Names one evaluation: which values, which case, and which sampling of a noisy evaluator."""

    genes: str
    part: str
    case: int
    sample: int = 0


class Journal:
    """Records of runs in an application's SQLite file; every write is one transaction and may be repeated."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        with database.tables() as tables:
            tables.table("runs").create(
                {
                    "run_id": str,
                    "app": str,
                    "seed": int,
                    "status": str,
                    "started_at": str,
                    "request": str,
                    "summary": str,
                    "rebound": int,
                },
                pk="run_id",
                defaults={"rebound": 0},
                if_not_exists=True,
            )
            tables.table("resumes").create(
                {"run_id": str, "checkpoint": str, "times": int}, pk="run_id", if_not_exists=True
            )
            tables.table("trials").create(
                {
                    "run_id": str,
                    "generation": int,
                    "slot": int,
                    "genes": str,
                    "status": str,
                    "fitness": float,
                    "document": str,
                },
                pk=("run_id", "generation", "slot"),
                if_not_exists=True,
            )
            tables.table("trials").create_index(["run_id", "genes"], if_not_exists=True)
            tables.table("trials").create_index(["run_id", "status"], if_not_exists=True)
            tables.execute(_EVALUATIONS)

    # -- runs

    def begin(self, run_id: str, *, app: str, seed: int, request: Mapping[str, Any]) -> None:
        """Record that a run starts, before anything else happens, so that it can always be resumed."""
        with self._database.transaction("run.begin") as connection:
            connection.execute(
                "INSERT OR IGNORE INTO runs (run_id, app, seed, status, started_at, request, summary)"
                " VALUES (?, ?, ?, 'running', ?, ?, '{}')",
                [run_id, app, seed, self._clock.now().isoformat(), json.dumps(dict(request))],
            )

    def run(self, run_id: str) -> RunRecord:
        """Return one run.

        Raises:
            UnknownRun: The store holds no such run.
        """
        found = self._runs("WHERE run_id = ?", [run_id])
        if not found:
            raise UnknownRun(
                f"there is no run {run_id!r} in this store.", hint="`bedrock-evolution status` lists the runs."
            )
        return found[0]

    def runs(self, app: str | None = None, *, limit: int = 20) -> list[RunRecord]:
        """Return the newest runs, newest first."""
        return self._runs("WHERE ? IS NULL OR app = ? ORDER BY started_at DESC, rowid DESC LIMIT ?", [app, app, limit])

    def _runs(self, where: str, parameters: Sequence[Any]) -> list[RunRecord]:
        rows = self._database.rows(
            f"SELECT run_id, app, seed, status, started_at, request, summary FROM runs {where}",  # noqa: S608  # no outside text
            parameters,
        )
        return [
            RunRecord(run_id, app, seed, status, started_at, json.loads(request), json.loads(summary))
            for run_id, app, seed, status, started_at, request, summary in rows
        ]

    def set_status(self, run_id: str, status: RunStatus, summary: Mapping[str, Any] | None = None) -> None:
        """Record where a run stands; a summary replaces the earlier one."""
        with self._database.transaction("run.status") as connection:
            connection.execute("UPDATE runs SET status = ? WHERE run_id = ?", [status, run_id])
            if summary is not None:
                connection.execute("UPDATE runs SET summary = ? WHERE run_id = ?", [json.dumps(dict(summary)), run_id])

    def rebind(self, run_id: str, request: Mapping[str, Any]) -> int:
        """Replace what a run was asked for, and return how often that was done."""
        with self._database.transaction("run.begin") as connection:
            connection.execute(
                "UPDATE runs SET request = ?, rebound = rebound + 1 WHERE run_id = ?",
                [json.dumps(dict(request)), run_id],
            )
            row = connection.execute("SELECT rebound FROM runs WHERE run_id = ?", [run_id]).fetchone()
        return int(row[0])

    def resumed(self, run_id: str, checkpoint: str) -> int:
        """Record that a run goes on from a checkpoint, and return how often it has from this very one."""
        with self._database.transaction("run.resumed") as connection:
            connection.execute(
                "INSERT INTO resumes (run_id, checkpoint, times) VALUES (?, ?, 1)"
                " ON CONFLICT DO UPDATE SET times = CASE checkpoint WHEN excluded.checkpoint THEN times + 1 ELSE 1 END,"
                " checkpoint = excluded.checkpoint",
                [run_id, checkpoint],
            )
            row = connection.execute("SELECT times FROM resumes WHERE run_id = ?", [run_id]).fetchone()
        return int(row[0])

    # -- trials

    def propose(self, run_id: str, generation: int, trials: Iterable[TrialRecord]) -> None:
        """Replace the candidates of a generation, so that an advisor that runs again leaves no leftovers."""
        with self._database.transaction("trials.record") as connection:
            connection.execute("DELETE FROM trials WHERE run_id = ? AND generation = ?", [run_id, generation])
            self._insert_trials(connection, run_id, trials)

    def record(self, run_id: str, trials: Iterable[TrialRecord]) -> None:
        """Record what became of candidates."""
        with self._database.transaction("trials.record") as connection:
            self._insert_trials(connection, run_id, trials)

    def _insert_trials(self, connection: Any, run_id: str, trials: Iterable[TrialRecord]) -> None:
        connection.executemany(
            "INSERT OR REPLACE INTO trials (run_id, generation, slot, genes, status, fitness, document)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    run_id,
                    t.generation,
                    t.slot,
                    t.genes,
                    t.status,
                    t.fitness,
                    json.dumps(_document(t), ensure_ascii=False),
                )
                for t in trials
            ],
        )

    def trials(self, run_id: str, *, generation: int) -> list[TrialRecord]:
        """Return the candidates of one generation, in the order they were proposed."""
        return self._trials("run_id = ? AND generation = ? ORDER BY slot", [run_id, generation])

    def recent_trials(self, run_id: str, *, before: int, limit: int) -> list[TrialRecord]:
        """Return the newest candidates of generations before `before`, oldest first."""
        found = self._trials(
            "run_id = ? AND generation < ? ORDER BY generation DESC, slot DESC LIMIT ?", [run_id, before, limit]
        )
        return found[::-1]

    def trials_at(self, run_id: str, places: Iterable[tuple[int, int]]) -> list[TrialRecord]:
        """Return the candidates at given (generation, slot) places, in that order."""
        found = [self._trials("run_id = ? AND generation = ? AND slot = ?", [run_id, *place]) for place in places]
        return [trial for trials in found for trial in trials]

    def tried(self, run_id: str, genes: str, *, before: int) -> bool:
        """Whether these gene values were a candidate of an earlier generation."""
        return (
            self._database.row(
                # The plus keeps SQLite from taking the primary key, which has all generations of the run.
                "SELECT 1 FROM trials WHERE run_id = ? AND genes = ? AND +generation < ? LIMIT 1",
                [run_id, genes, before],
            )
            is not None
        )

    def promoted(self, run_id: str) -> list[TrialRecord]:
        """Return the candidates of a run that became live."""
        return self._trials("run_id = ? AND status = 'promoted' ORDER BY generation, slot", [run_id])

    def count_trials(self, run_id: str) -> int:
        """Return how many candidates a run has decided on."""
        row = self._database.row("SELECT count(*) FROM trials WHERE run_id = ? AND status != 'proposed'", [run_id])
        return int(row[0]) if row else 0

    def count_proposed_by(self, run_id: str, proposer: str) -> int:
        """Return how many of the candidates that a run has decided on have an origin that begins so."""
        row = self._database.row(
            "SELECT count(*) FROM trials WHERE run_id = ? AND status != 'proposed'"
            " AND json_extract(document, '$.about.origin') LIKE ? || '%'",
            [run_id, proposer],
        )
        return int(row[0]) if row else 0

    def _trials(self, where: str, parameters: Sequence[Any]) -> list[TrialRecord]:
        rows = self._database.rows(
            f"SELECT generation, slot, genes, status, fitness, document FROM trials WHERE {where}",  # noqa: S608  # no outside text
            parameters,
        )
        return [
            TrialRecord(
                generation=row[0], slot=row[1], genes=row[2], status=row[3], fitness=row[4], **json.loads(row[5])
            )
            for row in rows
        ]

    # -- evaluations

    def record_outcomes(self, run_id: str, outcomes: Iterable[tuple[EvaluationKey, Outcome]]) -> None:
        """Record evaluations; a score that is known already is kept, a failure gives way and stays on record."""
        with self._database.transaction("evaluations.record") as connection:
            connection.executemany(
                _RECORD_OUTCOME,
                [
                    (run_id, key.genes, key.part, key.case, key.sample, outcome.value, _detail(outcome))
                    for key, outcome in outcomes
                ],
            )

    def outcomes(self, run_id: str, genes: str, part: str, sample: int = 0) -> dict[int, Outcome]:
        """Return what is recorded for some gene values on one part, by case index."""
        rows = self._database.rows(
            "SELECT case_index, value, detail FROM evaluations"
            " WHERE run_id = ? AND genes = ? AND part = ? AND sample = ?",
            [run_id, genes, part, sample],
        )
        return {index: _outcome(value, detail) for index, value, detail in rows}

    def attempts(self, run_id: str) -> Iterator[tuple[EvaluationKey, list[Outcome]]]:
        """Yield every evaluation of a run with all its attempts, oldest first; all but the last of them failed."""
        rows = self._database.rows(
            "SELECT genes, part, case_index, sample, value, detail FROM evaluations WHERE run_id = ?", [run_id]
        )
        for *key, value, detail in rows:
            earlier = json.loads(detail).get("earlier", []) if detail else []
            yield EvaluationKey(*key), [*map(failed, earlier), _outcome(value, detail)]

    def count_evaluations(self, run_id: str) -> int:
        """Return how many evaluations a run has made, failed ones and their repetitions included."""
        row = self._database.row("SELECT coalesce(sum(attempts), 0) FROM evaluations WHERE run_id = ?", [run_id])
        return int(row[0]) if row else 0


# Without row numbers, which would keep the long key twice: most evaluations are that key and a number.
_EVALUATIONS = """
CREATE TABLE IF NOT EXISTS evaluations (
    run_id TEXT, genes TEXT, part TEXT, case_index INTEGER, sample INTEGER, value FLOAT, detail TEXT, attempts INTEGER,
    PRIMARY KEY (run_id, genes, part, case_index, sample)
) WITHOUT ROWID
"""
_RECORD_OUTCOME = (
    "INSERT INTO evaluations (run_id, genes, part, case_index, sample, value, detail, attempts)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET value = excluded.value, attempts = attempts + 1,"
    " detail = json_set(coalesce(excluded.detail, '{}'), '$.earlier', json_insert("
    "coalesce(json_extract(evaluations.detail, '$.earlier'), json('[]')), '$[#]',"
    " json_extract(evaluations.detail, '$.error'))) WHERE evaluations.value IS NULL"
)
"""A new attempt keeps the errors of those before it."""


def _document(trial: TrialRecord) -> dict[str, Any]:
    return {
        "mutation": trial.mutation,
        "parent_generation": trial.parent_generation,
        "changes": dict(trial.changes),
        "about": dict(trial.about),
        "gain": trial.gain,
        "z": trial.z,
        "cases": trial.cases,
        "evidence": dict(trial.evidence),
        "reason": trial.reason,
    }


def _detail(outcome: Outcome) -> str | None:
    """Everything but the value, left out where there is nothing to say: most evaluations are a number."""
    said = {
        "feedback": outcome.feedback,
        "gene_feedback": dict(outcome.gene_feedback),
        "metrics": dict(outcome.metrics),
        "error": outcome.error,
    }
    told = {name: value for name, value in said.items() if value}
    return json.dumps(told, ensure_ascii=False) if told else None


def _outcome(value: float | None, detail: str | None) -> Outcome:
    told = json.loads(detail) if detail else {}
    told.pop("earlier", None)
    return Outcome(value=value, **told)
