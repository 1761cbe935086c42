"""Eight processes, each a machine of its own, commit to one DNA: exactly one wins each generation, and none is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedrock_evolution.governance.audit import verify
from tests.dna.store_contract import APP, first, made
from tests.support.cloud import Cloud, cloud, opened
from tests.support.faulty_proxy import FaultyProxy
from tests.support.moto_server import moto_server

CHECKOUT = Path(__file__).parents[2]
RIVALS, GENERATIONS = 8, 10
PATIENCE_S = 240

RIVAL = """
import json, sys
from pathlib import Path
from bedrock_evolution.errors import StaleParent
from tests.dna.store_contract import APP, child, draft, made
from tests.support.cloud import Cloud, opened
me, url, endpoints, path = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), Path(sys.argv[4])
store = opened(Cloud(url, endpoints), path)
won, lost, seen = [], 0, []
print("ready", flush=True)
input()
while (head := store.head(APP)).generation < int(sys.argv[5]):
    n = 1000 * (head.generation + 1) + me
    note = draft(f"seen/{me}/{head.generation}").model_copy(update={"kind": "note"})
    seen.append(store.append(note).key)
    try:
        dna = child(head, n)
        store.commit(head.checksum, dna, made(f"applied/{n}", dna))
        won.append(dna.checksum)
    except StaleParent:
        lost += 1
store.close()
print(json.dumps({"won": won, "lost": lost, "seen": seen, "waiting": store.sync.queue().waiting}))
"""


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultyProxy]:
    with moto_server() as server, FaultyProxy(server.url) as between:
        yield between


@pytest.fixture
def there(proxy: FaultyProxy) -> Cloud:
    return cloud(proxy.url)


@pytest.mark.slow
def test_one_of_eight_processes_wins_each_generation(there: Cloud, tmp_path: Path) -> None:
    store = opened(there, tmp_path / "first.db")
    store.commit(None, first(), made("declared", first()))
    endpoints = json.dumps(dict(there.endpoints))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RIVAL, str(me), there.url, endpoints, str(tmp_path / f"{me}.db"), str(GENERATIONS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
        )
        for me in range(RIVALS)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [json.loads(process.communicate(timeout=PATIENCE_S)[0]) for process in processes]

    line = store.history(APP, limit=100)[::-1]
    won = [checksum for answer in answers for checksum in answer["won"]]
    assert len(won) == len(set(won)), "two were told that they had won the same generation"
    assert {dna.checksum for dna in line[1:]} == set(won), "a win was lost, or nobody was told of it"
    assert [dna.parent for dna in line[1:]] == [dna.checksum for dna in line[:-1]]
    assert sum(answer["lost"] for answer in answers) > 0, "there was no race"
    assert sum(answer["waiting"] for answer in answers) == 0
    keys = [event.key for event in store.events(APP)]
    assert [key for key in keys if key.startswith("applied/")] == [f"applied/{dna.values['n']}" for dna in line[1:]]
    assert len(keys) == len(set(keys))
    assert {key for key in keys if key.startswith("seen/")} == {key for answer in answers for key in answer["seen"]}
    assert verify(store, APP).intact
