"""Checkpoints in DynamoDB and S3: whole or not there, the same as in the work file, and gone on from after a kill."""

from __future__ import annotations

import base64
import json
import logging
import random
import subprocess
import sys
import time
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from pathlib import Path

import boto3
import ormsgpack
import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.jsonplus import EXT_CONSTRUCTOR_SINGLE_ARG, JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Interrupt, interrupt
from typing_extensions import TypedDict

from bedrock_evolution import Autonomy, UsageError
from bedrock_evolution.clock import CountedIds, FixedClock
from bedrock_evolution.dna.aws.calls import Clients
from bedrock_evolution.dna.database import Database
from bedrock_evolution.errors import IntegrityError, InvalidSetting, StoreError, StoreUnavailable
from bedrock_evolution.graph.checkpoints import open_checkpointer
from bedrock_evolution.graph.cloud_checkpoints import CheckpointPlace, open_cloud_checkpointer, prepare_checkpoints
from bedrock_evolution.graph.replay import replay
from bedrock_evolution.running import Runner
from tests.garden import garden
from tests.support.cloud import REGIONS, make, session
from tests.support.moto_server import moto_server

pytestmark = pytest.mark.slow

REGION = REGIONS[0]
ONE, OTHER, NEXT = "checkpoint-1", "checkpoint-2", "checkpoint-3"
_TABLES = count(1)


@pytest.fixture(scope="module")
def server():
    with moto_server() as running:
        yield running


@pytest.fixture(scope="module")
def shared():
    """Make one session: each loads the descriptions of the services anew, which takes longer than these tests do."""
    return session()


class Scene:
    """A table and a bucket of their own, and a work file."""

    def __init__(self, url_of_server: str, shared: boto3.Session, folder: Path) -> None:
        self.session, self.endpoint = (lambda: shared), url_of_server
        self.bucket = self.table = f"checkpoints-{next(_TABLES)}"
        self.url = f"dynamodb://{self.table}?region={REGION}&bucket={self.bucket}&prefix=prod/app"
        self.database = Database(folder / "work.db")
        clients = self.clients()
        self.s3, self.dynamodb = clients.client("s3", REGION), clients.client("dynamodb", REGION)
        self.s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        prepare_checkpoints(self.url, clients)

    def clients(self, **options) -> Clients:
        return Clients(self.session, {REGION: self.endpoint}, **options)

    def saver(self, *, more: str = "", **options):
        return open_cloud_checkpointer(self.url + more, self.clients(**options), self.database)

    def items(self) -> list[dict]:
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=self.table)
        return [item for page in pages for item in page["Items"]]

    def objects(self) -> list[str]:
        return [each["Key"] for each in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])]

    def delete_object(self, key: str) -> None:
        self.s3.delete_object(Bucket=self.bucket, Key=key)

    def alter(self, pk: str, sk: str, name: str, value: dict) -> None:
        self.dynamodb.update_item(
            TableName=self.table,
            Key={"PK": {"S": pk}, "SK": {"S": sk}},
            UpdateExpression="SET #n = :v",
            ExpressionAttributeNames={"#n": name},
            ExpressionAttributeValues={":v": value},
        )


@pytest.fixture
def scene(server, shared, tmp_path):
    made = Scene(server.url, shared, tmp_path)
    yield made
    made.database.close()


def at(thread="run-1", checkpoint_id=None):
    within = {"thread_id": thread, "checkpoint_ns": ""}
    return {"configurable": within | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}


def put(saver, checkpoint_id=ONE, parent=None, **values):
    checkpoint = empty_checkpoint() | {"id": checkpoint_id, "channel_values": values}
    return saver.put(at(checkpoint_id=parent), checkpoint, {"source": "loop", "step": 1, "parents": {}}, {})


def large(seed=1):
    return base64.b64encode(random.Random(seed).randbytes(900_000)).decode()


def on(app, open_saver):
    """Let an application keep its checkpoints elsewhere than in its work file."""
    app.__dict__["_runner"] = Runner(app._services, open_saver)
    return app


def in_cloud(app, scene, **options):
    return on(app, lambda: open_cloud_checkpointer(scene.url, scene.clients(**options), app._database))


# -- the same as any other saver


@pytest.mark.slow
async def test_langgraphs_own_conformance_suite_is_passed(scene):
    conformance = pytest.importorskip("langgraph.checkpoint.conformance")

    @conformance.checkpointer_test(name="DynamoDB")
    async def made():
        yield scene.saver()

    report = await conformance.validate(made)
    report.print_report()
    assert report.passed_all_base()


def steps_of(app, run_id):
    """Return the history of a run, oldest first, without ids and times that differ from run to run."""
    graph, seen = app._runner.graph, []
    for state in reversed(list(graph.get_state_history({"configurable": {"thread_id": run_id}}))):
        tasks = [(task.name, [pause.value for pause in task.interrupts]) for task in state.tasks]
        seen.append((state.values, state.next, state.metadata, tasks, state.parent_config is not None))
    return json.loads(json.dumps(seen))


def test_a_run_leaves_the_same_history_as_with_its_checkpoints_in_the_work_file(scene, tmp_path):
    told = {}
    for kind in ("store", "cloud"):
        (tmp_path / kind).mkdir()
        clock = FixedClock(datetime(2026, 1, 1, tzinfo=UTC))
        options = {"autonomy": Autonomy(always_ask=("*",)), "clock": clock, "ids": CountedIds()}
        app = garden(tmp_path / kind, **options)
        app = in_cloud(app, scene) if kind == "cloud" else on(app, lambda app=app: open_checkpointer(app._database))
        result = app.run(2, seed=5, progress=False)
        assert result.status == "waiting"
        histories = [steps_of(app, result.run_id)]
        while result.status == "waiting":
            app.answer(result.approval.approval_id, "approve", by="Ada")
            result = app.resume(result.run_id, progress=False)
        histories.append(steps_of(app, result.run_id))
        told[kind] = (histories, result.dna_checksum, app.audit().intact)
        app.close()
    assert told["cloud"] == told["store"]


def test_writes_keep_their_order_beyond_ten(scene):
    saver = scene.saver()
    put(saver)
    wrote = [(f"channel-{n}", n) for n in range(25)]
    saver.put_writes(at(checkpoint_id=ONE), wrote, "task-b", "~2")
    saver.put_writes(at(checkpoint_id=ONE), [("early", 1)], "task-c", "~1")
    found = scene.saver().get_tuple(at())
    assert found.pending_writes == [("task-c", "early", 1), *(("task-b", *each) for each in wrote)]


def test_the_first_writes_of_a_task_stay_a_longer_list_adds_and_special_ones_replace(scene, tmp_path):
    savers = [scene.saver(), open_checkpointer(Database(tmp_path / "other.db"))]
    pause = Interrupt(value={"ask": "?"}, id="i-1")
    for saver in savers:
        put(saver)
        for wrote in (
            [("a", 1), ("b", 2)],
            [("a", 1), ("b", 2)],
            [("a", 8), ("b", 9)],
            [("a", 8), ("b", 9), ("c", 3)],
            [("__interrupt__", [pause])],
            [("__resume__", ["no"])],
            [("__interrupt__", [pause]), ("__resume__", ["yes"])],
            [("a", 7), ("b", 7), ("c", 7), ("d", 4), ("__resume__", ["late"])],
        ):
            saver.put_writes(at(checkpoint_id=ONE), wrote, "task")
    ours, theirs = (list(saver.get_tuple(at()).pending_writes) for saver in savers)
    assert ours == theirs
    assert ("task", "c", 3) in ours
    assert ("task", "__resume__", ["yes"]) in ours
    savers[1].conn.close()


def test_threads_store_their_writes_at_once(scene):
    saver = scene.saver()
    put(saver)

    def work(number):
        saver.put_writes(at(checkpoint_id=ONE), [("x", number), ("y", number)], f"task-{number:02d}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(24)))
    wrote = saver.get_tuple(at()).pending_writes
    assert wrote == [(f"task-{n:02d}", channel, n) for n in range(24) for channel in ("x", "y")]


# -- whole or not there


class State(TypedDict, total=False):
    a: int
    b: int
    c: int
    d: int
    answered: list
    seen: list


NODES = {
    "write": lambda state: {"a": state["a"] + 1, "b": 2, "c": 3, "d": 4},
    "see": lambda state: {"seen": [state.get(name) for name in "abcd"]},
    "ask": lambda state: {"answered": [interrupt("first?"), interrupt("second?")]},
}


def little_graph(saver, nodes):
    graph = StateGraph(State)
    for name in nodes:
        graph.add_node(name, NODES[name])
    for before, after in pairwise([START, *nodes, END]):
        graph.add_edge(before, after)
    return graph.compile(checkpointer=saver)


class CutOff(Clients):
    """Clients that reach nothing any more from a certain request that writes on, as when a process is killed there."""

    writes = 0
    last = 10**9
    __slots__ = ()

    def call(self, service, region, operation, **arguments):
        if operation in ("put_item", "put_object", "batch_write_item", "transact_write_items"):
            CutOff.writes += 1
            if CutOff.writes > CutOff.last:
                raise StoreUnavailable("cut off")
        return super().call(service, region, operation, **arguments)


def driven(scene, clients, nodes, thread):
    """Begin a graph, or go on with it where it is, and answer what it asks, until it ends."""
    graph = little_graph(open_cloud_checkpointer(scene.url, clients, scene.database), nodes)
    config = {"configurable": {"thread_id": thread}}
    while True:
        state = graph.get_state(config)
        if state.values and not state.tasks:
            return state.values
        asked = [pause.value for task in state.tasks for pause in task.interrupts]
        given = {"a": 0} if not state.values else Command(resume=ANSWERS[asked[0]]) if asked else None
        graph.invoke(given, config, durability="sync")


ANSWERS = {"first?": "one", "second?": "two"}


@pytest.mark.parametrize(
    ("nodes", "requests"),
    [(("write",), 8), pytest.param(("write", "ask", "see"), 18, marks=pytest.mark.slow)],
    ids=["step", "interrupts"],
)
def test_a_graph_cut_off_after_any_request_goes_on_as_if_it_never_was(scene, nodes, requests):
    whole = driven(scene, scene.clients(), nodes, "whole")
    assert [whole.get(name) for name in "abcd"] == [1, 2, 3, 4]
    for last in count():
        CutOff.writes, CutOff.last = 0, last
        cut_off = CutOff(scene.session, {REGION: scene.endpoint})
        try:
            assert driven(scene, cut_off, nodes, f"cut-{last}") == whole
            break
        except StoreUnavailable:
            assert driven(scene, scene.clients(), nodes, f"cut-{last}") == whole, last
    assert last >= requests


def test_what_a_checkpoint_takes_up_is_forgotten_and_a_run_grows_by_two_items_a_step(scene, tmp_path):
    app = in_cloud(garden(tmp_path), scene)
    run = app.run(3, seed=5, progress=False)
    steps = len(steps_of(app, run.run_id))
    kinds = Counter(item["PK"]["S"].partition("_")[0] for item in scene.items())
    # A step's writes and the checkpoint after it are stored by two threads: a few may come after it, and stay.
    assert kinds.pop("WRITES", 0) <= steps
    assert kinds == {"CHECKPOINT": steps, "CHUNK": steps}
    app.close()


def test_commit_points_are_told_before_and_after(scene):
    told = []
    scene.database.reached = lambda point, moment: told.append((point, moment))
    saver = scene.saver()
    put(saver)
    saver.put_writes(at(checkpoint_id=ONE), [("a", 1)], "task")
    points = ("checkpoint.put", "checkpoint.writes")
    assert told == [(point, moment) for point in points for moment in ("before", "after")]


def test_what_a_checkpoint_refers_to_is_sent_before_it(scene):
    seen = []

    def send(run_id):
        assert run_id == "run-1"
        seen.append(len(scene.items()))
        if len(seen) == 2:
            raise StoreUnavailable("the records cannot be sent")

    saver = open_cloud_checkpointer(scene.url, scene.clients(), scene.database, before_put=send)
    put(saver, ONE)
    with pytest.raises(StoreUnavailable, match="records"):
        put(saver, OTHER, ONE)
    assert seen == [0, 2]
    assert len(scene.items()) == 2


# -- large payloads


def test_what_is_too_large_for_an_item_lies_in_the_bucket(scene):
    saver = scene.saver()
    put(saver, ONE, text=large(1))
    saver.put_writes(at(checkpoint_id=ONE), [("text", large(2)), ("x", 1)], "task")
    assert len(scene.objects()) == 2
    assert all(key.startswith("prod/app/checkpoints/run-1/run/checkpoint-1") for key in scene.objects())
    assert all(len(json.dumps(item, default=str)) < 2_000 for item in scene.items())
    found = scene.saver().get_tuple(at())
    assert found.checkpoint["channel_values"] == {"text": large(1)}
    assert found.pending_writes == [("task", "text", large(2)), ("task", "x", 1)]
    put(saver, OTHER, ONE, text="small")
    assert len(scene.objects()) == 1, "what was taken up is forgotten there too"
    saver.delete_thread("run-1")
    assert (scene.objects(), scene.items()) == ([], [])


def test_without_its_payload_the_newest_checkpoint_is_passed_over_and_named(scene, caplog):
    saver = scene.saver()
    put(saver, ONE, n=1)
    saver.put_writes(at(checkpoint_id=ONE), [("n", 2)], "task")
    put(saver, OTHER, ONE, n=2, text=large())
    [key] = scene.objects()
    scene.delete_object(key)
    with caplog.at_level(logging.WARNING, "bedrock_evolution"):
        found = scene.saver().get_tuple(at())
    assert found.checkpoint["channel_values"] == {"n": 1}
    assert "checkpoint-2" in caplog.text
    assert [each.checkpoint["id"] for each in saver.list(at())] == [ONE]
    with pytest.raises(StoreError, match="what checkpoint checkpoint-2 of run run-1 holds is missing"):
        saver.get_tuple(at(checkpoint_id=OTHER))


def test_a_run_whose_every_payload_is_missing_does_not_begin_anew(scene):
    saver = scene.saver()
    put(saver, ONE, text=large())
    scene.delete_object(scene.objects()[0])
    with pytest.raises(StoreError, match="is missing"):
        saver.get_tuple(at())
    assert saver.get_tuple(at("run-2")) is None


# -- nothing but our own is read


def test_a_class_in_a_checkpoint_is_refused_and_not_imported(scene, tmp_path):
    saver, mark = scene.saver(), tmp_path / "made by whoever may write to the table"
    put(saver, ONE, n=1)
    call = ormsgpack.Ext(EXT_CONSTRUCTOR_SINGLE_ARG, ormsgpack.packb(("os", "mkdir", str(mark))))
    hostile = ormsgpack.packb({"checkpoint": {"id": ONE, "channel_values": {"n": call}}, "metadata": {}})
    JsonPlusSerializer(allowed_msgpack_modules=True).loads_typed(("msgpack", hostile))
    assert mark.exists(), "this is what LangGraph's serializer does by default"
    mark.rmdir()
    scene.alter(f"CHUNK_run-1##{ONE}", "CHUNK", "payload", {"B": zlib.compress(hostile)})
    for read in (lambda: saver.get_tuple(at()), lambda: list(saver.list(at()))):
        with pytest.raises(IntegrityError, match=r"run run-1 .* cannot be read: .* other things than JSON"):
            read()
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("payload", {"B": b"no zlib"}, "decompressing"),
        ("payload", {"B": zlib.compress(b"\xc1")}, "other things than JSON"),
        ("type", {"S": "json"}, "packed as 'json'"),
        ("type", {"S": "pickle+zlib"}, "packed as 'pickle"),
        ("compression", {"S": "gzip"}, "gzip"),
    ],
)
def test_what_was_altered_is_refused(scene, name, value, told):
    saver = scene.saver()
    put(saver, ONE, n=1)
    key = (f"CHUNK_run-1##{ONE}", "CHUNK") if name == "payload" else ("CHECKPOINT_run-1", f"#{ONE}")
    scene.alter(*key, name, value)
    with pytest.raises(IntegrityError, match=f"(?s){told}"):
        saver.get_tuple(at())


def test_what_could_not_be_read_again_is_not_written(scene):
    with pytest.raises(TypeError, match="other things than JSON"):
        put(scene.saver(), ONE, when=timedelta(1))
    assert scene.items() == []


# -- how it calls


def test_reads_are_strongly_consistent(scene):
    clients, asked = scene.clients(), []
    saver = open_cloud_checkpointer(scene.url, clients, scene.database)
    events = clients.client("dynamodb", REGION).meta.events
    events.register("provide-client-params.dynamodb.*", lambda params, model, **_: asked.append((model.name, params)))
    put(saver, ONE, n=1)
    put(saver, OTHER, ONE, n=2)
    for config in (at(), at(checkpoint_id=ONE)):
        assert saver.get_tuple(config) is not None
    assert len(list(saver.list(at()))) == 2
    saver.delete_thread("run-1")
    reads = [(name, params) for name, params in asked if name in ("GetItem", "Query")]
    batches = [params for name, params in asked if name == "BatchGetItem"]
    assert {name for name, _ in reads} == {"GetItem", "Query"}
    assert all(params["ConsistentRead"] for _, params in reads)
    assert batches
    assert all(each["ConsistentRead"] for params in batches for each in params["RequestItems"].values())


@pytest.mark.parametrize("throttled", [1, 99])
def test_what_a_throttled_table_leaves_undone_is_asked_for_again_and_not_for_ever(scene, throttled):
    clients, left = scene.clients(clock=FixedClock(datetime(2026, 1, 1, tzinfo=UTC))), count(1)
    saver = open_cloud_checkpointer(scene.url, clients, scene.database)
    put(saver, ONE)

    def undone(parsed, **_):
        if next(left) <= throttled:
            key = {"PK": {"S": "CHECKPOINT_run-1"}, "SK": {"S": f"#{ONE}"}}
            parsed["UnprocessedItems"] = {scene.table: [{"DeleteRequest": {"Key": key}}]}

    clients.client("dynamodb", REGION).meta.events.register("after-call.dynamodb.BatchWriteItem", undone)
    if throttled == 1:
        saver.delete_thread("run-1")
        assert scene.items() == []
    else:
        with pytest.raises(StoreUnavailable, match=r"batch_write_item.* is throttled"):
            saver.delete_thread("run-1")
        assert next(left) == clients.attempts + 1


def test_a_region_that_hangs_is_told_within_the_timeouts(scene, server):
    saver = scene.saver(attempts=2, read_timeout_s=0.3, connect_timeout_s=0.3)
    put(saver)
    server.freeze()
    try:
        began = time.monotonic()
        for call in (lambda: put(saver, OTHER), lambda: saver.get_tuple(at()), lambda: next(saver.list(at()))):
            with pytest.raises(StoreUnavailable, match="resume it when its checkpoints can be reached"):
                call()
        assert time.monotonic() - began < 10
    finally:
        server.thaw()
    assert saver.get_tuple(at()).checkpoint["id"] == ONE


def test_a_run_stops_where_its_checkpoints_cannot_be_kept_and_goes_on_when_they_can(scene, server, tmp_path):
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = garden(tmp_path / "whole")
    wanted = whole.run(2, seed=5, progress=False)
    whole.close()
    app = in_cloud(garden(tmp_path / "cut"), scene, attempts=1, read_timeout_s=0.5, connect_timeout_s=0.5)
    stream = app.stream(2, seed=5)
    run_id = next(progress.run_id for progress in stream if progress.step == "trial")
    server.freeze()
    try:
        with pytest.raises(StoreUnavailable):
            list(stream)
    finally:
        server.thaw()
    assert app._services.journal.run(run_id).status == "failed"
    result = app.resume(run_id, progress=False)
    app.close()
    for name in ("status", "dna_checksum", "fitness", "test_fitness", "evaluations", "generations"):
        assert getattr(result, name) == getattr(wanted, name), name


def test_checkpoints_kept_elsewhere_are_not_taken_for_a_run_that_has_not_begun(scene, tmp_path):
    app = in_cloud(garden(tmp_path, autonomy=Autonomy(always_ask=("*",))), scene)
    run = app.run(3, seed=5, progress=False)
    assert run.status == "waiting"
    with pytest.raises(UsageError, match="are not where its checkpoints should be"):
        app.replay(run.run_id)
    app.close()
    with pytest.raises(UsageError, match="no checkpoint to go on from"):
        garden(tmp_path).resume(run.run_id, progress=False)


def test_a_replay_tells_a_checkpoint_that_is_missing_or_altered(scene, tmp_path):
    def opener():
        return open_cloud_checkpointer(scene.url, scene.clients(), app._database)

    app = on(garden(tmp_path), opener)
    run_id = app.run(3, seed=5, progress=False).run_id
    assert replay(app._database, run_id, opener).identical
    chunks = [item["PK"]["S"] for item in scene.items() if item["SK"]["S"] == "CHUNK"]
    lost, altered = sorted(chunks)[len(chunks) // 2 :][:2]
    scene.dynamodb.delete_item(TableName=scene.table, Key={"PK": {"S": lost}, "SK": {"S": "CHUNK"}})
    with pytest.raises(UsageError, match=f"not all checkpoints of run {run_id} are there"):
        replay(app._database, run_id, opener)
    scene.alter(altered, "CHUNK", "payload", {"B": b"not zlib"})
    with pytest.raises(IntegrityError, match=f"a checkpoint of run {run_id} .* cannot be read"):
        replay(app._database, run_id, opener)
    app.close()


def test_a_run_whose_first_checkpoints_have_expired_is_not_replayed(scene, tmp_path):
    def opener():
        return open_cloud_checkpointer(scene.url, scene.clients(), app._database)

    app = on(garden(tmp_path), opener)
    run_id = app.run(2, seed=5, progress=False).run_id
    pk = f"CHECKPOINT_{run_id}"
    first = min(item["SK"]["S"] for item in scene.items() if item["PK"]["S"] == pk)
    scene.dynamodb.delete_item(TableName=scene.table, Key={"PK": {"S": pk}, "SK": {"S": first}})
    with pytest.raises(UsageError, match=f"not all checkpoints of run {run_id} are there"):
        replay(app._database, run_id, opener)
    app.close()


# -- the place


def test_items_expire_after_the_days_that_were_asked_for(scene):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    saver = scene.saver(more="&ttl_days=3", clock=FixedClock(now))
    put(saver)
    saver.put_writes(at(checkpoint_id=ONE), [("a", 1)], "task")
    expires = str(int((now + timedelta(days=3)).timestamp()))
    assert [item["ttl"]["N"] for item in scene.items()] == [expires] * 3
    put(scene.saver(), NEXT)
    assert sum("ttl" not in item for item in scene.items()) == 2


def test_the_place_is_prepared_once_and_other_rules_of_the_bucket_stay(scene):
    s3 = scene.s3
    other = {"ID": "other", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 9}}
    s3.put_bucket_lifecycle_configuration(Bucket=scene.bucket, LifecycleConfiguration={"Rules": [other]})
    for days in (3, 4, 4):
        prepare_checkpoints(f"{scene.url}&ttl_days={days}", scene.clients())
    rules = s3.get_bucket_lifecycle_configuration(Bucket=scene.bucket)["Rules"]
    assert [(rule["Filter"]["Prefix"], rule["Expiration"]["Days"]) for rule in rules] == [
        ("logs/", 9),
        ("prod/app/checkpoints/", 4),
    ]
    told = scene.dynamodb.describe_time_to_live(TableName=scene.table)["TimeToLiveDescription"]
    assert (told["TimeToLiveStatus"], told["AttributeName"]) == ("ENABLED", "ttl")


def test_a_table_with_other_keys_is_refused(scene):
    table = f"{scene.table}-of-others"
    make("others", table, REGION, scene.endpoint)
    url = scene.url.replace(f"//{scene.table}", f"//{table}")
    with pytest.raises(StoreError, match="other keys than PK and SK"):
        prepare_checkpoints(url, scene.clients())


def test_a_missing_table_is_named(scene):
    saver = open_cloud_checkpointer(scene.url.replace(f"//{scene.table}", "//nowhere"), scene.clients(), scene.database)
    with pytest.raises(StoreError, match="dynamodb in eu-central-1"):
        saver.get_tuple(at())


def test_the_setting_is_read():
    place = CheckpointPlace.parse("dynamodb://runs?region=eu-west-1&bucket=my-bucket&prefix=/prod/&ttl_days=30")
    assert place == CheckpointPlace("runs", "eu-west-1", "my-bucket", "prod", 30)
    assert place.folder == "prod/checkpoints"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:///x.db", "does not begin with"),
        ("dynamodb://runs/more?region=eu-west-1&bucket=bucket&prefix=p", "does not begin with"),
        ("dynamodb://runs?region=eu-west-1&prefix=p", "its bucket ''"),
        ("dynamodb://runs?bucket=bucket&prefix=p", "its region ''"),
        ("dynamodb://runs?region=eu-west-1&bucket=bucket", "its prefix ''"),
        ("dynamodb://r?region=eu-west-1&bucket=bucket&prefix=p", "its table 'r'"),
        ("dynamodb://runs?region=eu-west-1&bucket=bucket&prefix=p&ttl_days=0", "its ttl_days '0'"),
        ("dynamodb://runs?region=eu-west-1&bucket=bucket&prefix=p&ttl=3", "'ttl' is no part of it"),
    ],
)
def test_a_setting_that_names_no_place_is_refused(url, told):
    with pytest.raises(InvalidSetting, match=told):
        CheckpointPlace.parse(url)


def test_without_the_extra_the_message_names_it(scene, monkeypatch):
    for module in ("dynamodb_saver", "dynamodb_repository"):
        monkeypatch.delitem(sys.modules, f"bedrock_evolution.graph.{module}", raising=False)
    for module in [name for name in sys.modules if name.startswith("langgraph_checkpoint_aws")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "langgraph_checkpoint_aws", None)
    with pytest.raises(InvalidSetting, match=r"bedrock-evolution\[aws\]"):
        scene.saver()


# -- kill and resume


@pytest.fixture(scope="module")
def told(server, shared, tmp_path_factory):
    scene = Scene(server.url, shared, root := tmp_path_factory.mktemp("kill"))
    scene.database.close()
    driver = subprocess.run(
        [sys.executable, "-m", "tests.graph.cloud_kill_driver", str(root), scene.url, REGION, server.url, "6"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert driver.returncode == 0, driver.stderr
    return json.loads(driver.stdout)


@pytest.mark.slow
def test_kills_hit_every_kind_of_request(told):
    killed = [run for run in told["runs"] if run["killed"]]
    assert len(killed) >= 12
    assert len({run["before"] % 4 for run in killed if run["before"]}) == 4, "a step makes about four"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["status", "dna", "test_fitness", "evaluations", "trials", "events"])
def test_resumed_run_is_identical_to_one_never_killed(told, what):
    assert told["whole"]["status"] == "done"
    for run in told["runs"]:
        assert run["resumed"]
        assert run[what] == told["whole"][what]
