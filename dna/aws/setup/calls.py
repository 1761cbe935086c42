"""The calls that set a store up: what is not there is an answer, and a denial names the permission."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any, Final

from ....errors import StoreError, StoreUnavailable
from ..calls import Clients, Missing, Service

log = logging.getLogger(__name__)

_PATIENCE_S = 300.0
_KNOWN_S = 60.0
"""So long at most what was made is not known everywhere."""
_POLL_S = 2.0
_BUSY: Final = frozenset({"OperationAborted", "ContinuousBackupsUnavailableException", "ResourceInUseException"})
"""What AWS says while it still works on the last change."""
_NAMED_OTHERWISE: Final = {
    "head_bucket": "ListBucket",
    "get_bucket_encryption": "GetEncryptionConfiguration",
    "put_bucket_encryption": "PutEncryptionConfiguration",
    "get_public_access_block": "GetBucketPublicAccessBlock",
    "put_public_access_block": "PutBucketPublicAccessBlock",
    "get_bucket_lifecycle_configuration": "GetLifecycleConfiguration",
    "put_bucket_lifecycle_configuration": "PutLifecycleConfiguration",
    "get_object_lock_configuration": "GetBucketObjectLockConfiguration",
    "put_object_lock_configuration": "PutBucketObjectLockConfiguration",
    "get_bucket_replication": "GetReplicationConfiguration",
    "put_bucket_replication": "PutReplicationConfiguration",
}
"""Operations of S3 whose permission has another name
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html)."""


class SetupCalls:
    """Asks and changes AWS.

    Args:
        clients: Make the calls.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._account = ""

    def account(self, region: str) -> str:
        """Return the number of the account whose credentials these are; it is asked for once."""
        if not self._account:
            self._account = str(self.do("sts", region, "get_caller_identity", "the credentials")["Account"])
        return self._account

    def ask(
        self, service: Service, region: str, operation: str, what: str, *, absent: Collection[str], **arguments: Any
    ) -> dict[str, Any] | None:
        """Return what AWS answers, or None where it says that there is none.

        Args:
            service: The service.
            region: Where.
            operation: The client's method.
            what: What is asked about, for errors.
            absent: Codes that say so.
            arguments: Of the method.

        Raises:
            StoreError: The question was refused.
            StoreUnavailable: It is denied, or the service cannot be reached.
        """
        try:
            return self._done(service, region, operation, what, **arguments)
        except Missing:
            return None
        except StoreError as error:
            if error_code(error) in absent:
                return None
            raise

    def do(self, service: Service, region: str, operation: str, what: str, **arguments: Any) -> dict[str, Any]:
        """Call AWS, and again while it is busy with the last change, or does not know of it everywhere yet.

        Raises:
            StoreError: It was refused.
            StoreUnavailable: It is denied, or the service cannot be reached.
        """
        deadline_s = self._clients.clock.monotonic_s() + _KNOWN_S
        while True:
            try:
                return self._done(service, region, operation, what, **arguments)
            except Missing as error:
                if self._clients.clock.monotonic_s() > deadline_s:
                    raise StoreError(
                        f"{what} is not there for {service} in {region} ({operation}).",
                        hint="What was made last may not be known everywhere yet: run it again.",
                    ) from error
            self._clients.clock.sleep(_POLL_S)

    def _done(self, service: Service, region: str, operation: str, what: str, **arguments: Any) -> dict[str, Any]:
        deadline_s = self._clients.clock.monotonic_s() + _PATIENCE_S
        while True:
            try:
                return self._clients.call(service, region, operation, **arguments)
            except StoreUnavailable as error:
                if error.passing:
                    raise
                raise _denied(permission(service, operation), what, error) from error
            except StoreError as error:
                if error_code(error) not in _BUSY or self._clients.clock.monotonic_s() > deadline_s:
                    raise
                log.info("code=<%s> | %s is busy, and asked again", error_code(error), what)
            self._clients.clock.sleep(_POLL_S)

    def wait(self, what: str, ready: Callable[[], bool]) -> None:
        """Wait until something is so.

        Raises:
            StoreUnavailable: It is not so after minutes.
        """
        deadline_s = self._clients.clock.monotonic_s() + _PATIENCE_S
        while not ready():
            if self._clients.clock.monotonic_s() > deadline_s:
                raise StoreUnavailable(
                    f"{what} is not ready after {_PATIENCE_S:g} s.", hint="Run `bedrock-evolution store init` again."
                )
            self._clients.clock.sleep(_POLL_S)


def permission(service: str, operation: str) -> str:
    """Return the IAM action that allows an operation."""
    camel = "".join(part.capitalize() for part in operation.split("_"))
    return f"{service}:{_NAMED_OTHERWISE.get(operation, camel)}"


def error_code(error: StoreError) -> str:
    """Return the code with which AWS refused a call; empty where it was not AWS."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _denied(action: str, what: str, error: StoreUnavailable) -> StoreUnavailable:
    return StoreUnavailable(
        f"{action} is denied on {what}: {error.message}",
        hint=f"Allow {action}; docs/cloud-operator-policy.json holds all that `store init` and `store doctor` need.",
        passing=False,
    )
