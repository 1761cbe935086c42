"""A local HTTP endpoint that speaks Bedrock's Converse and ConverseStream.

Point a client's `endpoint_url` at `BedrockEndpoint.url`; retries, timeouts, event streams and errors are
then those of the real client and of real sockets.
"""

import itertools
import json
import re
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from tests.support.chat_model_replies import from_chat_model
from tests.support.converse import (
    ConverseRequest,
    Cut,
    Failure,
    Hang,
    Late,
    Message,
    Raw,
    Reply,
    Respond,
    StreamEvent,
    converse_body,
    cut_events,
    in_order,
    stream_events,
)
from tests.support.eventstream import CONTENT_TYPE, event_frame, exception_frame

__all__ = [
    "BedrockEndpoint",
    "ConverseRequest",
    "Cut",
    "Failure",
    "Hang",
    "Late",
    "Message",
    "Raw",
    "Reply",
    "Respond",
    "from_chat_model",
    "in_order",
    "stream_events",
]

_TARGET = re.compile(r"/model/(?P<model>[^/]+)/(?P<operation>converse|converse-stream)")
_ERROR_NAMESPACE = "http://internal.amazon.com/coral/com.amazon.bedrock/"
_POLL_SECONDS = 0.005
_JOIN_SECONDS = 2.0


class BedrockEndpoint:
    """Serves Converse calls from the moment it is made until its `with` block ends.

    `respond` is called in the thread of each connection, so it must be thread-safe. An error it raises is
    answered as a ValidationException, which no client retries, and is raised again when the `with` block
    ends.
    """

    def __init__(self, respond: Respond) -> None:
        """Start listening on a free port of 127.0.0.1."""
        self._respond = respond
        self._lock = threading.Lock()
        self._requests: list[ConverseRequest] = []
        self._answered: dict[int, tuple[ConverseRequest, Message]] = {}
        self._errors: list[Exception] = []
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_SECONDS,), daemon=True)
        self._thread.start()

    @property
    def requests(self) -> list[ConverseRequest]:
        """The requests so far, in order of arrival."""
        with self._lock:
            return list(self._requests)

    @property
    def answered(self) -> list[tuple[ConverseRequest, Message]]:
        """The requests that were answered in full, with their answers, in order of arrival: what would be billed."""
        with self._lock:
            return [self._answered[number] for number in sorted(self._answered)]

    def note(self, model_id: str, stream: bool, body: dict[str, Any], headers: dict[str, str]) -> ConverseRequest:
        """Note a request and number it."""
        with self._lock:
            request = ConverseRequest(model_id, stream, body, headers, number=len(self._requests))
            self._requests.append(request)
            return request

    def reply_to(self, request: ConverseRequest) -> Reply:
        """Return the reply to a request."""
        try:
            return self._respond(request)
        except Exception as error:
            return self.failed(error)

    @contextmanager
    def billing(self, request: ConverseRequest, reply: Reply) -> Iterator[None]:
        """Note a complete answer while it is sent, unless the caller turns out to be gone."""
        message = reply.message if isinstance(reply, Late) else reply
        if isinstance(message, Message):
            with self._lock:
                self._answered[request.number] = (request, message)
        try:
            yield
        except OSError:
            with self._lock:
                self._answered.pop(request.number, None)
            raise

    def failed(self, error: Exception) -> Failure:
        """Keep an error of the test's own parts until the end of the block, and return the reply for now."""
        with self._lock:
            self._errors.append(error)
        return Failure("ValidationException", f"The responder of the test endpoint failed: {error!r}")

    def close(self) -> None:
        """Stop listening, end every connection and wait for its thread."""
        self._server.stop()
        self._thread.join(_JOIN_SECONDS)

    def __enter__(self) -> Self:
        """Return the endpoint itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, and raise the first error of the responder, if there was one."""
        self.close()
        if self._errors and (error is None or isinstance(error, Exception)):
            raise self._errors[0] from error


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # the default of 5 refuses bursts of concurrent calls

    def __init__(self, endpoint: BedrockEndpoint) -> None:
        self.endpoint = endpoint
        self.closing = threading.Event()
        self.answers = itertools.count()
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        with self._lock:
            self._connections[request] = thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients that time out or stop reading break the connection: that is what some tests are about.
        pass

    def stop(self) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            with suppress(OSError):  # the client was faster
                connection.shutdown(socket.SHUT_RDWR)
        for thread in connections.values():
            thread.join(_JOIN_SECONDS)


@dataclass(frozen=True)
class _Answer:
    status: int = 0  # 0 sends nothing, not even a status line
    headers: dict[str, str] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    late_seconds: float = 0.0
    silent_seconds: float = 0.0
    complete: bool = True  # False: the connection is closed afterwards


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", "0")))
        path = urlsplit(self.path).path
        target = _TARGET.fullmatch(path)
        if target is None:
            self._send_failure(Failure("UnknownOperationException", f"No operation has the path {path}", 404))
            return
        try:
            body = json.loads(raw)
        except ValueError as error:
            self._send_failure(Failure("SerializationException", f"The body is not JSON: {error}", 400))
            return
        stream = target["operation"] == "converse-stream"
        headers = {name.lower(): value for name, value in self.headers.items()}
        endpoint = self.server.endpoint
        request = endpoint.note(unquote(target["model"]), stream, body, headers)
        reply = endpoint.reply_to(request)
        try:
            answer = _plan(reply, stream)
        except Exception as error:
            reply = endpoint.failed(error)
            answer = _plan(reply, stream)
        self.server.closing.wait(answer.late_seconds)
        with endpoint.billing(request, reply):
            self._send(answer)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _send_failure(self, failure: Failure) -> None:
        self._send(_plan(failure, stream=False))

    def _send(self, answer: _Answer) -> None:
        self.close_connection = self.close_connection or not answer.complete
        if answer.status:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("x-amzn-requestid", f"00000000-0000-4000-8000-{next(self.server.answers):012}")
            self.end_headers()
        for part in answer.parts:
            self.wfile.write(part)
        if answer.silent_seconds:
            self.server.closing.wait(answer.silent_seconds)


def _plan(reply: Reply, stream: bool) -> _Answer:
    """Return what goes over the wire for a reply; an unusable reply raises before anything is sent."""
    return _plan_stream(reply) if stream else _plan_body(reply)


def _plan_body(reply: Reply) -> _Answer:
    match reply:
        case Message():
            return _body(200, json.dumps(converse_body(reply)).encode())
        case Late():
            return replace(_plan_body(reply.message), late_seconds=reply.seconds)
        case Raw():
            return _body(reply.status, reply.body)
        case Failure():
            error_type = {"x-amzn-errortype": f"{reply.code}:{_ERROR_NAMESPACE}"}
            return _body(reply.status, json.dumps({"message": reply.message}).encode(), error_type)
        case Hang():
            return _Answer(silent_seconds=reply.seconds, complete=False)
        case Cut():
            whole = _plan_body(reply.message)
            return replace(whole, parts=[whole.parts[0][: len(whole.parts[0]) // 2]], complete=False)


def _plan_stream(reply: Reply) -> _Answer:
    match reply:
        case Message():
            return _streamed(_frames(stream_events(reply)))
        case Failure(mid_stream_after=int(after)):
            exception = reply.code[:1].lower() + reply.code[1:]  # as events are named
            frames = _frames(stream_events(reply.partial)[:after])
            return _streamed([*frames, exception_frame(exception, reply.message)])
        case Hang(mid_stream_after=int(after)):
            opened = _streamed(_frames(stream_events(reply.partial)[:after]))
            return replace(opened, parts=opened.parts[:-1], silent_seconds=reply.seconds, complete=False)
        case Failure() | Hang():
            return _plan_body(reply)
        case Cut():
            return _streamed(_frames(cut_events(reply)))
        case Late() | Raw():
            raise ValueError(f"this endpoint does not stream {type(reply).__name__} replies")


def _frames(events: Iterable[StreamEvent]) -> list[bytes]:
    return [event_frame(name, payload) for name, payload in events]


def _body(status: int, body: bytes, headers: dict[str, str] | None = None) -> _Answer:
    head = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    return _Answer(status, head, [body])


def _streamed(frames: list[bytes]) -> _Answer:
    chunks = [f"{len(frame):x}\r\n".encode() + frame + b"\r\n" for frame in frames]
    return _Answer(200, {"content-type": CONTENT_TYPE, "transfer-encoding": "chunked"}, [*chunks, b"0\r\n\r\n"])
