"""Errors of model calls, classified once, by their code, into a small set of kinds.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html#API_runtime_Converse_Errors
"""

from __future__ import annotations

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

from .failures import Failure, FailureKind

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
