"""LangGraph's own development server serves the graph, and its client runs, answers and reads it."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from langgraph_sdk import get_client

from bedrock_evolution import SQLiteDNAStore
from bedrock_evolution.clock import SystemClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.governance.approvals import Approvals
from tests.apps import APPS
from tests.cli.command import bare_environment

ROOT = Path(__file__).parents[2]
CONFIGURATION = json.loads((ROOT / "langgraph.json").read_text(encoding="utf-8"))
STUDIO = "bedrock_evolution.graph.studio"
STARTUP_S = 90


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def server(tmp_path):
    """Start `langgraph dev` on the repository's langgraph.json, for an application that always asks; yield its URL."""
    for name in ("asker.py", "climber.py"):
        (tmp_path / name).write_bytes((APPS / name).read_bytes())
    configuration = CONFIGURATION | {"env": {"BEDROCK_EVOLUTION_APP": "asker.py:evolution"}}
    (tmp_path / "langgraph.json").write_text(json.dumps(configuration))
    port = free_port()
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "langgraph_cli", "dev", "--no-browser", "--no-reload", "--port", str(port)],
            cwd=tmp_path,
            env=bare_environment(
                tmp_path,
                BEDROCK_EVOLUTION_STORE=f"sqlite:///{tmp_path / 'store.db'}",
                LANGGRAPH_CLI_NO_ANALYTICS="1",
                LANGGRAPH_NO_VERSION_CHECK="true",
            ),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_until_it_listens(process, port, tmp_path / "server.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until_it_listens(process, port, log):
    deadline = time.monotonic() + STARTUP_S
    while True:
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return


@pytest.mark.slow
async def test_a_thread_runs_to_the_approval_is_read_answered_and_read_again(server, tmp_path):
    async with get_client(url=server) as client:
        await converse(client, tmp_path)


async def converse(client, tmp_path):
    assert [assistant["graph_id"] for assistant in await client.assistants.search()] == ["evolution"]
    schemas = await client.assistants.get_schemas((await client.assistants.search())[0]["assistant_id"])
    assert set(schemas["input_schema"]["properties"]) == {"run_id", "generations", "seed"}

    thread_id = (await client.threads.create())["thread_id"]
    asked = await client.runs.wait(thread_id, "evolution", input={"generations": 1, "seed": 1})
    [question] = asked["__interrupt__"]
    changes = question["value"]["changes"]
    assert question["value"]["answer_with"]["verdict"] == "approve | reject"

    state = await client.threads.get_state(thread_id)
    assert state["next"] == ["approve"]
    assert state["tasks"][0]["interrupts"][0]["value"]["changes"] == changes
    release = state["values"]["release"]
    assert release["mutation_id"] == question["value"]["mutation_id"]
    assert release["evidence"]["credible"]
    history = await client.threads.get_history(thread_id, limit=100)
    advised = next(step for step in history if step["next"] == ["trial"])["values"]
    assert advised["candidates"][release["slot"]]["mutation_id"].startswith("m-")
    assert set(changes) <= {gene for candidate in advised["candidates"] for gene in candidate["genes"]}
    assert {"human", "ai", "tool"} <= {line["role"] for line in advised["transcript"]}
    called = [call["name"] for line in advised["transcript"] for call in line.get("calls", [])]
    assert any("propose" in name for name in called), called

    database = Database(tmp_path / "store.db")
    store = SQLiteDNAStore(database)
    before = store.head("asker")
    assert before.generation == 0

    answer = {"verdict": "approve", "by": "Ada", "why": "seen in Studio"}
    told = await client.runs.wait(thread_id, "evolution", command={"resume": answer})
    assert told["status"] == "done"
    after = store.head("asker")
    assert after.values == before.values | {gene: change["to"] for gene, change in changes.items()}
    assert told["summary"]["dna_checksum"] == after.checksum
    [approval] = Approvals(database, SQLiteDNAStore(database), SystemClock(), hours=1).listed("asker")
    assert (approval.status, approval.by, approval.why) == ("approved", "Ada", "seen in Studio")
    assert approval.approval_id == question["value"]["approval_id"]
    [applied] = [event for event in store.events("asker") if event.kind == "applied"]
    assert applied.actor == "Ada"
    database.close()

    history = await client.threads.get_history(thread_id, limit=100)
    steps = [step["next"][0] if step["next"] else "end" for step in reversed(history)]
    expected = ["begin", "observe", "govern", "advise", "trial", "decide", "approve", "apply", "report", "end"]
    assert [step for step in steps if step != "__start__"] == expected


def test_the_repositorys_configuration_names_a_graph_and_an_application_that_exist():
    assert set(CONFIGURATION["graphs"]) == {"evolution"}
    module, _, attribute = CONFIGURATION["graphs"]["evolution"].partition(":")
    assert attribute == "graph"
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert Path(spec.origin).resolve() == ROOT / "graph" / "studio.py"
    assert (ROOT / CONFIGURATION["env"]["BEDROCK_EVOLUTION_APP"].partition(":")[0]).is_file()
    assert CONFIGURATION["dependencies"] == ["."]


def test_the_graph_of_the_configured_application_is_served(tmp_path):
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "from bedrock_evolution.graph.studio import graph; print(graph.name, graph.checkpointer)",
        ],
        cwd=ROOT,
        env=bare_environment(
            tmp_path,
            BEDROCK_EVOLUTION_STORE=f"sqlite:///{tmp_path / 'store.db'}",
            **CONFIGURATION["env"],
        ),
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == ["evolution", "None"]


def test_without_an_application_the_message_names_the_variable(tmp_path):
    told = subprocess.run(
        [sys.executable, "-c", f"import {STUDIO}"],
        cwd=tmp_path,
        env=bare_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode != 0
    assert "BEDROCK_EVOLUTION_APP is not set" in told.stderr
    assert '"env" in langgraph.json' in told.stderr
