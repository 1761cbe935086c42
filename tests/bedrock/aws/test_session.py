"""The session against live endpoints: one client a region, nothing sent unasked, and credentials of every kind."""

import logging
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError
from langchain_aws import ChatBedrockConverse
from langchain_core.tools import tool

from bedrock_evolution.bedrock.aws.credential_failures import NoUsableCredentials
from bedrock_evolution.bedrock.aws.credentials import signing_session
from bedrock_evolution.bedrock.aws.session import BedrockSession, credentials_found
from bedrock_evolution.bedrock.classification import CALL_FAILURES, classify
from bedrock_evolution.bedrock.failures import FailureKind
from bedrock_evolution.errors import EvolutionError, InvalidSetting
from bedrock_evolution.settings import Settings
from tests.support.bedrock_endpoint import BedrockEndpoint
from tests.support.certificate import over_tls
from tests.support.control_plane import ClosedProxy, ControlPlane, ControlRequest, granted, temporary_keys
from tests.support.converse import ConverseRequest, Failure, Hang, Message, Reply
from tests.support.moto_server import moto_server
from tests.support.stage import ACCESS_KEY, SECRET_KEY, SESSION_TOKEN, with_dummy_aws

REGIONS = ("us-east-1", "us-west-2")
HAIKU = "anthropic.claude-haiku-4-5-20251001-v1:0"
ROLE = "arn:aws:iam::111122223333:role/evolution"
ACCOUNT_ARN = "arn:aws:bedrock:us-east-1:111122223333"
BEARER_TOKEN = "bedrock-api-key-CANARY/of+a=key"
SECRET_IN_FILE = "file-secret/CANARY"


@pytest.fixture(autouse=True)
def dummy_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    with_dummy_aws(monkeypatch)


def hello(request: ConverseRequest) -> Reply:
    return Message([{"text": "Hello."}])


@pytest.fixture
def endpoint() -> Iterator[BedrockEndpoint]:
    with BedrockEndpoint(hello) as running:
        yield running


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlPlane]:
    """Return the only STS and control plane that can be reached."""
    with ControlPlane() as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", running.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK", running.url)
        yield running


def settings(endpoint: BedrockEndpoint | None = None, **given: Any) -> Settings:
    url = {"endpoint_url": endpoint.url} if endpoint else {}
    return Settings(**{"regions": REGIONS, **url, **given})


def say_hello(session: BedrockSession, region: str = "us-east-1") -> str:
    model = session.chat_model(f"global.{HAIKU}", region=region, base_model=HAIKU)
    return str(model.invoke("Hello?").text)


def signer(request: ConverseRequest) -> str:
    """Return the access key a request was signed with, and the region it was signed for."""
    scope = request.headers["authorization"].split("Credential=")[1].split("/")
    return f"{scope[0]} {scope[2]}"


class TestClients:
    def test_there_is_one_client_a_region_however_many_threads_ask(self, endpoint: BedrockEndpoint) -> None:
        session = BedrockSession(settings(endpoint))
        start, found = threading.Barrier(8), []

        def ask(number: int) -> None:
            start.wait()
            found.append((region := REGIONS[number % 2], session.client(region)))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert {region: len({id(client) for of, client in found if of == region}) for region in REGIONS} == {
            "us-east-1": 1,
            "us-west-2": 1,
        }

    def test_calls_go_to_their_region_and_all_of_them_to_the_endpoint_of_the_settings(
        self, endpoint: BedrockEndpoint
    ) -> None:
        session = BedrockSession(settings(endpoint))
        for region in REGIONS:
            assert say_hello(session, region) == "Hello."
        assert [signer(request) for request in endpoint.requests] == [f"{ACCESS_KEY} {region}" for region in REGIONS]

    def test_a_region_that_is_none_of_the_settings_is_not_called(self, endpoint: BedrockEndpoint) -> None:
        session = BedrockSession(settings(endpoint))
        assert session.regions == REGIONS
        with pytest.raises(InvalidSetting, match="'eu-west-1' is not called: it is none of us-east-1, us-west-2"):
            session.client("eu-west-1")

    def test_a_call_that_fails_is_sent_once(self, endpoint: BedrockEndpoint) -> None:
        endpoint._respond = lambda request: Failure("ServiceUnavailableException")
        with pytest.raises(ClientError):
            say_hello(BedrockSession(settings(endpoint)))
        assert len(endpoint.requests) == 1

    def test_the_read_timeout_is_that_of_the_settings(self, endpoint: BedrockEndpoint) -> None:
        endpoint._respond = lambda request: Hang(seconds=30)
        with pytest.raises(ReadTimeoutError):
            say_hello(BedrockSession(settings(endpoint, read_timeout_s=0.2)))
        assert len(endpoint.requests) == 1


CALLABLE = {
    "a bare id": ("amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0"),
    "an inference profile": (f"global.{HAIKU}", HAIKU),
    "a foundation model's ARN": ("arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0",) * 2,
    "a profile's ARN": (f"{ACCOUNT_ARN}:inference-profile/us.{HAIKU}", f"us.{HAIKU}"),
    "an application profile whose model is told": (f"{ACCOUNT_ARN}:application-inference-profile/abc123", HAIKU),
    "an application profile whose model is not": (f"{ACCOUNT_ARN}:application-inference-profile/abc123",) * 2,
    "an id of no known provider": ("acme.grand-v1", "acme.grand-v1"),
}


@tool
def look(place: str) -> str:
    """Look at a place."""
    return place


@dataclass(frozen=True)
class Watched:
    """A session, and everything it could talk to."""

    session: BedrockSession
    endpoint: BedrockEndpoint
    plane: ControlPlane
    proxy: ClosedProxy

    def model(self, callable_id: str, base_model: str, **given: Any) -> ChatBedrockConverse:
        return self.session.chat_model(callable_id, region="us-east-1", base_model=base_model, **given)

    def requests(self, work: Callable[[], object]) -> list[ConverseRequest]:
        """Return the requests of some work, after checking that they were all."""
        before = len(self.endpoint.requests)
        work()
        assert self.plane.requests == []
        assert self.proxy.hosts == []
        return self.endpoint.requests[before:]


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with (
        BedrockEndpoint(hello) as endpoint,
        ControlPlane() as plane,
        ClosedProxy() as proxy,
        pytest.MonkeyPatch.context() as patch,
    ):
        with_dummy_aws(patch)
        patch.setenv("AWS_ENDPOINT_URL_STS", plane.url)
        patch.setenv("AWS_ENDPOINT_URL_BEDROCK", plane.url)
        patch.setenv("HTTPS_PROXY", proxy.url)
        session = BedrockSession(settings(endpoint))
        for region in REGIONS:
            session.client(region)
        yield Watched(session, endpoint, plane, proxy)


class TestChatModels:
    @pytest.mark.parametrize(("callable_id", "base_model"), CALLABLE.values(), ids=CALLABLE)
    def test_a_chat_model_sends_one_converse_request_and_asks_aws_nothing(
        self, watched: Watched, callable_id: str, base_model: str
    ) -> None:
        assert watched.requests(lambda: watched.model(callable_id, base_model, max_tokens=77)) == []
        model = watched.model(callable_id, base_model, max_tokens=77).bind_tools([look], tool_choice="any")
        [request] = watched.requests(lambda: model.invoke("Hello?"))
        assert request.model_id == callable_id
        assert request.body["inferenceConfig"] == {"maxTokens": 77}

    @pytest.mark.parametrize(("callable_id", "base_model"), CALLABLE.values(), ids=CALLABLE)
    def test_whoever_streams_gets_the_answer_of_the_same_request(
        self, watched: Watched, caplog: pytest.LogCaptureFixture, callable_id: str, base_model: str
    ) -> None:
        model = watched.model(callable_id, base_model, max_tokens=78)
        parts: list[str] = []
        [streamed] = watched.requests(lambda: parts.extend(part.text for part in model.stream("Hello?")))
        [invoked] = watched.requests(lambda: model.invoke("Hello?"))
        assert "".join(parts) == "Hello."
        assert not streamed.stream
        assert streamed.body == invoked.body
        assert caplog.records == []

    def test_a_default_chain_that_is_broken_does_not_matter(
        self, endpoint: BedrockEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_profile(tmp_path, monkeypatch, "aws_access_key_id = AKIAPROFILE", "aws_secret_access_key = x")
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        assert say_hello(BedrockSession(settings(endpoint, profile="ours"))) == "Hello."

    def test_equal_models_are_one_and_their_answers_are_as_long_as_the_settings_allow(self, watched: Watched) -> None:
        model = watched.model(HAIKU, HAIKU)
        assert watched.model(HAIKU, HAIKU, max_tokens=4096) is model
        assert watched.model(HAIKU, HAIKU, max_tokens=100) is not model
        elsewhere = watched.session.chat_model(HAIKU, region="us-west-2", base_model=HAIKU)
        assert elsewhere is not model
        assert elsewhere.client is watched.session.client("us-west-2")
        [request] = watched.requests(lambda: model.invoke("Hello?"))
        assert request.body["inferenceConfig"] == {"maxTokens": 4096}

    @pytest.mark.parametrize(
        ("model_id", "choice"),
        [
            (f"global.{HAIKU}", {"any": {}}),
            ("amazon.nova-pro-v1:0", {"any": {}}),
            (f"{ACCOUNT_ARN}:application-inference-profile/abc123", {"any": {}}),
            # These refuse a forced choice: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ToolChoice.html
            ("us.meta.llama4-maverick-17b-instruct-v1:0", {"auto": {}}),
            ("global.anthropic.claude-opus-5-5", {"auto": {}}),
            ("acme.grand-v1", None),
        ],
    )
    def test_a_tool_is_forced_where_the_model_allows_it_and_offered_where_it_does_not(
        self, watched: Watched, model_id: str, choice: dict[str, Any] | None
    ) -> None:
        model = watched.model(model_id, model_id).bind_tools([look], tool_choice="any")
        [request] = watched.requests(lambda: model.invoke("Hello?"))
        assert request.body["toolConfig"].get("toolChoice") == choice


class TestChain:
    def test_calls_are_signed_with_the_credentials_of_the_environment(self, endpoint: BedrockEndpoint) -> None:
        assert credentials_found(settings())
        say_hello(BedrockSession(settings(endpoint)))
        assert endpoint.requests[0].headers["x-amz-security-token"] == SESSION_TOKEN

    def test_a_profile_wins_over_the_environment(
        self, endpoint: BedrockEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_profile(tmp_path, monkeypatch, "aws_access_key_id = AKIAPROFILE", "aws_secret_access_key = x")
        say_hello(BedrockSession(settings(endpoint, profile="ours")))
        assert signer(endpoint.requests[0]) == "AKIAPROFILE us-east-1"

    def test_no_credentials_are_told_with_a_remedy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        without_credentials(monkeypatch)
        assert not credentials_found(settings())
        with pytest.raises(InvalidSetting, match=r"none are found in the environment or ~/\.aws") as told:
            BedrockSession(settings())
        assert "model 'local'" in told.value.hint

    @pytest.mark.parametrize("use", [credentials_found, BedrockSession])
    def test_an_unknown_profile_is_refused_by_name(self, use: Callable[[Settings], object]) -> None:
        with pytest.raises(InvalidSetting, match=r"profile 'nobody'.*\(nobody\) could not be found") as told:
            use(settings(profile="nobody"))
        assert "setting 'profile'" in told.value.hint

    @pytest.mark.parametrize("use", [credentials_found, BedrockSession])
    def test_half_of_the_credentials_is_refused(
        self, use: Callable[[Settings], object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(InvalidSetting, match="Partial credentials found in env"):
            use(settings())

    def test_a_credentials_file_that_cannot_be_read_is_named_and_not_quoted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        without_credentials(monkeypatch)
        file = tmp_path / "credentials"
        file.write_text(f"[default]\naws_access_key_id = AKIAX\n{SECRET_IN_FILE}\n")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
        with pytest.raises(InvalidSetting, match="Unable to parse config file") as told:
            BedrockSession(settings())
        assert_clean(told.value, SECRET_IN_FILE)


FAILING_CHAINS = {
    "a sign-in that was never made": (
        [
            "sso_start_url = https://example.com/start",
            "sso_region = us-east-1",
            "sso_account_id = 111122223333",
            "sso_role_name = ours",
        ],
        "the sign-in of profile 'ours' has expired or was never made (SSOTokenLoadError)",
        "aws sso login --profile ours",
    ),
    "a command that fails and says too much": (
        [f"credential_process = sh -c 'echo {SECRET_IN_FILE} >&2; exit 3'"],
        "no credentials could be fetched from profile 'ours' (CredentialRetrievalError)",
        "aws sts get-caller-identity --profile ours",
    ),
}


@pytest.mark.parametrize(("profile", "message", "hint"), FAILING_CHAINS.values(), ids=FAILING_CHAINS)
def test_a_chain_that_fails_at_a_call_says_why_and_what_to_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    endpoint: BedrockEndpoint,
    profile: list[str],
    message: str,
    hint: str,
) -> None:
    write_profile(tmp_path, monkeypatch, *profile)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(EvolutionError) as told:
        say_hello(BedrockSession(settings(endpoint, profile="ours")))
    assert message in told.value.message
    assert hint in told.value.hint
    assert_clean(told.value, SECRET_IN_FILE)
    assert endpoint.requests == []


def test_a_failure_of_credentials_is_a_call_that_was_never_sent() -> None:
    error = NoUsableCredentials("the role may not be assumed.", hint="Allow it.")
    assert isinstance(error, CALL_FAILURES)
    assert isinstance(error, BotoCoreError)
    failure = classify(error)
    assert (failure.kind, failure.may_be_billed) == (FailureKind.DENIED, False)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.hint) == ("the role may not be assumed. Allow it.", "Allow it.")


class TestRole:
    def test_calls_are_made_with_the_keys_of_the_role_under_our_name(
        self, endpoint: BedrockEndpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with moto_server() as moto:
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto.url)
            session = BedrockSession(settings(endpoint, role_arn=ROLE))
            assert say_hello(session) == "Hello."
            sts = signing_session(settings(role_arn=ROLE)).client("sts", region_name="us-east-1")
            assert (
                sts.get_caller_identity()["Arn"]
                == ROLE.replace("iam", "sts").replace("role/", "assumed-role/") + "/bedrock-evolution"
            )
        [request] = endpoint.requests
        assert signer(request).startswith("ASIA")
        assert request.headers["x-amz-security-token"] not in ("", SESSION_TOKEN)

    def test_all_regions_and_threads_share_one_assumption(self, endpoint: BedrockEndpoint, plane: ControlPlane) -> None:
        session = BedrockSession(settings(endpoint, role_arn=ROLE))
        assert plane.requests == []
        threads = [threading.Thread(target=say_hello, args=(session, REGIONS[number % 2])) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        [assumed] = plane.requests
        assert (assumed.operation, assumed.subject, assumed.region) == ("AssumeRole", ROLE, "us-east-1")
        assert assumed.arguments["RoleSessionName"] == "bedrock-evolution"
        assert assumed.access_key == ACCESS_KEY
        assert len(endpoint.requests) == 6
        assert {request.headers["x-amz-security-token"] for request in endpoint.requests} == {"assumed-token"}

    def test_keys_that_are_about_to_expire_are_fetched_again(
        self, endpoint: BedrockEndpoint, plane: ControlPlane
    ) -> None:
        plane.respond = lambda request: temporary_keys(
            f"ASIA{len(plane.requests)}", "secret", "token", lifetime_s=60 if len(plane.requests) == 1 else 3600
        )
        session = BedrockSession(settings(endpoint, role_arn=ROLE))
        for _ in range(3):
            say_hello(session)
        assert [signer(request).split()[0] for request in endpoint.requests] == ["ASIA1", "ASIA2", "ASIA2"]

    def test_sts_is_asked_in_the_next_region_while_home_cannot_be_reached(
        self, endpoint: BedrockEndpoint, plane: ControlPlane
    ) -> None:
        plane.respond = lambda request: Hang(seconds=0) if request.region == "us-east-1" else granted(request)
        assert say_hello(BedrockSession(settings(endpoint, role_arn=ROLE))) == "Hello."
        assert [request.region for request in plane.requests] == ["us-east-1", "us-west-2"]

    def test_the_regions_own_sts_is_asked(self, endpoint: BedrockEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
        with ClosedProxy() as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            with pytest.raises(BotoCoreError) as told:
                say_hello(BedrockSession(settings(endpoint, role_arn=ROLE)))
        assert proxy.hosts == [f"sts.{region}.amazonaws.com" for region in REGIONS]
        assert classify(told.value).kind is FailureKind.UNREACHABLE

    @pytest.mark.parametrize(
        ("reply", "message", "hint"),
        [
            (
                Failure("AccessDenied", "User: ada is not authorized", 403),
                rf"the role {ROLE} may not be assumed with the credentials in the environment or ~/\.aws",
                "trust policy",
            ),
            (Failure("ExpiredToken", "The security token is expired", 403), "have expired", "Sign in again"),
            (Failure("InvalidClientTokenId", "It is invalid", 403), r"refused .* \(InvalidClientTokenId\)", "aws sts"),
        ],
        ids=["denied", "expired", "unknown key"],
    )
    def test_a_role_that_cannot_be_assumed_is_told_and_nothing_is_sent(
        self,
        endpoint: BedrockEndpoint,
        plane: ControlPlane,
        caplog: pytest.LogCaptureFixture,
        reply: Failure,
        message: str,
        hint: str,
    ) -> None:
        plane.respond = lambda request: reply
        with pytest.raises(NoUsableCredentials, match=message) as told:
            say_hello(BedrockSession(settings(endpoint, role_arn=ROLE)))
        assert hint in told.value.hint
        assert endpoint.requests == []
        assert len(plane.requests) == 1
        assert reply.message not in caplog.text

    def test_a_refused_signature_which_aws_answers_with_the_signed_request_is_not_quoted(
        self, endpoint: BedrockEndpoint, plane: ControlPlane, caplog: pytest.LogCaptureFixture
    ) -> None:
        plane.respond = refused_signature
        with caplog.at_level(logging.INFO), pytest.raises(NoUsableCredentials, match="SignatureDoesNotMatch") as told:
            say_hello(BedrockSession(settings(endpoint, role_arn=ROLE)))
        assert_clean(told.value, SESSION_TOKEN)
        assert SESSION_TOKEN not in caplog.text

    @pytest.mark.parametrize("code", ["Throttling", "ServiceUnavailable"])
    def test_an_sts_that_throttles_or_fails_is_told_as_it_is(
        self, endpoint: BedrockEndpoint, plane: ControlPlane, code: str
    ) -> None:
        plane.respond = lambda request: Failure(code, "Slow down.", 400 if code == "Throttling" else 503)
        with pytest.raises(ClientError) as told:
            say_hello(BedrockSession(settings(endpoint, role_arn=ROLE)))
        assert classify(told.value).kind in (FailureKind.THROTTLED, FailureKind.BUSY)

    def test_a_role_wins_over_an_api_key(
        self, endpoint: BedrockEndpoint, plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", BEARER_TOKEN)
        say_hello(BedrockSession(settings(endpoint, role_arn=ROLE)))
        assert signer(endpoint.requests[0]).split()[0] == "ASIAASSUMED000000001"

    def test_a_role_needs_credentials_to_assume_it_with(self, monkeypatch: pytest.MonkeyPatch) -> None:
        without_credentials(monkeypatch)
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", BEARER_TOKEN)
        assert not credentials_found(settings(role_arn=ROLE))
        with pytest.raises(InvalidSetting, match="needs AWS credentials"):
            BedrockSession(settings(role_arn=ROLE))


class TestApiKey:
    @pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside credentials"])
    def test_calls_carry_a_bedrock_api_key(
        self, endpoint: BedrockEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: bool
    ) -> None:
        if alone:
            without_credentials(monkeypatch)
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", BEARER_TOKEN)
        url = over_tls(endpoint, tmp_path, monkeypatch)
        assert credentials_found(settings(endpoint_url=url))
        assert say_hello(BedrockSession(settings(endpoint_url=url))) == "Hello."
        assert endpoint.requests[0].headers["authorization"] == f"Bearer {BEARER_TOKEN}"

    def test_an_api_key_is_not_sent_in_the_clear(
        self, endpoint: BedrockEndpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", BEARER_TOKEN)
        with pytest.raises(InvalidSetting, match="without encryption") as told:
            BedrockSession(settings(endpoint))
        assert_clean(told.value, BEARER_TOKEN)


def refused_signature(request: ControlRequest) -> Failure:
    """Answer as AWS does: with the request it would have signed, security token included."""
    headers = "\n".join(f"{name}:{value}" for name, value in request.headers.items())
    return Failure("SignatureDoesNotMatch", f"The Canonical String should have been 'POST\n/\n\n{headers}'", 403)


def without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)


def write_profile(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    file = folder / "config"
    file.write_text("\n".join(["[profile ours]", *lines]))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))


def assert_clean(error: BaseException, secret: str) -> None:
    """Check that an error, with everything it would print or name as its cause, does not hold a secret."""
    cause: BaseException | None = error
    while cause is not None:
        assert secret not in f"{cause!r} {vars(cause)!r}"
        cause = cause.__cause__
    assert secret not in "".join(traceback.format_exception(error))


def test_secrets_are_no_part_of_what_a_session_shows(endpoint: BedrockEndpoint) -> None:
    session = BedrockSession(settings(endpoint))
    model = session.chat_model(HAIKU, region="us-east-1", base_model=HAIKU)
    shown = f"{session!r} {vars(session)!r} {model!r} {model.model_dump()!r} {session.client('us-east-1')!r}"
    assert SECRET_KEY not in shown
    assert SESSION_TOKEN not in shown
