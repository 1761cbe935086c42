"""Records the sessions in cassettes/: `python -m tests.record_sessions`, from the root of the checkout.

Against the local endpoint with its scripted model by default; with `--aws` the run of the support router is recorded
against AWS instead, with the credentials of the environment.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EventStreamError
from langchain_core.messages import AIMessageChunk
from langchain_core.tools import tool

from bedrock_evolution.bedrock.aws.session import BedrockSession
from bedrock_evolution.graph.loading import load_app
from bedrock_evolution.settings import MICRO, Settings
from bedrock_evolution.testing import recorded
from tests.sessions import SESSIONS, Session, run_session
from tests.support.bedrock_endpoint import BedrockEndpoint
from tests.support.converse import ConverseRequest, Failure, Message, Reply, Respond
from tests.support.model import SLIPS, ScriptedModel, tool_use
from tests.support.stage import HAIKU, staged, with_dummy_aws

ROOT = Path(__file__).parents[1]
CASSETTES = ROOT / "cassettes"
APP = ROOT / "examples" / "support_router" / "app.py"
RUN, STREAM = "support_router_run", "converse_stream"
GENERATIONS, SEED = 5, 1
THROTTLED_REQUEST = 12
LOCAL_ENDPOINT, AWS = "local endpoint", "AWS"

_FIGURES = (
    "status",
    "generations",
    "trials",
    "evaluations",
    "baseline_fitness",
    "fitness",
    "baseline_test_fitness",
    "test_fitness",
    "model_calls",
    "failed_model_calls",
    "dna_checksum",
)


@contextmanager
def dummy_environment() -> Iterator[pytest.MonkeyPatch]:
    """Replace credentials and settings of the environment by dummies."""
    with pytest.MonkeyPatch.context() as patch:
        with_dummy_aws(patch)
        yield patch


def run_support_router(endpoint_url: str | None) -> dict[str, Any]:
    """Evolve the support router on Bedrock and return the figures of the run.

    The settings come from the environment, as they would for any user; two candidates a generation keep the
    cassette small.
    """
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BEDROCK_EVOLUTION_REGIONS", "us-east-1")
        patch.setenv("BEDROCK_EVOLUTION_CANDIDATES", "2")
        if endpoint_url:
            patch.setenv("BEDROCK_EVOLUTION_ENDPOINT_URL", endpoint_url)
        application = load_app(f"{APP}:evolution")
        evolution = application.using(near=APP, store=f"sqlite:///{Path(folder) / 'run.db'}", model="bedrock")
        result = evolution.run(GENERATIONS, seed=SEED, progress=False)
    figures = {name: getattr(result, name) for name in _FIGURES}
    return figures | {"cost_micro_usd": round(result.cost_usd * MICRO)}


@tool
def forecast(city: str, days: int) -> str:
    """Forecast the weather of a city."""
    return f"{city}: sun for {days} days"


def run_streams(endpoint_url: str | None) -> dict[str, Any]:
    """Stream prose, a tool call, and an answer that breaks off, and return what arrived."""
    settings = Settings.load(near=ROOT, model="bedrock", regions=("us-east-1",), endpoint_url=endpoint_url)
    model = BedrockSession(settings).chat_model(HAIKU, region="us-east-1", base_model=HAIKU)
    model.disable_streaming = False
    prose = list(model.stream("Tell me about queues."))
    call = list(model.bind_tools([forecast]).stream("Will it rain in Zürich?"))
    broken: list[AIMessageChunk] = []
    error = ""
    try:
        for chunk in model.stream("Tell me a long story."):
            broken.append(chunk)  # noqa: PERF402  # one by one, to keep what came before the error
    except EventStreamError as event:
        error = str(event.response["Error"]["Code"])
    return {
        "prose": [chunk.text for chunk in prose if chunk.text],
        "tool_calls": _whole(call).tool_calls,
        "usage": dict(_whole(prose).usage_metadata or {}),
        "broken_off": "".join(chunk.text for chunk in broken),
        "error": error,
    }


def _whole(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    return reduce(add, chunks)


def streaming_model(request: ConverseRequest) -> Reply:
    """Answer the prompts of `run_streams`."""
    if request.tools:
        return Message(
            [{"text": "I will look it up."}, tool_use("tooluse_1", "forecast", {"city": "Zürich", "days": 3})]
        )
    if "story" in request.messages[-1]["content"][0]["text"]:
        return Failure(mid_stream_after=4, partial=Message([{"text": "Once upon a time there was a queue."}]))
    return Message([{"text": "A queue takes what comes first. 📬"}], input_tokens=12, output_tokens=9)


def throttled(respond: Respond) -> Respond:
    """Return the responder, with one request throttled."""
    return lambda request: Failure() if request.number == THROTTLED_REQUEST else respond(request)


def record(folder: Path, *, aws: bool = False) -> None:
    """Record the sessions into a folder, each with the figures it ended with."""
    if aws:
        _record_run(folder, None, source=AWS)
        return
    with dummy_environment(), BedrockEndpoint(throttled(ScriptedModel(SLIPS))) as endpoint:
        _record_run(folder, endpoint.url, source=LOCAL_ENDPOINT)
    for name, session in SESSIONS.items():
        _record_session(folder / f"{name}.yaml", session)
    path = folder / f"{STREAM}.yaml"
    with dummy_environment(), BedrockEndpoint(streaming_model) as endpoint, recorded(path, mode="all"):
        arrived = run_streams(endpoint.url)
    _write(path.with_suffix(".json"), {"source": LOCAL_ENDPOINT, "figures": arrived})


def _record_session(path: Path, session: Session) -> None:
    with tempfile.TemporaryDirectory() as store, staged(Path(store), **session.settings) as stage:
        stage.answer(session.answers)
        with recorded(path, mode="all"):
            figures = run_session(session, stage)
    _write(path.with_suffix(".json"), {"source": LOCAL_ENDPOINT, "figures": figures})


def _record_run(folder: Path, endpoint_url: str | None, *, source: str) -> None:
    path = folder / f"{RUN}.yaml"
    with recorded(path, mode="all"):
        figures = run_support_router(endpoint_url)
    _write(path.with_suffix(".json"), {"source": source, "figures": figures})


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Record what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=CASSETTES)
    parser.add_argument("--aws", action="store_true", help="record the support router against AWS, at your own cost")
    options = parser.parse_args()
    if options.aws and "BEDROCK_EVOLUTION_ENDPOINT_URL" in os.environ:
        parser.error("BEDROCK_EVOLUTION_ENDPOINT_URL is set: unset it to reach AWS")
    record(options.folder, aws=options.aws)
    for path in sorted(options.folder.glob("*.json")):
        print(path.name, path.read_text(encoding="utf-8"), sep="\n")


if __name__ == "__main__":
    main()
