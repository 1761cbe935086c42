"""The policies in the documentation: valid, without a wild card more than needed, and exactly what is used."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.clock import SystemClock
from bedrock_evolution.dna.aws.calls import Clients, Missing
from bedrock_evolution.dna.aws.items import check, put, update
from bedrock_evolution.dna.aws.place import CloudPlace
from bedrock_evolution.dna.aws.regions import Regions
from bedrock_evolution.dna.aws.setup.blueprint import Blueprint, encryption_alias, signing_alias
from bedrock_evolution.dna.aws.setup.cloud_setup import CloudSetup
from bedrock_evolution.settings import Settings
from tests.support.cloud import REGIONS, Cloud, cloud
from tests.support.moto_server import MotoServer, moto_server
from tests.support.permissions import KEYS, TABLE, Permission, Recorder, allowed, listed
from tests.test_floors import ROOT

DOCS = ROOT / "docs"
POLICIES = ("cloud-policy.json", "cloud-operator-policy.json")
REAL = {
    "ACCOUNT": "111122223333",
    "BUCKET": "evolution-records",
    "PREFIX": "prod",
    "REGION": "eu-central-1",
    "ROLE": "replication",
    "STORE": "evolution-records-0123456789",
    "TABLE": "evolution",
}
LONGEST_POLICY = 6144
"""Characters of a managed policy, without white space
(https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html)."""
ON_ANY_KEY = "OurKeys"
"""The statement whose keys have neither a name nor a tag yet when they are made."""


@pytest.fixture(scope="module")
def server() -> Iterator[MotoServer]:
    with moto_server() as running:
        yield running


def statements(name: str) -> list[dict[str, Any]]:
    return list(json.loads((DOCS / name).read_text(encoding="utf-8"))["Statement"])


def filled(name: str) -> str:
    text = (DOCS / name).read_text(encoding="utf-8")
    for placeholder, value in REAL.items():
        text = text.replace(placeholder, value)
    return text


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """What cfn-lint says of the policies, and of each with two mistakes: W3037 is about actions that do not exist,
    E3510 about a policy's form."""
    folder = tmp_path_factory.mktemp("templates")
    for name in POLICIES:
        wrong = filled(name).replace('"dynamodb:', '"dynamodb:No').replace("StringEquals", "StringEquls")
        for path, policy in ((folder / name, filled(name)), (folder / f"wrong-{name}", wrong)):
            properties = {"PolicyDocument": json.loads(policy)}
            template = {"Resources": {"Policy": {"Type": "AWS::IAM::ManagedPolicy", "Properties": properties}}}
            path.write_text(json.dumps(template), encoding="utf-8")
    paths = sorted(map(str, folder.iterdir()))
    command = [sys.executable, "-c", "from cfnlint.runner import main; main()", "--format", "json", "-t", *paths]
    told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert told.stderr == ""
    rules: dict[str, set[str]] = {Path(path).name: set() for path in paths}
    for each in json.loads(told.stdout):
        rules[Path(each["Filename"]).name].add(each["Rule"]["Id"])
    return rules


@pytest.mark.parametrize("name", POLICIES)
class TestDocuments:
    def test_it_is_valid_and_its_actions_exist(self, name: str, found: dict[str, set[str]]) -> None:
        assert found[name] == set()
        assert found[f"wrong-{name}"] == {"E3510", "W3037"}

    def test_it_fits_one_managed_policy(self, name: str) -> None:
        assert len("".join(filled(name).split())) < LONGEST_POLICY

    def test_nothing_is_wild_without_a_condition(self, name: str) -> None:
        names = [statement["Sid"] for statement in statements(name)]
        assert len(set(names)) == len(names)
        for statement in statements(name):
            assert statement["Effect"] == "Allow"
            assert not any("*" in action for action in listed(statement["Action"]))
            wild = [arn for arn in listed(statement["Resource"]) if arn in ("*", KEYS)]
            assert not wild or "Condition" in statement or statement["Sid"] == ON_ANY_KEY

    def test_the_documentation_tells_what_each_statement_is_for(self, name: str) -> None:
        text = (DOCS / "cloud.md").read_text(encoding="utf-8")
        assert f"]({name})" in text
        assert [each["Sid"] for each in statements(name) if f"| `{each['Sid']}` |" not in text] == []


def test_names_of_keys_and_metrics_are_those_of_the_package() -> None:
    place = CloudPlace.parse("s3://BUCKET/PREFIX?table=TABLE&region=eu-central-1".replace("BUCKET", "bucket"))
    conditions = json.dumps([statement.get("Condition", {}) for statement in statements("cloud-policy.json")])
    assert encryption_alias(place.sites[0]).replace("bucket", "BUCKET") in conditions
    assert signing_alias(place).replace(place.name, "STORE") in conditions
    assert f'"cloudwatch:namespace": "{Settings().metrics_namespace}"' in conditions


@pytest.mark.slow
def test_what_the_operator_may_do_is_exactly_what_setting_up_takes(server: MotoServer) -> None:
    place = CloudPlace.parse(
        f"s3://operated/prod?table=operated&region={REGIONS[0]}&replica={REGIONS[1]}:operated-copy"
    )
    recorder = Recorder(place)
    endpoints = dict.fromkeys(REGIONS, server.url)
    clients = Clients(recorder.session, endpoints)
    role = "arn:aws:iam::123456789012:role/replication"

    def setup() -> CloudSetup:
        return CloudSetup(clients, place, Blueprint(audit_retain_days=400), role)

    list(setup().apply())
    _spoil(cloud_of(place, server))
    list(setup().apply())
    list(setup().fields())
    assert recorder.used == allowed(DOCS / "cloud-operator-policy.json")


def cloud_of(place: CloudPlace, server: MotoServer) -> Cloud:
    return Cloud(f"s3://{place.sites[0].bucket}", dict.fromkeys(REGIONS, server.url))


def _spoil(there: Cloud) -> None:
    """Break what is right from the start, so that it has to be set too."""
    s3, table, name = there.client("s3"), there.client("dynamodb"), "operated"
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Suspended"})
    s3.put_bucket_ownership_controls(Bucket=name, OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]})
    table.update_table(TableName=name, DeletionProtectionEnabled=False)
    table.update_time_to_live(TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires"})


class TestRecorder:
    """What a call needs is taken down, whatever it is called."""

    @pytest.fixture
    def there(self, server: MotoServer) -> Cloud:
        return cloud(server.url)

    def test_a_transaction_needs_what_its_parts_need(self, there: Cloud) -> None:
        recorder = Recorder(there.place)
        table = Regions(Clients(recorder.session, there.endpoints), there.place, SystemClock()).table()
        table.transact(
            [
                put("prod/a", "head", {"x": 1}),
                check("prod", "control", "attribute_not_exists(pk)"),
                update("prod/a", "y", "SET #n = :n", n=1),
            ]
        )
        used = {permission.action for permission in recorder.used if permission.resource == TABLE}
        assert used == {
            "dynamodb:ConditionCheckItem",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:UpdateItem",
        }
        assert Permission("kms:Decrypt", KEYS) in recorder.used

    def test_a_locked_object_needs_more_than_any_other(self, there: Cloud) -> None:
        recorder, site = Recorder(there.place), there.place.sites[0]
        clients = Clients(recorder.session, there.endpoints)
        clients.call("s3", site.region, "put_object", Bucket=site.bucket, Key="prod/events/a/b", Body=b"")
        events = {action for action, arn in recorder.used if arn == "arn:aws:s3:::BUCKET/PREFIX/events/*"}
        assert events == {"s3:PutObject"}
        assert Permission("kms:GenerateDataKey", KEYS) in recorder.used
        recorder.used.clear()
        lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": "2030-01-01T00:00:00Z"}
        with pytest.raises(Exception, match="ObjectLockConfiguration"):
            clients.call("s3", site.region, "put_object", Bucket=site.bucket, Key="prod/audit/a/b", Body=b"", **lock)
        audit = {action for action, arn in recorder.used if arn == "arn:aws:s3:::BUCKET/PREFIX/audit/*"}
        assert audit == {"s3:PutObject", "s3:PutObjectRetention"}

    def test_to_be_told_that_an_object_is_missing_one_has_to_be_allowed_to_list(self, there: Cloud) -> None:
        recorder, site = Recorder(there.place), there.place.sites[0]
        clients = Clients(recorder.session, there.endpoints)
        with pytest.raises(Missing):
            clients.call("s3", site.region, "get_object", Bucket=site.bucket, Key="prod/dna/none")
        assert recorder.used == {
            Permission("s3:GetObject", "arn:aws:s3:::BUCKET/PREFIX/dna/*"),
            Permission("kms:Decrypt", KEYS),
            Permission("s3:ListBucket", "arn:aws:s3:::BUCKET"),
        }

    def test_what_is_none_of_the_stores_keeps_its_name(self, there: Cloud) -> None:
        recorder, site = Recorder(there.place), there.place.sites[0]
        clients = Clients(recorder.session, there.endpoints)
        clients.call("s3", site.region, "put_object", Bucket=site.bucket, Key="elsewhere/a", Body=b"")
        assert Permission("s3:PutObject", "arn:aws:s3:::BUCKET/elsewhere/a") in recorder.used

    def test_a_call_that_nobody_knows_is_not_passed_over(self, there: Cloud) -> None:
        recorder = Recorder(there.place)
        sns = recorder.session().client("sns", region_name=REGIONS[0], endpoint_url=there.endpoints[REGIONS[0]])
        with pytest.raises(AssertionError, match="sns ListTopics is used"):
            sns.list_topics()
