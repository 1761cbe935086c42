"""A local HTTP server that stands for AWS STS and the control plane of Bedrock, which say who may call what.

Point AWS_ENDPOINT_URL_STS and AWS_ENDPOINT_URL_BEDROCK at `ControlPlane.url`. Beside it, a proxy that lets nobody
through and remembers where they wanted to go.
"""

import json
import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.converse import Failure, Hang

ACCOUNT = "111122223333"
CALLER = f"arn:aws:iam::{ACCOUNT}:user/ada"
_OPERATIONS = {
    "foundation-model-availability": "GetFoundationModelAvailability",
    "inference-profiles": "GetInferenceProfile",
}
_STS = "https://sts.amazonaws.com/doc/2011-06-15/"
_POLL_SECONDS = 0.005


@dataclass(frozen=True)
class ControlRequest:
    """One call as it arrived."""

    operation: str
    subject: str
    """The model, the inference profile or the role it is about."""
    headers: dict[str, str]
    arguments: dict[str, str]

    @property
    def region(self) -> str:
        """The region it was signed for; empty if it was not signed."""
        signed = re.search(r"Credential=[^/]+/\d+/([^/]+)/", self.headers.get("authorization", ""))
        return signed[1] if signed else ""

    @property
    def access_key(self) -> str:
        """The access key it was signed with; empty if it was not signed."""
        signed = re.search(r"Credential=([^/]+)/", self.headers.get("authorization", ""))
        return signed[1] if signed else ""


ControlReply: TypeAlias = dict[str, Any] | Failure | Hang
Control: TypeAlias = Callable[[ControlRequest], ControlReply]


def granted(request: ControlRequest) -> ControlReply:
    """Reply that everything exists and is allowed."""
    match request.operation:
        case "GetCallerIdentity":
            return {"Account": ACCOUNT, "Arn": CALLER, "UserId": "AIDAEXAMPLE"}
        case "AssumeRole":
            return temporary_keys("ASIAASSUMED000000001", "assumed-secret", "assumed-token")
        case "GetInferenceProfile":
            model = request.subject.rsplit("/", 1)[-1].partition(".")[2]
            arns = [f"arn:aws:bedrock:{region}::foundation-model/{model}" for region in ("us-east-1", "us-west-2")]
            return {
                "inferenceProfileId": request.subject,
                "status": "ACTIVE",
                "type": "SYSTEM_DEFINED",
                "models": [{"modelArn": arn} for arn in arns],
            }
        case _:
            return availability(request.subject)


def availability(model_id: str, **differing: Any) -> ControlReply:
    """Return what Bedrock says of a model that can be called, or something else of it."""
    usual = {
        "modelId": model_id,
        "agreementAvailability": {"status": "AVAILABLE"},
        "authorizationStatus": "AUTHORIZED",
        "entitlementAvailability": "AVAILABLE",
        "regionAvailability": "AVAILABLE",
    }
    return usual | differing


def temporary_keys(access_key: str, secret_key: str, token: str, *, lifetime_s: float = 3600) -> ControlReply:
    """Return what AssumeRole answers."""
    until = datetime.now(UTC) + timedelta(seconds=lifetime_s)
    return {
        "Credentials": {
            "AccessKeyId": access_key,
            "SecretAccessKey": secret_key,
            "SessionToken": token,
            "Expiration": f"{until:%Y-%m-%dT%H:%M:%SZ}",
        }
    }


class ControlPlane:
    """Serves from the moment it is made until its `with` block ends; `respond` is called in the connection's thread."""

    def __init__(self, respond: Control = granted, *, tls: ssl.SSLContext | None = None) -> None:
        self.respond = respond
        self._lock = threading.Lock()
        self._requests: list[ControlRequest] = []
        self._server = _Server(self)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_SECONDS,), daemon=True)
        self._thread.start()

    @property
    def requests(self) -> list[ControlRequest]:
        """The requests so far, in order of arrival."""
        with self._lock:
            return list(self._requests)

    def reply_to(self, request: ControlRequest) -> ControlReply:
        """Note a request and return the reply to it."""
        with self._lock:
            self._requests.append(request)
        return self.respond(request)

    def __enter__(self) -> Self:
        """Return the server itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop listening."""
        self._server.closing.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients that time out break the connection: that is what some tests are about.
        pass


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        folder, _, subject = urlsplit(self.path).path.lstrip("/").partition("/")
        self._serve(_OPERATIONS[folder], unquote(subject), {})

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers.get("content-length", "0"))).decode())
        arguments = {name: values[0] for name, values in form.items()}
        self._serve(arguments["Action"], arguments.get("RoleArn", ""), arguments)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _serve(self, operation: str, subject: str, arguments: dict[str, str]) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.plane.reply_to(ControlRequest(operation, subject, headers, arguments))
        match reply:
            case Hang():
                self.server.closing.wait(reply.seconds)
            case Failure() if self.command == "POST":
                error = {"Type": "Sender", "Code": reply.code, "Message": reply.message}
                self._send(reply.status, _xml("ErrorResponse", {"Error": error}))
            case Failure():
                error_type = {"x-amzn-errortype": reply.code}
                self._send(reply.status, json.dumps({"message": reply.message}).encode(), error_type)
            case _ if self.command == "POST":
                self._send(200, _xml(f"{operation}Response", {f"{operation}Result": reply}))
            case _:
                self._send(200, json.dumps(reply).encode())

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _xml(name: str, value: Any) -> bytes:
    def written(tag: str, inner: Any) -> str:
        text = "".join(written(*pair) for pair in inner.items()) if isinstance(inner, dict) else str(inner)
        return f"<{tag}>{text}</{tag}>"

    return written(name, value).replace(f"<{name}>", f'<{name} xmlns="{_STS}">', 1).encode()


class ClosedProxy:
    """An HTTP proxy that refuses every connection and remembers the hosts that were asked for."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(_POLL_SECONDS,), daemon=True).start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hosts = self.hosts

        class Handler(BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                hosts.append(self.path.rpartition(":")[0])
                self.send_error(502)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler

    def __enter__(self) -> Self:
        """Return the proxy itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
