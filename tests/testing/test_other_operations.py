"""Bedrock's older and smaller operations, which the test endpoint does not speak, are recorded and replayed, too."""

import base64
import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.testing import recorded
from tests.support.eventstream import CONTENT_TYPE, event_frame
from tests.support_tests.conftest import ClientFactory

TITAN = "amazon.titan-embed-text-v2:0"
JSON = "application/json"


class _Runtime(BaseHTTPRequestHandler):
    """Answers a few operations of Bedrock's runtime, one of them compressed."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
        operation = self.path.rpartition("/")[2]
        if operation == "invoke":
            numbers = [len(asked["inputText"]), 0.5]
            self._send(json.dumps({"embedding": numbers}).encode(), JSON)
        elif operation == "invoke-with-response-stream":
            pieces = [f"{asked['inputText']} {number}".encode() for number in range(3)]
            frames = [event_frame("chunk", {"bytes": base64.b64encode(piece).decode()}) for piece in pieces]
            self._send(b"".join(frames), CONTENT_TYPE)
        elif operation == "count-tokens":
            self._send(gzip.compress(b'{"inputTokens": 7}'), JSON, encoding="gzip")
        else:
            self._send(b'{"action": "NONE", "outputs": [], "assessments": [], "usage": {}}', JSON)

    def _send(self, body: bytes, kind: str, encoding: str = "") -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        if encoding:
            self.send_header("content-encoding", encoding)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def runtime() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Runtime)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def embed(client: Any) -> object:
    answer = client.invoke_model(modelId=TITAN, body=json.dumps({"inputText": "a text"}))
    return json.loads(answer["body"].read())["embedding"]


def stream(client: Any) -> object:
    answer = client.invoke_model_with_response_stream(modelId=TITAN, body=json.dumps({"inputText": "piece"}))
    return [event["chunk"]["bytes"].decode() for event in answer["body"]]


def count(client: Any) -> object:
    message = {"role": "user", "content": [{"text": "hello"}]}
    return client.count_tokens(modelId=TITAN, input={"converse": {"messages": [message]}})["inputTokens"]


def guard(client: Any) -> object:
    content = [{"text": {"text": "hello"}}]
    return client.apply_guardrail(guardrailIdentifier="gr1", guardrailVersion="1", source="INPUT", content=content)[
        "action"
    ]


@pytest.mark.parametrize(
    ("call", "expected"),
    [(embed, [6, 0.5]), (stream, ["piece 0", "piece 1", "piece 2"]), (count, 7), (guard, "NONE")],
)
def test_the_operation_is_recorded_and_replayed(
    tmp_path: Path, runtime: str, make_client: ClientFactory, call: Any, expected: object
) -> None:
    cassette = tmp_path / "calls.yaml"
    with recorded(cassette, mode="all"):
        assert call(make_client(runtime)) == expected
    with recorded(cassette) as recording:
        assert call(make_client(None)) == expected
    assert recording.calls == 1
