"""The live genes are scored while the graph is being compiled, and nothing else is different for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from bedrock_evolution import Evolution, Score
from bedrock_evolution.clock import CountedIds, FixedClock
from bedrock_evolution.errors import BudgetExhausted
from bedrock_evolution.graph.replay import replay
from bedrock_evolution.running import Runner
from bedrock_evolution.settings import Budget
from tests.garden import garden, grow
from tests.graph.recorded import BEGAN

BROKEN = "the pump broke"


def told(app: Evolution) -> list[tuple[str, Mapping[str, Any]]]:
    return [(event.key, event.data) for event in app.store.events(app.app)]


def test_the_live_genes_are_scored_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored, compiled = Event(), Runner.compile

    def compile_at_last(runner: Runner) -> None:
        assert scored.wait(20), "nothing was scored"
        compiled(runner)

    def evaluate(genes: Mapping[str, Any], case: Mapping[str, Any], seed: int) -> Score:
        scored.set()
        return grow(genes, case, seed)

    monkeypatch.setattr(Runner, "compile", compile_at_last)
    assert garden(tmp_path, evaluate=evaluate).run(1, seed=5, progress=False).status == "done"


def run(folder: Path, *, compiled: bool, **options: Any) -> tuple[Any, ...]:
    folder.mkdir()
    app = garden(folder, clock=FixedClock(BEGAN), ids=CountedIds(), **options)
    if compiled:
        app._runner.compile()
    result = app.run(3, seed=5, progress=False)
    return result.status, result.message, result.evaluations, result.trials, result.dna_checksum, told(app)


def broken(genes: Mapping[str, Any], case: Mapping[str, Any], seed: int) -> Score:
    if case["plot"] == 7:
        raise RuntimeError(BROKEN)
    return grow(genes, case, seed)


@pytest.mark.parametrize("options", [{}, {"evaluate": broken}])
def test_a_run_is_the_same_with_a_graph_that_is_compiled_before(tmp_path: Path, options: dict[str, Any]) -> None:
    early, late = (run(tmp_path / name, compiled=name == "late", **options) for name in ("early", "late"))
    assert early == late
    assert (early[0] == "failed") == ("evaluate" in options)


def test_a_budget_that_is_too_small_is_refused_as_ever(tmp_path: Path) -> None:
    with pytest.raises(BudgetExhausted, match="cannot decide anything"):
        garden(tmp_path, budget=Budget(max_evaluations=10)).run(1, progress=False)


def test_a_replay_knows_what_was_scored_early_though_other_genes_were_live_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = Runner.compile

    def compile_at_last(runner: Runner) -> None:
        monkeypatch.setattr(Runner, "compile", compiled)
        assert garden(tmp_path).run(3, seed=5, progress=False).dna_generation > 0
        compiled(runner)

    monkeypatch.setattr(Runner, "compile", compile_at_last)
    app = garden(tmp_path)
    result = app.run(2, seed=6, progress=False)
    assert result.baseline_generation > 0, "another run changed the live genes before this one looked"
    report = replay(app._database, result.run_id)
    assert report.identical, str(report.difference)
