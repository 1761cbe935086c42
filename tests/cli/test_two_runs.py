"""Two runs on one application at once: the second loses its compare-and-set cleanly, reads again, loses nothing."""

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from bedrock_evolution import Evolution, SQLiteDNAStore, number
from bedrock_evolution.dna.database import Database
from bedrock_evolution.governance.audit import verify
from tests.apps import APPS
from tests.cli.command import Running

CLIMBER = f"{APPS / 'climber.py'}:evolution"
STORE = ["--store", "sqlite:///store.db"]


@pytest.fixture
def climber(tmp_path):
    """Return a factory of one application on one store, as two processes would each have it."""

    def evolution() -> Evolution:
        return Evolution(
            app="climber",
            genes={"x": number(0.1, low=0.0, high=1.0), "y": number(0.9, low=0.0, high=1.0)},
            evaluate=lambda genes, _: 2 - abs(genes["x"] - 0.7) - abs(genes["y"] - 0.2),
            cases=["one"],
            model="local",
            store=f"sqlite:///{tmp_path / 'store.db'}",
        )

    return evolution


def test_the_run_that_comes_second_loses_its_compare_and_set_and_goes_on_from_the_new_dna(climber):
    slow, quick = climber(), climber()
    steps = slow.stream(6, seed=1)
    for step in steps:
        if step.step == "decide":
            break
    # While the first has decided and not yet applied, the other changes the live DNA.
    won = quick.run(3, seed=2, progress=False)
    assert won.dna_generation > 0
    *_, late = steps
    assert late.status == "done"
    assert late.fitness >= won.fitness

    store = slow.store
    [lost] = [event for event in store.events("climber") if event.kind == "lost"]
    assert (lost.run_id, lost.data["decision"]["verdict"]) == (late.run_id, "APPROVE")
    assert "another run changed it" in lost.why
    applied = [event for event in store.events("climber") if event.kind == "applied"]
    assert len(applied) == slow.dna.generation
    assert verify(store, "climber").intact
    for result in (won, late):
        report = slow.replay(result.run_id)
        assert report.identical, report.difference


def test_two_runs_that_apply_the_same_mutation_are_both_on_record(climber):
    slow, quick = climber(), climber()
    steps = slow.stream(2, seed=1)
    for step in steps:
        if step.step == "decide":
            break
    quick.run(1, seed=1, progress=False)
    *_, late = steps
    told = {event.generation for event in slow.store.events("climber") if event.run_id == late.run_id}
    assert told == {None, 1, 2}, "None is that of the event it begins with"


def test_two_runs_at_once_lose_nothing(cli, tmp_path):
    both = [
        Running(tmp_path, "run", CLIMBER, "--generations", "12", "--seed", str(seed), "--json", *STORE)
        for seed in (1, 2)
    ]
    answers = [running.end() for running in both]
    assert [answer.code for answer in answers] == [0, 0], [answer.err for answer in answers]

    assert cli("audit", "verify", *STORE).out.startswith("intact: ")
    status = cli("status", "--json", *STORE).json
    results = [answer.json for answer in answers]
    assert {run["run_id"] for run in status["runs"]} == {result["run_id"] for result in results}
    generations = cli("history", "--limit", "100", "--json", *STORE).json["generations"]
    fitnesses = [row["fitness"] for row in reversed(generations) if row["fitness"] is not None]
    assert fitnesses == sorted(fitnesses), "a promotion made the live DNA worse"
    lines = [json.loads(line) for line in cli("audit", "export", *STORE).out.splitlines()]
    events = [line for line in lines if "kind" in line]
    # Both runs may propose the very same mutation of the same DNA: it is applied once, and on record for each.
    applied = {event["data"]["dna"] for event in events if event["kind"] == "applied"}
    assert len(applied) == len(generations) - 1
    for result in results:
        told = {event["generation"] for event in events if event["run_id"] == result["run_id"]}
        assert told == {None, *range(1, 13)}
        assert cli("audit", "replay", result["run_id"], *STORE).code == 0


def test_a_new_store_is_opened_by_several_at_the_same_moment(tmp_path):
    for turn in range(60):
        barrier = Barrier(4)

        def opened(path=tmp_path / f"{turn}.db", barrier=barrier):
            barrier.wait()
            return SQLiteDNAStore(Database(path)).apps()

        with ThreadPoolExecutor(4) as pool:
            assert [future.result() for future in [pool.submit(opened) for _ in range(4)]] == [[]] * 4
