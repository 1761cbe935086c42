"""Whole records move from store to store, byte by byte, and go on moving where they were stopped."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bedrock_evolution.bedrock.recorded import RecordedCalls
from bedrock_evolution.clock import RandomIds, SystemClock
from bedrock_evolution.dna.anchor import HeadAnchor
from bedrock_evolution.dna.aws.verifying.verification import verify as verify_store
from bedrock_evolution.dna.cloud import CloudDNAStore
from bedrock_evolution.dna.copying import Copied, Side, Tables, copy_app
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.events import EventDraft
from bedrock_evolution.dna.shipping import RUN_OF
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from bedrock_evolution.errors import IntegrityError, UsageError
from bedrock_evolution.fitness.journal import Journal
from bedrock_evolution.governance.audit import verify
from bedrock_evolution.governance.projections import project
from bedrock_evolution.graph.checkpoints import open_checkpointer
from tests.dna.store_contract import APP, CHECKOUT, MOMENT, child, first
from tests.support.cloud import Cloud, cloud
from tests.support.moto_server import moto_server

pytestmark = pytest.mark.slow

FEW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
KILLED = -signal.SIGKILL
STEPS = st.lists(st.sampled_from(["event", "large", "dna", "run", "rows", "remark"]), min_size=1, max_size=25)


def prepare(database: Database) -> None:
    Journal(database, SystemClock())
    RecordedCalls(database)
    open_checkpointer(database).conn.close()


def problems(store: SQLiteDNAStore, app: str) -> tuple[str, ...]:
    return verify(store, app).problems


TABLES = Tables(prepare, project, problems)


def on_a_file(path: Path) -> Side:
    database = Database(path)
    return Side(SQLiteDNAStore(database, HeadAnchor.beside(database)), database)


def in_the_cloud(there: Cloud, path: Path) -> Side:
    clock, database = SystemClock(), Database(path)
    store = CloudDNAStore(
        database,
        there.regions(clock),
        clock=clock,
        ids=RandomIds(clock),
        draws=random.Random(str(path)),
        project=project,
        patience_s=0.0,
    )
    return Side(store, database)


def copy(source: Side, target: Side, app: str = APP) -> Copied:
    return copy_app(source, target, app, tables=TABLES)


def draft(kind: str, key: str, run_id: str | None = None, **data: Any) -> EventDraft:
    return EventDraft(app=APP, kind=kind, key=key, at=MOMENT, actor="rule", run_id=run_id, data=data)


def grow(side: Side, steps: list[str]) -> None:
    """Store what the steps say."""
    prepare(side.database)
    side.store.watch_runs()
    journal, store = Journal(side.database, SystemClock()), side.store
    dna = store.commit(None, first(), draft("declared", "declared", dna=first().checksum))
    run = ""
    for number, step in enumerate(steps):
        match step:
            case "event":
                store.append(draft("trialled", f"{run or 'nobody'}/{number}", run or None, told="é" * number))
            case "large":
                store.append(draft("trialled", f"large/{number}", told="x" * 40_000))
            case "dna":
                after = child(dna, number + 1)
                dna = store.commit(dna.checksum, after, draft("applied", f"applied/{number}", dna=after.checksum))
            case "run":
                run = f"run-{number}"
                journal.begin(run, app=APP, seed=number, request={"n": number})
            case "rows" if run:
                with side.database.transaction("checkpoint.put") as connection:
                    connection.execute(
                        "INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint) VALUES (?, ?, ?)",
                        [run, str(number), bytes(range(number))],
                    )
            case "remark":
                store.append(draft("asked", f"approval-{number}", "run-x", approval_id="nothing"))
    store.flush()


def told_of(side: Side) -> dict[str, Any]:
    """Return all that a store's file tells of the application."""
    events = side.database.rows("SELECT seq, kind, key, hash, document FROM events WHERE app = ? ORDER BY seq", [APP])
    dna = side.database.rows("SELECT * FROM dna WHERE app = ? ORDER BY generation", [APP])
    rows = {table: sorted(map(str, side.database.rows(f"SELECT * FROM {table}"))) for table in RUN_OF}
    return {"events": events, "dna": dna, "rows": rows}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with moto_server() as running:
        yield running.url


@FEW
@given(steps=STEPS)
def test_what_is_copied_from_file_to_file_is_equal(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    folder = tmp_path_factory.mktemp("files")
    source, target = on_a_file(folder / "a.db"), on_a_file(folder / "b.db")
    with closing(source.database), closing(target.database):
        grow(source, steps)
        done = copy(source, target)
        assert told_of(target) == told_of(source)
        assert done.events == source.store.count(APP)
        assert verify(target.store, APP).signed == done.events
        assert copy(source, target).new == 0


@settings(FEW, max_examples=3, phases=(Phase.generate,))
@given(steps=STEPS)
def test_what_is_copied_to_the_cloud_and_back_is_equal(
    tmp_path_factory: pytest.TempPathFactory, server: str, steps: list[str]
) -> None:
    folder, there = tmp_path_factory.mktemp("cloud"), cloud(server)
    source, back = on_a_file(folder / "a.db"), on_a_file(folder / "b.db")
    up, down = in_the_cloud(there, folder / "up.db"), in_the_cloud(there, folder / "down.db")
    with ExitStack() as open_ones:
        for side in (source, back, up, down):
            open_ones.callback(side.database.close)
        grow(source, steps)
        copy(source, up)
        assert copy(source, up).new == 0
        assert verify_store(there.regions()).intact
        # Another machine, with an empty disk.
        copy(down, back)
        assert told_of(back) == told_of(source)
        assert copy(down, back).new == 0


def test_another_machine_finds_the_copy_complete(tmp_path: Path, server: str) -> None:
    there = cloud(server)
    source, one, other = (
        on_a_file(tmp_path / "a.db"),
        in_the_cloud(there, tmp_path / "1.db"),
        in_the_cloud(there, tmp_path / "2.db"),
    )
    grow(source, ["run", "event", "rows", "dna"])
    copy(source, one)
    assert copy(source, other).new == 0


@pytest.mark.parametrize("to_cloud", [False, True])
def test_a_target_with_another_record_is_refused(tmp_path: Path, server: str, to_cloud: bool) -> None:
    source = on_a_file(tmp_path / "a.db")
    target = in_the_cloud(cloud(server), tmp_path / "b.db") if to_cloud else on_a_file(tmp_path / "b.db")
    grow(source, ["event", "dna", "event"])
    grow(target, ["event", "event"])
    before = told_of(target)
    with pytest.raises(UsageError, match=r"another record of 'router': event 3 is another one; nothing was changed"):
        copy(source, target)
    assert told_of(target) == before


def test_a_target_that_goes_on_further_is_refused(tmp_path: Path) -> None:
    source, target = on_a_file(tmp_path / "a.db"), on_a_file(tmp_path / "b.db")
    grow(source, ["event"])
    copy(source, target)
    target.store.append(draft("trialled", "own"))
    with pytest.raises(UsageError, match="event 3 is one that the source lacks"):
        copy(source, target)


def test_a_source_that_was_altered_is_refused(tmp_path: Path) -> None:
    source, target = on_a_file(tmp_path / "a.db"), on_a_file(tmp_path / "b.db")
    grow(source, ["event", "event"])
    with source.database.transaction("tables") as connection:
        connection.execute("UPDATE events SET document = replace(document, 'rule', 'role') WHERE seq = 2")
    with pytest.raises(IntegrityError, match="event 2 was altered"):
        copy(source, target)


def test_what_was_added_since_is_copied_too(tmp_path: Path) -> None:
    source, target = on_a_file(tmp_path / "a.db"), on_a_file(tmp_path / "b.db")
    grow(source, ["event"])
    copy(source, target)
    source.store.append(draft("trialled", "later"))
    assert copy(source, target).new == 1
    assert told_of(target) == told_of(source)


KILLING = """
import json, os, signal, sys
from pathlib import Path
from tests.dna.test_copying import copy, in_the_cloud, on_a_file
from tests.support.cloud import Cloud
folder, url, endpoints, after = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
source = on_a_file(folder / "a.db")
target = in_the_cloud(Cloud(url, endpoints), folder / "b.db") if url else on_a_file(folder / "b.db")
left = [after]
def reached(point, moment):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
target.database.reached = reached
copy(source, target)
"""


def killed_copy(folder: Path, there: Cloud | None, after: int) -> int:
    """Copy in a process that kills itself at its `after`th commit point; return how it ended."""
    where = [there.url, json.dumps(dict(there.endpoints))] if there else ["", "{}"]
    command = [sys.executable, "-c", KILLING, str(folder), *where, str(after)]
    return subprocess.run(command, cwd=CHECKOUT, env=dict(os.environ), check=False, timeout=120).returncode


@pytest.mark.slow
@pytest.mark.parametrize("to_cloud", [False, True])
def test_a_killed_copy_goes_on(tmp_path: Path, server: str, to_cloud: bool) -> None:
    there = cloud(server) if to_cloud else None
    source = on_a_file(tmp_path / "a.db")
    grow(source, ["run", "dna", "event", "rows", "large", "dna", "run", "event", "rows", "dna"])
    points = random.Random(7).sample(range(20, 60), 4)
    ends = [killed_copy(tmp_path, there, after) for after in sorted(points)]
    assert KILLED in ends
    target = in_the_cloud(there, tmp_path / "b.db") if there else on_a_file(tmp_path / "b.db")
    copy(source, target)
    assert told_of(target) == told_of(source)
    assert copy(source, target).new == 0
