"""A run that dies in the same step again and again is met as an incident, instead of dying for ever."""

import os
import signal
import sqlite3
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution import Evolution, EvolutionResult, number
from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.events import EvolutionEvent
from bedrock_evolution.graph.services import stuck_at
from bedrock_evolution.healing.incident import MAX_ATTEMPTS, allowed
from tests.support.forked import in_child

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CASES = {"train": list(range(8)), "validation": list(range(8, 24)), "test": list(range(24, 28))}
GENES = {"water": number(0.1, low=0.0, high=1.0), "light": number(0.9, low=0.0, high=1.0)}
GENERATIONS = 2
Kills = Callable[[Mapping[str, int], list[int]], bool]
"""Whether an evaluation kills its process, by the number of events of each kind on record and by its cases."""


def in_trials(of: int) -> Kills:
    """Kill in the trials of a generation, until its candidates are others or the live genes are."""
    return lambda events, cases: events.get("advised") == of and not events.get("restored") and cases != CASES["test"]


def in_the_sealed_test(events: Mapping[str, int], cases: list[int]) -> bool:
    return set(cases) <= set(CASES["test"])


def garden(folder: Path, kills: Kills | None) -> Evolution:
    path = folder / "garden.db"

    def grow(genes: Mapping[str, Any], cases: list[int]) -> list[float]:
        if kills and kills(_events(path), cases):
            os.kill(os.getpid(), signal.SIGKILL)
        return [0.6 - (genes["water"] - 0.6) ** 2 - (genes["light"] - 0.3) ** 2 + 0.001 * (n % 5) for n in cases]

    return Evolution(
        "garden",
        GENES,
        evaluate_all=grow,
        cases=CASES,
        model="local",
        store=f"sqlite:///{path}",
        workers=1,
        clock=FixedClock(NOON),
    )


def _events(path: Path) -> dict[str, int]:
    connection = sqlite3.connect(path)
    try:
        return dict(connection.execute("SELECT kind, count(*) FROM events GROUP BY kind").fetchall())
    finally:
        connection.close()


def died(work: Callable[[], object]) -> bool:
    _, status = os.waitpid(in_child(work), 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def resumed(folder: Path, kills: Kills | None) -> EvolutionResult:
    app = garden(folder, kills)
    [run] = app._services.journal.runs()
    return app.resume(run.run_id, progress=False)


def dies_until_it_is_met(folder: Path, kills: Kills) -> EvolutionResult:
    """Start a run, resume it as often as it may die, and return what the next resume ends with."""
    assert died(lambda: garden(folder, kills).run(GENERATIONS, seed=5, progress=False))
    for _ in range(MAX_ATTEMPTS):
        assert died(lambda: resumed(folder, kills))
    return resumed(folder, kills)


def events(folder: Path, kind: str) -> list[EvolutionEvent]:
    app = garden(folder, None)
    assert app.audit().intact
    return [event for event in app.store.events("garden") if event.kind == kind]


def test_a_run_that_dies_in_its_trials_stops_and_says_what_to_do(tmp_path: Path) -> None:
    result = dies_until_it_is_met(tmp_path, in_trials(1))
    assert result.status == "failed"
    assert result.message == (
        "the run died 4 times in its step 'trial'. Look at what the application logged then, and resume the run."
    )
    [incident] = events(tmp_path, "incident")
    assert (incident.data["incident"]["kind"], incident.data["incident"]["node"]) == ("stuck", "trial")
    assert incident.data["allowed"] == ["retry", "stop"], "there are no earlier genes to roll back to"
    assert incident.data["action"] == "stop"
    assert events(tmp_path, "applied") == []


def test_it_goes_on_when_the_evaluator_is_mended(tmp_path: Path) -> None:
    stopped = dies_until_it_is_met(tmp_path, in_trials(1))
    result = resumed(tmp_path, None)
    assert (result.run_id, result.status, result.message) == (stopped.run_id, "done", "")
    assert result.trials > stopped.trials
    assert len(events(tmp_path, "begun")) == len(events(tmp_path, "incident")) == 1


def test_genes_that_evolution_made_live_are_rolled_back_when_the_run_dies_with_them(tmp_path: Path) -> None:
    result = dies_until_it_is_met(tmp_path, in_trials(2))
    [applied, *_] = events(tmp_path, "applied")
    [incident] = events(tmp_path, "incident")
    [restored] = events(tmp_path, "restored")
    assert incident.data["action"] == "rollback"
    assert restored.seq > incident.seq > applied.seq
    assert (restored.data["automatic"], restored.data["from"], restored.data["to"]) == (True, 1, 0)
    assert result.status == "done"


def test_a_run_that_dies_in_its_sealed_test_ends_without_it(tmp_path: Path) -> None:
    result = dies_until_it_is_met(tmp_path, in_the_sealed_test)
    assert (result.status, result.test_fitness) == ("done", None)
    assert "the run died 4 times in its step 'report'" in result.message
    [incident] = events(tmp_path, "incident")
    assert incident.data["incident"]["node"] == "report"
    assert len(events(tmp_path, "applied")) > 0, "what was found stays found"
    mended = resumed(tmp_path, None)
    assert mended.status == "done"
    assert mended.test_fitness is not None


@pytest.mark.parametrize("kills", [in_trials(1), in_trials(2), in_the_sealed_test], ids=["trial", "live", "report"])
def test_a_replay_finds_the_same_incident(tmp_path: Path, kills: Kills) -> None:
    run_id = dies_until_it_is_met(tmp_path, kills).run_id
    replayed = garden(tmp_path, None).replay(run_id)
    assert replayed.identical, replayed.difference


def test_deaths_in_different_generations_are_not_added_up(tmp_path: Path) -> None:
    assert died(lambda: garden(tmp_path, in_trials(1)).run(GENERATIONS, seed=5, progress=False))
    for generation in (1, 2):
        for _ in range(MAX_ATTEMPTS - 1):
            assert died(lambda of=generation: resumed(tmp_path, in_trials(of)))
    assert resumed(tmp_path, None).status == "done"
    assert events(tmp_path, "incident") == []


def test_a_step_that_is_stuck_again_after_each_retry_may_not_be_retried_for_ever() -> None:
    state: dict[str, Any] = {}
    for attempt in range(1, MAX_ATTEMPTS + 1):
        met = stuck_at("trial", 4)("trial", state)  # type: ignore[arg-type]  # as much of a state as it reads
        assert met is not None
        assert met["attempts"] == attempt
        state = {"incident": met}
    assert "retry" not in allowed(state["incident"], can_roll_back=True)


def test_other_steps_run_and_the_stuck_one_is_met_once() -> None:
    foresee = stuck_at("trial", 4)
    assert foresee("observe", {}) is None
    assert foresee("trial", {}) is not None
    assert foresee("trial", {}) is None, "when the healer wants it tried once more, it is"
