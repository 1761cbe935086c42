"""What boto3 needs to work without an account: something like credentials, a region, and nothing to sign."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import boto3
import botocore.session
from botocore.loaders import Loader, create_loader
from botocore.signers import RequestSigner

_REGION = "us-east-1"
_SIGNING_NAME = "bedrock"


@contextmanager
def offline() -> Iterator[None]:
    """Let Bedrock clients work without credentials, a region or a profile; for replaying only, as nothing is signed.

    The environment's own keys and region stay. Its profile and the files that profiles are read from are put aside,
    and with them boto3's default session, which would keep what is provided here for calls that are meant to be real.
    Clients from before need no credentials either: Bedrock requests go unsigned.
    """
    with (
        _environment(_provided(os.environ)),
        mock.patch("boto3.DEFAULT_SESSION", _fresh_session()),
        mock.patch.object(RequestSigner, "sign", _signing_all_but_bedrock(RequestSigner.sign)),
    ):
        yield


def _provided(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Return what to set, and as None what to take away."""
    provided: dict[str, str | None] = {
        "AWS_PROFILE": None,
        "AWS_DEFAULT_PROFILE": None,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if not (environment.get("AWS_ACCESS_KEY_ID") and environment.get("AWS_SECRET_ACCESS_KEY")):
        provided |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_SESSION_TOKEN": None}
    if not environment.get("AWS_DEFAULT_REGION"):
        # boto3 reads this one alone, LangChain prefers AWS_REGION.
        provided["AWS_DEFAULT_REGION"] = environment.get("AWS_REGION") or _REGION
    return provided


@contextmanager
def _environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    # Not mock.patch.dict, which empties the environment for a moment, under the eyes of other threads.
    before = {name: os.environ.get(name) for name in changes}
    _set(changes)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _fresh_session() -> boto3.Session:
    session = botocore.session.Session()
    session.register_component("data_loader", _api_models(session.get_config_variable("data_path")))
    return boto3.Session(botocore_session=session)


@functools.cache
def _api_models(data_path: str | None) -> Loader:
    """Read AWS's API descriptions once for all sessions: they take longer to read than most tests."""
    return create_loader(data_path)


def _signing_all_but_bedrock(original: Callable[..., None]) -> Callable[..., None]:
    def sign(signer: RequestSigner, *args: Any, **kwargs: Any) -> None:
        if signer.signing_name != _SIGNING_NAME:
            original(signer, *args, **kwargs)

    return sign
