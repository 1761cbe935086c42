"""What can go wrong with a model call: every error classified once, by its code, into a small set of kinds.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html#API_runtime_Converse_Errors
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError
from langchain_core.exceptions import ContextOverflowError
from urllib3.exceptions import HTTPError
from urllib3.exceptions import ReadTimeoutError as StreamTimeoutError


class FailureKind(StrEnum):
    """What a failure asks for."""

    THROTTLED = "throttled"
    """Too many requests or tokens a minute."""
    BUSY = "busy"
    """The service or the model has trouble of its own."""
    UNREACHABLE = "unreachable"
    """The request was never sent: no connection to the region."""
    TIMED_OUT = "timed out"
    """The request was sent, and no answer came; it may be billed."""
    LOST = "lost"
    """The connection broke, or the answer broke off; it may be billed."""
    OVERFLOW = "overflow"
    """The prompt is longer than the model's context window."""
    QUOTA = "quota"
    """The account's quota for the model is used up."""
    DENIED = "denied"
    """Credentials are missing, expired or not allowed to call the model."""
    NOT_FOUND = "not found"
    """There is no such model in the region."""
    INVALID = "invalid"
    """The request breaks a rule of the service; it would break it again."""


_GARBLED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What botocore and langchain-aws raise over a body that is cut short or is no answer."""
CALL_FAILURES = (ClientError, BotoCoreError, ResponseParserError, HTTPError, ConnectionError, TimeoutError, *_GARBLED)
"""What a Bedrock call raises when it fails."""

_KIND_BY_CODE = {
    "throttlingexception": FailureKind.THROTTLED,
    "throttling": FailureKind.THROTTLED,
    "toomanyrequestsexception": FailureKind.THROTTLED,
    "requestlimitexceeded": FailureKind.THROTTLED,
    "serviceunavailableexception": FailureKind.BUSY,
    "serviceunavailable": FailureKind.BUSY,
    "internalserverexception": FailureKind.BUSY,
    "internalfailure": FailureKind.BUSY,
    "modelnotreadyexception": FailureKind.BUSY,
    "modeltimeoutexception": FailureKind.BUSY,
    "modelerrorexception": FailureKind.BUSY,
    "modelstreamerrorexception": FailureKind.BUSY,
    "servicequotaexceededexception": FailureKind.QUOTA,
    "accessdeniedexception": FailureKind.DENIED,
    "accessdenied": FailureKind.DENIED,
    "expiredtokenexception": FailureKind.DENIED,
    "expiredtoken": FailureKind.DENIED,
    "unrecognizedclientexception": FailureKind.DENIED,
    "invalidsignatureexception": FailureKind.DENIED,
    "incompletesignatureexception": FailureKind.DENIED,
    "invalidclienttokenid": FailureKind.DENIED,
    "resourcenotfoundexception": FailureKind.NOT_FOUND,
    "validationexception": FailureKind.INVALID,
}
_PLEASE_WAIT = "too many tokens, please wait"
"""A throttle, though some services send it as an error in the request."""
_KIND_BY_STATUS = {
    403: FailureKind.DENIED,
    404: FailureKind.NOT_FOUND,
    408: FailureKind.BUSY,
    424: FailureKind.BUSY,
    429: FailureKind.THROTTLED,
}
"""For answers without a code, as a proxy on the way gives them."""
_SERVER_ERROR = 500
_NEVER_SENT = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError, SSLError)
_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, TokenRetrievalError)


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt."""

    kind: FailureKind
    code: str
    """The service's error code, or the name of the exception."""
    may_be_billed: bool
    """Whether the service may have done the work all the same."""


class Target(NamedTuple):
    """A model in a region: what an attempt goes to, and what a breaker guards."""

    model: str
    region: str


class Step(StrEnum):
    """Where the next attempt goes."""

    AGAIN = "again"
    """To the same model in the same region."""
    NEXT = "next"
    """To the next region, or to the next model after the last region."""
    NEXT_MODEL = "next model"
    SHRINK = "shrink"
    """To the same model in the same region, with a shorter prompt."""
    STAND_IN = "stand-in"
    """Nowhere: no other attempt can help."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """What to do about a failure."""

    step: Step
    wait_s: float = 0.0


class Healing(Protocol):
    """Decides about attempts; `healing.strategies.CloudHealingStrategies` is the one in use."""

    def admits(self, target: Target) -> bool:
        """Whether an attempt may go to a target now."""
        ...

    def succeeded(self, target: Target) -> None:
        """Learn that a target answered."""
        ...

    def failed(self, target: Target, failure: Failure) -> None:
        """Learn that a target failed."""
        ...

    def remedy(self, failures: Sequence[tuple[Target, Failure]]) -> Remedy:
        """Say what to do after the newest of a call's failures."""
        ...


def classify(error: Exception) -> Failure:
    """Return what kind of failure an error of a model call is.

    Args:
        error: One of `CALL_FAILURES`.
    """
    if isinstance(error, ClientError):
        return _refused(error)
    name = type(error).__name__
    if isinstance(error, ParamValidationError):
        return Failure(FailureKind.INVALID, name, may_be_billed=False)
    if isinstance(error, _NO_CREDENTIALS):
        return Failure(FailureKind.DENIED, name, may_be_billed=False)
    if isinstance(error, _NEVER_SENT):
        return Failure(FailureKind.UNREACHABLE, name, may_be_billed=False)
    if isinstance(error, ValueError) and isinstance(error.__cause__, ClientError):
        return _refused(error.__cause__)  # langchain-aws rewords some refusals
    timed_out = isinstance(error, (ReadTimeoutError, StreamTimeoutError, TimeoutError))
    return Failure(FailureKind.TIMED_OUT if timed_out else FailureKind.LOST, name, may_be_billed=True)


def _refused(error: ClientError) -> Failure:
    answer = error.response.get("Error", {})
    code = str(answer.get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    # An error event in mid-stream comes after output that may be billed. What names no code comes from something on the
    # way, behind which the model may have done its work.
    unsure = type(error).__name__ == "EventStreamError" or (
        status >= _SERVER_ERROR and code.casefold() not in _KIND_BY_CODE
    )
    if isinstance(error, ContextOverflowError):
        kind = FailureKind.OVERFLOW
    elif _PLEASE_WAIT in str(answer.get("Message", "")).casefold():
        kind = FailureKind.THROTTLED
    else:
        fallback = FailureKind.BUSY if status >= _SERVER_ERROR else FailureKind.INVALID
        kind = _KIND_BY_CODE.get(code.casefold(), _KIND_BY_STATUS.get(status, fallback))
    return Failure(kind, code or type(error).__name__, may_be_billed=unsure)
