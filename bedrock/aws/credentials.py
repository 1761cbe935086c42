"""AWS credentials: boto3's own chain, a profile, or an assumed role; and what to do when there are none.

No secret is ever an argument, a message or a log line of ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

from ...errors import InvalidSetting
from ...settings import Settings
from .credential_failures import MISCONFIGURED, UNREACHABLE, explaining, where

BEARER_VARIABLE = "AWS_BEARER_TOKEN_BEDROCK"
"""Where botocore looks for a Bedrock API key, which it prefers to all credentials."""
ROLE_SESSION = "bedrock-evolution"
_STS_READ_S = 5.0
_POOL = 50
"""Connections a client keeps: its threads share it, and a pool that is too small drops connections."""


def bearer_token_set(settings: Settings) -> bool:
    """Whether calls carry a Bedrock API key instead of a signature; a role of the settings wins over it."""
    return bool(os.environ.get(BEARER_VARIABLE)) and settings.role_arn is None


def credentials_found(settings: Settings) -> bool:
    """Whether there is anything to authenticate calls with.

    Nothing is sent to AWS; on EC2 and ECS the chain asks the machine's own metadata service.

    Raises:
        InvalidSetting: The profile is unknown, or credentials are set by half.
        NoUsableCredentials: What fetches the credentials fails.
    """
    return bearer_token_set(settings) or _found(_chain(settings), settings) is not None


def signing_session(settings: Settings) -> boto3.Session:
    """Return a boto3 session whose clients authenticate as the settings ask; nothing is sent to AWS yet.

    Raises:
        InvalidSetting: The profile is unknown, there are no credentials, or an API key would be sent in the clear.
        NoUsableCredentials: What fetches the credentials fails.
    """
    source = _chain(settings)
    found = _found(source, settings)
    if bearer_token_set(settings):
        if (settings.endpoint_url or "").startswith("http:"):
            raise InvalidSetting(
                f"{BEARER_VARIABLE} is set, and setting 'endpoint_url' would send it without encryption.",
                hint=f"Use an https endpoint, or unset {BEARER_VARIABLE} to sign calls instead.",
            )
    elif found is None:
        raise InvalidSetting(
            f"model 'bedrock' needs AWS credentials, and none are found in {where(settings)}.",
            hint="Configure them, or use model 'local', the stand-in that needs no account.",
        )
    if found is None:
        return boto3.Session(botocore_session=source)
    role_arn = settings.role_arn
    credentials = _assumed(source, found, role_arn, settings) if role_arn else _Explained(found, settings)
    signing = _chain(settings)
    signing.register_component("credential_provider", _Given(credentials))
    return boto3.Session(botocore_session=signing)


def store_session(settings: Settings) -> boto3.Session:
    """Return a boto3 session for a store in the cloud; an API key of Bedrock opens none.

    Raises:
        InvalidSetting: The profile is unknown, or there are no credentials.
        NoUsableCredentials: What fetches the credentials fails.
    """
    if _found(_chain(settings), settings) is None:
        raise InvalidSetting(
            f"a store in S3 and DynamoDB needs AWS credentials, and none are found in {where(settings)}.",
            hint="Configure them, or name a store sqlite:///path.db, which needs no account.",
        )
    return signing_session(settings)


def client_config(settings: Settings, *, read_timeout_s: float) -> Config:
    """Return how clients call: once, within the timeouts, and signed where a role is asked for.

    The SDK makes exactly one attempt, since each may be billed and needs a reservation of its own.
    """
    return Config(
        connect_timeout=settings.connect_timeout_s,
        read_timeout=read_timeout_s,
        retries={"total_max_attempts": 1},
        max_pool_connections=_POOL,
        # Said in code, this keeps botocore from preferring an API key of the environment to the role.
        signature_version="v4" if settings.role_arn else None,
    )


def _chain(settings: Settings) -> botocore.session.Session:
    return botocore.session.Session(profile=settings.profile)


def _found(chain: botocore.session.Session, settings: Settings) -> Any:
    try:
        with explaining(settings):
            return chain.get_credentials()
    except MISCONFIGURED as error:
        raise InvalidSetting(
            f"AWS credentials cannot be read from {where(settings)}: {str(error).rstrip('.')}.",
            hint="Mend ~/.aws, AWS_* or setting 'profile'; `aws configure list-profiles` lists them.",
        ) from None  # it carries the lines of a file that cannot be parsed


def _assumed(
    source: botocore.session.Session, found: Any, role_arn: str, settings: Settings
) -> DeferredRefreshableCredentials:
    """Return credentials of the role that are fetched when first needed and refreshed before they expire.

    STS is asked in the home region, and in the others while it cannot be reached there.

    Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
    """
    config = client_config(settings, read_timeout_s=_STS_READ_S)
    fetchers = [
        AssumeRoleCredentialFetcher(
            partial(source.create_client, region_name=region, config=config),
            found,
            role_arn,
            extra_args={"RoleSessionName": ROLE_SESSION},
        )
        for region in settings.regions
    ]

    def assume() -> Any:
        with explaining(settings):
            for fetcher in fetchers[:-1]:
                with suppress(*UNREACHABLE):  # the last region's failure is told
                    return fetcher.fetch_credentials()
            return fetchers[-1].fetch_credentials()

    return DeferredRefreshableCredentials(assume, "assume-role")


class _Given:
    """A chain of one: what botocore's sessions ask for credentials."""

    def __init__(self, credentials: Any) -> None:
        self.load_credentials: Callable[[], Any] = lambda: credentials


class _Explained:
    """Credentials of botocore, with the reason in our words when they cannot be fetched or refreshed."""

    def __init__(self, credentials: Any, settings: Settings) -> None:
        self._credentials = credentials
        self._settings = settings

    def get_frozen_credentials(self) -> Any:
        with explaining(self._settings):
            return self._credentials.get_frozen_credentials()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._credentials, name)
