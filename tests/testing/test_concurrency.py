"""Concurrent calls: none is lost while recording, none goes astray while replaying."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from langchain_aws import ChatBedrockConverse

from bedrock_evolution.testing import recorded
from bedrock_evolution.testing.cassette_file import read_cassette
from tests.support.bedrock_endpoint import BedrockEndpoint, ConverseRequest, Message, Reply
from tests.support_tests.conftest import ClientFactory, ModelFactory

CALLS, REPLAYS = 40, 100
TEXTS = [f"question {number}" for number in range(CALLS)]
DEAD_URL = "http://127.0.0.1:9"  # the discard port: nobody listens

AskAll = Callable[[ChatBedrockConverse], list[str]]


def echo(request: ConverseRequest) -> Reply:
    time.sleep(0.002)  # long enough for the others to come in between
    return Message([{"text": f"You said: {request.messages[-1]['content'][0]['text']}"}])


def in_threads(model: ChatBedrockConverse) -> list[str]:
    together = Barrier(CALLS)

    def ask(text: str) -> str:
        together.wait()
        return model.invoke(text).text

    with ThreadPoolExecutor(CALLS) as pool:
        return list(pool.map(ask, TEXTS))


def in_tasks(model: ChatBedrockConverse) -> list[str]:
    async def ask_all() -> list[str]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(CALLS))
        return [answer.text for answer in await asyncio.gather(*map(model.ainvoke, TEXTS))]

    return asyncio.run(ask_all())


@pytest.mark.slow
@pytest.mark.parametrize("ask_all", [in_threads, in_tasks])
def test_forty_concurrent_calls_are_all_recorded_and_replayed_a_hundred_times(
    tmp_path: Path, make_model: ModelFactory, ask_all: AskAll
) -> None:
    cassette = tmp_path / "calls.yaml"
    answers = [f"You said: {text}" for text in TEXTS]
    with BedrockEndpoint(echo) as endpoint, recorded(cassette, mode="all") as recording:
        assert ask_all(make_model(endpoint.url)) == answers
    assert recording.calls == len(read_cassette(cassette)) == CALLS
    model = make_model(DEAD_URL)
    replayed = 0
    for _ in range(REPLAYS):
        with recorded(cassette) as recording:
            assert ask_all(model) == answers
        replayed += recording.calls == CALLS
    assert replayed == REPLAYS


@pytest.mark.parametrize("ask_all", [in_threads, in_tasks])
def test_a_pool_that_worked_before_is_recorded_and_replayed(
    tmp_path: Path, make_model: ModelFactory, ask_all: AskAll
) -> None:
    cassette = tmp_path / "calls.yaml"
    with BedrockEndpoint(echo) as endpoint:
        model = make_model(endpoint.url)
        live = ask_all(model)  # its connections are open now
        with recorded(cassette, mode="all"):
            assert ask_all(model) == live
    assert len(read_cassette(cassette)) == CALLS
    with recorded(cassette):
        assert ask_all(model) == live


def test_two_clients_share_a_session(tmp_path: Path, make_client: ClientFactory) -> None:
    cassette = tmp_path / "calls.yaml"
    message = {"role": "user", "content": [{"text": "hello"}]}

    def ask(url: str | None, region: str) -> None:
        make_client(url, region=region).converse(modelId="m", messages=[message])

    with BedrockEndpoint(echo) as one, BedrockEndpoint(echo) as other, recorded(cassette, mode="all") as recording:
        ask(one.url, "us-east-1")
        ask(other.url, "eu-west-1")
    assert recording.calls == 2
    with recorded(cassette):
        ask(None, "us-east-1")
        ask(None, "eu-west-1")
