"""`store verify|promote|copy` as a person uses them: a store moves into the cloud, is mended there, and moves out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bedrock_evolution.bedrock.models.prices import Tokens
from bedrock_evolution.bedrock.routing.performance import ModelPerformanceTracker, RoutingState
from bedrock_evolution.bedrock.routing.task import TaskContext
from bedrock_evolution.clock import RandomIds, SystemClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.events import EventDraft
from bedrock_evolution.dna.genes import number
from bedrock_evolution.dna.genome import SystemDNA
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from bedrock_evolution.governance.stores import open_store
from bedrock_evolution.settings import Settings
from tests.apps import APPS
from tests.cli.conftest import Cli
from tests.support.books import opened
from tests.support.cloud import REGIONS, Cloud, cloud
from tests.support.moto_server import moto_server

pytestmark = pytest.mark.slow

CLIMBER = f"{APPS / 'climber.py'}:evolution"
FILE, BACK = "sqlite:///a.db", "sqlite:///b.db"
HOME, OTHER = REGIONS


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[str, str]]:
    with ExitStack() as running:
        yield running.enter_context(moto_server()).url, running.enter_context(moto_server()).url


@pytest.fixture
def there(cli: Cli, servers: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Cloud:
    made = cloud(*servers)
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def moved(cli: Cli, there: Cloud, tmp_path: Path) -> Cloud:
    """Run an application on a file, and copy it into the cloud."""
    assert cli("run", CLIMBER, "--store", FILE, "--generations", "3", "--seed", "1", "--json").code == 0
    pay(tmp_path / "a.db")
    assert cli("store", "copy", FILE, there.url).code == 0
    return there


def pay(file: Path) -> None:
    """Make a model call, and let the router learn from it."""
    clock = SystemClock()
    ledger = opened(file, clock, app="climber")
    for micro_usd in (300_000, 200_000):
        hold = ledger.reserve(run_id="run", agent="advisor", model="model", micro_usd=micro_usd)
    ledger.settle(hold, tokens=Tokens(100, 10), micro_usd=12_345)
    learned = ModelPerformanceTracker(Database(file), app="climber", clock=clock)
    learned.record(TaskContext("advisor/5", "reasoning", 0.55, 1, 1), "m", success=True, latency_ms=9, micro_usd=12_345)


def another_machine(folder: Path) -> None:
    """Leave nothing of the working copies."""
    shutil.rmtree(folder / ".bedrock-evolution")


def test_a_store_moves_into_the_cloud_and_out_again(cli: Cli, moved: Cloud, tmp_path: Path) -> None:
    another_machine(tmp_path)
    [run] = {one["run_id"] for one in cli("audit", "export", "--store", FILE, "--json").json["events"]} - {None}
    assert cli("audit", "replay", run, "--store", moved.url).out.startswith("identical")
    another_machine(tmp_path)
    assert cli("store", "copy", moved.url, BACK, "--json").code == 0
    for store in (FILE, moved.url, BACK):
        assert cli("audit", "verify", "--store", store).code == 0
    told = [cli("history", "--store", store, "--json").json for store in (FILE, moved.url, BACK)]
    assert told[0] == told[1] == told[2]
    exported = [cli("audit", "export", "--store", store, "--json").json["events"] for store in (FILE, BACK)]
    assert exported[0] == exported[1]
    assert cli("audit", "replay", run, "--store", BACK).code == 0
    [copied] = cli("store", "copy", FILE, moved.url, "--json").json["copied"]
    assert (copied["app"], copied["new"], copied["runs"]) == ("climber", 0, 1)
    assert (copied["calls"], copied["cost_usd"], copied["families"]) == (2, 0.312345, 1)
    spent = [cli("costs", "--by", "agent", "--store", store, "--json").json for store in (FILE, moved.url, BACK)]
    assert spent[0]["spend"] == spent[1]["spend"] == spent[2]["spend"]
    knows = [learned_in(Settings(store=store)) for store in (FILE, moved.url, BACK)]
    assert knows[0] == knows[1] == knows[2] != {}


def learned_in(settings: Settings) -> RoutingState:
    """Return what the router knows in a store."""
    clock = SystemClock()
    return open_store(settings, clock=clock, ids=RandomIds()).tracker(app="climber", clock=clock).snapshot()


def test_doctor_looks_at_a_store_in_the_cloud_and_makes_no_working_copy(
    cli: Cli, moved: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_machine(tmp_path)
    monkeypatch.setenv("BEDROCK_EVOLUTION_MODEL", "local")
    answer = cli("doctor", "--store", moved.url, "--json")
    assert answer.code == 0, answer.out
    [store] = [check for check in answer.json["checks"] if check["name"] == "store"]
    assert f"is written to in {HOME}, in epoch 1, and holds climber" in store["found"]
    assert not (tmp_path / ".bedrock-evolution").exists()


def test_nothing_is_copied_where_one_application_cannot_be(cli: Cli, tmp_path: Path) -> None:
    for store, seed in ((FILE, "1"), (BACK, "2")):
        assert cli("run", CLIMBER, "--store", store, "--generations", "1", "--seed", seed, "--json").code == 0
    dna = SystemDNA.declare("another", {"x": number(0.5, low=0, high=1)})
    draft = EventDraft(app="another", kind="declared", key="declared", at=SystemClock().now(), actor="rule")
    SQLiteDNAStore(Database(tmp_path / "a.db")).commit(None, dna, draft)
    answer = cli("store", "copy", FILE, BACK)
    assert (answer.code, "nothing was changed" in answer.err) == (2, True)
    assert SQLiteDNAStore(Database(tmp_path / "b.db")).apps() == ["climber"]


def test_another_record_is_not_written_over(cli: Cli) -> None:
    for store, seed in ((FILE, "1"), (BACK, "2")):
        assert cli("run", CLIMBER, "--store", store, "--generations", "1", "--seed", seed, "--json").code == 0
    answer = cli("store", "copy", FILE, BACK)
    assert answer.code == 2
    assert "another record of 'climber': event 1 is another one; nothing was changed" in answer.err
    answer = cli("store", "copy", FILE, FILE)
    assert (answer.code, "the two stores are one" in answer.err) == (2, True)


@pytest.mark.slow
def test_what_was_altered_is_named_and_mended(cli: Cli, moved: Cloud) -> None:
    s3, bucket = moved.client("s3"), moved.site().bucket
    name = s3.list_objects_v2(Bucket=bucket, Prefix="prod/dna/")["Contents"][0]["Key"]
    s3.put_object(Bucket=bucket, Key=name, Body=b"altered")
    answer = cli("store", "verify", "--store", moved.url)
    assert answer.code == 1
    assert f"PROBLEM {HOME}: s3://{bucket}/{name} was altered: it does not match its hash" in answer.out
    assert cli("store", "verify", "--store", moved.url, "--json").json["findings"][0]["what"] == f"s3://{bucket}/{name}"
    mended = cli("store", "verify", "--repair", "--store", moved.url)
    assert mended.code == 0
    assert f"MENDED  {HOME}: s3://{bucket}/{name}" in mended.out
    whole = cli("store", "verify", "--store", moved.url, "--json").json
    assert whole["intact"] is True
    assert whole["writer"] == HOME
    assert {standing["region"]: standing["behind"] for standing in whole["standings"]} == {HOME: 0, OTHER: 0}


@pytest.mark.slow
def test_a_promotion_is_told_and_audited(cli: Cli, moved: Cloud) -> None:
    told = cli("store", "promote", OTHER, "--by", "Ada", "--why", "a drill", "--store", moved.url, "--json").json
    assert told == {"epoch": 2, "region": OTHER, "fenced": [HOME], "unreachable": [], "recorded": ["climber"]}
    assert cli("store", "verify", "--store", moved.url, "--json").json["writer"] == OTHER
    assert cli("audit", "verify", "--store", moved.url).code == 0
    # Done again it changes nothing: whoever promoted may not have lived to tell the other regions.
    again = cli("store", "promote", OTHER, "--by", "Ada", "--store", moved.url, "--json").json
    assert (again["epoch"], again["fenced"]) == (2, [HOME])


@pytest.mark.parametrize("command", [["verify"], ["promote", OTHER, "--by", "Ada"]])
def test_a_file_has_no_regions(cli: Cli, command: list[str]) -> None:
    cli("run", CLIMBER, "--store", FILE, "--generations", "1", "--seed", "1", "--json")
    answer = cli("store", *command, "--store", FILE)
    assert (answer.code, "the store is a file" in answer.err) == (2, True)


def test_questions_and_remarks_are_copied_too(cli: Cli) -> None:
    asker = f"{APPS / 'asker.py'}:evolution"
    cli("run", asker, "--store", FILE, "--generations", "2", "--seed", "1", "--json")
    cli("feedback", "Be polite.", "--store", FILE)
    asked = cli("approvals", "--store", FILE, "--json").json
    assert len(asked["approvals"]) > 0
    assert cli("store", "copy", FILE, BACK).code == 0
    assert cli("approvals", "--store", BACK, "--json").json == asked
    remarks = [cli("feedback", "--list", "--store", store, "--json").json for store in (FILE, BACK)]
    assert remarks[0] == remarks[1]
