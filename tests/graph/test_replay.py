"""Replays of runs on record: identical, whatever reached the run from outside, and without any effect."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution import Autonomy, Budget, Evolution, EvolutionResult, Progress, Score, number
from bedrock_evolution.clock import FixedClock
from bedrock_evolution.errors import UnknownRun, UsageError
from bedrock_evolution.graph.replay import ReplayReport, replay
from bedrock_evolution.settings import Settings
from tests.garden import garden, grow, grow_all
from tests.graph.recorded import BEGAN, CAREFUL, TickingClock, answered, content, finished, kinds
from tests.support.bedrock_endpoint import BedrockEndpoint
from tests.support.converse import ConverseRequest, Reply
from tests.support.model import ScriptedModel
from tests.support.stage import with_dummy_aws


def replayed(app: Evolution, result: EvolutionResult) -> ReplayReport:
    report = replay(app._database, result.run_id)
    assert report.identical, str(report.difference)
    assert report.dna_checksum == result.dna_checksum
    return report


def stopped(app: Evolution, steps: int, items: Any) -> EvolutionResult:
    """Let a run stop after some steps."""
    for done, item in enumerate(items, start=1):
        if not isinstance(item, Progress):
            assert isinstance(item, EvolutionResult)
            return item
        if done == steps:
            app.stop()
    raise AssertionError("a run ends with a result")


# -- what persons decide


def test_a_run_that_persons_approved_is_replayed_identically(tmp_path: Path) -> None:
    app, result = answered(tmp_path, "approve")
    assert {"asked", "answered", "applied"} <= set(kinds(app))
    report = replayed(app, result)
    assert report.events == len(kinds(app)) - 1, "all but the declaration"
    assert (report.steps, report.model_calls, report.evaluations) > (10, 5, 100)


def test_a_run_that_persons_rejected_is_replayed_identically(tmp_path: Path) -> None:
    app, result = answered(tmp_path, "reject")
    assert "rejected" in kinds(app)
    replayed(app, result)


def test_a_run_whose_question_expired_is_replayed_identically(tmp_path: Path) -> None:
    clock = TickingClock(BEGAN)
    app = garden(tmp_path, autonomy=CAREFUL, clock=clock)
    result = app.run(2, seed=5, progress=False)
    while result.status == "waiting":
        clock.moment += timedelta(days=30)
        result = app.resume(result.run_id, progress=False)
    assert {"expired", "deferred"} <= set(kinds(app))
    replayed(app, result)


def test_a_run_that_still_waits_is_replayed_up_to_its_question(tmp_path: Path) -> None:
    app = garden(tmp_path, autonomy=CAREFUL)
    result = app.run(3, seed=5, progress=False)
    assert (result.status, kinds(app)[-1]) == ("waiting", "asked")
    replayed(app, result)
    assert result.approval is not None
    app.answer(result.approval.approval_id, "approve", by="Ann")
    assert replay(app._database, result.run_id).identical, "answered, and not gone on yet"


def test_a_second_answer_that_was_refused_is_replayed(tmp_path: Path) -> None:
    app = garden(tmp_path, autonomy=CAREFUL)
    result = app.run(3, seed=5, progress=False)
    assert result.approval is not None
    app.answer(result.approval.approval_id, "approve", by="Ann")
    with pytest.raises(Exception, match="first answer stands"):
        app.answer(result.approval.approval_id, "reject", by="Ben")
    replayed(app, finished(app, app.resume(result.run_id, progress=False)))
    assert "answer_refused" in kinds(app)


# -- failures


class Failing:
    """Scores as `grow` does, but fails on demand."""

    def __init__(self) -> None:
        self.left = 0

    def __call__(self, genes: Any, case: Any, seed: int) -> Score:
        if self.left:
            self.left -= 1
            raise RuntimeError("out of water")
        return grow(genes, case, seed)


def test_a_healed_run_is_replayed_identically(tmp_path: Path) -> None:
    evaluate = Failing()
    evaluate.left = 1
    app = garden(tmp_path, evaluate=evaluate, workers=1)
    result = app.run(2, seed=5, progress=False)
    assert (result.status, kinds(app).count("incident")) == ("done", 1)
    replayed(app, result)


def test_a_run_that_failed_and_was_resumed_is_replayed_identically(tmp_path: Path) -> None:
    evaluate = Failing()
    evaluate.left = 10**9
    app = garden(tmp_path, evaluate=evaluate)
    failed = app.run(2, seed=5, progress=False)
    assert failed.status == "failed"
    assert replay(app._database, failed.run_id).identical
    evaluate.left = 0
    result = app.resume(failed.run_id, progress=False)
    assert (result.status, kinds(app).count("ended")) == ("done", 2)
    replayed(app, result)


def test_a_run_whose_executor_broke_is_replayed_identically(tmp_path: Path) -> None:
    class Raising(ThreadPoolExecutor):
        left = 70

        def submit(self, *given: Any, **named: Any) -> Any:
            Raising.left -= 1
            if Raising.left == 0:
                raise RuntimeError("no new threads")
            return super().submit(*given, **named)

    with Raising(2) as executor:
        app = garden(tmp_path, executor=executor)
        result = app.run(2, seed=5, progress=False)
    assert (result.status, kinds(app).count("incident")) == ("done", 1)
    replayed(app, result)


def test_live_genes_that_fail_are_rolled_back_again_in_the_replay(tmp_path: Path) -> None:
    broken: list[Any] = []

    def evaluate(genes: Any, case: Any, seed: int) -> Score:
        if dict(genes) in broken:
            raise RuntimeError("these genes work no more")
        return grow(genes, case, seed)

    app = garden(tmp_path, evaluate=evaluate)
    assert app.run(3, seed=5, progress=False).dna_generation > 1
    broken.append(dict(app.genes))
    result = app.run(2, seed=6, progress=False)
    restored = [event for event in app.store.events("garden") if event.kind == "restored"]
    assert [event.actor for event in restored] == ["healer"]
    replayed(app, result)


class Killed(BaseException):
    """Ends a run as a killed process does: nothing after it is written."""


@pytest.mark.parametrize("point", ["trials.record", "advice.record", "decision.record", "dna.commit"])
def test_a_full_disk_is_met_again_where_it_was_met(tmp_path: Path, point: str) -> None:
    app = garden(tmp_path)
    assert app.dna.generation == 0
    full = [True]

    def reached(reached_point: str, moment: str) -> None:
        if (reached_point, moment) == (point, "before") and full:
            full.clear()
            raise sqlite3.OperationalError("database or disk is full")

    app._database.reached = reached
    result = app.run(2, seed=5, progress=False)
    [incident] = [event for event in app.store.events("garden") if event.kind == "incident"]
    assert incident.data["incident"]["kind"] == "storage"
    replayed(app, result)


def test_a_step_that_a_run_died_in_again_and_again_is_met_again(tmp_path: Path) -> None:
    def die(point: str, moment: str) -> None:
        if (point, moment) == ("evaluations.record", "before"):
            raise Killed

    run_id = ""
    for _ in range(5):
        app = garden(tmp_path)
        app._database.reached = die
        try:
            result = app.resume(run_id, progress=False) if run_id else app.run(2, seed=5, progress=False)
        except Killed:
            [run] = app._services.journal.runs()
            run_id = run.run_id
            app.close()
            continue
        break
    incidents = [event.data["incident"]["kind"] for event in app.store.events("garden") if event.kind == "incident"]
    assert "stuck" in incidents
    app._database.reached = lambda point, moment: None
    replayed(app, result if result.status != "failed" else app.resume(run_id, progress=False))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "moment", "number"),
    [
        ("run.begin", "after", 1),
        ("advice.record", "after", 2),
        ("trials.record", "after", 3),
        ("evaluations.record", "after", 2),
        ("evaluations.record", "after", 12),
        ("decision.record", "after", 1),
        ("dna.commit", "after", 2),
        ("checkpoint.put", "before", 1),
        ("checkpoint.put", "before", 9),
        ("checkpoint.writes", "after", 4),
    ],
)
def test_a_run_that_died_is_replayed_before_and_after_it_goes_on(
    tmp_path: Path, point: str, moment: str, number: int
) -> None:
    app = garden(tmp_path)
    seen: list[str] = []

    def reached(reached_point: str, reached_moment: str) -> None:
        if (reached_point, reached_moment) == (point, moment):
            seen.append(point)
            if len(seen) == number:
                raise Killed

    app._database.reached = reached
    with pytest.raises(Killed):
        app.run(4, seed=5, progress=False)
    app.close()
    again = garden(tmp_path)
    [run] = again._services.journal.runs()
    report = replay(again._database, run.run_id)
    assert report.identical, str(report.difference)
    replayed(again, again.resume(run.run_id, progress=False))


# -- what happens outside


def during(app: Evolution, act: Callable[[], object], *, after: int = 1, step: str = "trial") -> EvolutionResult:
    """Run, and do something after a step of a generation."""
    result: Progress | EvolutionResult | None = None
    for result in app.stream(4, seed=5):
        if isinstance(result, Progress) and (result.generation, result.step) == (after, step):
            act()
    assert isinstance(result, EvolutionResult)
    return result


@pytest.mark.slow
@pytest.mark.parametrize("step", ["observe", "advise", "trial", "decide", "apply"])
def test_a_persons_rollback_meanwhile_is_replayed(tmp_path: Path, step: str) -> None:
    app = garden(tmp_path)
    result = during(app, lambda: app.rollback(0, by="Ann"), after=2, step=step)
    assert "restored" in kinds(app)
    replayed(app, result)


def test_another_runs_change_meanwhile_is_replayed(tmp_path: Path) -> None:
    app, other = garden(tmp_path), garden(tmp_path)
    result = during(app, lambda: other.run(1, seed=9, progress=False), step="decide")
    assert "lost" in kinds(app)
    replayed(app, result)
    for run in app._services.journal.runs():
        assert replay(app._database, run.run_id).identical


def test_what_happens_while_a_model_thinks_is_replayed_as_it_was_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_dummy_aws(monkeypatch)
    person, model = garden(tmp_path), ScriptedModel()

    def respond(request: ConverseRequest) -> Reply:
        if "DecisionResult" in request.tools and person.dna.generation == 0:
            person.rollback(0, by="Ann", why="to be sure")
        return model(request)

    with BedrockEndpoint(respond) as endpoint:
        app = garden(tmp_path, model=None, settings=_bedrock(endpoint.url), autonomy=Autonomy(engine_above=0))
        result = app.run(3, seed=5, progress=False)
    order = kinds(app)
    assert order.index("restored") < order.index("decided")
    assert "lost" in order
    replayed(app, result)


@pytest.mark.parametrize("step", ["observe", "govern", "trial", "decide"])
def test_feedback_is_read_in_the_replay_when_it_was_read_then(tmp_path: Path, step: str) -> None:
    app = garden(tmp_path)
    app.feedback("Everything is dry, use more water.", source="Bob")
    result = during(app, lambda: app.feedback("The label says nothing of moss.", source="Eve"), after=1, step=step)
    assert kinds(app).count("feedback_read") == (1 if step in ("observe", "govern") else 2)
    replayed(app, result)


def test_live_outcomes_that_roll_back_and_the_diagnosis_are_replayed(tmp_path: Path) -> None:
    app = garden(tmp_path)

    def fall() -> None:
        for genes, value in ((app.store.snapshot("garden", 0).values, 1.0), (app.genes, 0.0)):
            for place in range(80):
                app.record_outcome(value + 0.001 * (place % 7), genes=genes)
            app.flush_outcomes()

    result = during(app, fall, after=1, step="apply")
    assert {"restored", "diagnosed"} <= set(kinds(app))
    replayed(app, result)


# -- stopping and going on


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 2, 4, 5, 6])
def test_a_run_that_was_stopped_and_resumed_is_replayed(tmp_path: Path, steps: int) -> None:
    app = garden(tmp_path)
    half = stopped(app, steps, app.stream(2, seed=5))
    assert half.status == "interrupted"
    assert replay(app._database, half.run_id).identical
    app.rollback(0, by="Ann", why="while it stood still")
    replayed(app, app.resume(half.run_id, progress=False))


@pytest.mark.parametrize("steps", [3, 99], ids=["in the middle", "after its end"])
def test_a_run_that_went_on_with_more_generations_is_replayed(tmp_path: Path, steps: int) -> None:
    app = garden(tmp_path)
    half = stopped(app, steps, app.stream(2, seed=5))
    result = app.resume(half.run_id, generations=4, progress=False)
    assert "resumed" in kinds(app)
    replayed(app, result)


@pytest.mark.parametrize("answer", ["approve", "reject"])
def test_a_run_that_went_on_under_another_policy_is_replayed(tmp_path: Path, answer: str) -> None:
    app = garden(tmp_path, autonomy=CAREFUL)
    waiting = app.run(4, seed=5, progress=False)
    assert waiting.approval is not None
    app.answer(waiting.approval.approval_id, answer, by="Ann")  # type: ignore[arg-type]
    other = garden(tmp_path, autonomy=Autonomy(engine_above=0, ask_above=1, approval_hours=1))
    result = other.resume(waiting.run_id, progress=False)
    assert (result.status, kinds(other).count("asked")) == ("done", 1)
    replayed(other, result)


def test_a_run_whose_evaluations_were_spent_and_raised_is_replayed(tmp_path: Path) -> None:
    small = garden(tmp_path, budget=Budget(max_evaluations=220))
    spent = small.run(6, seed=5, progress=False)
    assert spent.status == "budget"
    replayed(small, spent)
    large = garden(tmp_path, budget=Budget(max_evaluations=900))
    result = large.resume(spent.run_id, progress=False)
    assert result.evaluations > spent.evaluations
    replayed(large, result)


# -- applications


def quadratic(genes: Any, case: Any) -> float:
    return -float((genes["x"] - 0.3) ** 2)


APPLICATIONS: dict[str, dict[str, Any]] = {
    "batches": {"evaluate_all": grow_all},
    "noise": {"deterministic": False, "evaluate": grow},
    "known range": {"score_range": (-5.0, 5.0)},
}


@pytest.mark.parametrize("options", APPLICATIONS.values(), ids=APPLICATIONS)
def test_applications_of_other_kinds_are_replayed(tmp_path: Path, options: dict[str, Any]) -> None:
    app = garden(tmp_path, **options)
    replayed(app, app.run(3, seed=5, progress=False))


def test_a_single_case_is_replayed(tmp_path: Path) -> None:
    genes = {"x": number(0.9, low=0, high=1)}
    app = Evolution(
        "one", genes, evaluate=quadratic, cases=[0], model="local", store=f"sqlite:///{tmp_path / 'one.db'}"
    )
    replayed(app, app.run(5, seed=1, progress=False))


def test_only_the_run_itself_is_replayed_where_the_store_holds_several(tmp_path: Path) -> None:
    app = garden(tmp_path)
    results = [app.run(2, seed=seed, progress=False) for seed in (1, 2, 3)]
    for result in results:
        replayed(app, result)


def test_an_unknown_run_is_named(tmp_path: Path) -> None:
    app = garden(tmp_path)
    with pytest.raises(UnknownRun, match="run-7"):
        replay(app._database, "run-7")


def test_a_run_whose_steps_are_kept_elsewhere_is_refused(tmp_path: Path) -> None:
    app = garden(tmp_path)
    state = app.graph.invoke({"generations": 1, "seed": 5})
    with pytest.raises(UsageError, match="a checkpointer of your own"):
        replay(app._database, state["run_id"])


# -- models, and no effects


def test_a_run_with_a_model_is_replayed_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_dummy_aws(monkeypatch)
    with BedrockEndpoint(ScriptedModel()) as endpoint:
        app = garden(tmp_path, model=None, settings=_bedrock(endpoint.url), evaluate=grow)
        result = app.run(3, seed=5, progress=False)
        assert result.model_calls > 5
        asked = len(endpoint.requests)

    def refuse(*_: object) -> None:
        raise AssertionError("a replay opens no socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    report = replayed(app, result)
    assert report.model_calls >= result.model_calls == asked, "those of the stand-in too"


def _bedrock(url: str) -> Settings:
    return Settings(model="bedrock", endpoint_url=url, regions=("us-east-1",), candidates=2, max_tokens=512)


def test_a_replay_changes_nothing_in_the_store_or_beside_it(tmp_path: Path) -> None:
    app, result = answered(tmp_path, "approve")
    before = content(tmp_path / "g.db")
    replayed(app, result)
    assert content(tmp_path / "g.db") == before
    assert any("anchor" in line or "key" in line for line in before), "the anchor and the key are among it"


def test_replaying_twice_gives_the_same(tmp_path: Path) -> None:
    app = garden(tmp_path, clock=FixedClock(BEGAN))
    result = app.run(2, seed=5, progress=False)
    first, second = replayed(app, result), replayed(app, result)
    assert [first.steps, first.events, first.evaluations] == [second.steps, second.events, second.evaluations]
