"""Lets many processes, each with clients of its own, race for one budget in DynamoDB. Tells what came of it.

A process of its own, because it forks: it imports once, stays single-threaded, and every spender is a child.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
import time
from typing import Any

from bedrock_evolution.bedrock.money.dynamo_ledger import DynamoLedger
from bedrock_evolution.clock import RandomIds
from bedrock_evolution.dna.aws.calls import Clients
from bedrock_evolution.dna.aws.place import CloudPlace
from bedrock_evolution.dna.aws.regions import Regions
from bedrock_evolution.settings import MICRO, Budget
from tests.bedrock.money.ledger_driver import CLOCK, try_to_spend
from tests.support.books import APP
from tests.support.cloud import REGIONS, session
from tests.support.forked import in_child

_FORK = multiprocessing.get_context("fork")
_LOOK_S = 0.05


def ledger_at(endpoint: str, url: str, cap: int) -> DynamoLedger:
    regions = Regions(Clients(session, {REGIONS[0]: endpoint}, read_timeout_s=60.0), CloudPlace.parse(url), CLOCK)
    return DynamoLedger(regions, app=APP, budget=Budget(daily_usd=cap / MICRO), clock=CLOCK, ids=RandomIds())


def race(endpoint: str, url: str, processes: int, reservations: int, cap: int) -> dict[str, Any]:
    """Let all spend a little of what they hold at first, then all of it, and watch the balance meanwhile."""
    half_time = _FORK.Barrier(processes)
    admitted, refused = _FORK.Value("q", 0), _FORK.Value("q", 0)

    def spend(number: int) -> None:
        ledger, chance = ledger_at(endpoint, url, cap), random.Random(number)
        for attempt in range(reservations):
            if attempt == reservations // 2:
                half_time.wait()
            done = try_to_spend(ledger, f"run-{number}", chance, in_full=attempt >= reservations // 2)
            counter = admitted if done else refused
            with counter.get_lock():
                counter.value += 1

    over = _FORK.Event()
    told, tell = _FORK.Pipe(duplex=False)

    def watch() -> None:
        ledger, samples, highest = ledger_at(endpoint, url, cap), 0, 0
        while not over.is_set():
            samples, highest = samples + 1, max(highest, ledger.day_spend().micro_usd)
            time.sleep(_LOOK_S)
        tell.send((samples, highest))

    watcher = in_child(watch)
    spenders = [in_child(lambda number=number: spend(number)) for number in range(processes)]
    ended = [os.waitpid(child, 0)[1] for child in spenders]
    over.set()
    samples, highest = told.recv()
    os.waitpid(watcher, 0)
    return {
        "ended": ended,
        "admitted": admitted.value,
        "refused": refused.value,
        "samples": samples,
        "highest": highest,
    }


if __name__ == "__main__":
    endpoint, url, *numbers = sys.argv[1:]
    print(json.dumps(race(endpoint, url, *map(int, numbers))))
