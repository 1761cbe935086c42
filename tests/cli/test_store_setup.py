"""`store init` and `store doctor` on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from bedrock_evolution.dna.aws.calls import Clients
from bedrock_evolution.dna.aws.place import CloudPlace
from bedrock_evolution.dna.aws.setup.cloud_setup import CloudSetup
from tests.cli.conftest import Cli
from tests.support.cloud import session
from tests.support.moto_server import MotoServer, moto_server

pytestmark = pytest.mark.slow

REGION = "eu-central-1"
NOBODY = "http://127.0.0.1:9"
_NUMBERS = count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[MotoServer]:
    with moto_server() as running:
        yield running


@pytest.fixture
def connected(cli: Cli, server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command has credentials, and asks the emulator."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "BEDROCK_EVOLUTION_AWS_ENDPOINTS": json.dumps({REGION: server.url}),
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def url(connected: None) -> str:
    """The URL of a store that does not exist yet."""
    name = f"line-{next(_NUMBERS)}"
    return f"s3://{name}/prod?table={name}&region={REGION}"


@pytest.fixture(scope="module")
def built(server: MotoServer) -> str:
    """The URL of a store that is as it has to be; each test leaves it so."""
    url = f"s3://built/prod?table=built&region={REGION}"
    list(CloudSetup(Clients(session, {REGION: server.url}), CloudPlace.parse(url)).apply())
    return url


def aws(server: MotoServer, service: str) -> Any:
    return session().client(service, region_name=REGION, endpoint_url=server.url)


def bucket_of(url: str) -> str:
    return url.removeprefix("s3://").partition("/")[0]


def test_a_store_is_planned_built_and_checked(cli: Cli, url: str) -> None:
    planned = cli("store", "init", "--store", url, "--dry-run")
    assert planned.code == 0
    lines = planned.out.splitlines()
    assert lines[0].startswith("create  encryption key alias/bedrock-evolution/line-")
    assert lines[-1].startswith("to do: create 4, set ")
    assert lines[-1].endswith("; nothing was changed")

    missing = cli("store", "doctor", "--store", url)
    assert missing.code == 1
    assert missing.out.count("differs  exists: wanted True, found False") == 4

    built = cli("store", "init", "--store", url)
    assert (built.code, built.err) == (0, "")
    assert built.out.splitlines()[-1].startswith("created 4, set ")
    assert len([line for line in built.out.splitlines() if line.startswith("create ")]) == 4

    again = cli("store", "init", "--store", url)
    assert again.code == 0
    [only] = again.out.splitlines()
    assert only.startswith("no change; ")

    checked = cli("store", "doctor", "--store", url)
    assert checked.code == 0
    assert "differs" not in checked.out
    assert "  ok       versioning.Status: Enabled" in checked.out.splitlines()


def test_what_differs_is_told_with_what_is_wanted_and_found(
    cli: Cli, built: str, connected: None, server: MotoServer
) -> None:
    aws(server, "s3").put_bucket_versioning(Bucket="built", VersioningConfiguration={"Status": "Suspended"})
    told = cli("store", "doctor", "--store", built)
    assert told.code == 1
    [line] = [line for line in told.out.splitlines() if line.startswith("  differs")]
    assert line == "  differs  versioning.Status: wanted Enabled, found Suspended"
    assert "`bedrock-evolution store init` changes what differs" in told.out
    mended = cli("store", "init", "--store", built)
    assert f"set     bucket built in {REGION}: versioning.Status: Suspended -> Enabled" in mended.out
    assert mended.code == 0


def test_json_holds_every_step_and_every_field(cli: Cli, built: str, connected: None, server: MotoServer) -> None:
    aws(server, "dynamodb").update_table(TableName="built", DeletionProtectionEnabled=False)
    step = {
        "action": "set",
        "resource": f"table built in {REGION}",
        "field": "protection.DeletionProtectionEnabled",
        "wanted": True,
        "found": False,
    }
    planned = cli("store", "init", "--store", built, "--dry-run", "--json")
    assert planned.json == {"dry_run": True, "steps": [step], "fields": 0, "differs": []}
    told = cli("store", "doctor", "--store", built, "--json")
    assert (told.code, told.json["ok"]) == (1, False)
    [field] = [field for field in told.json["fields"] if not field["ok"]]
    assert field == {"resource": step["resource"], "name": step["field"], "wanted": True, "found": False, "ok": False}
    done = cli("store", "init", "--store", built, "--json")
    assert done.json == {"dry_run": False, "steps": [step], "fields": len(told.json["fields"]), "differs": []}


def test_what_only_a_person_may_change_is_left_and_told(cli: Cli, url: str, server: MotoServer) -> None:
    aws(server, "dynamodb").create_table(
        TableName=bucket_of(url),
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    told = cli("store", "init", "--store", url)
    assert told.code == 1
    assert "keys.pk: nothing -> HASH S; change it by hand" in told.out
    assert f"differs  table {bucket_of(url)} in {REGION}: keys.pk: wanted HASH S, found nothing" in told.out


def test_the_settings_name_the_store_and_the_retention(cli: Cli, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEDROCK_EVOLUTION_STORE", url)
    assert "LockedAudit" not in cli("store", "init", "--dry-run").out
    monkeypatch.setenv("BEDROCK_EVOLUTION_AUDIT_RETAIN_DAYS", "400")
    assert "policy.BedrockEvolutionLockedAudit" in cli("store", "init", "--dry-run").out


def test_checkpoints_in_a_table_of_their_own_are_prepared(
    cli: Cli, built: str, connected: None, server: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws(server, "s3").create_bucket(Bucket="kept", CreateBucketConfiguration={"LocationConstraint": REGION})
    url = f"dynamodb://kept?region={REGION}&bucket=kept&prefix=garden&ttl_days=30"
    monkeypatch.setenv("BEDROCK_EVOLUTION_CHECKPOINTS", url)
    assert f"ready   checkpoints {url}" in cli("store", "init", "--store", built).out
    assert aws(server, "dynamodb").describe_table(TableName="kept")["Table"]["TableStatus"] == "ACTIVE"


def test_a_store_in_a_file_needs_no_setting_up(cli: Cli) -> None:
    answer = cli("store", "doctor", "--store", "sqlite:///here.db")
    assert answer.code == 2
    assert "the store sqlite:///here.db is a file" in answer.err
    assert "s3://BUCKET/PREFIX" in answer.err


def test_a_role_that_is_none_is_told(cli: Cli, url: str) -> None:
    answer = cli("store", "init", "--store", url, "--replication-role", "replication")
    assert answer.code == 2
    assert "'replication' is no ARN of a role" in answer.err


def test_without_credentials_it_is_said_what_to_do(cli: Cli, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    answer = cli("store", "doctor", "--store", url)
    assert answer.code == 2
    assert "needs AWS credentials" in answer.err


def test_a_region_that_does_not_answer_is_named(cli: Cli, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEDROCK_EVOLUTION_AWS_ENDPOINTS", json.dumps({REGION: NOBODY}))
    answer = cli("store", "init", "--store", url)
    assert answer.code == 1
    assert f"in {REGION} (describe_key) cannot be reached" in answer.err
    assert "Traceback" not in answer.err
