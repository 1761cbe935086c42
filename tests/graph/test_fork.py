"""Forks: the same history, and from some generation on another policy or another answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution import Autonomy, Evolution, EvolutionResult
from bedrock_evolution.errors import UnknownRun, UsageError
from bedrock_evolution.graph.fork import ForkReport, fork
from bedrock_evolution.graph.replay import replay
from bedrock_evolution.graph.replaying.alternatives import Alternative, alternative_of
from tests.garden import CASES, garden
from tests.graph.recorded import CAREFUL, answered, content

Story = tuple[Evolution, EvolutionResult]


@pytest.fixture(scope="module")
def approved(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return answered(tmp_path_factory.mktemp("approved"), "approve", generations=4)


def forked(story: Story, at: int, *, scored: bool = True, **given: str) -> ForkReport:
    app, result = story
    request = app._services.journal.run(result.run_id).request
    alternative = alternative_of(request, {name.replace("__", "."): value for name, value in given.items()})
    application = app.application if scored else None
    return fork(app._database, result.run_id, at=at, alternative=alternative, application=application)


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_an_alternative_that_changes_nothing_ends_as_the_run_did(approved: Story, at: int) -> None:
    report = forked(approved, at, scored=False)
    assert report.stopped == ""
    assert report.forked_dna == report.recorded_dna == approved[1].dna_checksum
    assert [outcome.generation for outcome in report.outcomes] == list(range(at, 5))
    assert {kind(o.recorded) for o in report.outcomes} == {kind(o.forked) for o in report.outcomes}


def kind(outcome: str | None) -> str:
    return (outcome or "").partition(" ")[0]


def test_another_answer_leads_to_other_dna(approved: Story) -> None:
    report = forked(approved, 1, answer="reject")
    first = report.outcomes[0]
    assert (first.recorded, first.forked) == ("applied by Ann", "rejected by fork")
    assert report.stopped == ""
    assert report.forked_dna != report.recorded_dna
    assert not any(kind(outcome.forked) == "applied" for outcome in report.outcomes)


def test_generations_before_the_fork_are_as_they_were(approved: Story) -> None:
    app, _ = approved
    asked = [event.generation for event in app.store.events("garden") if event.kind == "asked"]
    assert len(asked) > 1
    report = forked(approved, asked[1] or 0, answer="reject")
    assert report.outcomes[0].generation == asked[1]
    live = app.store.snapshot("garden", 1).values
    changed = {name for name, value in report.genes.items() if value != app.store.snapshot("garden", 0).values[name]}
    assert changed, "what was approved before is still live"
    assert any(live[name] == report.genes[name] for name in changed)


def test_without_the_application_the_fork_goes_as_far_as_the_record_and_says_what_is_missing(approved: Story) -> None:
    report = forked(approved, 1, scored=False, answer="reject")
    assert report.outcomes[0].forked == "rejected by fork"
    assert "was never scored with these genes" in report.stopped
    assert "--run APP" in report.stopped


@pytest.mark.parametrize(
    ("given", "first"),
    [
        ({"autonomy__never": "soil, label, water, light"}, "trialled by rule"),
        ({"autonomy__always_ask": "", "autonomy__engine_above": "0.85"}, "applied by rule"),
        ({"autonomy__always_ask": ""}, "applied by"),
    ],
    ids=["nothing may change", "a rule decides", "nobody is asked"],
)
def test_another_policy_decides_otherwise(approved: Story, given: dict[str, str], first: str) -> None:
    report = forked(approved, 1, **given)
    assert report.stopped == ""
    assert (report.outcomes[0].forked or "").startswith(first)


def test_a_stricter_bound_releases_less(approved: Story) -> None:
    report = forked(approved, 1, alpha="0.000000001")
    assert report.stopped == ""
    assert {kind(outcome.forked) for outcome in report.outcomes} == {"trialled"}
    assert report.forked_fitness is None


def test_a_question_that_nobody_ever_answered_stops_the_fork(tmp_path: Path) -> None:
    app = garden(tmp_path)
    story = app, app.run(3, seed=5, progress=False)
    report = forked(story, 1, autonomy__always_ask="soil,label,water,light")
    assert report.stopped == "generation 1 waits for a person: say how to answer."
    assert forked(story, 1, autonomy__always_ask="soil,label,water,light", answer="approve").stopped == ""


def test_a_fork_changes_nothing_in_the_store(tmp_path: Path) -> None:
    story = answered(tmp_path, "approve")
    before = content(tmp_path / "g.db")
    forked(story, 1, answer="reject")
    assert content(tmp_path / "g.db") == before
    assert replay(story[0]._database, story[1].run_id).identical


def test_what_cannot_be_forked_is_refused(approved: Story, tmp_path: Path) -> None:
    app, result = approved
    for at in (0, 9):
        with pytest.raises(UsageError, match=f"no generation {at}") as refused:
            fork(app._database, result.run_id, at=at, alternative=Alternative())
        assert "1 to 4" in refused.value.hint
    with pytest.raises(UnknownRun):
        fork(app._database, "run-7", at=1, alternative=Alternative())
    other = garden(tmp_path, cases=CASES[1:])
    with pytest.raises(UsageError, match="the cases changed"):
        fork(app._database, result.run_id, at=1, alternative=Alternative(), application=other.application)


# -- names and values


@pytest.fixture(scope="module")
def request_of(approved: Story) -> Any:
    app, result = approved
    return json.loads(json.dumps(app._services.journal.run(result.run_id).request))


def test_values_are_read_from_texts(request_of: Any) -> None:
    given = {
        "answer": "reject",
        "alpha": "0.01",
        "candidates": "7",
        "autonomy.ask_above": "0.5",
        "autonomy.never": "soil, category:safety*",
        "safety.max_rollbacks": "1",
    }
    alternative = alternative_of(request_of, given)
    assert alternative.settings is not None
    found = alternative.settings
    assert (alternative.answer, found.alpha, found.candidates) == ("reject", 0.01, 7)
    assert found.autonomy == CAREFUL.model_copy(update={"ask_above": 0.5, "never": ("soil", "category:safety*")})
    assert found.safety.max_rollbacks == 1


def test_what_is_not_named_stays_as_it_was(request_of: Any) -> None:
    assert alternative_of(request_of, {}) == Alternative()
    assert alternative_of(request_of, {"answer": "approve"}) == Alternative(answer="approve")
    found = alternative_of(request_of, {"autonomy.approval_hours": "2"}).settings
    assert found is not None
    assert found.autonomy == Autonomy(always_ask=("soil", "label"), approval_hours=2)


@pytest.mark.parametrize(
    ("name", "value", "said", "hint"),
    [
        ("autonomy.ask_abov", "1", "'autonomy.ask_abov'", "autonomy.ask_above"),
        ("colour", "red", "'colour'", "answer, alpha"),
        ("autonomy", "1", "'autonomy'", "autonomy."),
        ("answer", "maybe", "answer=maybe", "approve or reject"),
        ("alpha", "2", "alpha=2", "another value"),
        ("alpha", "much", "alpha=much", "another value"),
        ("candidates", "0", "candidates=0", "another value"),
        ("autonomy.ask_above", "high", "autonomy.ask_above=high", "another value"),
        ("autonomy.engine_above", "0.9", "lies above ask_above", "another value"),
        ("safety.alpha", "0.7", "safety.alpha=0.7", "another value"),
    ],
)
def test_names_and_values_that_cannot_be_are_refused(
    request_of: Any, name: str, value: str, said: str, hint: str
) -> None:
    with pytest.raises(UsageError) as refused:
        alternative_of(request_of, {name: value})
    assert said in refused.value.message
    assert hint in refused.value.hint
