"""Least privilege: what the policy of a cloud store allows is what a running application does with it, and no more.

Everything happens in this process, with sessions that take down each call and what it needs. Both regions are one
emulator, so that the signing key is in both as a key of several regions is, behind a proxy each, so that one can be
away.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint

from bedrock_evolution import Autonomy, Evolution, EvolutionResult
from bedrock_evolution.bedrock.models.prices import Tokens
from bedrock_evolution.bedrock.money.ledger import Hold
from bedrock_evolution.bedrock.routing.task import TaskContext
from bedrock_evolution.clock import RandomIds, SystemClock
from bedrock_evolution.dna.aws.calls import Clients
from bedrock_evolution.dna.aws.promotion import promote
from bedrock_evolution.dna.aws.record import Record
from bedrock_evolution.dna.aws.setup.blueprint import Blueprint
from bedrock_evolution.dna.aws.setup.cloud_setup import CloudSetup
from bedrock_evolution.dna.aws.stored import event_sk
from bedrock_evolution.dna.cloud import CloudDNAStore
from bedrock_evolution.dna.database import Database
from bedrock_evolution.errors import StoreError
from bedrock_evolution.graph.cloud_checkpoints import open_cloud_checkpointer, prepare_checkpoints
from bedrock_evolution.settings import Budget
from tests.cloud_garden import SEED, cloud_garden
from tests.support.cloud import REGIONS, Cloud, make
from tests.support.faulty_proxy import FaultyProxy
from tests.support.moto_server import moto_server
from tests.support.permissions import Permission, Recorder, allowed
from tests.test_floors import ROOT

HOME, OTHER = REGIONS
APP = "garden"
RETAIN_DAYS = 400
ROLE = "arn:aws:iam::123456789012:role/replication"
PLACE = f"s3://least/prod?table=least&region={HOME}&replica={OTHER}:least-copy"
ASKING = Autonomy(engine_above=0.0, ask_above=0.0)

Machine = Callable[..., Evolution]
Proxies = dict[str, FaultyProxy]


@pytest.fixture(scope="module")
def proxies() -> Iterator[Proxies]:
    with moto_server() as server, FaultyProxy(server.url) as home, FaultyProxy(server.url) as other:
        yield {HOME: home, OTHER: other}


@pytest.fixture
def there(proxies: Proxies) -> Cloud:
    made = Cloud(PLACE, {region: proxy.url for region, proxy in proxies.items()})
    list(CloudSetup(made.clients(), made.place, Blueprint(audit_retain_days=RETAIN_DAYS), ROLE).apply())
    for site in made.place.sites:
        # It demands TLS, and the emulator has none.
        made.client("s3", site.region).delete_bucket_policy(Bucket=site.bucket)
    return made


@pytest.fixture
def recorder(there: Cloud) -> Recorder:
    return Recorder(there.place)


@pytest.fixture
def machine(there: Cloud, recorder: Recorder, tmp_path: Path) -> Iterator[Machine]:
    """Return what makes a machine with an empty disk."""
    made: list[Evolution] = []

    def new(name: str, **settings: object) -> Evolution:
        evolution = cloud_garden(
            tmp_path / name,
            there.url,
            regions=REGIONS,
            aws_endpoints=dict(there.endpoints),
            audit_retain_days=RETAIN_DAYS,
            metrics="cloudwatch",
            store_timeout_s=20.0,
            **settings,
        )
        evolution._opened.clients.session = recorder.session  # nothing was asked of it yet
        made.append(evolution)
        return evolution

    yield new
    for evolution in made:
        evolution.close()


@pytest.mark.slow
def test_what_the_application_may_do_is_exactly_what_it_does(
    there: Cloud, proxies: Proxies, recorder: Recorder, machine: Machine
) -> None:
    first = machine("first", autonomy=ASKING)
    waiting = run_through_an_outage(first, proxies[HOME])
    first.feedback("Name the plant.", source="a gardener")
    second = machine("second", autonomy=ASKING)
    answer_and_resume(second, waiting)
    second.record_outcome(0.5)
    second.flush_outcomes()
    assert second.replay(waiting).identical
    keep_books(second)
    second.rollback(0, by="a gardener", why="it was better")
    second.store.flush()
    altered(there)
    third = machine("third")
    generations = len(third.store.history(APP))
    assert third.audit().intact
    assert {event.kind for event in third.store.events(APP)} >= {"declared", "restored"}
    assert third.store.apps() == [APP]
    unaltered(there)
    proxies[HOME].down()
    promoted = promote(store_of(third), OTHER, by="a gardener", why="lost", confirm_lost=True, clock=SystemClock())
    assert (promoted.promotion.unreachable, promoted.recorded) == ((HOME,), (APP,))
    events = record_in(there, OTHER).head(APP).number
    fourth = machine("fourth")
    assert len(fourth.store.history(APP)) == generations
    fourth.feedback("It is dry here.", source="a gardener")
    proxies[HOME].up()
    fourth.store.flush()
    assert record_in(there, OTHER).head(APP).number == events + 1
    assert recorder.used == allowed(ROOT / "docs" / "cloud-policy.json")


def run_through_an_outage(evolution: Evolution, proxy: FaultyProxy) -> str:
    """Begin a run, part of it without its region, and return it as soon as it waits for a person."""
    store, queued = store_of(evolution), 0
    for item in evolution.stream(4, seed=SEED):
        if getattr(item, "step", "") == "trial" and not queued:
            proxy.down("s3")
            evolution.feedback("No rain.", source="a gardener")
            queued = store.sync.queue().waiting
            proxy.up()
    assert queued > 0
    assert isinstance(item, EvolutionResult)
    assert item.status == "waiting"
    return item.run_id


def store_of(evolution: Evolution) -> CloudDNAStore:
    assert isinstance(evolution.store, CloudDNAStore)
    return evolution.store


def answer_and_resume(evolution: Evolution, run_id: str) -> None:
    """Go on with the run at another machine, and approve whatever it asks."""
    for _ in range(20):
        for approval in evolution.approvals():
            evolution.answer(approval.approval_id, "approve", by="a gardener", why="it is safe")
        if evolution.resume(run_id, progress=False).status != "waiting":
            return
    raise AssertionError(f"{run_id} waits for ever")


def keep_books(evolution: Evolution) -> None:
    """Make every entry that the ledger knows, and learn from a call, as Bedrock's calls do."""
    clock = SystemClock()
    opened, ids = evolution._opened, RandomIds(clock)  # the garden calls no model
    ledger = opened.ledger(app=APP, budget=Budget(daily_usd=1.0), clock=clock, ids=ids)

    def hold(run_id: str = "run-1") -> Hold:
        return ledger.reserve(run_id=run_id, agent="advisor", model="m", micro_usd=1000, region=HOME, key=ids.new("k"))

    ledger.settle(hold(), tokens=Tokens(10, 1), micro_usd=900, latency_ms=5)
    ledger.void(hold(), error="refused")
    ledger.keep(hold(), error="lost")
    hold("run-2")
    ledger.give_up("run-2")
    for spent in (ledger.run_spend("run-1"), ledger.day_spend(), ledger.month_spend()):
        assert spent.micro_usd >= 1900
    assert 0 < ledger.pressure("run-1").share < 1
    assert ledger.spend_by("agent", "model")
    assert ledger.alarms() == []
    assert len(ledger.paces(block_s=60, blocks=2)) <= 2
    tracker = opened.tracker(app=APP, clock=clock)
    context = TaskContext("advisor/7", "reasoning", 0.7, 1000, 100)
    tracker.record(context, "m", success=True, latency_ms=5, micro_usd=9)
    assert tracker.snapshot()


def altered(there: Cloud) -> None:
    """Alter an event and the first DNA in the item and in the object, and an event whose object is gone."""
    there.alter_dna(APP, 0, APP, "desert")
    record, s3, table = record_in(there, HOME), there.client("s3"), there.client("dynamodb")
    for event in record.events(APP, after=0, upto=2):
        table.update_item(
            TableName=there.site().table,
            Key={"pk": {"S": there.place.partition(APP)}, "sk": {"S": event_sk(event.number)}},
            UpdateExpression="SET document = :d",
            ExpressionAttributeValues={":d": {"S": event.document.replace(APP, "desert")}},
        )
        where = {"Bucket": there.site().bucket, "Key": event.object}
        if event.number == 1:
            s3.put_object(**where, Body=b"sand")
        else:
            s3.delete_object(**where)


def unaltered(there: Cloud) -> None:
    """See that all of it is mended."""
    home, other = (record_in(there, region) for region in REGIONS)
    events = list(home.events(APP, after=0, upto=2))
    assert events == list(other.events(APP, after=0, upto=2))
    assert [home.document(event.object) for event in events] == [event.document.encode() for event in events]
    dna = home.snapshot(APP, 0)
    assert dna is not None
    assert dna == other.snapshot(APP, 0)
    assert home.document(dna.object) == dna.document.encode()


def record_in(there: Cloud, region: str) -> Record:
    return Record(there.regions().tables[region], there.place)


@pytest.mark.slow
def test_checkpoints_in_a_table_of_their_own_take_exactly_what_their_documentation_names(
    there: Cloud, recorder: Recorder, machine: Machine, tmp_path: Path
) -> None:
    """They have a table and a bucket of their own, and so are no part of the store's policy."""
    make("checkpoints", "unused", HOME, there.endpoints[HOME])
    url = f"dynamodb://checkpoints?region={HOME}&bucket=checkpoints&prefix=own"
    prepare_checkpoints(url, there.clients())
    waiting = machine("asking", checkpoints=url, autonomy=ASKING).run(2, seed=SEED, progress=False)
    answer_and_resume(machine("elsewhere", checkpoints=url), waiting.run_id)
    keep_a_large_one(url, there, recorder, tmp_path / "saver.db")
    theirs = {
        Permission(action, resource.partition("/own/")[0])
        for action, resource in recorder.used
        if "checkpoints" in resource
    }
    assert theirs == named(ROOT / "docs" / "checkpoints.md")


def keep_a_large_one(url: str, there: Cloud, recorder: Recorder, path: Path) -> None:
    """Store a checkpoint that is too large for an item, read it, and miss its object."""
    saver = open_cloud_checkpointer(url, Clients(recorder.session, there.endpoints), Database(path))
    noise = random.Random(1).randbytes(600_000).hex()

    within: RunnableConfig = {"configurable": {"thread_id": "kept", "checkpoint_ns": ""}}
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = {"noise": noise}
    saver.put(within, checkpoint, {"source": "loop", "step": 1, "parents": {}}, {})
    kept = saver.get_tuple(within)
    assert kept is not None
    assert kept.checkpoint["channel_values"] == {"noise": noise}
    s3 = there.client("s3")
    for stored in s3.list_objects_v2(Bucket="checkpoints")["Contents"]:
        s3.delete_object(Bucket="checkpoints", Key=stored["Key"])
    with pytest.raises(StoreError, match="is missing"):
        saver.get_tuple(within)


def named(documentation: Path) -> set[Permission]:
    """Return the permissions that a run needs, as the documentation of the checkpoints names them."""
    text = documentation.read_text(encoding="utf-8")
    [said] = re.findall(r"A run itself needs these permissions:(.*?)Preparing needs", text, re.DOTALL)
    resources = {"dynamodb": "arn:aws:dynamodb:REGION:ACCOUNT:table/checkpoints", "s3": "arn:aws:s3:::checkpoints"}
    found, service = set(), ""
    for word in re.findall(r"`(\w+:\w+|[A-Z][a-z]+[A-Z]\w+|Query)`", said):
        service, _, action = word.rpartition(":") if ":" in word else (service, "", word)
        found.add(Permission(f"{service}:{action}", resources[service]))
    return found
