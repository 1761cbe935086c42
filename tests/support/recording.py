"""Records Bedrock calls on a cassette and replays them, without a doubt about what was replayed.

vcrpy does the recording; this module closes the gaps it leaves for boto3 (https://vcrpy.readthedocs.io).
"""

import ipaddress
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest import mock
from urllib.parse import urlsplit

import vcr
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.httpsession import URLLib3Session
from vcr.patch import PATCHER_NAMES
from vcr.persisters.filesystem import CassetteNotFoundError
from vcr.request import Request

from tests.support.cassette_file import CassetteError, read_cassette, secrets_in, write_cassette
from tests.support.json_difference import differences

__all__ = ["CANONICAL_HOST", "CassetteError", "CassetteMissError", "Recording", "recorded", "secrets_in"]

CANONICAL_HOST = "https://bedrock-runtime.us-east-1.amazonaws.com"

_BEDROCK_PATH = re.compile(r"/model/[^/]+/[a-z-]+")
_REQUEST_HEADERS = frozenset({"accept", "content-type"})
# content-encoding stays for what vcrpy cannot decode; content-length is wrong once a body is indented.
_RESPONSE_HEADERS = frozenset({"content-encoding", "content-type", "x-amzn-errortype", "x-amzn-requestid"})
_SHOWN = 3

# vcrpy patches classes of the whole process and is not thread-safe (vcrpy #212, #295, #849).
_sending = threading.Lock()
_active = threading.Lock()

_Call = AWSPreparedRequest
_Send = Callable[[URLLib3Session, _Call], AWSResponse]


class CassetteMissError(CassetteError):
    """A call was made that the cassette does not hold, or no longer."""


@dataclass
class Recording:
    """What has happened on a cassette so far."""

    path: Path
    mode: Literal["record", "replay"]
    calls: int = 0  # recorded or replayed
    misses: list[str] = field(default_factory=list)


@contextmanager
def recorded(path: Path, *, mode: Literal["record", "replay"]) -> Iterator[Recording]:
    """Record the Bedrock calls of the `with` block on the cassette at `path`, or replay them from it.

    Calls of all threads count, through any client, endpoint and region: a call is the same if its method,
    path and JSON body are the same. Equal calls are replayed in the order of the recording. Calls of
    boto3 to other services are left alone while recording; while replaying, only those to this machine
    are. One cassette can be active at a time.

    Recording replaces the file when the block ends without an error. It raises CassetteError if there is
    nothing to record, or if a call got no response (a timeout, a broken connection) in any attempt, since
    that cannot be replayed. Replaying raises CassetteError at once for a cassette that is missing or
    corrupt, CassetteMissError from a call that is not on the cassette and again at the end of the block
    whatever caught it, and CassetteError at the end if not every recorded call was made.
    """
    if mode not in ("record", "replay"):
        raise ValueError(f"mode is 'record' or 'replay', not {mode!r}")
    if not _active.acquire(blocking=False):
        raise CassetteError(f"{path}: another cassette is active in this process; use one at a time")
    try:
        tape = (_Recorder if mode == "record" else _Player)(Recording(path, mode))
        try:
            with tape.running():
                yield tape.recording
        except Exception as error:
            tape.check_misses(error)
            raise
        tape.check_misses(None)
        tape.finish()
    finally:
        _active.release()


class _Tape:
    """A cassette in use; `send` stands in for botocore's own."""

    record_mode: vcr.mode

    def __init__(self, recording: Recording, interactions: list[dict[str, Any]]) -> None:
        self.recording = recording
        self._interactions = interactions
        self._closed = False
        self._cassette: Any = None

    @contextmanager
    def running(self) -> Iterator[None]:
        recorder = vcr.VCR(
            before_record_request=_canonical,
            before_record_response=_without_private_headers,
            decode_compressed_response=True,
            match_on=["method", "uri", "canonical body"],
            record_mode=self.record_mode,
            # Other HTTP libraries are none of our business, and patched without the lock they would race.
            skip_patchers=[name for name in PATCHER_NAMES if name != "boto3"],
        )
        recorder.register_matcher("canonical body", _same_body)
        recorder.register_persister(_InMemory(self._interactions))
        context = recorder.use_cassette(str(self.recording.path))
        original: _Send = URLLib3Session.send

        def send(session: URLLib3Session, request: _Call) -> AWSResponse:
            with _sending:
                return self._send_fresh(original, session, request)

        # The lock keeps calls of other threads from seeing half of the patches, at either end.
        with ExitStack() as patches:
            with _sending:
                patches.enter_context(mock.patch.object(URLLib3Session, "send", send))
                self._cassette = patches.enter_context(context)
            try:
                yield
            finally:
                with _sending:
                    self._closed = True

    def _send_fresh(self, original: _Send, session: URLLib3Session, request: _Call) -> AWSResponse:
        if self._closed:
            raise self._miss(f"{request.method} {request.url} was called after the cassette was closed")
        # vcrpy would not see a connection from before this cassette, and none may outlive it in a pool.
        session.close()
        try:
            return self.send(original, session, request)
        finally:
            session.close()

    def send(self, original: _Send, session: URLLib3Session, request: _Call) -> AWSResponse:
        raise NotImplementedError

    def _miss(self, reason: str) -> CassetteMissError:
        self.recording.misses.append(reason)
        return CassetteMissError(f"{self.recording.path}: {reason}")

    def check_misses(self, cause: Exception | None) -> None:
        misses = self.recording.misses
        if misses:
            shown = "\n- ".join(misses)
            raise CassetteMissError(
                f"{self.recording.path}: {len(misses)} call(s) missed the cassette, whatever became of "
                f"the error; record it again if the calls are right:\n- {shown}"
            ) from cause

    def finish(self) -> None:
        raise NotImplementedError


class _Recorder(_Tape):
    record_mode = vcr.mode.ALL

    def __init__(self, recording: Recording) -> None:
        super().__init__(recording, [])
        self._unanswered: list[Request] = []

    def send(self, original: _Send, session: URLLib3Session, request: _Call) -> AWSResponse:
        try:
            response = original(session, request)
        except Exception:
            if _is_bedrock(request.url):
                self._unanswered.append(_canonical(_vcr_request(request)))
            raise
        finally:
            self.recording.calls = len(self._cassette)
        return response

    def finish(self) -> None:
        path = self.recording.path
        answered = list(self._cassette.requests)
        for request in self._unanswered:
            if not any(_same_request(request, other) for other in answered):
                raise CassetteError(
                    f"{path}: {request.method} {request.path} never got a response, which no cassette holds; "
                    "nothing was written. Test timeouts and broken connections against a BedrockEndpoint"
                )
        if not answered:
            raise CassetteError(f"{path}: no Bedrock call was made; nothing was written")
        pairs = zip(answered, self._cassette.responses, strict=True)
        write_cassette(path, [_stored(request, response) for request, response in pairs])


class _Player(_Tape):
    record_mode = vcr.mode.NONE

    def __init__(self, recording: Recording) -> None:
        super().__init__(recording, read_cassette(recording.path))

    def send(self, original: _Send, session: URLLib3Session, request: _Call) -> AWSResponse:
        if not _is_bedrock(request.url):
            if _is_this_machine(request.url):
                return original(session, request)
            raise self._miss(f"{request.method} {request.url} would go over the network")
        wanted = _vcr_request(request)
        # Asked before vcrpy raises: botocore would wrap its exception in one that is retried.
        if not self._cassette.can_play_response_for(wanted):
            raise self._miss(self._why(_canonical(wanted)))
        try:
            response = original(session, request)
        except Exception as error:
            self._miss(f"{request.method} {request.url} could not be replayed: {error!r}")
            raise
        self.recording.calls = self._cassette.play_count
        return response

    def finish(self) -> None:
        if not self._cassette.all_played:
            requests = self._cassette.requests
            unplayed = [number for number in range(len(requests)) if not self._cassette.play_counts[number]]
            first = ", ".join(f"{number} ({requests[number].path})" for number in unplayed[:_SHOWN])
            raise CassetteError(
                f"{self.recording.path}: {len(unplayed)} of {len(requests)} recorded calls were not made, "
                f"such as interaction {first}; record it again if that is right"
            )

    def _why(self, wanted: Request) -> str:
        call = f"{wanted.method} {wanted.path}"
        same_path = [other for other in self._cassette.requests if other.uri == wanted.uri]
        if any(_same_request(wanted, other) for other in same_path):
            return f"{call} was made more often than recorded"
        candidates = [list(differences(_json(other.body), _json(wanted.body))) for other in same_path]
        if not candidates:
            return f"{call} was never recorded"
        nearest = min(candidates, key=len)
        return f"{call} differs from the nearest recording: " + "; ".join(nearest[:_SHOWN])


class _InMemory:
    """A vcrpy persister that reads what is already in memory and leaves writing to `_Recorder`."""

    def __init__(self, interactions: list[dict[str, Any]]) -> None:
        self._interactions = interactions

    def load_cassette(self, path: str, serializer: object) -> tuple[list[Request], list[dict[str, Any]]]:
        if not self._interactions:
            raise CassetteNotFoundError
        requests = [Request(**interaction["request"]) for interaction in self._interactions]
        return requests, [interaction["response"] for interaction in self._interactions]

    @staticmethod
    def save_cassette(path: str, cassette: object, serializer: object) -> None:
        # vcrpy writes in place, in the middle of its exit: an error here would leave its patches behind.
        pass


def _stored(request: Request, response: dict[str, Any]) -> dict[str, Any]:
    headers = {name.lower(): [value] for name, value in request.headers.items()}
    return {
        "request": {"method": request.method, "uri": request.uri, "headers": headers, "body": request.body},
        "response": {name: response[name] for name in ("status", "headers", "body")},
    }


def _vcr_request(request: AWSPreparedRequest) -> Request:
    return Request(method=request.method, uri=request.url, body=request.body, headers={})


def _canonical(request: Request) -> Request | None:
    """Return the request as a cassette holds it; vcrpy lets a request for which this is None through."""
    if not _is_bedrock(request.uri):
        return None
    parts = urlsplit(request.uri)
    body = _json(request.body)
    if not isinstance(body, bytes):
        body = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    headers = {name.lower(): _text(value) for name, value in request.headers.items()}
    return Request(
        method=request.method,
        uri=CANONICAL_HOST + parts.path + (f"?{parts.query}" if parts.query else ""),
        body=body,
        headers={name: value for name, value in headers.items() if name in _REQUEST_HEADERS},
    )


def _without_private_headers(response: dict[str, Any]) -> dict[str, Any]:
    headers = {name.lower(): values for name, values in response["headers"].items()}
    return {
        **response,
        "headers": {name: headers[name] for name in sorted(headers.keys() & _RESPONSE_HEADERS)},
    }


def _same_request(one: Request, other: Request) -> bool:
    return (one.method, one.uri, one.body) == (other.method, other.uri, other.body)


def _same_body(one: Request, other: Request) -> bool:
    return bool(one.body == other.body)


def _json(body: bytes | None) -> Any:
    try:
        return json.loads(body or b"")
    except ValueError:
        return body or b""


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _is_bedrock(url: str) -> bool:
    return _BEDROCK_PATH.fullmatch(urlsplit(url).path) is not None


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
