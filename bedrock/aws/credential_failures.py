"""Why AWS gives no credentials, in words that hold no secret.

Errors of AWS are told by their code alone: a refused signature is answered with the whole signed request, session
token included. For the same reason they are not chained to ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    ConfigParseError,
    HTTPClientError,
    InvalidConfigError,
    LoginError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectionError as NoConnectionError

from ...errors import ModelCallFailed
from ...settings import Settings

UNREACHABLE = (HTTPClientError, NoConnectionError)
"""What botocore raises when a service did not answer."""
MISCONFIGURED = (ConfigNotFound, ConfigParseError, InvalidConfigError, PartialCredentialsError, ProfileNotFound)
"""What it raises for its configuration, with names of files, profiles and variables in its words."""
_SIGN_IN = (SSOError, LoginError, TokenRetrievalError)
_SERVER_ERROR = 500
_THROTTLED = frozenset({"Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException"})

_NoCredentials: Any = NoCredentialsError


class NoUsableCredentials(ModelCallFailed, _NoCredentials):  # type: ignore[misc]  # botocore may come without types
    """A call was not sent, since AWS gives no credentials for it: a sign-in has expired, a role may not be assumed.

    It is botocore's `NoCredentialsError` too, so that whatever handles the failures of a call handles this one.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        Exception.__init__(self, message)
        self.message = message
        self.hint = hint
        self.kwargs = {"message": message, "hint": hint}  # botocore pickles its exceptions by them


@contextmanager
def explaining(settings: Settings) -> Iterator[None]:
    """Say why credentials cannot be had; what says it well enough is left as it is."""
    try:
        yield
    except (NoUsableCredentials, *UNREACHABLE, *MISCONFIGURED):
        raise
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status >= _SERVER_ERROR or code in _THROTTLED:
            raise
        raise _refused(error.operation_name, code, settings) from None
    except BotoCoreError as error:
        raise _not_fetched(error, settings) from None


def _refused(operation: str, code: str, settings: Settings) -> NoUsableCredentials:
    origin = where(settings)
    if code in _EXPIRED:
        return NoUsableCredentials(f"the credentials in {origin} have expired ({code}).", hint=_sign_in(settings))
    if operation == "AssumeRole" and code == "AccessDenied":
        return NoUsableCredentials(
            f"the role {settings.role_arn} may not be assumed with the credentials in {origin} ({code}).",
            hint="Let the role's trust policy name their owner, and allow the owner sts:AssumeRole on the role.",
        )
    return NoUsableCredentials(
        f"AWS refused the credentials in {origin} at {operation} ({code}).", hint=_look(settings)
    )


def _not_fetched(error: BotoCoreError, settings: Settings) -> NoUsableCredentials:
    name, origin = type(error).__name__, where(settings)
    if isinstance(error, _SIGN_IN):
        return NoUsableCredentials(
            f"the sign-in of {origin} has expired or was never made ({name}).", hint=_sign_in(settings)
        )
    return NoUsableCredentials(f"no credentials could be fetched from {origin} ({name}).", hint=_look(settings))


def where(settings: Settings) -> str:
    """Say where credentials are looked for."""
    return f"profile {settings.profile!r}" if settings.profile else "the environment or ~/.aws"


def _named(settings: Settings) -> str:
    return f" --profile {settings.profile}" if settings.profile else ""


def _sign_in(settings: Settings) -> str:
    return f"Sign in again, with `aws sso login{_named(settings)}` where it is SSO, or set new credentials."


def _look(settings: Settings) -> str:
    return f"`aws sts get-caller-identity{_named(settings)}` shows what is wrong with them."
