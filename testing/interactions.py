"""Calls between vcrpy and a cassette: brought into their canonical form, stripped, kept in memory."""

from __future__ import annotations

from typing import Any

from botocore.awsrequest import AWSPreparedRequest
from vcr.persisters.filesystem import CassetteNotFoundError
from vcr.request import Request

from .calls import canonical_body, canonical_uri, is_bedrock

_REQUEST_HEADERS = frozenset({"accept", "content-type"})
# content-encoding stays for what vcrpy cannot decode; content-length is wrong once a body is indented.
_RESPONSE_HEADERS = frozenset({"content-encoding", "content-type", "x-amzn-errortype", "x-amzn-requestid"})


def vcr_request(request: AWSPreparedRequest) -> Request:
    """Return a request of botocore as vcrpy has it, without headers."""
    return Request(method=request.method, uri=request.url, body=request.body, headers={})


def canonical(request: Request) -> Request | None:
    """Return a request as a cassette holds it; vcrpy lets a request for which this is None through."""
    if not is_bedrock(request.uri):
        return None
    headers = {name.lower(): _text(value) for name, value in request.headers.items()}
    return Request(
        method=request.method,
        uri=canonical_uri(request.uri),
        body=canonical_body(request.body),
        headers={name: value for name, value in headers.items() if name in _REQUEST_HEADERS},
    )


def without_private_headers(response: dict[str, Any]) -> dict[str, Any]:
    """Return a response with the headers that a cassette holds."""
    headers = {name.lower(): values for name, values in response["headers"].items()}
    return {**response, "headers": {name: headers[name] for name in sorted(headers.keys() & _RESPONSE_HEADERS)}}


def stored(request: Request, response: dict[str, Any]) -> dict[str, Any]:
    """Return a canonical request and its response as `write_cassette` takes them."""
    headers = {name.lower(): [value] for name, value in request.headers.items()}
    return {
        "request": {"method": request.method, "uri": request.uri, "headers": headers, "body": request.body},
        "response": {name: response[name] for name in ("status", "headers", "body")},
    }


def same_request(one: Request, other: Request) -> bool:
    """Whether two canonical requests are the same call."""
    return (one.method, one.uri, one.body) == (other.method, other.uri, other.body)


def same_body(one: Request, other: Request) -> bool:
    """Whether two canonical requests have the same body: a matcher for vcrpy."""
    return bool(one.body == other.body)


class InMemory:
    """A vcrpy persister that reads what is already in memory and leaves writing to `Recorder`.

    Args:
        interactions: What is on the cassette, as `read_cassette` returns it.
    """

    def __init__(self, interactions: list[dict[str, Any]]) -> None:
        self._interactions = interactions

    def load_cassette(self, path: str, serializer: object) -> tuple[list[Request], list[dict[str, Any]]]:
        """Return requests and responses.

        Raises:
            CassetteNotFoundError: There are none.
        """
        if not self._interactions:
            raise CassetteNotFoundError
        requests = [Request(**interaction["request"]) for interaction in self._interactions]
        return requests, [interaction["response"] for interaction in self._interactions]

    @staticmethod
    def save_cassette(path: str, cassette: object, serializer: object) -> None:
        """Write nothing: vcrpy would do so in place and in the middle of its exit, leaving its patches on an error."""


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
