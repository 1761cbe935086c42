"""Cassettes, recorded from the endpoint and replayed without it, by the real client."""

import asyncio
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from botocore.httpsession import URLLib3Session
from langchain_core.tools import tool

from bedrock_evolution.testing import CassetteError, CassetteMissError, recorded
from bedrock_evolution.testing.calls import CANONICAL_HOST
from bedrock_evolution.testing.cassette_file import read_cassette
from bedrock_evolution.testing.recording import RecordMode
from tests.support.bedrock_endpoint import (
    BedrockEndpoint,
    ConverseRequest,
    Cut,
    Failure,
    Hang,
    Message,
    Reply,
    in_order,
)
from tests.support_tests.conftest import MODEL_ID, ClientFactory, ModelFactory

DEAD_URL = "http://127.0.0.1:9"  # the discard port: nobody listens
TOOL_CALL = Message([{"toolUse": {"toolUseId": "tooluse_1", "name": "weather", "input": {"city": "Zürich"}}}])


@tool
def weather(city: str) -> str:
    """Forecast the weather of a city."""
    return f"{city}: sun"


@pytest.fixture
def cassette(tmp_path: Path) -> Path:
    return tmp_path / "cassettes" / "calls.yaml"


def echo(request: ConverseRequest) -> Reply:
    return Message([{"text": f"You said: {request.messages[-1]['content'][0]['text']}"}])


def ask(client: Any, text: str) -> str:
    answer = client.converse(modelId=MODEL_ID, messages=[{"role": "user", "content": [{"text": text}]}])
    return str(answer["output"]["message"]["content"][0]["text"])


def replay(cassette: Path, *calls: Callable[[], object]) -> list[object]:
    with recorded(cassette):
        return [call() for call in calls]


def swallowing(call: Callable[[], object]) -> Callable[[], object]:
    def handled() -> None:
        with suppress(Exception):
            call()

    return handled


def record(cassette: Path, make_client: ClientFactory, *texts: str) -> None:
    with BedrockEndpoint(echo) as endpoint, recorded(cassette, mode="all"):
        client = make_client(endpoint.url)
        for text in texts:
            ask(client, text)


@pytest.mark.parametrize(
    ("endpoint_url", "region"),
    [
        (None, "us-east-1"),
        (None, "eu-central-1"),
        (DEAD_URL, "us-west-2"),
        ("https://vpce.example.com", "us-east-1"),
    ],
    ids=["same region", "other region", "dead endpoint", "private endpoint"],
)
def test_replay_needs_neither_the_endpoint_nor_its_region(
    cassette: Path, make_model: ModelFactory, endpoint_url: str | None, region: str
) -> None:
    def conversation(url: str | None, region: str) -> list[Any]:
        model = make_model(url, region=region)
        with_tools = model.bind_tools([weather])
        return [
            model.invoke("Grüezi 🗼").text,
            [chunk.text for chunk in model.stream("in pieces, please")],
            with_tools.invoke("weather").tool_calls,
            [chunk.tool_calls for chunk in with_tools.stream("weather")],
            model.invoke("Grüezi 🗼").usage_metadata,
        ]

    def respond(request: ConverseRequest) -> Reply:
        return TOOL_CALL if request.tools else echo(request)

    with BedrockEndpoint(respond) as endpoint, recorded(cassette, mode="all") as recording:
        live = conversation(endpoint.url, "us-east-1")
    assert recording.calls == len(endpoint.requests) == 5
    with recorded(cassette) as tape:
        assert conversation(endpoint_url, region) == live
    assert tape.calls == 5
    assert live[0] == "You said: Grüezi 🗼"


def test_failures_and_retries_are_replayed(cassette: Path, make_service: ClientFactory) -> None:
    def throttled_then_answered(endpoint_url: str) -> str:
        config = Config(retries={"mode": "standard", "total_max_attempts": 3})
        client = make_service("bedrock-runtime", endpoint_url=endpoint_url, config=config)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
            return ask(client, "hello")

    replies = in_order(Failure(), Failure("ServiceUnavailableException"), Message([{"text": "at last"}]))
    with BedrockEndpoint(replies) as endpoint, recorded(cassette, mode="all"):
        assert throttled_then_answered(endpoint.url) == "at last"
    with recorded(cassette) as tape:
        assert throttled_then_answered(DEAD_URL) == "at last"
    assert tape.calls == 3


def test_broken_streams_are_replayed(cassette: Path, make_model: ModelFactory) -> None:
    text = Message([{"text": "word " * 20}])
    replies = in_order(Failure(mid_stream_after=3), Cut(text, after=4))

    def errors(url: str | None) -> list[str]:
        model = make_model(url)
        messages = []
        for _ in range(2):
            with pytest.raises((ClientError, ConnectionError)) as raised:
                list(model.stream("?"))
            messages.append(repr(raised.value))
        return messages

    with BedrockEndpoint(replies) as endpoint, recorded(cassette, mode="all"):
        live = errors(endpoint.url)
    with recorded(cassette):
        assert errors(None) == live


def test_forty_concurrent_calls_are_recorded_and_replayed(cassette: Path, make_client: ClientFactory) -> None:
    texts = [f"question {number}" for number in range(40)]
    answers = [f"You said: {text}" for text in texts]

    def ask_all(url: str) -> list[str]:
        client = make_client(url)
        with ThreadPoolExecutor(40) as pool:
            return list(pool.map(lambda text: ask(client, text), texts))

    with BedrockEndpoint(echo) as endpoint, recorded(cassette, mode="all"):
        assert ask_all(endpoint.url) == answers
    assert len(read_cassette(cassette)) == 40
    with recorded(cassette) as tape:
        assert ask_all(DEAD_URL) == answers
    assert tape.calls == 40


def test_concurrent_streams_and_async_calls_are_recorded_and_replayed(cassette: Path, make_model: ModelFactory) -> None:
    async def talk(url: str) -> list[str]:
        model = make_model(url)

        async def stream(text: str) -> str:
            return "".join([chunk.text async for chunk in model.astream(text)])

        async def invoke(text: str) -> str:
            return (await model.ainvoke(text)).text

        return await asyncio.gather(*[call(f"{call.__name__} {n}") for n in range(8) for call in (stream, invoke)])

    with BedrockEndpoint(echo) as endpoint, recorded(cassette, mode="all"):
        live = asyncio.run(talk(endpoint.url))
    assert live[:2] == ["You said: stream 0", "You said: invoke 0"]
    with recorded(cassette):
        assert asyncio.run(talk(DEAD_URL)) == live


def test_equal_calls_are_replayed_in_order_and_no_more_often(cassette: Path, make_client: ClientFactory) -> None:
    replies = in_order(Message([{"text": "first"}]), Message([{"text": "second"}]))
    with BedrockEndpoint(replies) as endpoint, recorded(cassette, mode="all"):
        client = make_client(endpoint.url)
        ask(client, "same")
        ask(client, "same")
    same = partial(ask, make_client(None), "same")
    with pytest.raises(CassetteMissError, match="more often than recorded"):
        replay(cassette, same, same, same)
    assert replay(cassette, same, same) == ["first", "second"]


def test_the_body_is_compared_as_json(cassette: Path, make_client: ClientFactory) -> None:
    def call(endpoint_url: str | None, **fields: Any) -> None:
        message = {"role": "user", "content": [{"text": "hello"}]}
        make_client(endpoint_url).converse(modelId=MODEL_ID, messages=[message], additionalModelRequestFields=fields)

    with BedrockEndpoint(echo) as endpoint, recorded(cassette, mode="all"):
        call(endpoint.url, top_k=5, seed=1)
    with recorded(cassette):
        call(None, seed=1, top_k=5)
    different = partial(call, None, seed=1, top_k=6)
    with pytest.raises(CassetteMissError, match=r"additionalModelRequestFields.top_k is 6, not 5"):
        replay(cassette, different)


def test_miss_fails_even_if_swallowed_and_says_what_differs(cassette: Path, make_client: ClientFactory) -> None:
    record(cassette, make_client, "hello world", "something else")
    client = make_client(DEAD_URL)
    place = r"messages\[0\].content\[0\].text has 'there' where 'world' was recorded \(character 6\)"
    calls = [partial(ask, client, text) for text in ("hello world", "something else", "hello there")]
    with pytest.raises(CassetteMissError, match=place):
        replay(cassette, *map(swallowing, calls))


def test_miss_is_not_retried_by_the_client(
    cassette: Path, make_client: ClientFactory, make_service: ClientFactory
) -> None:
    record(cassette, make_client, "hello")
    client = make_service("bedrock-runtime", config=Config(retries={"mode": "standard"}))
    miss = swallowing(partial(ask, client, "other"))
    with pytest.raises(CassetteMissError, match=r"1 call\(s\) missed"):
        replay(cassette, partial(ask, client, "hello"), miss)


def test_miss_in_another_model_or_operation_says_so(cassette: Path, make_model: ModelFactory) -> None:
    with BedrockEndpoint(echo) as endpoint, recorded(cassette, mode="all"):
        make_model(endpoint.url).invoke("hello")
    model = make_model(None)
    with pytest.raises(CassetteMissError, match="converse-stream was never recorded"):
        replay(cassette, lambda: list(model.stream("hello")))


def test_unplayed_interaction_fails(cassette: Path, make_client: ClientFactory) -> None:
    record(cassette, make_client, "one", "two", "three")
    with pytest.raises(CassetteError, match="2 of 3 recorded calls were not made") as raised:
        replay(cassette, partial(ask, make_client(None), "two"))
    assert "interaction 0 (/model/" in str(raised.value)


def test_error_of_the_test_is_not_hidden_by_unplayed_interactions(cassette: Path, make_client: ClientFactory) -> None:
    record(cassette, make_client, "one")
    with pytest.raises(ZeroDivisionError), recorded(cassette):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "\n",
        lambda text: text[: len(text) // 2],
        lambda text: text + "\n  bad: [",
        lambda text: "version: 1\ninteractions: []\n",
        lambda text: "just a text",
        lambda text: text.replace("version: 1", "version: 2"),
        lambda text: text.replace("  response:", "  reply:"),
        lambda text: text + "- !!python/object/apply:os.getcwd []\n",
    ],
    ids=["empty", "blank", "half", "no yaml", "no interactions", "text", "version", "no response", "object"],
)
def test_corrupt_cassette_is_an_error_and_stays_as_it_is(
    cassette: Path, make_client: ClientFactory, damage: Callable[[str], str]
) -> None:
    record(cassette, make_client, "hello")
    damaged = damage(cassette.read_text(encoding="utf-8"))
    cassette.write_text(damaged, encoding="utf-8")
    with pytest.raises(CassetteError, match=r"(?s)calls\.yaml.*record"), recorded(cassette):
        pytest.fail("a corrupt cassette was replayed")
    assert cassette.read_text(encoding="utf-8") == damaged


def test_missing_cassette_is_an_error(cassette: Path) -> None:
    with pytest.raises(CassetteError, match="no such cassette"), recorded(cassette):
        pytest.fail("a missing cassette was replayed")
    assert not cassette.exists()


def test_binary_garbage_is_an_error(tmp_path: Path) -> None:
    cassette = tmp_path / "garbage.yaml"
    cassette.write_bytes(b"\xff\xfe\x00garbage")
    with pytest.raises(CassetteError, match="cannot be read"), recorded(cassette):
        pytest.fail("garbage was replayed")


def test_recording_replaces_the_file_only_on_success(cassette: Path, make_client: ClientFactory) -> None:
    record(cassette, make_client, "first")
    before = cassette.read_bytes()
    with BedrockEndpoint(echo) as endpoint:
        client = make_client(endpoint.url)

        def fail_after_a_call() -> None:
            with recorded(cassette, mode="all"):
                ask(client, "second")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail_after_a_call()
        assert cassette.read_bytes() == before
        with recorded(cassette, mode="all"):
            ask(client, "second")
    assert [b"second" in item["request"]["body"] for item in read_cassette(cassette)] == [True]
    assert [path.name for path in cassette.parent.iterdir()] == ["calls.yaml"]


def test_recording_nothing_is_an_error(cassette: Path) -> None:
    with pytest.raises(CassetteError, match="no Bedrock call was made"), recorded(cassette, mode="all"):
        pass
    assert not cassette.exists()


def test_call_that_never_got_a_response_cannot_be_recorded(cassette: Path, make_client: ClientFactory) -> None:
    def record_calls(client: Any) -> None:
        with recorded(cassette, mode="all"):
            ask(client, "first")
            with pytest.raises(ReadTimeoutError):
                ask(client, "second")

    with BedrockEndpoint(in_order(Message([{"text": "fine"}]), Hang(30.0))) as endpoint:
        client = make_client(endpoint.url, read_timeout=0.1)
        with pytest.raises(CassetteError, match="never got a response"):
            record_calls(client)
    assert not cassette.exists()


def test_call_that_got_its_response_on_a_second_attempt_is_recorded(cassette: Path, make_client: ClientFactory) -> None:
    with BedrockEndpoint(in_order(Hang(30.0), Message([{"text": "fine"}]))) as endpoint:
        client = make_client(endpoint.url, read_timeout=0.1)
        with recorded(cassette, mode="all"):
            with pytest.raises(ReadTimeoutError):
                ask(client, "hello")
            ask(client, "hello")
    with recorded(cassette):
        assert ask(make_client(None), "hello") == "fine"


def test_one_client_serves_before_during_and_after_cassettes(cassette: Path, make_client: ClientFactory) -> None:
    send = URLLib3Session.send
    with BedrockEndpoint(echo) as endpoint:
        client = make_client(endpoint.url)
        ask(client, "before")
        with recorded(cassette, mode="all"):
            ask(client, "during")
        ask(client, "between")
        with recorded(cassette):
            ask(client, "during")
        ask(client, "after")
        texts = [request.messages[0]["content"][0]["text"] for request in endpoint.requests]
    assert texts == ["before", "during", "between", "after"]
    assert URLLib3Session.send is send


def test_stream_may_be_left_before_its_end(cassette: Path, make_model: ModelFactory) -> None:
    def first_piece(url: str | None) -> str:
        stream = make_model(url).stream("a rather long question")
        return next(chunk.text for chunk in stream if chunk.text)

    with BedrockEndpoint(echo) as endpoint, recorded(cassette, mode="all"):
        live = first_piece(endpoint.url)
    with recorded(cassette):
        assert first_piece(None) == live


def test_call_that_waits_for_a_closed_cassette_does_not_reach_the_network(
    cassette: Path, make_client: ClientFactory
) -> None:
    record(cassette, make_client, "hello")
    with BedrockEndpoint(echo) as endpoint:
        client = make_client(endpoint.url)
        with recorded(cassette):
            ask(client, "hello")
            patched = URLLib3Session.send
        # A thread that waits for its turn has entered the patched method before the block ends.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(URLLib3Session, "send", patched)
            with pytest.raises(CassetteMissError, match="after the cassette was closed"):
                ask(client, "hello")
        assert endpoint.requests == []


def test_two_cassettes_at_once_are_refused(cassette: Path, tmp_path: Path, make_client: ClientFactory) -> None:
    record(cassette, make_client, "hello")
    with recorded(cassette):
        with pytest.raises(CassetteError, match="another cassette is active"):
            recorded(tmp_path / "other.yaml", mode="all").__enter__()
        ask(make_client(None), "hello")


def test_unknown_mode_is_refused(cassette: Path) -> None:
    with pytest.raises(ValueError, match="'once'"), recorded(cassette, mode="once"):  # type: ignore[arg-type]
        pass


def test_missing_cassette_is_recorded_and_then_replayed(cassette: Path, make_client: ClientFactory) -> None:
    with BedrockEndpoint(echo) as endpoint:
        client = make_client(endpoint.url)
        for mode in ("record", "replay"):
            with recorded(str(cassette), mode="missing") as recording:
                assert ask(client, "hello") == "You said: hello"
            assert recording.mode == mode
        assert len(endpoint.requests) == 1


@pytest.mark.parametrize("content", ["", "name: my precious file\n", "\0"], ids=["empty", "other", "binary"])
@pytest.mark.parametrize("mode", ["missing", "all"])
def test_recording_overwrites_no_file_that_is_no_cassette(
    cassette: Path, make_client: ClientFactory, mode: RecordMode, content: str
) -> None:
    cassette.parent.mkdir()
    cassette.write_text(content, encoding="utf-8")
    with BedrockEndpoint(echo) as endpoint:
        with pytest.raises(CassetteError, match="delete it"), recorded(cassette, mode=mode):
            ask(make_client(endpoint.url), "hello")
        assert endpoint.requests == []  # nothing was paid for before it was refused
    assert cassette.read_text(encoding="utf-8") == content


@pytest.mark.parametrize("escape", [pytest.skip, sys.exit], ids=["skip", "exit"])
def test_miss_fails_even_if_it_was_an_occasion_to_leave(
    cassette: Path, make_client: ClientFactory, escape: Callable[[str], object]
) -> None:
    record(cassette, make_client, "hello")

    def leave() -> None:
        with recorded(cassette):
            try:
                ask(make_client(None), "other")
            except CassetteMissError:
                escape("Bedrock is not there")

    with pytest.raises(CassetteMissError, match=r"1 call\(s\) missed"):
        leave()


class _OtherService(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_other_services_on_this_machine_are_left_alone(
    cassette: Path, make_client: ClientFactory, make_service: ClientFactory
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _OtherService)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    tables = make_service("dynamodb", endpoint_url=f"http://127.0.0.1:{server.server_port}")
    with BedrockEndpoint(echo) as endpoint, recorded(cassette, mode="all"):
        tables.list_tables()
        ask(make_client(endpoint.url), "hello")
    assert len(read_cassette(cassette)) == 1
    with recorded(cassette) as tape:
        tables.list_tables()
        ask(make_client(None), "hello")
    assert tape.calls == 1
    server.shutdown()
    server.server_close()
    with pytest.raises(EndpointConnectionError):
        tables.list_tables()


def test_other_services_on_the_network_are_refused_in_replay(
    cassette: Path, make_client: ClientFactory, make_service: ClientFactory
) -> None:
    record(cassette, make_client, "hello")
    hello = partial(ask, make_client(None), "hello")
    with pytest.raises(CassetteMissError, match="over the network"):
        replay(cassette, hello, swallowing(make_service("dynamodb").list_tables))


def test_cassette_is_readable_and_says_nothing_about_the_recording_machine(
    cassette: Path, make_model: ModelFactory
) -> None:
    with BedrockEndpoint(echo) as endpoint, recorded(cassette, mode="all"):
        make_model(endpoint.url).invoke("Grüezi 🗼\nsecond line")
    text = cassette.read_text(encoding="utf-8")
    assert '              "text": "You said: Grüezi 🗼\\nsecond line"\n' in text
    item = yaml.safe_load(text)["interactions"][0]
    assert item["request"]["uri"].startswith(f"{CANONICAL_HOST}/model/")
    assert item["request"]["headers"] == {"content-type": ["application/json"]}
    assert set(item["response"]["headers"]) == {"content-type", "x-amzn-requestid"}
    for private in ("127.0.0.1", "amz-sdk", "amz-date", "user-agent", "authorization", "python"):
        assert private not in text.lower()


def test_recording_twice_gives_the_same_file(cassette: Path, make_client: ClientFactory) -> None:
    record(cassette, make_client, "one", "two")
    first = cassette.read_bytes()
    record(cassette, make_client, "one", "two")
    assert cassette.read_bytes() == first
