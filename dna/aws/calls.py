"""Calls to AWS: one client for each service and region, one place that retries, one form of failure."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Literal, TypeVar

from ...clock import Clock, SystemClock
from ...errors import StoreError, StoreUnavailable

Service = Literal["s3", "dynamodb", "kms", "cloudwatch", "sts"]

ATTEMPTS = 3
"""How often a call is tried before it counts as failed."""
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.05, 1.0
_POOL = 32
_AT_ONCE = 8
_PASSING = frozenset(
    {
        "InternalError", "InternalFailure", "InternalServerError", "LimitExceededException",
        "ProvisionedThroughputExceededException", "RequestLimitExceeded", "RequestTimeout", "ServiceUnavailable",
        "SlowDown", "Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException",
        "TransactionConflictException", "TransactionInProgressException", "408", "429", "500", "502", "503", "504",
    }
)  # fmt: skip
"""Errors of AWS that pass by themselves
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html)."""
_PASSING_REASONS = frozenset(
    {"TransactionConflict", "ProvisionedThroughputExceeded", "ThrottlingError", "InternalServerError"}
)
_CONDITIONS = frozenset({"ConditionalCheckFailedException", "PreconditionFailed"})
_MISSING = frozenset({"NoSuchKey", "NoSuchVersion", "404", "NotFound", "NotFoundException"})
_NOT_SET_UP = frozenset({"ResourceNotFoundException", "NoSuchBucket"})
_DENIED = frozenset(
    {
        "AccessDenied", "AccessDeniedException", "ExpiredToken", "ExpiredTokenException", "IncompleteSignature",
        "InvalidSignatureException", "MissingAuthenticationTokenException", "UnrecognizedClientException",
    }
)  # fmt: skip


Given = TypeVar("Given")


class ConditionFailed(Exception):  # nothing is wrong: another writer was faster
    """A conditional write was refused.

    Args:
        reasons: For a transaction, the code of each of its parts, `None` for those that would have succeeded.
    """

    def __init__(self, reasons: tuple[str | None, ...] = ()) -> None:
        super().__init__(f"the condition failed: {reasons}")
        self.reasons = reasons


class Missing(Exception):  # often an answer, not an error
    """There is no such object or key."""


@dataclass(slots=True)
class Clients:
    """The clients of a store: made once for each service and region, safe to use from several threads.

    Args:
        session: Makes the boto3 session when it is first needed.
        endpoints: Where a region's services are, if not at AWS: VPC endpoints, or an emulator.
        connect_timeout_s: Seconds a connection may take.
        read_timeout_s: Seconds an answer may take.
        attempts: How often a call is tried.
        clock: Waits between attempts.
        draws: Of the jitter.
    """

    session: Callable[[], Any]
    endpoints: Mapping[str, str] = field(default_factory=dict)
    connect_timeout_s: float = 2.0
    read_timeout_s: float = 5.0
    attempts: int = ATTEMPTS
    clock: Clock = field(default_factory=SystemClock)
    draws: random.Random = field(default_factory=random.Random)
    _made: dict[tuple[str, str], Any] = field(default_factory=dict)
    _session: Any = None
    _threads: tuple[int, ThreadPoolExecutor] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def anew(self) -> Clients:
        """Return the same without any connection: after a fork they are the parent's."""
        return replace(self, _made={}, _session=None, _threads=None, _lock=threading.Lock())

    def client(self, service: Service, region: str) -> Any:
        """Return the shared client of a service in a region."""
        with self._lock:  # boto3 sessions cannot make two clients at once
            if (service, region) not in self._made:
                self._made[service, region] = self._new(service, region)
            return self._made[service, region]

    def _new(self, service: Service, region: str) -> Any:
        from botocore.config import Config

        if self._session is None:
            self._session = self.session()
        config = Config(
            connect_timeout=self.connect_timeout_s,
            read_timeout=self.read_timeout_s,
            # Retried here, and nowhere else: two owners multiply.
            retries={"total_max_attempts": 1},
            max_pool_connections=_POOL,
        )
        return self._session.client(service, region_name=region, endpoint_url=self.endpoints.get(region), config=config)

    def at_once(self, work: Callable[[Given], object], each: Iterable[Given]) -> None:
        """Do something with each of several things at once, in threads that are kept: in a new one calls are slower.

        Raises:
            Exception: What the first one raises that fails, when all of them have ended.
        """
        with self._lock:
            # A thread does not outlive a fork.
            if self._threads is None or self._threads[0] != os.getpid():
                self._threads = os.getpid(), ThreadPoolExecutor(_AT_ONCE, "aws")
            threads = self._threads[1]
        under_way = [threads.submit(work, one) for one in each]
        wait(under_way)
        for done in under_way:
            done.result()

    def call(self, service: Service, region: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """Call AWS, and again while the failure is one that passes: backoff with full jitter.

        Args:
            service: The service.
            region: Where.
            operation: The client's method, such as `put_object`.
            arguments: Its arguments.

        Returns:
            The answer; the body of an object as its bytes.

        Raises:
            ConditionFailed: A condition did not hold; nothing was written by the last attempt.
            Missing: There is no such object.
            StoreUnavailable: The service cannot be reached or used now; whether a write took place is not known.
            StoreError: The request was refused for good.
        """
        for attempt in range(1, self.attempts + 1):
            try:
                return _whole(getattr(self.client(service, region), operation)(**arguments))
            except Exception as error:
                failure = _failure(error, f"{service} in {region} ({operation})")
                if not isinstance(failure, StoreUnavailable) or not failure.passing or attempt == self.attempts:
                    raise failure from error
            longest_s = min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2**attempt)
            self.clock.sleep(self.draws.uniform(0.0, longest_s))
        raise AssertionError  # unreachable: the last attempt returns or raises


def _whole(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer with its body read, so that a connection that is lost in the middle is tried again too."""
    return {**answer, "Body": answer["Body"].read()} if "Body" in answer else answer


def _failure(error: Exception, what: str) -> Exception:
    """Return an error of botocore as one of ours; what is none of botocore's stays what it is."""
    from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

    if isinstance(error, ClientError):
        return _refusal(error, what)
    if isinstance(error, BotoCoreError) and not isinstance(error, ParamValidationError):
        return StoreUnavailable(
            f"{what} cannot be reached: {_told(error)}.",
            hint="Look at the network and the credentials; what is queued is sent when it can be.",
        )
    return error


def _refusal(error: Any, what: str) -> Exception:  # noqa: PLR0911  # one for each kind
    told = error.response.get("Error", {})
    code, message = str(told.get("Code", "")), _told(told.get("Message", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    if code in _CONDITIONS:
        return ConditionFailed()
    if code == "TransactionCanceledException":
        return _canceled(error.response.get("CancellationReasons", []), f"{what} is busy: {message}.")
    if code in _MISSING:
        return Missing(what)
    if code in _NOT_SET_UP:
        return StoreError(f"{what}: {message}.", hint="`bedrock-evolution store init` makes what is missing.")
    if code in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return StoreUnavailable(f"{what} is not available: {code} {message}.")
    if code in _DENIED or status == HTTPStatus.FORBIDDEN:
        return StoreUnavailable(
            f"{what} is denied: {message}.",
            hint="Give the role what docs/cloud-policy.json allows; what is queued is sent then.",
            passing=False,
        )
    return StoreError(
        f"{what} refuses: {code} {message}.", hint="`bedrock-evolution store doctor` compares what is there."
    )


def _canceled(reasons: Iterable[Mapping[str, Any]], busy: str) -> Exception:
    codes = tuple(None if reason.get("Code") in (None, "None") else str(reason["Code"]) for reason in reasons)
    if "ConditionalCheckFailed" in codes or not _PASSING_REASONS.intersection(code or "" for code in codes):
        return ConditionFailed(codes)
    return StoreUnavailable(busy)


def _told(message: object) -> str:
    return " ".join(str(message).split()).rstrip(".")
