"""Machines that work on a cloud store: in the process of a test, or in a child of this one that can be killed.

As a process it imports once, stays single-threaded, and does each piece of work in a child. It talks in lines: it is
told what to do, says which process will do it, waits for `go`, and says how that process ended.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bedrock_evolution.clock import FixedClock, RandomIds, SystemClock
from bedrock_evolution.dna.aws.calls import Clients, Service
from bedrock_evolution.dna.aws.regions import Regions
from bedrock_evolution.dna.cloud import CloudDNAStore
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.events import EventDraft
from bedrock_evolution.dna.genome import SystemDNA
from bedrock_evolution.errors import StaleParent
from bedrock_evolution.fitness.journal import Journal
from tests.dna.store_contract import APP, child, first
from tests.support.cloud import REGIONS, Cloud, nothing, session
from tests.support.forked import in_child

SERVICES: tuple[Service, ...] = ("s3", "dynamodb")
MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN = "run-1"
LARGE = "x" * 40_000
"""A text that no item holds: its event is read from S3."""
FIRST = first()
SECOND = child(FIRST, 1)
BEHIND_S = 30.0
"""Seconds that whoever is not to meet a timeout waits."""


def change(key: str, dna: SystemDNA) -> EventDraft:
    """Return the event that comes with a generation."""
    kind = "applied" if dna.parent else "declared"
    return EventDraft(app=APP, kind=kind, key=key, at=MOMENT, actor="rule", data={"dna": dna.checksum})


def note(key: str, why: str = "") -> EventDraft:
    """Return an event that changes nothing; as the worker of a run says it."""
    return EventDraft(app=APP, kind="note", key=f"{RUN}/{key}", at=MOMENT, actor="rule", run_id=RUN, why=why)


def declare(store: CloudDNAStore) -> None:
    """Make the first DNA live; as a run does, which finds it live when it begins again."""
    try:
        assert store.commit(None, FIRST, change("declared", FIRST)) == FIRST
    except StaleParent:
        assert store.head(APP) == FIRST


def commit(store: CloudDNAStore) -> None:
    """Make the second DNA live."""
    assert store.commit(FIRST.checksum, SECOND, change("applied/1", SECOND)) == SECOND


def append(store: CloudDNAStore) -> None:
    """Store the first event of a run; the rows of the run go with it."""
    journal(store).begin(RUN, app=APP, seed=1, request={"generations": 3})
    assert store.append(note("said")).key == f"{RUN}/said"


def take_over(store: CloudDNAStore) -> None:
    """Go on with a run that another machine began."""
    journal(store)
    store.fetch_run(APP, RUN)
    assert journal(store).run(RUN).request == {"generations": 3}


def journal(store: CloudDNAStore) -> Journal:
    """Return the journal in a machine's file; what changes in it is noted from now on."""
    found = Journal(store._database, FixedClock(MOMENT))
    store.watch_runs()
    return found


def run_on(store: CloudDNAStore) -> None:
    """Leave what another machine finds, and a run too."""
    grow(store)
    append(store)


def grow(store: CloudDNAStore) -> None:
    """Leave what another machine finds: a generation, and an event too large for its item."""
    declare(store)
    large = EventDraft(app=APP, kind="note", key="large", at=MOMENT, actor="ada", why=LARGE)
    assert store.append(large).why == LARGE


def empty(store: CloudDNAStore) -> None:
    """Leave nothing."""


@dataclass(frozen=True)
class Work:
    """A piece of work, and what it finds.

    Args:
        before: What another machine did before.
        queued: What this machine wrote while it could not reach the cloud.
        act: What it does.
        keys: The events there are when it is done, in order.
        live: The DNA that is live then.
        waits: Whether it is done only when the cloud has it: else it is queued.
        runs: Whether it leaves rows of a run.
    """

    before: Callable[[CloudDNAStore], None]
    queued: tuple[EventDraft, ...]
    act: Callable[[CloudDNAStore], None]
    keys: tuple[str, ...]
    live: SystemDNA
    waits: bool = True
    runs: bool = False


_GROWN = ("declared", "large")
_SAID = (*_GROWN, f"{RUN}/said")
WORK: Mapping[str, Work] = {
    "declare": Work(empty, (), declare, ("declared",), FIRST),
    "commit": Work(grow, (), commit, (*_GROWN, "applied/1"), SECOND),
    "append": Work(grow, (), append, _SAID, FIRST, waits=False, runs=True),
    "take over a run": Work(run_on, (), take_over, _SAID, FIRST, runs=True),
    "commit behind a queue": Work(grow, (note("queued"),), commit, (*_GROWN, f"{RUN}/queued", "applied/1"), SECOND),
}


def machine(there: Cloud, path: Path | None, clients: Clients) -> CloudDNAStore:
    """Open the store on a file or, without one, in memory; with clients that others may use too."""
    clock = SystemClock()
    return CloudDNAStore(
        Database(path) if path else Database.in_memory(),
        Regions(clients, there.place, clock),
        clock=clock,
        ids=RandomIds(clock),
        draws=random.Random(str(path)),
        project=nothing,
        patience_s=0.0,
    )


def patient(endpoint: str, *, attempts: int = 1, read_timeout_s: float = BEHIND_S) -> Clients:
    """Return clients that wait for answers."""
    return Clients(session, {REGIONS[0]: endpoint}, attempts=attempts, read_timeout_s=read_timeout_s)


def main() -> None:
    """Do what is told, in one child after the other."""
    endpoint = sys.argv[1]
    clients = patient(endpoint)
    for service in SERVICES:  # made, but without a connection yet: so the children can use them
        clients.client(service, REGIONS[0])
    for line in sys.stdin:
        job: dict[str, Any] = json.loads(line)
        reading, writing = os.pipe()

        def work(job: dict[str, Any] = job, reading: int = reading) -> None:
            os.read(reading, 1)
            WORK[job["work"]].act(machine(Cloud(job["url"], {REGIONS[0]: endpoint}), Path(job["path"]), clients))

        worker = in_child(work)
        print(worker, flush=True)
        sys.stdin.readline()
        os.write(writing, b"!")
        _, status = os.waitpid(worker, 0)
        for end in (reading, writing):
            os.close(end)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
