"""One check of `doctor`, and how checks that wait for a network are made: at once, and not for long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from ..bedrock.aws.credential_failures import UNREACHABLE
from ..errors import EvolutionError

LIMIT_S = 4.5
"""Seconds that checks made at once are waited for together."""
_REFUSED_CREDENTIALS = frozenset(
    {"ExpiredTokenException", "IncompleteSignature", "InvalidSignatureException", "UnrecognizedClientException"}
)

Found = TypeVar("Found")
Job = tuple[str, Callable[[], Found]]
"""The name of a check, and what finds it out."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str
    remedy: str = ""

    @classmethod
    def failed(cls, name: str, error: EvolutionError) -> Check:
        """Return the check that an error of ours makes of it."""
        return cls(name, False, error.message, error.hint)


def answers(jobs: Sequence[Job[Found]]) -> list[Found | Check]:
    """Do all jobs at once, and return what they found, or a failed check for those that fail or take too long."""
    begun = [(name, _begun(name, work)) for name, work in jobs]
    wait([future for _, future in begun], timeout=LIMIT_S)
    return [
        future.result() if future.done() else _unreached(name, f"no answer within {LIMIT_S:g} s")
        for name, future in begun
    ]


def _begun(name: str, work: Callable[[], Found]) -> Future[Found | Check]:
    future: Future[Found | Check] = Future()

    def run() -> None:
        try:
            future.set_result(_told(name, work))
        except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
            future.set_exception(error)

    # A daemon, since looking up a name may take minutes and cannot be told to stop.
    threading.Thread(target=run, name="doctor", daemon=True).start()
    return future


def _told(name: str, work: Callable[[], Found]) -> Found | Check:
    """Do a job; what AWS refuses is told by its code alone, since messages may hold what was signed."""
    try:
        return work()
    except EvolutionError as error:
        return Check.failed(name, error)
    except UNREACHABLE as error:
        return _unreached(name, f"AWS cannot be reached ({type(error).__name__})")
    except ClientError as error:
        return _refused(name, error)
    except BotoCoreError as error:
        return Check(name, False, f"AWS could not be asked ({type(error).__name__})", "Check the AWS configuration.")


def _unreached(name: str, found: str) -> Check:
    remedy = "Check the network, the proxy and, inside a VPC, its endpoints for sts, bedrock and bedrock-runtime."
    return Check(name, False, found, remedy)


def _refused(name: str, error: ClientError) -> Check:
    code, operation = str(error.response.get("Error", {}).get("Code", "")), error.operation_name
    if code == "AccessDeniedException":
        found, remedy = f"unknown: {operation} is denied", f"Allow bedrock:{operation}, as docs/iam-policy.json does."
    elif code in ("ResourceNotFoundException", "ValidationException"):
        found, remedy = f"the region has no such model or profile ({code})", "Correct setting 'models' or 'regions'."
    elif code in _REFUSED_CREDENTIALS:
        found, remedy = f"the credentials are refused ({code})", "Sign in again, or set new credentials."
    else:
        found, remedy = f"unknown: {operation} failed ({code})", "Run doctor again in a while."
    return Check(name, False, found, remedy)
