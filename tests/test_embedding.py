"""The compiled graph inside graphs and programs of the application's own."""

import asyncio
from itertools import pairwise
from typing import Annotated
from uuid import uuid4

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command
from typing_extensions import TypedDict

from bedrock_evolution import Autonomy, Evolution, EvolutionResult, Progress, UsageError, number

ADA = {"verdict": "approve", "by": "Ada", "why": "looks right"}


class Journey(TypedDict, total=False):
    """The state of an application's graph, which shares keys with ours."""

    visited: Annotated[list[str], lambda old, new: [*old, *new]]
    run_id: str
    generations: int
    seed: int
    status: str
    summary: dict


@pytest.fixture
def make(tmp_path):
    """Return a factory of small applications; all of one test share a store."""

    def evolution(**options) -> Evolution:
        return Evolution(
            app="embedded",
            genes={"x": number(0.1, low=0.0, high=1.0), "y": number(0.9, low=0.0, high=1.0)},
            **{"evaluate": lambda genes, _: 2 - abs(genes["x"] - 0.7) - abs(genes["y"] - 0.2)} | options,
            cases=["one"],
            model="local",
            store=f"sqlite:///{tmp_path / 'store.db'}",
        )

    return evolution


@pytest.fixture
def evolution(make):
    return make()


@pytest.fixture
def asking(make):
    return make(autonomy=Autonomy(always_ask=("*",)))


def around(node, checkpointer):
    """Return an application's graph with a node in its middle."""
    graph = StateGraph(Journey)
    graph.add_node("before", lambda _: {"visited": ["before"]})
    graph.add_node("evolve", node)
    graph.add_node("after", lambda state: {"visited": [f"after {state['status']}"]})
    for step in pairwise([START, "before", "evolve", "after", END]):
        graph.add_edge(*step)
    return graph.compile(checkpointer=checkpointer)


def as_node(evolution, checkpointer=None):
    """Use the graph itself as a node; state is shared by the names of its keys."""
    return around(evolution.graph, checkpointer)


def as_call(evolution, checkpointer=None):
    """Call the graph in a node; the node says what goes in and what comes out."""

    def evolve(state: Journey) -> Journey:
        told = evolution.graph.invoke({"generations": state["generations"], "seed": state["seed"]})
        return {"summary": told["summary"], "status": told["status"]}

    return around(evolve, checkpointer)


def as_awaited_call(evolution, checkpointer=None):
    """Await the graph in a node."""

    async def evolve(state: Journey) -> Journey:
        told = await evolution.graph.ainvoke({"generations": state["generations"], "seed": state["seed"]})
        return {"summary": told["summary"], "status": told["status"]}

    return around(evolve, checkpointer)


@pytest.fixture(params=[as_node, as_call], ids=["as a node", "called in a node"])
def embedded(request):
    return request.param


@pytest.fixture(params=[as_node, as_awaited_call], ids=["as a node", "awaited in a node"])
def aembedded(request):
    return request.param


@pytest.fixture(params=[None, InMemorySaver], ids=["no checkpointer", "checkpointer"])
def checkpointer(request):
    return request.param and request.param()


class Heart:
    """Beats as long as the event loop turns."""

    def __init__(self) -> None:
        self.beats = 0

    async def beat(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(0.005)
            self.beats += 1


@pytest.fixture
async def heart():
    beating = Heart()
    task = asyncio.create_task(beating.beat())
    yield beating
    task.cancel()


def thread():
    return {"configurable": {"thread_id": str(uuid4())}}


def check(journey, evolution):
    assert journey["visited"] == ["before", "after done"]
    assert journey["status"] == "done"
    summary = journey["summary"]
    assert summary["generations"] == 4
    assert summary["fitness"] > summary["baseline_fitness"]
    assert summary["dna_checksum"] == evolution.dna.checksum
    assert evolution.genes["x"] != 0.1 or evolution.genes["y"] != 0.9
    assert [run.status for run in evolution._services.journal.runs("embedded")] == ["done"]


def test_the_graph_runs_in_another_graph(embedded, evolution, checkpointer):
    journey = embedded(evolution, checkpointer).invoke({"visited": [], "generations": 4, "seed": 1}, thread())
    check(journey, evolution)


async def test_the_graph_runs_in_another_graph_without_blocking_its_loop(aembedded, evolution, checkpointer, heart):
    journey = await aembedded(evolution, checkpointer).ainvoke({"visited": [], "generations": 4, "seed": 1}, thread())
    check(journey, evolution)
    assert heart.beats > 3


def test_an_embedded_run_is_the_run_of_evolution_itself(embedded, evolution, make, tmp_path):
    alone = make().using(store=f"sqlite:///{tmp_path / 'alone.db'}").run(4, seed=1)
    journey = embedded(evolution).invoke({"visited": [], "generations": 4, "seed": 1})
    assert journey["summary"]["dna_checksum"] == alone.dna_checksum
    assert journey["summary"]["evaluations"] == alone.evaluations


def test_an_approval_inside_is_answered_through_the_parent(embedded, asking):
    graph, config = embedded(asking, InMemorySaver()), thread()
    journey = graph.invoke({"visited": [], "generations": 1, "seed": 1}, config)
    [question] = journey["__interrupt__"]
    changes = question.value["changes"]
    assert changes
    assert asking.dna.generation == 0

    journey = graph.invoke(Command(resume=ADA), config)
    assert journey["visited"] == ["before", "after done"]
    assert asking.dna.generation == 1
    for gene, change in changes.items():
        assert asking.genes[gene] == change["to"]
    [approval] = asking.approvals(pending_only=False)
    assert (approval.status, approval.by, approval.why) == ("approved", "Ada", "looks right")
    assert approval.approval_id == question.value["approval_id"]


async def test_an_approval_inside_is_rejected_through_the_parent_asynchronously(aembedded, asking):
    graph, config = aembedded(asking, InMemorySaver()), thread()
    await graph.ainvoke({"visited": [], "generations": 1, "seed": 1}, config)
    journey = await graph.ainvoke(Command(resume=ADA | {"verdict": "reject"}), config)
    assert journey["visited"] == ["before", "after done"]
    assert asking.dna.generation == 0
    [approval] = asking.approvals(pending_only=False)
    assert (approval.status, approval.by) == ("rejected", "Ada")


def test_an_answer_that_is_no_verdict_is_asked_again_with_the_problem(asking):
    graph, config = as_node(asking, InMemorySaver()), thread()
    graph.invoke({"visited": [], "generations": 1, "seed": 1}, config)
    [again] = graph.invoke(Command(resume="go on"), config)["__interrupt__"]
    assert "'go on' is no verdict" in again.value["problem"]
    [nameless] = graph.invoke(Command(resume={"verdict": "approve"}), config)["__interrupt__"]
    assert "the name of the person" in nameless.value["problem"]
    assert asking.dna.generation == 0
    assert graph.invoke(Command(resume=ADA), config)["status"] == "done"
    assert asking.dna.generation == 1


def test_an_approval_given_elsewhere_resumes_the_parent(embedded, asking):
    graph, config = embedded(asking, InMemorySaver()), thread()
    graph.invoke({"visited": [], "generations": 1, "seed": 1}, config)
    [approval] = asking.approvals()
    asking.answer(approval.approval_id, "approve", by="Grace")
    # Whatever the parent is resumed with, the first answer stands.
    graph.invoke(Command(resume=ADA | {"verdict": "reject"}), config)
    assert asking.dna.generation == 1
    [approval] = asking.approvals(pending_only=False)
    assert approval.by == "Grace"


def test_a_parent_evolves_again_on_the_same_thread(evolution):
    graph, config = as_node(evolution, InMemorySaver()), thread()
    first = graph.invoke({"visited": [], "generations": 2, "seed": 1}, config)["summary"]
    second = graph.invoke({"visited": [], "generations": 2, "seed": 2, "run_id": ""}, config)["summary"]
    assert second["run_id"] != first["run_id"]
    assert second["baseline_fitness"] == first["fitness"]


def test_a_broken_evaluator_of_an_embedded_run_ends_the_run_and_not_the_parent(make):
    poor = make(evaluate=lambda genes, _: "none")
    journey = as_node(poor).invoke({"visited": [], "generations": 1})
    assert journey["status"] == "failed"
    assert journey["visited"] == ["before", "after failed"]


def test_the_graph_alone_needs_no_input(evolution):
    assert evolution.graph.invoke({})["status"] == "done"


def test_stream_tells_every_step_and_ends_with_the_result(evolution):
    *steps, result = evolution.stream(3, seed=1)
    assert all(isinstance(step, Progress) for step in steps)
    assert isinstance(result, EvolutionResult)
    assert {"observe", "advise", "trial", "decide", "report"} <= {step.step for step in steps}
    assert [step.generation for step in steps] == sorted(step.generation for step in steps)
    assert steps[-1].evaluations == result.evaluations
    assert steps[-1].trials == result.trials
    assert {step.run_id for step in steps} == {result.run_id}


async def test_astream_tells_what_stream_tells(evolution, make, tmp_path):
    other = make().using(store=f"sqlite:///{tmp_path / 'other.db'}")
    told = [item async for item in evolution.astream(3, seed=1)]
    expected = list(other.stream(3, seed=1))
    assert [getattr(item, "step", None) for item in told] == [getattr(item, "step", None) for item in expected]
    assert told[-1].dna_checksum == expected[-1].dna_checksum


async def test_arun_returns_the_result_while_the_loop_goes_on(evolution, heart):
    result = await evolution.arun(3, seed=1)
    assert result.status == "done"
    assert result.dna_checksum == evolution.dna.checksum
    assert heart.beats > 3


async def test_run_works_inside_a_running_loop(evolution):
    assert evolution.run(3, seed=1).status == "done"


async def test_run_works_inside_a_running_loop_with_an_async_evaluator(make):
    async def score(genes, _):
        await asyncio.sleep(0)
        return 1 - abs(genes["x"] - 0.7)

    result = make(evaluate=score).run(2, seed=1)
    assert result.status == "done"
    assert result.fitness > result.baseline_fitness


async def test_errors_reach_the_caller_of_astream_and_arun(evolution):
    with pytest.raises(UsageError, match="generations=0"):
        await evolution.arun(0)
    with pytest.raises(UsageError, match="generations=0"):
        await anext(evolution.astream(0))


def test_a_stream_that_is_left_early_can_be_resumed(evolution):
    steps = evolution.stream(3, seed=1)
    run_id = next(steps).run_id
    steps.close()
    [record] = evolution._services.journal.runs("embedded")
    assert (record.run_id, record.status) == (run_id, "interrupted")
    assert evolution.resume(run_id).status == "done"


def test_stop_ends_a_stream_after_its_step(evolution):
    items = []
    for item in evolution.stream(5, seed=1):
        items.append(item)
        if len(items) == 2:
            evolution.stop()
    assert items[-1].status == "interrupted"
    assert evolution.resume(items[-1].run_id).status == "done"


def test_stop_before_the_first_step_stops_too(evolution):
    steps = evolution.stream(2, seed=1)
    evolution.stop()
    assert list(steps)[-1].status == "interrupted"


def test_the_live_genes_are_read_anew(evolution):
    before = dict(evolution.genes)
    result = evolution.run(4, seed=1)
    assert dict(evolution.genes) == before | {change.gene: change.after for change in result.changes}
    assert result.changes
