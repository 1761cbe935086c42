"""Which HTTP requests are Bedrock calls, and the one form in which a cassette holds and compares them."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any
from urllib.parse import urlsplit

CANONICAL_HOST = "https://bedrock-runtime.us-east-1.amazonaws.com"
CANONICAL_ACCOUNT = "000000000000"

_BEDROCK_HOST = re.compile(r"(?:^|\.)bedrock-runtime[a-z-]*\.")
_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
_BEDROCK_PATH = re.compile(
    r"/model/[^/]+/(?:converse|invoke|count-tokens)[a-z-]*"
    r"|/guardrail/[^/]+/version/[^/]+/apply|/guardrail-checks/invoke|/async-invoke(?:/[^/]+)?"
)
_COLON = "(?::|%3A)"
_ACCOUNT = re.compile(
    rf"(arn{_COLON}aws[a-z-]*{_COLON}[a-z0-9-]+{_COLON}[a-z0-9-]*{_COLON})\d{{12}}(?={_COLON})", re.IGNORECASE
)


def is_bedrock(url: str) -> bool:
    """Whether a request to this URL is one of Bedrock's runtime.

    AWS's own hosts are told by their names, any other (a proxy, a server on this machine) by the path: a key of
    an S3 bucket may well be `model/a/invoke`.

    Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_Operations_Amazon_Bedrock_Runtime.html
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if _BEDROCK_HOST.search(host):
        return True
    return not host.endswith(_AWS_DOMAINS) and _BEDROCK_PATH.fullmatch(parts.path) is not None


def is_this_machine(url: str) -> bool:
    """Whether a URL names this machine's loopback interface."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def canonical_uri(url: str) -> str:
    """Return a Bedrock URL as a cassette holds it: AWS's host in `us-east-1`, and no account number in an ARN."""
    parts = urlsplit(url)
    return CANONICAL_HOST + without_account(parts.path + (f"?{parts.query}" if parts.query else ""))


def canonical_body(body: bytes | None) -> bytes:
    """Return a JSON body with its keys in order and no spaces, and any other body as it is."""
    value = parsed(body)
    if isinstance(value, bytes):
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def parsed(body: bytes | None) -> Any:
    """Return the value of a JSON body, and any other body as it is."""
    try:
        return json.loads(body or b"")
    except ValueError:
        return body or b""


def without_account(text: str) -> str:
    """Replace the account numbers of ARNs, percent-encoded or not, by zeros."""
    return _ACCOUNT.sub(rf"\g<1>{CANONICAL_ACCOUNT}", text)
