"""`CloudSetup` against S3, DynamoDB and KMS in a process of its own.

What moto 5.2 drops, and no test here can show: the SSE key of a table that exists, the prefix and the source selection
of replication, the rotation period of a key, and whether `ExpectedBucketOwner` is the owner.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from bedrock_evolution.dna.aws.calls import Clients
from bedrock_evolution.dna.aws.place import CloudPlace
from bedrock_evolution.dna.aws.setup.blueprint import Blueprint, encryption_alias, signing_alias
from bedrock_evolution.dna.aws.setup.cloud_setup import CloudSetup, Step
from tests.support.cloud import session
from tests.support.moto_server import moto_server
from tests.support.permissions import Recorder

pytestmark = pytest.mark.slow

HOME, AWAY = "eu-central-1", "eu-west-1"
ROLE = "arn:aws:iam::123456789012:role/replication"
LOCKED = Blueprint(audit_retain_days=400)
_NUMBERS = count(1)


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    """Clients for all of these tests, since making one takes longer than most calls."""
    with moto_server() as server:
        yield Clients(session, dict.fromkeys((HOME, AWAY, "us-east-1"), server.url))


class Site:
    """A store that may not exist yet."""

    def __init__(self, clients: Clients, *, home: str = HOME, replica: bool = False) -> None:
        self.name = f"setup-{next(_NUMBERS)}"
        also = f"&replica={AWAY}:{self.name}-copy" if replica else ""
        self.place = CloudPlace.parse(f"s3://{self.name}/prod?table={self.name}&region={home}{also}")
        self.home = home
        self.clients = clients

    def setup(self, blueprint: Blueprint = LOCKED, role: str = "") -> CloudSetup:
        return CloudSetup(self.clients, self.place, blueprint, role)

    def recorded(self) -> tuple[CloudSetup, Recorder]:
        """Return a setup with clients of its own, and what takes down its calls."""
        recorder = Recorder(self.place)
        return CloudSetup(Clients(recorder.session, self.clients.endpoints), self.place, LOCKED, ROLE), recorder

    def client(self, service: Any, region: str = "") -> Any:
        """Return a client of boto3 itself, to look behind the setup's back."""
        return self.clients.client(service, region or self.home)

    def wrong(self, blueprint: Blueprint = LOCKED, role: str = "") -> list[str]:
        fields = self.setup(blueprint, role).fields()
        return [f"{field.resource.split()[0]}: {field.name}" for field in fields if not field.ok]

    def table_arn(self) -> str:
        return str(self.client("dynamodb").describe_table(TableName=self.name)["Table"]["TableArn"])

    def key_id(self, alias: str) -> str:
        return str(self.client("kms").describe_key(KeyId=alias)["KeyMetadata"]["KeyId"])


@pytest.fixture
def site(clients: Clients) -> Site:
    return Site(clients)


@pytest.fixture(scope="module")
def built(clients: Clients) -> Iterator[Site]:
    """A store that is as it has to be; each test leaves it so."""
    site = Site(clients)
    list(site.setup().apply())
    yield site
    assert site.wrong() == []


def changing(recorder: Recorder) -> set[str]:
    return {name for _, name in recorder.calls if not name.startswith(("Get", "Head", "Describe", "List"))}


def test_a_store_is_built_out_of_nothing(site: Site) -> None:
    assert site.wrong() == ["encryption: exists", "signing: exists", "bucket: exists", "table: exists"]
    steps = list(site.setup().apply())
    created = [step.resource.split()[0] for step in steps if step.action == "create"]
    assert created == ["encryption", "signing", "bucket", "table"]
    fields = list(site.setup().fields())
    assert [field for field in fields if not field.ok] == []
    assert len(fields) > 80


def test_the_second_time_nothing_is_changed(built: Site) -> None:
    assert list(built.setup().apply()) == []
    setup, recorder = built.recorded()
    assert list(setup.apply()) == []
    assert changing(recorder) == set()


def test_a_dry_run_tells_what_will_be_done_and_does_nothing(site: Site) -> None:
    setup, recorder = site.recorded()
    planned = list(setup.apply(dry_run=True))
    assert changing(recorder) == set()
    assert len(site.wrong()) == 4
    done = list(site.setup().apply())
    assert [step for step in planned if step.action == "create"] == [step for step in done if step.action == "create"]
    # What is made with the right value from the start needs no step of its own.
    assert {(step.resource, step.field) for step in done} <= {(step.resource, step.field) for step in planned}


Breaking = Callable[[Site], object]
S3, DYNAMODB, KMS = "s3", "dynamodb", "kms"


def _bucket(operation: str, **arguments: Any) -> Breaking:
    return lambda site: getattr(site.client(S3), operation)(Bucket=site.name, **arguments)


def _table(operation: str, **arguments: Any) -> Breaking:
    return lambda site: getattr(site.client(DYNAMODB), operation)(TableName=site.name, **arguments)


def _other_encryption(**changes: Any) -> Breaking:
    def put(site: Site) -> None:
        told = site.client(S3).get_bucket_encryption(Bucket=site.name)["ServerSideEncryptionConfiguration"]
        [rule] = told["Rules"]
        rule["BucketKeyEnabled"] = changes.pop("BucketKeyEnabled", rule["BucketKeyEnabled"])
        rule["ApplyServerSideEncryptionByDefault"] |= changes
        _bucket("put_bucket_encryption", ServerSideEncryptionConfiguration={"Rules": [rule]})(site)

    return put


def _open(name: str) -> Breaking:
    def put(site: Site) -> None:
        told = site.client(S3).get_public_access_block(Bucket=site.name)["PublicAccessBlockConfiguration"]
        _bucket("put_public_access_block", PublicAccessBlockConfiguration=told | {name: False})(site)

    return put


def _statements(change: Callable[[dict[str, Any]], object]) -> Breaking:
    def put(site: Site) -> None:
        told = json.loads(site.client(S3).get_bucket_policy(Bucket=site.name)["Policy"])
        change({each["Sid"].removeprefix("BedrockEvolution")[:11]: each for each in told["Statement"]})
        _bucket("put_bucket_policy", Policy=json.dumps(told))(site)

    return put


def _rules(change: Callable[[dict[str, Any]], object]) -> Breaking:
    def put(site: Site) -> None:
        rules = site.client(S3).get_bucket_lifecycle_configuration(Bucket=site.name)["Rules"]
        change({rule["ID"].split()[-1]: rule for rule in rules})
        _bucket("put_bucket_lifecycle_configuration", LifecycleConfiguration={"Rules": rules})(site)

    return put


BROKEN: dict[str, Breaking] = {
    "encryption: rotation.KeyRotationEnabled": lambda site: site.client(KMS).disable_key_rotation(
        KeyId=site.key_id(encryption_alias(site.place.sites[0]))
    ),
    "encryption: tags.managed-by": lambda site: site.client(KMS).untag_resource(
        KeyId=site.key_id(encryption_alias(site.place.sites[0])), TagKeys=["managed-by"]
    ),
    "signing: tags.managed-by": lambda site: site.client(KMS).untag_resource(
        KeyId=site.key_id(signing_alias(site.place)), TagKeys=["managed-by"]
    ),
    "bucket: versioning.Status": _bucket("put_bucket_versioning", VersioningConfiguration={"Status": "Suspended"}),
    "bucket: ownership.ObjectOwnership": _bucket(
        "put_bucket_ownership_controls", OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    ),
    **{
        f"bucket: public access.{name}": _open(name)
        for name in ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    },
    "bucket: encryption.SSEAlgorithm": _other_encryption(SSEAlgorithm="AES256"),
    "bucket: encryption.KMSMasterKeyID": _other_encryption(KMSMasterKeyID="alias/aws/s3"),
    "bucket: encryption.BucketKeyEnabled": _other_encryption(BucketKeyEnabled=False),
    "bucket: policy.BedrockEvolutionTlsOnly.Effect": _statements(lambda s: s["TlsOnly"].update(Effect="Allow")),
    "bucket: policy.BedrockEvolutionTlsOnly.Principal": _statements(
        lambda s: s["TlsOnly"].update(Principal={"AWS": "arn:aws:iam::123456789012:root"})
    ),
    "bucket: policy.BedrockEvolutionNoOtherKey.Resource": _statements(
        lambda s: s["NoOtherKey"].update(Resource="arn:aws:s3:::another/*")
    ),
    "bucket: policy.BedrockEvolutionRecentTls.Condition.NumericLessThan.s3:TlsVersion": _statements(
        lambda s: s["RecentTls"].update(Condition={"NumericLessThan": {"s3:TlsVersion": "1.0"}})
    ),
    "bucket: policy.BedrockEvolutionTlsOnly.Condition.StringEquals": _statements(
        lambda s: s["TlsOnly"]["Condition"].update({"StringEquals": {"aws:PrincipalTag/x": "y"}})
    ),
    "bucket: lifecycle.bedrock-evolution prod events.Status": _rules(lambda r: r["events"].update(Status="Disabled")),
    "bucket: lifecycle.bedrock-evolution prod dna.Filter.Prefix": _rules(
        lambda r: r["dna"].update(Filter={"Prefix": "other/dna/"})
    ),
    "bucket: lifecycle.bedrock-evolution prod events.Transitions.GLACIER_IR.Days": _rules(
        lambda r: r["events"]["Transitions"][1].update(Days=60)
    ),
    "bucket: lifecycle.bedrock-evolution prod runs.NoncurrentVersionExpiration.NoncurrentDays": _rules(
        lambda r: r["runs"].update(NoncurrentVersionExpiration={"NoncurrentDays": 1})
    ),
    "bucket: lifecycle.bedrock-evolution prod uploads.AbortIncompleteMultipartUpload.DaysAfterInitiation": _rules(
        lambda r: r["uploads"].update(AbortIncompleteMultipartUpload={"DaysAfterInitiation": 70})
    ),
    "bucket: tags.managed-by": _bucket("put_bucket_tagging", Tagging={"TagSet": [{"Key": "cost", "Value": "1"}]}),
    "table: capacity.BillingMode": _table(
        "update_table",
        BillingMode="PROVISIONED",
        ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 1},
    ),
    "table: protection.DeletionProtectionEnabled": _table("update_table", DeletionProtectionEnabled=False),
    "table: recovery.RecoveryPeriodInDays": _table(
        "update_continuous_backups",
        PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True, "RecoveryPeriodInDays": 7},
    ),
    "table: expiry.TimeToLiveStatus": _table(
        "update_time_to_live", TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires"}
    ),
    "table: tags.managed-by": lambda site: site.client(DYNAMODB).untag_resource(
        ResourceArn=site.table_arn(), TagKeys=["managed-by"]
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_field_that_was_broken_by_hand_is_named_alone_and_mended_alone(built: Site, name: str) -> None:
    BROKEN[name](built)
    assert built.wrong() == [name]
    [step] = built.setup().apply()
    assert (step.action, f"{step.resource.split()[0]}: {step.field}") == ("set", name)


def test_recovery_that_was_switched_off_is_named_with_its_period(built: Site) -> None:
    off = {"PointInTimeRecoveryEnabled": False}
    _table("update_continuous_backups", PointInTimeRecoverySpecification=off)(built)
    names = ["table: recovery.PointInTimeRecoveryStatus", "table: recovery.RecoveryPeriodInDays"]
    assert built.wrong() == names
    assert len(list(built.setup().apply())) == 2


@pytest.mark.parametrize("what", ["policy", "lifecycle"])
def test_entries_that_are_gone_come_back_whole(built: Site, what: str) -> None:
    _bucket({"policy": "delete_bucket_policy", "lifecycle": "delete_bucket_lifecycle"}[what])(built)
    assert {name.split(".")[0] for name in built.wrong()} == {f"bucket: {what}"}
    steps = list(built.setup().apply())
    assert all(step.field.startswith(f"{what}.") and isinstance(step.wanted, dict) for step in steps)
    assert len(steps) == {"policy": 7, "lifecycle": 4}[what]


def test_what_others_put_there_stays(built: Site) -> None:
    s3 = built.client(S3)
    _rules(lambda r: r["events"].update(Status="Disabled"))(built)
    rules = s3.get_bucket_lifecycle_configuration(Bucket=built.name)["Rules"]
    theirs = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "x/"}, "Expiration": {"Days": 5}}
    s3.put_bucket_lifecycle_configuration(Bucket=built.name, LifecycleConfiguration={"Rules": [theirs, *rules]})
    told = json.loads(s3.get_bucket_policy(Bucket=built.name)["Policy"])
    root = {"Effect": "Allow", "Principal": {"AWS": "123456789012"}, "Action": "s3:ListBucket"}
    foreign = root | {"Resource": f"arn:aws:s3:::{built.name}"}
    told["Statement"] = [foreign, *told["Statement"][1:]]
    s3.put_bucket_policy(Bucket=built.name, Policy=json.dumps(told))
    s3.put_bucket_tagging(Bucket=built.name, Tagging={"TagSet": [{"Key": "cost", "Value": "1"}]})
    list(built.setup().apply())
    assert built.wrong() == []
    assert theirs in s3.get_bucket_lifecycle_configuration(Bucket=built.name)["Rules"]
    first = json.loads(s3.get_bucket_policy(Bucket=built.name)["Policy"])["Statement"][0]
    assert first == foreign | {"Action": ["s3:ListBucket"], "Resource": [foreign["Resource"]]}
    tags = s3.get_bucket_tagging(Bucket=built.name)["TagSet"]
    assert {tag["Key"] for tag in tags} == {"cost", "managed-by"}


def test_what_is_stronger_stays_when_its_neighbour_is_mended(site: Site) -> None:
    patient = replace(LOCKED, noncurrent_days=365, recovery_days=35)
    list(site.setup(patient).apply())
    hasty = replace(LOCKED, recovery_days=7)
    assert site.wrong(hasty) == []
    _rules(lambda r: r["events"]["Transitions"][0].update(Days=31))(site)
    assert len(list(site.setup(hasty).apply())) == 1
    assert site.wrong(patient) == []


def test_a_lock_that_is_no_longer_asked_for_stays(site: Site) -> None:
    list(site.setup(LOCKED).apply())
    assert list(site.setup(Blueprint()).apply()) == []
    assert site.wrong(LOCKED) == []


def test_a_bucket_and_a_table_that_were_there_before_are_brought_up(site: Site) -> None:
    location = {"LocationConstraint": HOME}
    _bucket("create_bucket", CreateBucketConfiguration=location)(site)
    keys = [("pk", "HASH"), ("sk", "RANGE")]
    _table(
        "create_table",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in keys],
        KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys],
        ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 1},
    )(site)
    assert "bucket: object lock.ObjectLockEnabled" in site.wrong()
    steps = list(site.setup().apply())
    assert [step.resource.split()[0] for step in steps if step.action == "create"] == ["encryption", "signing"]
    # moto leaves the encryption of a table as it was made.
    assert site.wrong() == ["table: encryption.SSEType", "table: encryption.KMSMasterKeyArn"]


def test_a_table_with_other_keys_is_left_to_a_person(site: Site) -> None:
    _table(
        "create_table",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "N"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )(site)
    left = [step for step in site.setup().apply() if step.action == "leave"]
    name = f"table {site.name} in {HOME}"
    assert left == [
        Step("leave", name, "keys.pk", "HASH S", "HASH N"),
        Step("leave", name, "keys.sk", "RANGE S", None),
    ]
    assert site.wrong()[:2] == ["table: keys.pk", "table: keys.sk"]


def test_a_key_that_is_switched_off_is_left_to_a_person(site: Site) -> None:
    list(site.setup().apply())
    site.client(KMS).disable_key(KeyId=site.key_id(signing_alias(site.place)))
    [step] = site.setup().apply()
    assert (step.action, step.field, step.found) == ("leave", "key.KeyState", "Disabled")
    assert site.wrong() == ["signing: key.KeyState"]


def test_a_key_that_is_about_to_be_deleted_is_told(site: Site) -> None:
    list(site.setup().apply())
    alias = encryption_alias(site.place.sites[0])
    site.client(KMS).schedule_key_deletion(KeyId=site.key_id(alias), PendingWindowInDays=7)
    assert "encryption: key.KeyState" in site.wrong()


def test_a_rule_that_would_delete_events_is_told_and_left(site: Site) -> None:
    list(site.setup().apply())
    rules = site.client(S3).get_bucket_lifecycle_configuration(Bucket=site.name)["Rules"]
    theirs = {"ID": "clean up", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 5}}
    _bucket("put_bucket_lifecycle_configuration", LifecycleConfiguration={"Rules": [*rules, theirs]})(site)
    [step] = site.setup().apply()
    assert (step.action, step.found) == ("leave", ["clean up"])
    assert site.wrong() == ["bucket: deletion.rules that delete current objects"]


def test_nothing_is_ever_deleted(site: Site) -> None:
    list(site.setup().apply())
    for breaking in BROKEN.values():
        breaking(site)
    setup, recorder = site.recorded()
    assert len(list(setup.apply())) > 20
    assert {"PutBucketPolicy", "UpdateTable", "EnableKeyRotation"} <= changing(recorder)
    taking = ("Delete", "Remove", "Disable", "Schedule", "Untag")
    assert {name for name in changing(recorder) if name.startswith(taking)} == set()


@pytest.fixture(scope="module")
def both(clients: Clients) -> Site:
    site = Site(clients, replica=True)
    list(site.setup().apply())
    return site


class TestTwoRegions:
    def test_each_has_a_bucket_a_table_and_a_key_of_its_own(self, both: Site) -> None:
        assert both.wrong() == []
        places = {field.resource.split()[-1] for field in both.setup().fields()}
        assert places == {HOME, AWAY}
        arns = {
            both.client(DYNAMODB, site.region).describe_table(TableName=site.table)["Table"]["SSEDescription"][
                "KMSMasterKeyArn"
            ]
            for site in both.place.sites
        }
        assert {arn.split(":")[3] for arn in arns} == {HOME, AWAY}

    def test_a_signature_of_one_region_is_known_in_the_other(self, both: Site) -> None:
        alias = signing_alias(both.place)
        here, there = (both.client(KMS, region).get_public_key(KeyId=alias) for region in (HOME, AWAY))
        assert here["PublicKey"] == there["PublicKey"]
        assert here["KeyId"].startswith("mrk-")

    def test_s3_replicates_the_home_bucket_where_a_role_is_named(self, both: Site) -> None:
        steps = list(both.setup(role=ROLE).apply())
        assert {step.resource for step in steps} == {f"bucket {both.name} in {HOME}"}
        rule = f"bucket: replication.bedrock-evolution prod {AWAY}"
        # moto drops both of these.
        assert both.wrong(role=ROLE) == [
            f"{rule}.Filter.Prefix",
            f"{rule}.SourceSelectionCriteria.SseKmsEncryptedObjects.Status",
        ]
        [found] = both.client(S3).get_bucket_replication(Bucket=both.name)["ReplicationConfiguration"]["Rules"]
        assert found["Destination"]["Bucket"] == f"arn:aws:s3:::{both.name}-copy"
        assert found["Destination"]["EncryptionConfiguration"]["ReplicaKmsKeyID"].split(":")[3] == AWAY
        assert both.wrong() == []


def test_the_oldest_region_takes_no_location(clients: Clients) -> None:
    site = Site(clients, home="us-east-1")
    list(site.setup().apply())
    assert site.wrong() == []
