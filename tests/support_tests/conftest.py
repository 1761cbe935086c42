"""Clients that have nothing to do with the environment of whoever runs the tests."""

from collections.abc import Callable
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.loaders import Loader, create_loader
from langchain_aws import ChatBedrockConverse

ACCESS_KEY = "AKIACANARYCANARY0001"
SECRET_KEY = "canary-secret-key/with+signs="
SESSION_TOKEN = "canary-session-token/with+signs="
BEARER_TOKEN = "bedrock-api-key-canary-bearer"
MODEL_ID = "global.anthropic.claude-haiku-4-5-20251001-v1:0"

ClientFactory = Callable[..., Any]
ModelFactory = Callable[..., ChatBedrockConverse]


@pytest.fixture(autouse=True)
def dummy_aws(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Replace whatever AWS configuration, proxy or tracing the environment has."""
    nowhere = str(tmp_path_factory.getbasetemp() / "no-aws-configuration")
    for name in (
        "AWS_BEARER_TOKEN_BEDROCK",
        "AWS_PROFILE",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_SESSION_TOKEN": SESSION_TOKEN,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": nowhere,
        "AWS_SHARED_CREDENTIALS_FILE": nowhere,
        "AWS_EC2_METADATA_DISABLED": "true",
        "LANGSMITH_TRACING": "false",
        "LANGCHAIN_TRACING_V2": "false",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def api_models() -> Loader:
    """Return one cache of AWS's API descriptions, which take longer to read than most tests."""
    return create_loader()


@pytest.fixture
def make_service(api_models: Loader) -> ClientFactory:
    """Return a factory of clients of any AWS service."""

    def make(service: str, **options: Any) -> Any:
        # A session of its own, since boto3's default session keeps the credentials of an earlier test.
        session = botocore.session.Session()
        session.register_component("data_loader", api_models)
        return session.create_client(service, **options)

    return make


@pytest.fixture
def make_client(make_service: ClientFactory) -> ClientFactory:
    """Return a factory of `bedrock-runtime` clients that make one HTTP call per operation."""

    def make(endpoint_url: str | None, *, region: str = "us-east-1", read_timeout: float = 5.0) -> Any:
        config = Config(
            retries={"total_max_attempts": 1},
            read_timeout=read_timeout,
            connect_timeout=2,
            max_pool_connections=50,
        )
        return make_service("bedrock-runtime", region_name=region, endpoint_url=endpoint_url, config=config)

    return make


@pytest.fixture
def make_model(make_client: ClientFactory) -> ModelFactory:
    """Return a factory of chat models over such clients."""

    def make(endpoint_url: str | None, *, region: str = "us-east-1", read_timeout: float = 5.0) -> ChatBedrockConverse:
        client = make_client(endpoint_url, region=region, read_timeout=read_timeout)
        return ChatBedrockConverse(
            model=MODEL_ID, client=client, bedrock_client=client, region_name=region, max_tokens=100
        )

    return make
