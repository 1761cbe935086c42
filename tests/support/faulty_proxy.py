"""A proxy between boto3's clients and an emulator that misbehaves on the wire when it is told to.

Point `endpoint_url` at `FaultyProxy.url`; timeouts, retries and errors are then those of the real client and of real
sockets. Bodies pass as they are. moto's transactions are not safe at many threads, so DynamoDB's requests are passed
on one at a time: races are then decided by the code under test.
"""

import json
import os
import re
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPConnection, HTTPException, responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import parse_qs, unquote, urlsplit

from botocore.loaders import create_loader

Kind = Literal[
    "timeout_before",  # never passed on, never answered
    "timeout_after",  # takes effect, never answered
    "reset_before",
    "reset_after",
    "kill_before",  # the client's process dies when it has sent its request
    "kill_after",  # the client's process dies when its request has taken effect
    "cut",  # takes effect; half of the answer's body, then the connection ends
    "unavailable",
    "internal",
    "throttle",
    "limited",  # DynamoDB's other throttle: of the account, or of the control plane
    "conflict",
    "denied",
    "delay",
]
_RESET = struct.pack("ii", 1, 0)  # close() then sends RST instead of FIN
_POLL_S = 0.01
_JOIN_S = 2.0
_LONGEST_HANG_S = 30.0
_UPSTREAM_S = 60.0
_CREDENTIAL = re.compile(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/")
_SERVICES = {"monitoring": "cloudwatch"}
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "expect", "proxy-connection", "te", "upgrade"})


class Refusal(NamedTuple):
    """An error as a service answers it."""

    status: int
    code: str


_S3: Mapping[Kind, Refusal] = {
    "unavailable": Refusal(503, "ServiceUnavailable"),
    "internal": Refusal(500, "InternalError"),
    "throttle": Refusal(503, "SlowDown"),
    "limited": Refusal(503, "SlowDown"),
    "conflict": Refusal(409, "ConditionalRequestConflict"),
    "denied": Refusal(403, "AccessDenied"),
}
_DYNAMODB: Mapping[Kind, Refusal] = {
    "unavailable": Refusal(503, "ServiceUnavailable"),
    "internal": Refusal(500, "InternalServerError"),
    "throttle": Refusal(400, "ProvisionedThroughputExceededException"),
    "limited": Refusal(400, "ThrottlingException"),
    "conflict": Refusal(400, "TransactionConflictException"),
    "denied": Refusal(400, "AccessDeniedException"),
}
_OTHERS: Mapping[Kind, Refusal] = {
    "unavailable": Refusal(503, "ServiceUnavailable"),
    "internal": Refusal(500, "InternalFailure"),
    "throttle": Refusal(400, "ThrottlingException"),
    "limited": Refusal(400, "ThrottlingException"),
    "conflict": Refusal(400, "ConflictException"),
    "denied": Refusal(400, "AccessDeniedException"),
}


@dataclass(frozen=True)
class Call:
    """A request, in the order of arrival.

    Args:
        service: Such as `s3`, `dynamodb`, `kms` or `cloudwatch`.
        operation: Its name in the service's API, such as `PutObject`.
        key: `bucket/key` of an object, `pk sk` of an item; several are separated by a comma.
        status: What the client was answered; 0 if nothing.
        effect: What the service answered; 0 if it never got the request.
    """

    service: str
    operation: str
    key: str
    status: int
    effect: int


@dataclass
class Fault:
    """What goes wrong with some requests; `met` tells with how many it did so far."""

    kind: Kind
    service: str
    operation: str
    key: str
    nth: int
    times: int | None
    pid: int
    delay_s: float
    seen: int = 0
    met: int = 0

    def takes(self, request: "Request") -> bool:
        """Count a request; whether it is one of those that fail."""
        if self.service not in ("", request.service) or self.operation not in ("", request.operation):
            return False
        if self.key not in request.key:
            return False
        self.seen += 1
        hit = self.seen >= self.nth and (self.times is None or self.seen < self.nth + self.times)
        self.met += hit
        return hit


@dataclass
class Request:
    """A request as it arrived: its body is what was on the wire, chunks and trailers and all."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    whole: bool
    service: str = field(init=False)
    operation: str = field(init=False)
    key: str = field(init=False)
    status: int = 0
    effect: int = 0

    def __post_init__(self) -> None:
        """Find out what is asked for."""
        signed = _CREDENTIAL.search(self.header("authorization") or unquote(self.target))
        named = signed[1] if signed else "s3"
        self.service = _SERVICES.get(named, named)
        self.operation = _operation(self)
        self.key = _key(self)

    def header(self, name: str) -> str:
        """Return a header's value, or an empty text."""
        return next((value for given, value in self.headers if given.lower() == name), "")

    def as_call(self) -> Call:
        """Return it for the log."""
        return Call(self.service, self.operation, self.key, self.status, self.effect)


@dataclass(frozen=True)
class Answer:
    """An answer of the service, or of the proxy in its name."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes


class FaultyProxy:
    """Serves from the moment it is made until its `with` block ends.

    Args:
        upstream: The emulator's URL.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream).netloc
        self._lock = threading.Condition()
        self._one_at_a_time = threading.Lock()
        self._log: list[Request] = []
        self._faults: list[Fault] = []
        self._down: set[str] = set()
        self._forwarding: list[Request] = []
        self._errors: list[Exception] = []
        # Bound but not listening, it keeps the port ours while everything is down.
        self._port = _socket(("127.0.0.1", 0))
        self._address = self._port.getsockname()
        self.url = f"http://127.0.0.1:{self._address[1]}"
        self._server: _Server | None = _Server(self, self._address)

    # -- what a test says and asks

    @property
    def calls(self) -> list[Call]:
        """The requests since the last `clear`, in order of arrival."""
        with self._lock:
            return [request.as_call() for request in self._log]

    def clear(self) -> None:
        """Forget the requests so far."""
        with self._lock:
            self._log = []

    def fail(
        self,
        kind: Kind,
        service: str = "",
        operation: str = "",
        *,
        key: str = "",
        nth: int = 1,
        times: int | None = 1,
        pid: int = 0,
        delay_s: float = 0.0,
    ) -> Fault:
        """Let something go wrong from now on.

        Args:
            kind: What.
            service: With requests to this service; empty for any.
            operation: With requests for this operation; empty for any.
            key: With requests whose key in the log contains this.
            nth: With the n-th such request from now on, counted from 1.
            times: With so many in a row; None until `heal`.
            pid: Which process is killed.
            delay_s: Seconds to wait first.
        """
        fault = Fault(kind, service, operation, key, nth, times, pid, delay_s)
        with self._lock:
            self._faults.append(fault)
        return fault

    def heal(self, key: str = "") -> None:
        """Let everything go well again, and every service be up.

        Args:
            key: Only end what goes wrong with keys that contain this.
        """
        with self._lock:
            self._faults = [fault for fault in self._faults if key not in fault.key]
        if not key:
            self.up()

    def down(self, service: str = "") -> None:
        """Reset each request to a service; without one, refuse every connection and end those that are open."""
        if service:
            with self._lock:
                self._down.add(service)
        elif self._server:
            self._server.stop()
            self._server = None

    def up(self) -> None:
        """End all outages."""
        with self._lock:
            self._down = set()
        if self._server is None:
            self._server = _Server(self, self._address)

    def quiet(self, key: str = "", timeout_s: float = _UPSTREAM_S) -> None:
        """Wait until the emulator is at work on nothing: whoever was not answered may be gone before the effect.

        Args:
            key: Only for requests whose key in the log contains this.
            timeout_s: Seconds to wait at most.
        """
        with self._lock:
            if not self._lock.wait_for(lambda: not any(key in each.key for each in self._forwarding), timeout_s):
                raise TimeoutError(f"the emulator is still at work on {self._forwarding}")

    def close(self) -> None:
        """Stop listening and end every connection."""
        if self._server:
            self._server.stop()
        self._port.close()

    def __enter__(self) -> Self:
        """Return the proxy itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, and raise the first error of the proxy itself, if there was one."""
        self.close()
        if self._errors and (error is None or isinstance(error, Exception)):
            raise self._errors[0] from error

    # -- what the threads of the connections do

    def arrived(self, request: Request) -> tuple[Fault | None, bool]:
        """Note a request; return what is to go wrong with it, and whether its service is down."""
        with self._lock:
            self._log.append(request)
            if request.service in self._down or not request.whole:
                return None, True
            # Each fault counts all of its requests, also those that an earlier one takes.
            hits = [fault for fault in self._faults if fault.takes(request)]
            return next(iter(hits), None), False

    def forward(self, request: Request) -> Answer:
        """Pass a request on and return the answer, whatever it is.

        Raises:
            OSError: The emulator cannot be reached.
            HTTPException: It does not speak HTTP.
        """
        with self._lock:
            self._forwarding.append(request)
        try:
            with self._one_at_a_time if request.service == "dynamodb" else nullcontext():
                answer = _exchange(self._upstream, request)
            request.effect = answer.status
        finally:
            with self._lock:
                self._forwarding = [each for each in self._forwarding if each is not request]
                self._lock.notify_all()
        return answer

    def failed(self, error: Exception) -> None:
        """Keep an error of the proxy or the test until the end of the block."""
        with self._lock:
            self._errors.append(error)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # the default of 5 refuses bursts of concurrent calls
    daemon_threads = True

    def __init__(self, proxy: FaultyProxy, address: tuple[str, int]) -> None:
        self.proxy = proxy
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        super().__init__(address, _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = _socket(address)
        self.socket.listen(self.request_queue_size)
        self._thread = threading.Thread(target=self.serve_forever, args=(_POLL_S,), daemon=True)
        self._thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        with self._lock:
            self._connections[request] = thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.pop(request, None)
        if request.fileno() != -1 and request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == _RESET:
            request.close()  # without the FIN that a shutdown sends first
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients that time out or die break the connection: that is what the proxy is for.
        pass

    def stop(self) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()
        self._thread.join(_JOIN_S)
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            with suppress(OSError):  # the client was faster
                connection.shutdown(socket.SHUT_RDWR)
        for thread in connections.values():
            thread.join(_JOIN_S)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _serve(self) -> None:
        proxy = self.server.proxy
        try:
            request = Request(self.command, self.path, list(self.headers.items()), *self._body())
        except Exception as error:
            proxy.failed(error)
            raise
        fault, down = proxy.arrived(request)
        if down:
            self._reset()
            return
        try:
            self._misbehave(request, fault) if fault else self._answer(request, proxy.forward(request))
        except (OSError, HTTPException):  # the client is gone, or the emulator is
            request.status = 0
            self._reset()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815  # names of the standard library

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _body(self) -> tuple[bytes, bool]:
        """Read a body as it is on the wire; whether all of it came."""
        try:
            return self._read_body()
        except ConnectionError:  # the client died
            return b"", False

    def _read_body(self) -> tuple[bytes, bool]:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            length = int(self.headers.get("content-length", "0"))
            body = self.rfile.read(length)
            return body, len(body) == length
        parts = list(self._chunks())
        return b"".join(parts), parts[-1] == b"\r\n"

    def _chunks(self) -> Iterator[bytes]:
        """Yield the lines and the data of a chunked body; the last line is empty (RFC 9112, section 7.1)."""
        while size := int((head := self.rfile.readline()).split(b";")[0].strip() or b"0", 16):
            yield head
            yield self.rfile.read(size + 2)
        yield head
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            yield line
        yield line

    def _misbehave(self, request: Request, fault: Fault) -> None:
        self.server.closing.wait(fault.delay_s)
        kind, proxy = fault.kind, self.server.proxy
        if kind == "delay":
            self._answer(request, proxy.forward(request))
        elif kind in _S3:
            self._answer(request, refused(request, kind))
        else:
            done = proxy.forward(request) if kind == "cut" or kind.endswith("_after") else None
            if kind == "cut" and done:
                self._answer(request, done, cut=True)
            elif kind.startswith("kill"):
                self._kill(fault.pid)
            if not kind.startswith(("reset", "cut")):
                self._hang()
            self._reset()

    def _answer(self, request: Request, answer: Answer, *, cut: bool = False) -> None:
        request.status = 0 if cut else answer.status  # before the client can know of it
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body[: len(answer.body) // 2] if cut else answer.body)

    def _kill(self, pid: int) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError as error:
            self.server.proxy.failed(RuntimeError(f"process {pid} cannot be killed: {error}"))

    def _hang(self) -> None:
        """Wait until the client gives up or is gone."""
        deadline_s = time.monotonic() + _LONGEST_HANG_S
        while not self.server.closing.is_set() and time.monotonic() < deadline_s:
            if select.select([self.connection], [], [], _POLL_S)[0]:
                return

    def _reset(self) -> None:
        self.close_connection = True
        with suppress(OSError):  # the client was faster
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def refused(request: Request, kind: Kind) -> Answer:
    """Return an error in the form of the service."""
    table = {"s3": _S3, "dynamodb": _DYNAMODB}.get(request.service, _OTHERS)
    refusal = table[kind]
    told = f"The proxy of the test says {refusal.code}"
    if request.service == "s3":
        form, body = "application/xml", f"<Error><Code>{refusal.code}</Code><Message>{told}</Message></Error>".encode()
    elif request.header("smithy-protocol"):
        form, body = (
            "application/cbor",
            b"\xa2"
            + b"".join(_cbor_text(text) for text in ("__type", f"com.amazonaws#{refusal.code}", "message", told)),
        )
    elif request.header("x-amz-target"):
        form, body = "application/x-amz-json-1.0", json.dumps(_json_error(request, refusal, told)).encode()
    else:
        error = f"<Error><Code>{refusal.code}</Code><Message>{told}</Message></Error>"
        form, body = "text/xml", f"<ErrorResponse>{error}</ErrorResponse>".encode()
    headers = [("content-type", form), ("content-length", str(len(body))), ("x-amzn-requestid", "refused-by-the-proxy")]
    if form == "application/cbor":
        headers.append(("smithy-protocol", "rpc-v2-cbor"))
    return Answer(refusal.status, responses[refusal.status], headers, b"" if request.method == "HEAD" else body)


def _json_error(request: Request, refusal: Refusal, told: str) -> dict[str, Any]:
    if refusal.code == "TransactionConflictException" and request.operation == "TransactWriteItems":
        others = len(json.loads(request.body)["TransactItems"]) - 1
        reasons = [{"Code": "TransactionConflict", "Message": told}, *[{"Code": "None"}] * others]
        codes = ", ".join(reason["Code"] for reason in reasons)
        message = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]"
        name = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException"
        return {"__type": name, "Message": message, "CancellationReasons": reasons}
    return {"__type": f"com.amazonaws.{request.service}#{refusal.code}", "message": told}


def _cbor_text(text: str) -> bytes:
    """Return a text as CBOR has it (RFC 8949, major type 3)."""
    content = text.encode()
    return b"\x78" + bytes([len(content)]) + content


def _exchange(netloc: str, request: Request) -> Answer:
    # A connection for each request: one that was kept could be closed by the emulator at any moment.
    upstream = HTTPConnection(netloc, timeout=_UPSTREAM_S)
    try:
        upstream.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers:
            if name.lower() not in _HOP_BY_HOP:
                upstream.putheader(name, value)
        upstream.putheader("connection", "close")
        upstream.endheaders()
        upstream.send(request.body)
        response = upstream.getresponse()
        body = response.read()
        dropped = {*_HOP_BY_HOP, "transfer-encoding"}
        headers = [(name, value) for name, value in response.getheaders() if name.lower() not in dropped]
        if response.getheader("content-length") is None and request.method != "HEAD":
            headers.append(("content-length", str(len(body))))
        return Answer(response.status, response.reason, headers, body)
    finally:
        upstream.close()


def _socket(address: tuple[str, int]) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(address)
    return bound


# -- what a request asks for


def _operation(request: Request) -> str:
    if target := request.header("x-amz-target"):
        return target.rpartition(".")[2]
    path = urlsplit(request.target).path
    if request.header("smithy-protocol"):
        return path.rpartition("/")[2]  # /service/NAME/operation/NAME
    if request.service != "s3":
        return parse_qs(request.body.decode("latin-1")).get("Action", ["unknown"])[0]
    return _s3_operation(request, path)


@dataclass(frozen=True)
class _S3Shape:
    """How the requests for an operation look."""

    name: str
    method: str
    depth: int
    demands: frozenset[str]

    def fits(self, method: str, depth: int, given: set[str]) -> bool:
        return (self.method, self.depth) == (method, depth) and self.demands <= given


@cache
def _s3_shapes() -> tuple[_S3Shape, ...]:
    """Read S3's own description, the most demanding operations first."""
    api = create_loader().load_service_model("s3", "service-2")
    shapes = []
    for name, operation in api["operations"].items():
        path, _, query = operation["http"]["requestUri"].partition("?")
        demands = {part for part in query.split("&") if part}
        asked = api["shapes"].get(operation.get("input", {}).get("shape", ""), {})
        for member in asked.get("required", []):
            where = asked["members"][member]
            if where.get("location") in ("querystring", "header"):
                demands.add(where["locationName"].lower())
        if not operation.get("deprecated"):
            shapes.append(_S3Shape(name, operation["http"]["method"], _depth(path), frozenset(demands)))
    return tuple(sorted(shapes, key=lambda shape: -len(shape.demands)))


def _depth(path: str) -> int:
    """Return 0 for the service, 1 for a bucket, 2 for an object."""
    bucket, _, key = path.lstrip("/").partition("/")
    return 2 if key else 1 if bucket else 0


def _s3_operation(request: Request, path: str) -> str:
    pairs = [part for part in urlsplit(request.target).query.split("&") if part]
    given = {*pairs, *(pair.partition("=")[0] for pair in pairs), *(pair.partition("=")[0].lower() for pair in pairs)}
    given |= {name.lower() for name, _ in request.headers}
    depth = _depth(path)
    return next((shape.name for shape in _s3_shapes() if shape.fits(request.method, depth, given)), "unknown")


def _key(request: Request) -> str:
    if request.service == "s3":
        return unquote(urlsplit(request.target).path).lstrip("/")
    if not request.header("x-amz-target") or not request.whole:
        return ""
    asked = json.loads(request.body)
    if request.service == "dynamodb":
        return ", ".join(_items(asked))
    return str(asked.get("KeyId", ""))


def _items(asked: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys of the items that a DynamoDB request names."""
    if "TransactItems" in asked:
        for part in asked["TransactItems"]:
            yield from _items(next(iter(part.values())))
    elif found := asked.get("Key") or asked.get("Item"):
        yield " ".join(str(next(iter(found[name].values()))) for name in ("pk", "sk") if name in found)
    elif pk := asked.get("ExpressionAttributeValues", {}).get(":pk"):
        yield str(pk.get("S", ""))
