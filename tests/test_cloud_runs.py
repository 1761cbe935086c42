"""Whole runs on a cloud store: the same as on a file, through outages, and on another machine."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution import EvolutionResult, Settings
from bedrock_evolution.errors import StoreUnavailable, UnknownRun, WriterFenced
from bedrock_evolution.governance.audit import verify
from bedrock_evolution.graph.cloud_checkpoints import prepare_checkpoints
from bedrock_evolution.graph.replaying.alternatives import Alternative
from tests.cloud_garden import CHECKOUT, GENERATIONS, PATIENCE_S, SEED, cloud_garden, ended, started, waiting
from tests.garden import garden
from tests.support.cloud import REGIONS, Cloud, cloud, opened
from tests.support.faulty_proxy import FaultyProxy
from tests.support.moto_server import moto_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultyProxy]:
    with moto_server() as server, FaultyProxy(server.url) as between:
        yield between


@pytest.fixture
def there(proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    made = cloud(proxy.url)
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture(scope="module")
def on_a_file(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return how the run ends on a file, never interrupted."""
    evolution = garden(tmp_path_factory.mktemp("file"), workers=2)
    result = evolution.run(GENERATIONS, seed=SEED, progress=False)
    told = told_of(evolution.store, result.run_id)
    evolution.close()
    return {"result": result, "events": told}


def told_of(store: Any, run_id: str) -> list[tuple[str, str, str | None]]:
    """Return what the record says, without what differs from run to run."""
    return [(event.kind, event.key.replace(run_id, "RUN"), event.mutation_id) for event in store.events("garden")]


def test_a_run_on_a_cloud_store_is_the_same_as_on_a_file(
    there: Cloud, tmp_path: Path, on_a_file: dict[str, Any]
) -> None:
    evolution = cloud_garden(tmp_path, there.url)
    result = evolution.run(GENERATIONS, seed=SEED, progress=False)
    assert result.dna_checksum == on_a_file["result"].dna_checksum
    assert result.test_fitness == on_a_file["result"].test_fitness
    assert told_of(evolution.store, result.run_id) == on_a_file["events"]
    assert evolution.audit().intact
    assert evolution.replay(result.run_id).identical
    evolution.close()


def said(there: Cloud, folder: Path, *command: str) -> dict[str, Any]:
    """Return what a command says on a machine."""
    return json.loads(ran(there, folder, *command).stdout)


def ran(there: Cloud, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from bedrock_evolution.cli import main; main()", *command, "--json"],
        env=os.environ
        | there.environment()
        | {"BEDROCK_EVOLUTION_STORE": there.url, "BEDROCK_EVOLUTION_WORK_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )


def test_a_run_is_looked_at_from_another_machine_and_goes_on(there: Cloud, tmp_path: Path) -> None:
    evolution = cloud_garden(tmp_path / "one", there.url)
    stream = evolution.stream(GENERATIONS, seed=SEED)
    run_id = next(item.run_id for item in stream if item.step == "trial")
    other = cloud_garden(tmp_path / "two", there.url)
    with pytest.raises(UnknownRun):
        other.replay("run-unknown")
    assert other.replay(run_id).identical
    assert said(there, tmp_path / "two", "status")["runs"][0]["status"] == "elsewhere"
    # It is still the first one's, and so is what it does afterwards.
    *_, result = stream
    assert isinstance(result, EvolutionResult)
    assert result.status == "done"
    assert said(there, tmp_path / "two", "status")["runs"][0]["status"] == "done"
    assert other.replay(run_id).dna_checksum == result.dna_checksum
    assert other.fork(run_id, at=2, alternative=Alternative(Settings(alpha=0.2))).outcomes
    for each in (evolution, other):
        each.close()


def test_another_process_sends_what_a_lost_run_left_without_being_blamed_for_it(
    there: Cloud, proxy: FaultyProxy, tmp_path: Path
) -> None:
    first = started(there, tmp_path / "one")
    assert first.stdout
    run_id = first.stdout.readline().strip()
    proxy.down()
    while not waiting(tmp_path / "one"):
        time.sleep(0.02)
    first.kill()
    first.communicate()
    proxy.up()
    second = cloud_garden(tmp_path / "two", there.url)
    second.resume(run_id, progress=False)
    fresh = cloud_garden(tmp_path / "one", there.url)
    fresh.feedback("keep it short", source="Ada")
    assert fresh.store.queue().refused > 0
    assert "feedback" in {event.kind for event in second.store.events("garden")}
    assert fresh.replay(run_id).identical
    runs = said(there, tmp_path / "one", "status")["runs"]
    assert [run["status"] for run in runs if run["run_id"] == run_id] == ["done"]
    for each in (fresh, second):
        each.close()


def test_a_command_says_what_it_could_not_send(there: Cloud, proxy: FaultyProxy, tmp_path: Path) -> None:
    evolution = cloud_garden(tmp_path, there.url)
    assert evolution.genes
    evolution.close()
    proxy.down()
    assert "not sent yet: 1 event waits" in ran(there, tmp_path, "feedback", "keep it short").stderr
    assert said(there, tmp_path, "status")["queue"]["waiting"] == 1
    proxy.up()
    assert ran(there, tmp_path, "feedback", "and friendly").stderr == ""
    assert said(there, tmp_path, "status")["queue"]["waiting"] == 0


def test_what_is_signed_is_compared_with_the_whole_record(there: Cloud, tmp_path: Path) -> None:
    """A machine that leaves the cloud alone for a while knows less of the record than others have signed."""
    one, two = (cloud_garden(tmp_path / name, there.url) for name in ("one", "two"))
    assert one.genes == two.genes
    sync = one.store.sync
    while sync._retrying._due_s < time.monotonic() + 20:
        sync.failed(StoreUnavailable("away"))
    two.feedback("keep it short", source="Ada")
    two.store.flush()
    report = one.audit()
    assert report.intact
    assert report.unsigned == 0
    for each in (one, two):
        each.close()


def test_a_run_goes_on_while_the_cloud_is_away(
    there: Cloud, proxy: FaultyProxy, tmp_path: Path, on_a_file: dict[str, Any]
) -> None:
    """The outage lasts from the first trial until some steps later; then everything queued is sent."""
    evolution = cloud_garden(tmp_path, there.url, store_timeout_s=0.5)
    away, queued = False, 0
    for item in evolution.stream(GENERATIONS, seed=SEED):
        step = getattr(item, "step", "")
        if step == "trial" and not away and not queued:
            proxy.down()
            away = True
        elif away:
            queued = max(queued, evolution.store.sync.queue().waiting)
            if queued:
                proxy.up()
                away = False
    proxy.up()
    evolution.store.sync.drain()
    assert queued > 0, "nothing was written during the outage"
    assert evolution.store.sync.queue().waiting == 0
    elsewhere = opened(there, tmp_path / "elsewhere.db")
    assert told_of(elsewhere, item.run_id) == on_a_file["events"]
    assert item.dna_checksum == on_a_file["result"].dna_checksum
    assert verify(elsewhere, "garden").intact
    evolution.close()


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_run_is_continued_on_a_machine_with_an_empty_disk(
    there: Cloud, tmp_path: Path, on_a_file: dict[str, Any], seed: int
) -> None:
    first = started(there, tmp_path / "first")
    assert first.stdout
    run_id = first.stdout.readline().strip()
    time.sleep(random.Random(seed).uniform(0.0, 1.5))
    first.kill()
    first.communicate()
    (tmp_path / "first").rename(tmp_path / "lost")
    found = ended(started(there, tmp_path / "second", run_id))
    assert found == {"status": "done", "dna": on_a_file["result"].dna_checksum, "waiting": 0}
    third = cloud_garden(tmp_path / "third", there.url)
    again = third.resume(run_id, progress=False)
    assert again.dna_checksum == on_a_file["result"].dna_checksum
    assert third.replay(run_id).identical
    assert third.audit().intact
    third.close()


def checkpoints(there: Cloud) -> str:
    """Prepare a table and a bucket for checkpoints, and return their URL."""
    region, bucket = REGIONS[0], f"{there.site().bucket}-checkpoints"
    url = f"dynamodb://{bucket}?region={region}&bucket={bucket}&prefix=garden"
    there.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})
    prepare_checkpoints(url, there.clients())
    return url


def test_a_killed_run_with_its_checkpoints_in_dynamodb_is_continued_on_an_empty_disk(
    there: Cloud, tmp_path: Path, on_a_file: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEDROCK_EVOLUTION_CHECKPOINTS", checkpoints(there))
    first = started(there, tmp_path / "first")
    assert first.stdout
    run_id = first.stdout.readline().strip()
    time.sleep(1.0)
    first.kill()
    first.communicate()
    found = ended(started(there, tmp_path / "second", run_id))
    assert found == {"status": "done", "dna": on_a_file["result"].dna_checksum, "waiting": 0}
    third = cloud_garden(tmp_path / "third", there.url)
    assert third.replay(run_id).identical
    assert third.fork(run_id, at=2, alternative=Alternative(Settings(alpha=0.2))).outcomes
    assert not third.store.works_on("garden", run_id)
    third.close()
    assert said(there, tmp_path / "fourth", "audit", "replay", run_id)["identical"]
    assert said(there, tmp_path / "fourth", "audit", "replay", run_id, "--at", "2", "--with", "alpha=0.2")["outcomes"]


def test_no_checkpoint_is_ahead_of_the_records_that_could_not_be_sent(
    there: Cloud, proxy: FaultyProxy, tmp_path: Path, on_a_file: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 is away, and with it the rows of the run, while the table of its checkpoints can be reached."""
    monkeypatch.setenv("BEDROCK_EVOLUTION_CHECKPOINTS", checkpoints(there))
    first = started(there, tmp_path / "first")
    assert first.stdout
    run_id = first.stdout.readline().strip()
    proxy.down("s3")
    time.sleep(4.0)
    first.kill()
    first.communicate()
    proxy.up()
    found = ended(started(there, tmp_path / "second", run_id))
    assert found == {"status": "done", "dna": on_a_file["result"].dna_checksum, "waiting": 0}


def test_a_machine_whose_run_was_taken_over_stores_no_checkpoint_of_it(
    there: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoint would be the newest, and whoever resumes the run would go on from it."""
    monkeypatch.setenv("BEDROCK_EVOLUTION_CHECKPOINTS", checkpoints(there))
    old, new = (cloud_garden(tmp_path / name, there.url) for name in ("old", "new"))
    stream = old.stream(GENERATIONS, seed=SEED)
    run_id = next(item.run_id for item in stream if item.step == "trial")
    old._before_checkpoint(run_id)
    result = new.resume(run_id, progress=False)
    with pytest.raises(WriterFenced, match="goes on at another machine"):
        old._before_checkpoint(run_id)
    with pytest.raises(WriterFenced):
        stream.close()
    assert new.replay(run_id).identical
    assert new.dna.checksum == result.dna_checksum
    for each in (old, new):
        each.close()


def test_a_machine_whose_run_was_taken_over_is_refused(there: Cloud, tmp_path: Path) -> None:
    """The old worker is stopped in the middle and woken after the run has ended elsewhere."""
    old = started(there, tmp_path / "old")
    assert old.stdout
    run_id = old.stdout.readline().strip()
    old.send_signal(signal.SIGSTOP)
    assert ended(started(there, tmp_path / "new", run_id))["status"] == "done"
    before = list(opened(there, tmp_path / "look.db").events("garden"))
    old.send_signal(signal.SIGCONT)
    _, said = old.communicate(timeout=PATIENCE_S)
    assert old.returncode != 0
    assert f"run {run_id} goes on at another machine" in said
    assert list(opened(there, tmp_path / "look.db").events("garden")) == before


def test_the_support_router_ends_in_the_cloud_as_on_a_file(there: Cloud, tmp_path: Path) -> None:
    """The main job, from the command line, with the seed of the README."""
    command = [sys.executable, "-c", "from bedrock_evolution.cli import main; main()", "run"]
    app = CHECKOUT / "examples" / "support_router" / "app.py"
    ran = subprocess.run(
        [*command, f"{app}:evolution", "--store", there.url, "--seed", "1", "--model", "local", "--json"],
        cwd=tmp_path,
        env=os.environ | there.environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    found = json.loads(ran.stdout)
    assert (found["status"], found["dna_checksum"][:8]) == ("done", "464a6f97")
    store = opened(there, tmp_path / "elsewhere.db")
    head = store.head("support-router")
    assert head is not None
    assert head.checksum == found["dna_checksum"]
    assert verify(store, "support-router").intact


def test_the_governed_release_turns_out_in_the_cloud_as_it_is_told(there: Cloud) -> None:
    story = CHECKOUT / "examples" / "governed_release" / "story.py"
    played = subprocess.run(
        [sys.executable, str(story), there.url],
        env=os.environ | there.environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (played.returncode, played.stderr) == (0, ""), played.stdout
    assert "The story turned out as told." in played.stdout
