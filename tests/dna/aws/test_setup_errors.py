"""What the setup of a store says when AWS denies, refuses, is busy or is gone."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore import xform_name
from botocore.awsrequest import AWSResponse

from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.aws.calls import Clients
from bedrock_evolution.dna.aws.place import CloudPlace
from bedrock_evolution.dna.aws.setup.blueprint import Blueprint, encryption_alias
from bedrock_evolution.dna.aws.setup.bucket import BucketSetup
from bedrock_evolution.dna.aws.setup.calls import SetupCalls, permission
from bedrock_evolution.dna.aws.setup.cloud_setup import CloudSetup
from bedrock_evolution.dna.aws.setup.keys import Key
from bedrock_evolution.dna.aws.setup.s3 import CONFIGURATIONS
from bedrock_evolution.errors import StoreError, StoreUnavailable
from tests.support.cloud import session
from tests.support.moto_server import MotoServer, moto_server
from tests.support.permissions import OF_BUCKETS

pytestmark = pytest.mark.slow

REGION = "eu-central-1"
PLACE = CloudPlace.parse(f"s3://errors/prod?table=errors&region={REGION}")
SITE = PLACE.sites[0]
_NUMBERS = count(1)
ASKED_AND_DONE = {call for each in CONFIGURATIONS.values() for call in (each.get, each.put)} | {
    "create_bucket",
    "head_bucket",
}


@pytest.fixture
def server() -> Iterator[MotoServer]:
    with moto_server() as running:
        yield running


@pytest.fixture(scope="module")
def shared() -> Iterator[MotoServer]:
    """A server for the tests that leave it as it is."""
    with moto_server() as running:
        yield running


def new_place() -> CloudPlace:
    name = f"errors-{next(_NUMBERS)}"
    return CloudPlace.parse(f"s3://{name}/prod?table={name}&region={REGION}")


def clients(server: MotoServer, boto: boto3.Session | None = None, attempts: int = 3) -> Clients:
    clock = FixedClock(datetime(2026, 3, 1, tzinfo=UTC))
    return Clients(lambda: boto or session(), {REGION: server.url}, attempts=attempts, clock=clock)


class TestPermissions:
    """moto judges the permissions of S3 rightly, those of DynamoDB and KMS not."""

    # moto wants a permission for HeadBucket that IAM does not know.
    ACTIONS = ("s3:ListBucket", "s3:HeadBucket", "s3:GetBucketVersioning", "s3:GetBucketObjectLockConfiguration")

    @pytest.fixture
    def bucket(self, server: MotoServer) -> BucketSetup:
        """A bucket that a user asks about who may do very little."""
        boto = self.user(server, self.ACTIONS)
        clients(server).call(
            "s3",
            REGION,
            "create_bucket",
            Bucket=SITE.bucket,
            CreateBucketConfiguration={"LocationConstraint": REGION},
            ObjectLockEnabledForBucket=True,
        )
        self.enforce(server)
        return self.bucket_of(server, boto)

    def user(self, server: MotoServer, actions: tuple[str, ...]) -> boto3.Session:
        iam = session().client("iam", region_name=REGION, endpoint_url=server.url)
        iam.create_user(UserName="somebody")
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName="somebody", PolicyName="little", PolicyDocument=document)
        key = iam.create_access_key(UserName="somebody")["AccessKey"]
        return boto3.Session(
            aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"], region_name=REGION
        )

    def enforce(self, server: MotoServer) -> None:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
        connection.request("POST", "/moto-api/reset-auth", b"0")
        assert connection.getresponse().status == 200
        connection.close()

    def bucket_of(self, server: MotoServer, boto: boto3.Session) -> BucketSetup:
        calls = SetupCalls(clients(server, boto))
        blueprint = Blueprint()
        key = Key(calls, REGION, encryption_alias(SITE), blueprint)
        return BucketSetup(calls, PLACE, SITE, blueprint, {REGION: key})

    def test_the_permission_that_is_missing_is_named(self, bucket: BucketSetup) -> None:
        with pytest.raises(StoreUnavailable) as denied:
            bucket.found()
        # moto lets everybody read what comes before the policy.
        assert "s3:GetBucketPolicy is denied on bucket errors in eu-central-1" in denied.value.message
        assert denied.value.hint.startswith("Allow s3:GetBucketPolicy; docs/cloud-operator-policy.json holds all")
        assert not denied.value.passing

    def test_the_permission_to_change_is_named(self, bucket: BucketSetup) -> None:
        with pytest.raises(StoreUnavailable, match="s3:PutBucketVersioning is denied"):
            bucket.change("versioning", {"Status": "Enabled"})

    def test_a_bucket_that_may_not_be_looked_at_may_be_somebody_elses(self, server: MotoServer) -> None:
        boto = self.user(server, ("s3:GetBucketVersioning",))
        clients(server).call(
            "s3",
            REGION,
            "create_bucket",
            Bucket=SITE.bucket,
            CreateBucketConfiguration={"LocationConstraint": REGION},
        )
        self.enforce(server)
        with pytest.raises(StoreUnavailable) as denied:
            self.bucket_of(server, boto).found()
        assert "belongs to somebody else than account 123456789012" in denied.value.message
        assert "Choose another name for the bucket, or allow s3:ListBucket" in denied.value.hint


def test_every_call_about_a_bucket_names_the_account_that_has_to_own_it(shared: MotoServer) -> None:
    asked: list[tuple[str, Any]] = []
    boto = session()
    boto.events.register(
        "provide-client-params.s3.*", lambda params, model, **_: asked.append((model.name, dict(params)))
    )
    list(CloudSetup(clients(shared, boto), new_place()).apply())
    assert {name for name, given in asked if given.get("ExpectedBucketOwner") != "123456789012"} == {"CreateBucket"}
    assert len({name for name, _ in asked}) >= 15


def test_a_bucket_whose_name_somebody_else_has_is_refused(shared: MotoServer) -> None:
    """moto shows anybody's bucket to anybody, so this is the case of a name that was taken since it was looked for."""
    owner = (
        clients(shared)
        .client("sts", REGION)
        .assume_role(RoleArn="arn:aws:iam::222222222222:role/owner", RoleSessionName="owner")["Credentials"]
    )
    theirs = boto3.Session(owner["AccessKeyId"], owner["SecretAccessKey"], owner["SessionToken"])
    theirs.client("s3", region_name=REGION, endpoint_url=shared.url).create_bucket(
        Bucket=SITE.bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    calls = SetupCalls(clients(shared))
    key = Key(calls, REGION, encryption_alias(SITE), Blueprint())
    with pytest.raises(StoreError, match="BucketAlreadyExists"):
        BucketSetup(calls, PLACE, SITE, Blueprint(), {REGION: key}).create()


class TestBusy:
    """S3 answers that it still works on the last change; so does DynamoDB, in other words."""

    def busy(self, times: int) -> tuple[boto3.Session, list[str]]:
        """Return a session that gets this answer some times before its calls go through."""
        boto, answered = session(), list[str]()

        def answer(request: Any, **_: Any) -> AWSResponse | None:
            if len(answered) >= times:
                return None
            answered.append(request.url)
            body = b"<Error><Code>OperationAborted</Code><Message>A conflicting operation.</Message></Error>"
            return AWSResponse(request.url, 409, {"Content-Type": "application/xml"}, _Raw(body))

        boto.events.register("before-send.s3.PutBucketPolicy", answer)
        return boto, answered

    def test_it_is_asked_again_until_it_is_done(self, shared: MotoServer) -> None:
        boto, answered = self.busy(3)
        setup = CloudSetup(clients(shared, boto), new_place())
        list(setup.apply())
        assert len(answered) == 3
        assert all(field.ok for field in setup.fields())

    def test_but_not_for_ever(self, shared: MotoServer) -> None:
        boto, answered = self.busy(1_000_000)
        with pytest.raises(StoreError, match="OperationAborted"):
            list(CloudSetup(clients(shared, boto), new_place()).apply())
        assert 100 < len(answered) < 200

    def test_a_table_that_does_not_become_ready_is_told(self, shared: MotoServer) -> None:
        calls = SetupCalls(clients(shared))
        with pytest.raises(StoreUnavailable, match="table evolution is not ready after 300 s"):
            calls.wait("table evolution", lambda: False)


class _Raw:
    """A body, as urllib3 hands it on."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._body


def test_a_key_without_its_alias_is_told_with_the_command_that_names_it(shared: MotoServer) -> None:
    boto, place = session(), new_place()

    def answer(request: Any, **_: Any) -> AWSResponse:
        body = json.dumps({"__type": "AccessDeniedException", "message": "no"}).encode()
        return AWSResponse(request.url, 400, {"Content-Type": "application/x-amz-json-1.1"}, _Raw(body))

    boto.events.register("before-send.kms.CreateAlias", answer)
    with pytest.raises(StoreUnavailable) as failed:
        list(CloudSetup(clients(shared, boto), place).apply())
    keys = {key["KeyId"] for key in clients(shared).call("kms", REGION, "list_keys")["Keys"]}
    assert "kms:CreateAlias is denied" in failed.value.message
    assert failed.value.hint.split("--target-key-id ")[1].split("`")[0] in keys
    assert f"--alias-name {encryption_alias(place.sites[0])}" in failed.value.hint


def test_a_service_that_is_gone_is_told(server: MotoServer) -> None:
    asking = clients(server, attempts=1)
    server.kill()
    with pytest.raises(StoreUnavailable, match=r"kms in eu-central-1 .* cannot be reached"):
        list(CloudSetup(asking, PLACE).fields())


def test_permissions_are_named_as_the_service_authorization_reference_names_them() -> None:
    """The recorder's table was written from the reference; it has to agree with what errors say."""
    for operation, action in OF_BUCKETS.items():
        if (called := xform_name(operation)) in ASKED_AND_DONE:
            assert permission("s3", called) == f"s3:{action}"
    assert permission("dynamodb", "describe_table") == "dynamodb:DescribeTable"
    assert permission("kms", "list_resource_tags") == "kms:ListResourceTags"
