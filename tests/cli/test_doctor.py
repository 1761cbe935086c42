"""`doctor` against live servers that stand for STS and Bedrock's control plane, against none, and against moto."""

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.cli import aws_checks, check
from tests.apps import APPS
from tests.cli.command import COMMAND, Answer, bare_environment
from tests.cli.conftest import Cli
from tests.cli.test_bad_input import drop_override
from tests.support.bedrock_endpoint import BedrockEndpoint
from tests.support.certificate import self_signed
from tests.support.control_plane import (
    ACCOUNT,
    CALLER,
    Control,
    ControlPlane,
    ControlReply,
    ControlRequest,
    availability,
    granted,
)
from tests.support.converse import Failure, Hang
from tests.support.moto_server import moto_server
from tests.support.stage import ACCESS_KEY, CANARIES, SECRET_KEY, SESSION_TOKEN

HAIKU = "anthropic.claude-haiku-4-5-20251001-v1:0"
NOVA = "amazon.nova-pro-v1:0"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/evolution"
NOBODY = "http://127.0.0.1:9"
SKILLS = dict.fromkeys(("reasoning", "code", "creative", "data", "speed"), 0.5)
FREE = {"GetCallerIdentity", "GetInferenceProfile", "GetFoundationModelAvailability"}


@pytest.fixture
def set_env(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return what sets the environment of the command; it has credentials, one model and one region."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_SESSION_TOKEN": SESSION_TOKEN,
        "AWS_ENDPOINT_URL_STS": NOBODY,
        "AWS_ENDPOINT_URL_BEDROCK": NOBODY,
        "BEDROCK_EVOLUTION_REGIONS": "us-east-1",
        "BEDROCK_EVOLUTION_MODELS": HAIKU,
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def plane(set_env: pytest.MonkeyPatch) -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        set_env.setenv("AWS_ENDPOINT_URL_STS", running.url)
        set_env.setenv("AWS_ENDPOINT_URL_BEDROCK", running.url)
        yield running


def doctor(cli: Cli, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the exit code and the checks by name, after checking that no secret is told."""
    answer = cli("doctor", "--json", *options)
    assert not any(canary in answer.out + answer.err for canary in CANARIES)
    assert answer.err == ""
    checks = {found["name"]: found for found in answer.json["checks"]}
    for found in checks.values():
        assert found["ok"] or found["remedy"], found
    assert answer.code == (0 if all(found["ok"] for found in checks.values()) else 1)
    return answer.code, checks


class TestWithoutCredentials:
    @pytest.fixture(autouse=True)
    def no_credentials(self, set_env: pytest.MonkeyPatch) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            set_env.delenv(name)

    def test_the_stand_in_is_named_and_nothing_is_wrong(self, cli: Cli, plane: ControlPlane) -> None:
        code, checks = doctor(cli)
        assert code == 0
        assert list(checks) == ["settings", "regions", "store", f"model {HAIKU}", "credentials"]
        assert "none found, so the stand-in answers" in checks["credentials"]["found"]
        assert plane.requests == []

    def test_it_is_wrong_where_bedrock_is_asked_for(self, cli: Cli, set_env: pytest.MonkeyPatch) -> None:
        set_env.setenv("BEDROCK_EVOLUTION_MODEL", "bedrock")
        code, checks = doctor(cli)
        assert code == 1
        assert "needs AWS credentials" in checks["credentials"]["found"]
        assert "model 'local'" in checks["credentials"]["remedy"]

    def test_an_endpoint_of_a_region_where_nothing_is_kept_is_wrong(
        self, cli: Cli, set_env: pytest.MonkeyPatch
    ) -> None:
        set_env.setenv("BEDROCK_EVOLUTION_CHECKPOINTS", "dynamodb://runs?region=eu-west-1&bucket=runs&prefix=p")
        set_env.setenv("BEDROCK_EVOLUTION_AWS_ENDPOINTS", '{"eu-west-1": "http://127.0.0.1:1"}')
        assert "endpoints" not in doctor(cli)[1]
        set_env.setenv("BEDROCK_EVOLUTION_AWS_ENDPOINTS", '{"eu-wst-1": "http://127.0.0.1:1"}')
        code, checks = doctor(cli)
        assert code == 1
        assert "eu-wst-1" in checks["endpoints"]["found"]
        assert "eu-west-1" in checks["endpoints"]["remedy"]

    def test_half_of_them_is_wrong(self, cli: Cli, set_env: pytest.MonkeyPatch) -> None:
        set_env.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        code, checks = doctor(cli)
        assert code == 1
        assert "missing: AWS_SECRET_ACCESS_KEY" in checks["credentials"]["found"]


def test_aws_is_not_asked_where_the_stand_in_is_to_answer(
    cli: Cli, plane: ControlPlane, set_env: pytest.MonkeyPatch
) -> None:
    set_env.setenv("BEDROCK_EVOLUTION_MODEL", "local")
    code, checks = doctor(cli)
    assert code == 0
    assert "not needed" in checks["credentials"]["found"]
    assert plane.requests == []


def test_what_works_is_told_with_account_role_and_every_model_in_every_region(
    cli: Cli, plane: ControlPlane, set_env: pytest.MonkeyPatch
) -> None:
    set_env.setenv("BEDROCK_EVOLUTION_REGIONS", "us-west-2,us-east-1")
    set_env.setenv("BEDROCK_EVOLUTION_HEALER_MODEL", NOVA)
    code, checks = doctor(cli)
    assert code == 0
    assert checks["identity"]["found"] == f"account {ACCOUNT}, {CALLER}"
    assert checks["regions"]["found"].startswith("us-west-2 is home, then us-east-1")
    assert "$0.0060 for 1,000 tokens in and out" in checks[f"model {HAIKU}"]["found"]
    for region in ("us-east-1", "us-west-2"):
        assert checks[f"access to {HAIKU} in {region}"]["found"] == f"granted, as global.{HAIKU}"
        assert checks[f"access to {NOVA} in {region}"]["found"] == f"granted, as us.{NOVA}"
    asked = {(request.operation, request.region) for request in plane.requests}
    assert asked == {("GetCallerIdentity", "us-west-2")} | {
        (operation, region) for operation in FREE - {"GetCallerIdentity"} for region in ("us-east-1", "us-west-2")
    }


# Model, what the control plane replies to which operation, what is found, and the remedy.
_BARE = f"arn:aws:bedrock:us-east-1::foundation-model/{NOVA}"
NOT_GRANTED: dict[str, tuple[ControlReply, str, str]] = {
    "anthropic.claude-sonnet-4-5-20250929-v1:0": (
        availability("", authorizationStatus="NOT_AUTHORIZED"),
        "the account is not authorized for it",
        "use case",
    ),
    HAIKU: (
        availability("", agreementAvailability={"status": "NOT_AVAILABLE"}),
        "its agreement is not accepted (NOT_AVAILABLE)",
        "aws-marketplace:Subscribe",
    ),
    "anthropic.claude-opus-4-8": (
        availability("", agreementAvailability={"status": "PENDING"}),
        "its agreement is being made",
        "Wait some minutes",
    ),
    "amazon.nova-lite-v1:0": (
        availability("", entitlementAvailability="NOT_AVAILABLE"),
        "the account has no access to it",
        "Request access in the Bedrock console",
    ),
    _BARE: (
        availability("", regionAvailability="NOT_AVAILABLE"),
        "the region does not offer it",
        "Take another region",
    ),
    "amazon.nova-micro-v1:0": (
        Failure("AccessDeniedException", "User is not authorized to perform it"),
        "unknown: GetFoundationModelAvailability is denied",
        "Allow bedrock:GetFoundationModelAvailability",
    ),
    "anthropic.claude-sonnet-4-6": (
        Failure("ResourceNotFoundException", "There is none."),
        "the region has no such model or profile",
        "'models'",
    ),
    "amazon.nova-premier-v1:0": (
        Failure("ThrottlingException", "Slow down."),
        "failed (ThrottlingException)",
        "Run doctor again",
    ),
    # A region that does not host a model may still call it through a profile.
    "amazon.nova-2-lite-v1:0": (availability("", regionAvailability="NOT_AVAILABLE"), "granted", ""),
}


def test_each_reason_why_a_model_cannot_be_called_is_told_with_its_remedy(
    cli: Cli, plane: ControlPlane, set_env: pytest.MonkeyPatch
) -> None:
    set_env.setenv("BEDROCK_EVOLUTION_MODELS", ",".join(NOT_GRANTED))
    arns_asked: set[str] = set()

    def respond(request: ControlRequest) -> ControlReply:
        if request.operation != "GetFoundationModelAvailability":
            return granted(request)
        # The bare ARN and no other of these models is asked about without its profile.
        model = _BARE if request.subject == NOVA else request.subject
        arns_asked.add(model)
        return NOT_GRANTED[model][0]

    plane.respond = respond
    code, checks = doctor(cli)
    assert code == 1
    assert arns_asked == set(NOT_GRANTED)
    for model, (_, found, remedy) in NOT_GRANTED.items():
        told = checks[f"access to {model} in us-east-1"]
        assert found in told["found"]
        assert remedy in told["remedy"]
        assert told["ok"] == (found == "granted")


def test_a_profile_that_aws_spreads_over_regions_outside_the_residency_is_found(
    cli: Cli, plane: ControlPlane, set_env: pytest.MonkeyPatch
) -> None:
    set_env.setenv("BEDROCK_EVOLUTION_RESIDENCY", "us")
    abroad = [
        {"modelArn": f"arn:aws:bedrock:{region}::foundation-model/{HAIKU}"} for region in ("us-east-1", "eu-west-1")
    ]
    plane.respond = lambda request: (
        {"models": abroad} if request.operation == "GetInferenceProfile" else granted(request)
    )
    code, checks = doctor(cli)
    assert code == 1
    assert "over eu-west-1, outside the residency 'us'" in checks[f"access to {HAIKU} in us-east-1"]["found"]


def test_a_model_that_cannot_be_called_from_every_region_is_asked_for_where_it_can(
    cli: Cli, plane: ControlPlane, set_env: pytest.MonkeyPatch
) -> None:
    set_env.setenv("BEDROCK_EVOLUTION_REGIONS", "us-east-1,eu-west-1")
    set_env.setenv("BEDROCK_EVOLUTION_MODELS", f"us.{HAIKU}")
    code, checks = doctor(cli)
    assert code == 0
    assert checks[f"model us.{HAIKU}"]["found"].endswith("not called from eu-west-1")
    assert {request.region for request in plane.requests} == {"us-east-1"}


@pytest.mark.parametrize(
    ("name", "value", "found", "remedy"),
    [
        ("MODELS", "acme.grand-v1", "model 'acme.grand-v1' is not in the catalog", "model_cards"),
        ("MODELS", f"eu.{HAIKU}", "cannot be called from us-east-1", "bare id"),
        (
            "MODEL_CARDS",
            json.dumps({"acme.grand-v1": {"context_tokens": 1000, "max_output_tokens": 100, **SKILLS}}),
            "no price is known for the model 'acme.grand-v1'",
            "price",
        ),
    ],
    ids=["unknown", "elsewhere", "no price"],
)
def test_a_model_that_cannot_be_used_is_told_before_aws_is_asked(
    cli: Cli, set_env: pytest.MonkeyPatch, name: str, value: str, found: str, remedy: str
) -> None:
    set_env.setenv("BEDROCK_EVOLUTION_MODEL", "local")
    set_env.setenv(f"BEDROCK_EVOLUTION_{name}", value)
    if name == "MODEL_CARDS":
        set_env.setenv("BEDROCK_EVOLUTION_MODELS", "acme.grand-v1")
    code, checks = doctor(cli)
    [wrong] = [told for told in checks.values() if not told["ok"]]
    assert code == 1
    assert wrong["name"].startswith("model ")
    assert found in wrong["found"]
    assert remedy in wrong["remedy"]


class TestNetwork:
    def test_nothing_reachable_is_told_once_a_region_in_seconds(self, cli: Cli, set_env: pytest.MonkeyPatch) -> None:
        set_env.setenv("BEDROCK_EVOLUTION_REGIONS", "us-east-1,us-west-2")
        set_env.setenv("BEDROCK_EVOLUTION_MODELS", f"{HAIKU},{NOVA}")
        before = time.monotonic()
        code, checks = doctor(cli)
        assert time.monotonic() - before < 20  # on a busy machine; the limit itself is tested below
        assert code == 1
        for name in ("identity", "access to all models in us-east-1", "access to all models in us-west-2"):
            assert checks[name]["found"] == "AWS cannot be reached (EndpointConnectionError)"
            assert "its endpoints for sts, bedrock" in checks[name]["remedy"]
        assert not any(HAIKU in name for name in checks if name.startswith("access"))

    def test_silence_is_told(self, cli: Cli, plane: ControlPlane, set_env: pytest.MonkeyPatch) -> None:
        set_env.setattr(aws_checks, "_READ_S", 0.2)
        plane.respond = lambda request: Hang(seconds=60)
        code, checks = doctor(cli)
        assert code == 1
        for name in ("identity", f"access to {HAIKU} in us-east-1"):
            assert checks[name]["found"] == "AWS cannot be reached (ReadTimeoutError)"

    def test_what_takes_too_long_altogether_is_given_up(
        self, cli: Cli, plane: ControlPlane, set_env: pytest.MonkeyPatch
    ) -> None:
        assert check.LIMIT_S < 5
        set_env.setattr(check, "LIMIT_S", 0.5)
        done = threading.Event()

        def respond(request: ControlRequest) -> ControlReply:
            if request.operation != "GetCallerIdentity":
                done.wait(60)
            return granted(request)

        plane.respond = respond
        set_env.setattr(aws_checks, "_READ_S", 60)
        try:
            code, checks = doctor(cli)
        finally:
            done.set()
        assert code == 1
        assert checks[f"access to {HAIKU} in us-east-1"]["found"] == "no answer within 0.5 s"


@pytest.mark.parametrize(
    ("sts", "bedrock"),
    [("InvalidClientTokenId", "UnrecognizedClientException"), ("ExpiredToken", "ExpiredTokenException")],
)
def test_refused_credentials_are_told_without_what_was_signed(
    cli: Cli, plane: ControlPlane, sts: str, bedrock: str
) -> None:
    def respond(request: ControlRequest) -> ControlReply:
        code = sts if request.operation == "GetCallerIdentity" else bedrock
        return Failure(code, f"The string to sign was {request.headers}", 403)

    plane.respond = respond
    code, checks = doctor(cli)
    assert code == 1
    assert sts in checks["identity"]["found"]
    assert checks[f"access to {HAIKU} in us-east-1"]["found"] == f"the credentials are refused ({bedrock})"


def denying(request: ControlRequest) -> ControlReply:
    return Failure("AccessDenied", "Not you.", 403) if request.operation == "AssumeRole" else granted(request)


@pytest.mark.parametrize(("respond", "works"), [(granted, True), (denying, False)], ids=["granted", "denied"])
def test_a_role_is_assumed_and_named_or_it_is_told_why_not(
    cli: Cli, plane: ControlPlane, set_env: pytest.MonkeyPatch, respond: Control, works: bool
) -> None:
    set_env.setenv("BEDROCK_EVOLUTION_ROLE_ARN", ROLE)
    plane.respond = respond
    code, checks = doctor(cli)
    assert "found (assume-role)" in checks["credentials"]["found"]
    if works:
        assert code == 0
        assert {r.access_key for r in plane.requests if r.operation != "AssumeRole"} == {"ASIAASSUMED000000001"}
    else:
        assert code == 1
        assert f"the role {ROLE} may not be assumed" in checks["identity"]["found"]
        assert "trust policy" in checks[f"access to {HAIKU} in us-east-1"]["remedy"]


def test_an_unknown_profile_is_told(cli: Cli, set_env: pytest.MonkeyPatch) -> None:
    set_env.setenv("BEDROCK_EVOLUTION_PROFILE", "nobody")
    code, checks = doctor(cli)
    assert code == 1
    assert "profile 'nobody'" in checks["credentials"]["found"]
    assert "identity" not in checks


def test_moto_tells_who_we_are(cli: Cli, plane: ControlPlane, set_env: pytest.MonkeyPatch) -> None:
    set_env.setenv("BEDROCK_EVOLUTION_ROLE_ARN", ROLE)
    with moto_server() as moto:
        set_env.setenv("AWS_ENDPOINT_URL_STS", moto.url)
        code, checks = doctor(cli)
    assert code == 0
    assert "assumed-role/evolution/bedrock-evolution" in checks["identity"]["found"]


def test_an_api_key_is_enough(cli: Cli, set_env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        set_env.delenv(name)
    set_env.setenv("AWS_BEARER_TOKEN_BEDROCK", SECRET_KEY)
    trusted, context = self_signed(tmp_path)
    set_env.setenv("AWS_CA_BUNDLE", str(trusted))
    with ControlPlane(tls=context) as plane:
        set_env.setenv("AWS_ENDPOINT_URL_BEDROCK", plane.url)
        code, checks = doctor(cli)
    assert code == 0
    assert "a Bedrock API key" in checks["credentials"]["found"]
    assert "does not tell whose it is" in checks["identity"]["found"]
    assert {request.headers["authorization"] for request in plane.requests} == {f"Bearer {SECRET_KEY}"}


class TestEndpoint:
    def test_an_endpoint_of_ones_own_is_reached_and_aws_is_not_asked(
        self, cli: Cli, plane: ControlPlane, set_env: pytest.MonkeyPatch
    ) -> None:
        with BedrockEndpoint(lambda request: Failure()) as endpoint:
            set_env.setenv("BEDROCK_EVOLUTION_ENDPOINT_URL", endpoint.url)
            code, checks = doctor(cli)
            assert endpoint.requests == []
        assert code == 0
        assert endpoint.url.removeprefix("http://") in checks["endpoint"]["found"]
        assert plane.requests == []

    def test_an_endpoint_that_is_gone_is_told_without_its_password(self, cli: Cli, set_env: pytest.MonkeyPatch) -> None:
        set_env.setenv("BEDROCK_EVOLUTION_ENDPOINT_URL", f"http://user:{SESSION_TOKEN.replace('/', '-')}@127.0.0.1:9/x")
        answer = cli("doctor")
        assert answer.code == 1
        assert "127.0.0.1:9 cannot be reached: Connection refused" in answer.out
        assert SESSION_TOKEN.replace("/", "-") not in answer.out


class TestStore:
    @pytest.fixture(autouse=True)
    def local(self, set_env: pytest.MonkeyPatch) -> None:
        set_env.setenv("BEDROCK_EVOLUTION_MODEL", "local")

    def test_a_store_that_is_there_is_opened_and_left_as_it_is(self, cli: Cli, tmp_path: Path) -> None:
        assert cli("run", str(APPS / "climber.py"), "--generations", "1", "--store", "sqlite:///ours.db").code == 0
        before = rows(tmp_path / "ours.db")
        code, checks = doctor(cli, "--store", "sqlite:///ours.db")
        assert code == 0
        assert checks["store"]["found"] == "sqlite:///ours.db is ours, undamaged and writable"
        assert rows(tmp_path / "ours.db") == before

    def test_a_store_in_a_place_that_is_no_folder_is_told_and_nothing_is_made(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        before = sorted(tmp_path.rglob("*"))
        code, checks = doctor(cli, "--store", "sqlite:///file/new.db")
        assert code == 1
        assert "cannot be made" in checks["store"]["found"]
        assert sorted(tmp_path.rglob("*")) == before

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere root cannot be bound by permissions")
    @pytest.mark.parametrize("locked", ["file", "folder", "both"])
    def test_a_store_that_cannot_be_written_is_told(self, cli: Cli, tmp_path: Path, locked: str) -> None:
        folder = tmp_path / "locked"
        folder.mkdir()
        if locked != "folder":
            made = cli("run", str(APPS / "climber.py"), "--generations", "1", "--store", "sqlite:///a.db")
            assert made.code == 0
            shutil.copy(tmp_path / "a.db", folder / "store.db")
            (folder / "store.db").chmod(0o444)
        if locked != "file":
            folder.chmod(0o555)
        told = subprocess.run(
            [*COMMAND, "doctor", "--json", "--store", f"sqlite:///{folder / 'store.db'}"],
            cwd=tmp_path,
            env=bare_environment(tmp_path),
            preexec_fn=drop_override,
            capture_output=True,
            text=True,
            check=False,
        )
        folder.chmod(0o755)
        [store] = [one for one in Answer(told.returncode, told.stdout, told.stderr).json["checks"] if not one["ok"]]
        assert told.returncode == 1
        assert store["name"] == "store"
        assert "writable" in store["remedy"]


def rows(path: Path) -> list[str]:
    with sqlite3.connect(path) as connection:
        found = list(connection.iterdump())
    connection.close()
    return found


def test_a_person_is_told_what_to_do(cli: Cli, plane: ControlPlane) -> None:
    plane.respond = lambda request: (
        granted(request)
        if request.operation != "GetFoundationModelAvailability"
        else availability(request.subject, authorizationStatus="NOT_AUTHORIZED")
    )
    answer = cli("doctor")
    assert answer.code == 1
    assert f"ok   identity: account {ACCOUNT}, {CALLER}\n" in answer.out
    wrong = f"FAIL access to {HAIKU} in us-east-1: the account is not authorized for it\n     -> See whether a policy"
    assert wrong in answer.out
