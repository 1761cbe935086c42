"""Replaying needs no account, and touches none that is there."""

import os
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import NoCredentialsError
from langchain_aws import ChatBedrockConverse

from bedrock_evolution.testing import recorded
from tests.support.bedrock_endpoint import BedrockEndpoint, ConverseRequest, Message, Reply
from tests.support_tests.conftest import ACCESS_KEY, MODEL_ID, ClientFactory, ModelFactory

MESSAGE = {"role": "user", "content": [{"text": "hello"}]}


def answer(request: ConverseRequest) -> Reply:
    return Message([{"text": "fine"}])


def ask(client: Any) -> str:
    return str(client.converse(modelId=MODEL_ID, messages=[MESSAGE])["output"]["message"]["content"][0]["text"])


@pytest.fixture
def cassette(tmp_path: Path, make_client: ClientFactory) -> Path:
    path = tmp_path / "calls.yaml"
    with BedrockEndpoint(answer) as endpoint, recorded(path, mode="all"):
        ask(make_client(endpoint.url))
    return path


@pytest.fixture
def chat_cassette(tmp_path: Path, make_model: ModelFactory) -> Path:
    path = tmp_path / "chat.yaml"
    with BedrockEndpoint(answer) as endpoint, recorded(path, mode="all"):
        make_model(endpoint.url).invoke("hello")
    return path


@pytest.fixture
def no_account(cassette: Path, chat_cassette: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away every credential, region and default session; the cassettes are recorded before."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)


@pytest.mark.usefixtures("no_account")
def test_a_client_made_in_the_session_needs_neither_credentials_nor_a_region(cassette: Path) -> None:
    with recorded(cassette):
        assert ask(boto3.client("bedrock-runtime")) == "fine"


@pytest.mark.usefixtures("no_account")
def test_a_chat_model_made_in_the_session_needs_neither(chat_cassette: Path) -> None:
    with recorded(chat_cassette):
        assert ChatBedrockConverse(model=MODEL_ID, max_tokens=100).invoke("hello").text == "fine"


@pytest.mark.usefixtures("no_account")
def test_a_client_made_before_needs_no_credentials(cassette: Path) -> None:
    client = boto3.client("bedrock-runtime", region_name="eu-west-1", endpoint_url="http://127.0.0.1:9")
    with pytest.raises(NoCredentialsError):
        ask(client)
    with recorded(cassette):
        assert ask(client) == "fine"
    with pytest.raises(NoCredentialsError):
        ask(client)


@pytest.mark.usefixtures("no_account")
def test_what_was_provided_is_gone_afterwards(cassette: Path) -> None:
    before = dict(os.environ)
    with recorded(cassette):
        ask(boto3.client("bedrock-runtime"))
        assert os.environ["AWS_DEFAULT_REGION"] == "us-east-1"
    assert dict(os.environ) == before
    assert boto3.DEFAULT_SESSION is None
    assert boto3.Session().get_credentials() is None


@pytest.mark.usefixtures("no_account")
def test_the_default_session_learns_nothing(cassette: Path) -> None:
    boto3.setup_default_session()
    before = boto3.DEFAULT_SESSION
    with recorded(cassette):
        ask(boto3.client("bedrock-runtime"))
    assert boto3.DEFAULT_SESSION is before
    assert before.get_credentials() is None
    assert before.region_name is None


@pytest.mark.usefixtures("no_account")
def test_a_region_for_langchain_alone_serves_boto3_too(cassette: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    with recorded(cassette):
        client = boto3.client("bedrock-runtime")
        ask(client)
    assert client.meta.region_name == "eu-north-1"


def test_credentials_and_region_of_the_environment_stay(cassette: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    with recorded(cassette):
        session = boto3.Session()
        ask(session.client("bedrock-runtime"))
        assert session.get_credentials().access_key == ACCESS_KEY
        assert session.region_name == "eu-north-1"


@pytest.mark.usefixtures("no_account")
def test_the_profile_is_not_consulted(cassette: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    consulted = tmp_path / "consulted"
    config = tmp_path / "config"
    process = f"{sys.executable} -c \"open(r'{consulted}', 'w')\""
    config.write_text(f"[profile work]\nregion = eu-west-1\ncredential_process = {process}\n", encoding="utf-8")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "work")
    with recorded(cassette):
        assert ask(boto3.client("bedrock-runtime")) == "fine"
        assert boto3.Session().available_profiles == []
    assert not consulted.exists()
    with pytest.raises(ValueError, match="Expecting value"):  # what the process prints is no JSON
        boto3.client("bedrock-runtime")
    assert consulted.exists()  # so it would have been


@pytest.mark.usefixtures("no_account")
def test_a_proxy_is_not_asked(cassette: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    for endpoint_url in (None, "http://bedrock.example.com"):
        with recorded(cassette):
            assert ask(boto3.client("bedrock-runtime", endpoint_url=endpoint_url)) == "fine"


def test_other_services_on_this_machine_are_signed_still(cassette: Path, make_service: ClientFactory) -> None:
    signed: list[str] = []
    tables = make_service("dynamodb", endpoint_url="http://127.0.0.1:9")
    tables.meta.events.register(
        "before-send.dynamodb", lambda request, **_: signed.append(request.headers["Authorization"].decode())
    )
    with recorded(cassette):
        ask(make_service("bedrock-runtime"))
        with pytest.raises(Exception, match="Could not connect"):
            tables.list_tables()
    assert all(ACCESS_KEY in header for header in signed)
    assert signed
