"""No secret of a recording reaches its cassette, and one that does is found."""

from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest
from langchain_aws import ChatBedrockConverse

from bedrock_evolution.testing import CassetteError, recorded, secrets_in
from bedrock_evolution.testing.cassette_file import read_cassette
from tests.support.bedrock_endpoint import BedrockEndpoint, ConverseRequest, Message, Reply, in_order
from tests.support_tests.conftest import (
    ACCESS_KEY,
    BEARER_TOKEN,
    MODEL_ID,
    SECRET_KEY,
    SESSION_TOKEN,
    ClientFactory,
    ModelFactory,
)

CANARIES = (ACCESS_KEY, SECRET_KEY, SESSION_TOKEN, BEARER_TOKEN)
ACCOUNT = "314159265358"
PROFILE = f"arn:aws:bedrock:eu-central-1:{ACCOUNT}:application-inference-profile/k2v9x1"
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


@pytest.fixture
def cassette(tmp_path: Path) -> Path:
    return tmp_path / "calls.yaml"


def answer(request: ConverseRequest) -> Reply:
    return Message([{"text": "fine"}])


def in_plain_text(request: AWSPreparedRequest, **_: object) -> None:
    """Send what was signed for TLS without it: botocore gives out a bearer token for https only."""
    request.url = request.url.replace("https://", "http://")


def call_and_stream(client: Any) -> None:
    model = ChatBedrockConverse(model=MODEL_ID, client=client, bedrock_client=client, max_tokens=10)
    model.invoke("hello")
    list(model.stream("hello"))


def test_keys_and_session_token_are_not_on_the_cassette(cassette: Path, make_client: ClientFactory) -> None:
    with BedrockEndpoint(answer) as endpoint, recorded(cassette, mode="all"):
        call_and_stream(make_client(endpoint.url))
    for request in endpoint.requests:
        assert ACCESS_KEY in request.headers["authorization"]
        assert request.headers["x-amz-security-token"] == SESSION_TOKEN
    assert secrets_in(cassette, CANARIES) == []


def test_keys_of_a_profile_are_not_on_the_cassette(
    cassette: Path, make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in KEYS:
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    keys = zip((name.lower() for name in KEYS), (ACCESS_KEY, SECRET_KEY, SESSION_TOKEN), strict=True)
    file.write_text("\n".join(["[canary]", *(f"{name} = {value}" for name, value in keys)]), encoding="utf-8")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "canary")
    with BedrockEndpoint(answer) as endpoint, recorded(cassette, mode="all"):
        call_and_stream(make_client(endpoint.url))
    assert all(ACCESS_KEY in request.headers["authorization"] for request in endpoint.requests)
    assert secrets_in(cassette, CANARIES) == []


def test_keys_given_to_a_client_are_not_on_the_cassette(
    cassette: Path, make_service: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in KEYS:
        monkeypatch.delenv(name)
    given = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY, "aws_session_token": SESSION_TOKEN}
    with BedrockEndpoint(answer) as endpoint, recorded(cassette, mode="all"):
        call_and_stream(make_service("bedrock-runtime", endpoint_url=endpoint.url, **given))
    assert all(ACCESS_KEY in request.headers["authorization"] for request in endpoint.requests)
    assert secrets_in(cassette, CANARIES) == []


def test_the_bearer_token_of_the_environment_is_not_on_the_cassette(
    cassette: Path, make_service: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", BEARER_TOKEN)
    with BedrockEndpoint(answer) as endpoint, recorded(cassette, mode="all"):
        client = make_service("bedrock-runtime", endpoint_url=endpoint.url.replace("http://", "https://"))
        client.meta.events.register("before-send.bedrock-runtime", in_plain_text)
        call_and_stream(client)
    assert [request.headers["authorization"] for request in endpoint.requests] == [f"Bearer {BEARER_TOKEN}"] * 2
    assert secrets_in(cassette, CANARIES) == []


def test_an_api_key_given_to_a_chat_model_is_not_on_the_cassette(cassette: Path) -> None:
    with BedrockEndpoint(answer) as endpoint, recorded(cassette, mode="all"):
        model = ChatBedrockConverse(
            model=MODEL_ID,
            bedrock_api_key=BEARER_TOKEN,
            endpoint_url=endpoint.url.replace("http://", "https://"),
            max_tokens=10,
        )
        model.client.meta.events.register("before-send.bedrock-runtime", in_plain_text)
        model.invoke("hello")
    assert [request.headers["authorization"] for request in endpoint.requests] == [f"Bearer {BEARER_TOKEN}"]
    assert secrets_in(cassette, CANARIES) == []


# -- account numbers


def ask_profile(client: Any, account: str = ACCOUNT) -> None:
    message = {"role": "user", "content": [{"text": "hello"}]}
    client.converse(modelId=PROFILE.replace(ACCOUNT, account), messages=[message])


def test_the_account_number_of_a_profile_is_not_on_the_cassette(cassette: Path, make_client: ClientFactory) -> None:
    with BedrockEndpoint(answer) as endpoint, recorded(cassette, mode="all"):
        ask_profile(make_client(endpoint.url))
    assert endpoint.requests[0].model_id == PROFILE
    assert secrets_in(cassette, [ACCOUNT]) == []
    assert (
        "000000000000%3Aapplication-inference-profile%2Fk2v9x1/converse" in read_cassette(cassette)[0]["request"]["uri"]
    )


@pytest.mark.parametrize("account", [ACCOUNT, "271828182845"], ids=["same account", "account of a colleague"])
def test_a_profile_is_replayed_in_any_account(cassette: Path, make_client: ClientFactory, account: str) -> None:
    with BedrockEndpoint(answer) as endpoint, recorded(cassette, mode="all"):
        ask_profile(make_client(endpoint.url))
    with recorded(cassette) as recording:
        ask_profile(make_client(None), account)
    assert recording.calls == 1


def test_a_cassette_that_holds_an_account_number_is_replayed_still(cassette: Path, make_client: ClientFactory) -> None:
    with BedrockEndpoint(answer) as endpoint, recorded(cassette, mode="all"):
        ask_profile(make_client(endpoint.url))
    text = cassette.read_text(encoding="utf-8")
    cassette.write_text(text.replace("000000000000", ACCOUNT), encoding="utf-8")
    with recorded(cassette) as recording:
        ask_profile(make_client(None))
    assert recording.calls == 1


# -- looking for them


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("token: abc/secret+1", "token holds canary 1"),
        ("headers: {auth: [!!binary YWJjL3NlY3JldCsx]}", "headers.auth[0] holds canary 1"),
        ('body: \'{"key": "abc\\/secret+1 abc/secret+1"}\'', "body holds canary 1"),
        ("uri: https://example.com/?key=abc%2Fsecret%2B1", "uri holds canary 1"),
        ('folded: "abc/\\\n  secret+1"', "folded holds canary 1"),
        ("abc/secret+1: value", "the key abc/secret+1 holds canary 1"),
        ("fine: true  # abc/secret+1", "the text of the file, outside its data, holds canary 1"),
    ],
    ids=["text", "binary", "json", "uri", "folded", "key", "comment"],
)
def test_secrets_are_found_wherever_they_hide(tmp_path: Path, text: str, place: str) -> None:
    cassette = tmp_path / "leaky.yaml"
    cassette.write_text(text, encoding="utf-8")
    assert secrets_in(str(cassette), ["absent", "abc/secret+1"]) == [place]


def test_secret_in_a_recorded_stream_is_found(cassette: Path, make_model: ModelFactory) -> None:
    leaky = in_order(Message([{"text": "s3cret!"}]))
    with BedrockEndpoint(leaky) as endpoint, recorded(cassette, mode="all"):
        list(make_model(endpoint.url).stream("?"))
    assert "s3cret!" not in cassette.read_text(encoding="utf-8")
    assert secrets_in(cassette, ["s3cret!"]) == ["interactions[0].response.body.string holds canary 0"]


def test_search_for_nothing_or_in_nothing_is_an_error(tmp_path: Path) -> None:
    cassette = tmp_path / "fine.yaml"
    cassette.write_text("fine: true", encoding="utf-8")
    with pytest.raises(ValueError, match="empty canary"):
        secrets_in(cassette, [""])
    with pytest.raises(CassetteError, match="no such cassette"):
        secrets_in(tmp_path / "missing.yaml", ["secret"])
