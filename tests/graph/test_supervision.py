"""What stands between a decision and the live genes: younger policies, earlier rollbacks, the outcomes of before."""

import random

import pytest

from bedrock_evolution import Autonomy, Evolution, Safety, UsageError, number
from bedrock_evolution.errors import InvalidSetting
from bedrock_evolution.settings import Settings

CASES = list(range(60))
LATER_NOTHING = Autonomy(engine_above=1.0, ask_above=1.0)


def climb(genes, case):
    return genes["x"] + 0.001 * case


def app(folder, autonomy=LATER_NOTHING, **options):
    settings = Settings(
        store=f"sqlite:///{folder}/s.db", model="local", autonomy=autonomy, safety=Safety(reference=20, max_rollbacks=9)
    )
    genes = {"x": number(0.1, low=0.0, high=1.0)}
    return Evolution("climber", genes, evaluate=climb, cases=CASES, settings=settings, **options)


def serve(evolution, mean, count=60):
    draws = random.Random(count)
    values = evolution.genes
    for _ in range(count):
        evolution.record_outcome(mean + draws.gauss(0, 1), genes=values)
    evolution.flush_outcomes()


def kinds(evolution, run_id):
    return [event.kind for event in evolution.store.events("climber") if event.run_id == run_id]


@pytest.mark.parametrize("policy", [Autonomy(never=("x",)), Autonomy(never=("*",))], ids=["gene", "all"])
def test_a_policy_that_is_younger_than_the_approval_holds(tmp_path, policy):
    asking = app(tmp_path, Autonomy(always_ask=("x",)))
    waiting = asking.run(1, seed=1, progress=False)
    asking.answer(waiting.approval.approval_id, "approve", by="Ada")
    resumed = app(tmp_path, policy)
    resumed.resume(waiting.run_id, progress=False)
    assert resumed.genes["x"] == 0.1
    assert "lost" in kinds(resumed, waiting.run_id)
    assert "applied" not in kinds(resumed, waiting.run_id)


def test_genes_that_were_rolled_back_are_never_live_again_without_a_person(tmp_path):
    evolution = app(tmp_path)
    serve(evolution, mean=5.0)
    first = evolution.run(1, seed=1, progress=False)
    assert first.dna_generation == 1
    serve(evolution, mean=1.0)
    assert evolution.dna.generation == 2, "rolled back"
    again = evolution.run(1, seed=1, progress=False)
    assert again.status == "waiting"
    assert "rolled back" in again.approval.question["why"]
    assert evolution.genes["x"] == 0.1


def test_a_change_is_compared_with_the_newest_genes_that_met_enough_people(tmp_path):
    evolution = app(tmp_path)
    serve(evolution, mean=5.0)
    start = dict(evolution.genes)
    result = evolution.run(3, seed=1, progress=False)
    assert result.dna_generation >= 2, "promoted more than once, and nobody was served between"
    serve(evolution, mean=1.0, count=100)
    assert dict(evolution.genes) == start
    [restored] = evolution.store.recent("climber", ["restored"], limit=9)
    assert restored.data["to"] == 0


@pytest.mark.parametrize("pattern", ["y", "category:safty", "category:language*", "", "*x"])
@pytest.mark.parametrize("rule", ["never", "always_ask"])
def test_a_policy_that_can_hold_for_nothing_is_refused(tmp_path, rule, pattern):
    with pytest.raises(InvalidSetting, match="which is no gene"):
        app(tmp_path, Autonomy(**{rule: (pattern,)}))


def test_policies_for_genes_and_categories_that_exist_are_taken(tmp_path):
    rules = ("x", "x*", "*", "category:language expansion", "category:own")
    assert app(tmp_path, Autonomy(always_ask=rules), categories=["own"]).genes["x"] == 0.1


@pytest.mark.parametrize(("verdict", "by"), [("yes", "Ada"), ("approve", None), ("approve", "  "), ("approve", 3)])
def test_an_answer_that_is_none_is_refused_and_changes_nothing(tmp_path, verdict, by):
    asking = app(tmp_path, Autonomy(always_ask=("x",)))
    waiting = asking.run(1, seed=1, progress=False)
    with pytest.raises(UsageError):
        asking.answer(waiting.approval.approval_id, verdict, by=by)
    assert [approval.status for approval in asking.approvals()] == ["pending"]


def test_names_and_reasons_go_on_record_without_control_characters(tmp_path):
    evolution = app(tmp_path)
    assert evolution.run(1, seed=1, progress=False).dna_generation == 1
    evolution.rollback(0, by="Eve\x1b[31m\nroot", why="\x1b[2Jgone")
    [event] = evolution.store.recent("climber", ["restored"], limit=1)
    assert (event.actor, event.why) == ("Eve [31m root", "[2Jgone")
    with pytest.raises(UsageError, match="characters long"):
        evolution.rollback(1, by="x" * 10_000)
