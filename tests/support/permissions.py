"""What a session really does, as permissions of IAM; and what a policy document allows, in the same form.

The names of the permissions are those of the service authorization reference
(https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import boto3

from bedrock_evolution.dna.aws.place import CloudPlace


class Permission(NamedTuple):
    """An action, and the pattern of ARNs it is done to; names are those that the policy documents hold in place."""

    action: str
    resource: str


KEYS = "arn:aws:kms:REGION:ACCOUNT:key/*"
ALIASES = "arn:aws:kms:REGION:ACCOUNT:alias/bedrock-evolution/*"
TABLE = "arn:aws:dynamodb:REGION:ACCOUNT:table/TABLE"
BUCKET = "arn:aws:s3:::BUCKET"
ROLE = "arn:aws:iam::ACCOUNT:role/ROLE"
ROLE_OF_KMS = "arn:aws:iam::ACCOUNT:role/aws-service-role/mrk.kms.amazonaws.com/*"

OF_OBJECTS: Mapping[str, str] = {
    "AbortMultipartUpload": "AbortMultipartUpload",
    "CopyObject": "PutObject",
    "DeleteObject": "DeleteObject",
    "GetObject": "GetObject",
    "GetObjectLegalHold": "GetObjectLegalHold",
    "GetObjectRetention": "GetObjectRetention",
    "GetObjectTagging": "GetObjectTagging",
    "HeadObject": "GetObject",
    "PutObject": "PutObject",
    "PutObjectLegalHold": "PutObjectLegalHold",
    "PutObjectRetention": "PutObjectRetention",
}
OF_BUCKETS: Mapping[str, str] = {
    "CreateBucket": "CreateBucket",
    "DeleteBucket": "DeleteBucket",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "GetBucketLocation": "GetBucketLocation",
    "GetBucketOwnershipControls": "GetBucketOwnershipControls",
    "GetBucketPolicy": "GetBucketPolicy",
    "GetBucketReplication": "GetReplicationConfiguration",
    "GetBucketTagging": "GetBucketTagging",
    "GetBucketVersioning": "GetBucketVersioning",
    "GetObjectLockConfiguration": "GetBucketObjectLockConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "HeadBucket": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "PutBucketOwnershipControls": "PutBucketOwnershipControls",
    "PutBucketPolicy": "PutBucketPolicy",
    "PutBucketReplication": "PutReplicationConfiguration",
    "PutBucketTagging": "PutBucketTagging",
    "PutBucketVersioning": "PutBucketVersioning",
    "PutObjectLockConfiguration": "PutBucketObjectLockConfiguration",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
}
_PARTS = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}
_ITEMS = {"DeleteItem", "GetItem", "PutItem", "Query", "Scan", "UpdateItem"}
_SELECTING_A_KEY = (
    "CreateGrant", "Decrypt", "DescribeKey", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext",
    "ReEncryptFrom", "ReEncryptTo",
)  # fmt: skip
"""What whoever chooses the key of a table needs
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/encryption.usagenotes.html)."""


def allowed(policy: Path) -> set[Permission]:
    """Return what the statements of a policy document allow, without their conditions."""
    found = set()
    for statement in json.loads(policy.read_text(encoding="utf-8"))["Statement"]:
        assert statement["Effect"] == "Allow"
        found |= {
            Permission(action, arn) for action in listed(statement["Action"]) for arn in listed(statement["Resource"])
        }
    return found


def listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


@dataclass
class Recorder:
    """Takes down what the sessions it made are used for.

    An object or a table that is none of the store keeps its own name, so that no policy document allows it.

    Args:
        place: The store.
        apart: Tables that a policy document names otherwise than the store's, with their names there.
    """

    place: CloudPlace
    apart: Mapping[str, str] = field(default_factory=dict)
    used: set[Permission] = field(default_factory=set)
    calls: list[tuple[str, str]] = field(default_factory=list)
    """Each call, by service and operation."""

    def session(self) -> boto3.Session:
        """Return a session with credentials that no service knows."""
        session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test")
        self.watch(session)
        return session

    def watch(self, session: boto3.Session) -> None:
        """Take down what somebody else's session is used for, by clients it makes from now on."""
        session.events.register("provide-client-params.*.*", self._calling)
        session.events.register("after-call.s3.*", self._called)

    def _calling(self, params: Mapping[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        service = str(model.service_model.service_name)
        self.calls.append((service, model.name))
        self.used |= set(self._needed(service, model.name, params))
        context["given"] = dict(params)

    def _called(self, http_response: Any, model: Any, context: Mapping[str, Any], **_: Any) -> None:
        # Only whoever may list a bucket is told that an object is missing; all others, that it is denied
        # (https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html).
        if model.name in ("GetObject", "HeadObject") and http_response.status_code == 404:
            self.used.add(Permission("s3:ListBucket", self._bucket(context["given"])))

    def _needed(self, service: str, operation: str, given: Mapping[str, Any]) -> Iterator[Permission]:
        match service:
            case "s3":
                yield from self._of_s3(operation, given)
            case "dynamodb":
                yield from self._of_dynamodb(operation, given)
            case "kms":
                yield from _of_kms(operation, given)
            case "cloudwatch":
                yield Permission(f"cloudwatch:{operation}", "*")
            case "sts" if operation == "GetCallerIdentity":
                return  # it needs no permission
            case _:
                raise AssertionError(f"{service} {operation} is used, and nobody says what it needs")

    def _of_s3(self, operation: str, given: Mapping[str, Any]) -> Iterator[Permission]:
        if operation == "DeleteObjects":
            for each in given["Delete"]["Objects"]:
                yield from self._of_s3("DeleteObject", {"Bucket": given["Bucket"], **each})
            return
        if operation not in OF_OBJECTS:
            yield from self._of_buckets(operation, given)
            return
        target = self._object(given["Bucket"], given["Key"])
        versioned = "Version" if "VersionId" in given and operation != "PutObject" else ""
        yield Permission(f"s3:{OF_OBJECTS[operation]}{versioned}", target)
        if operation in ("PutObject", "CopyObject"):
            yield Permission("kms:GenerateDataKey", KEYS)
            if "ObjectLockMode" in given:
                yield Permission("s3:PutObjectRetention", target)
            if "ObjectLockLegalHoldStatus" in given:
                yield Permission("s3:PutObjectLegalHold", target)
        if operation == "GetObject":
            yield Permission("kms:Decrypt", KEYS)
        if operation == "CopyObject":
            source = given["CopySource"]
            bucket, key = (source["Bucket"], source["Key"]) if isinstance(source, Mapping) else source.split("/", 1)
            yield Permission("s3:GetObject", self._object(bucket, key))
            yield Permission("kms:Decrypt", KEYS)

    def _of_buckets(self, operation: str, given: Mapping[str, Any]) -> Iterator[Permission]:
        bucket = self._bucket(given)
        yield Permission(f"s3:{OF_BUCKETS[operation]}", bucket)
        if given.get("ObjectLockEnabledForBucket"):
            yield Permission("s3:PutBucketObjectLockConfiguration", bucket)
            yield Permission("s3:PutBucketVersioning", bucket)
        if operation == "CreateBucket" and "ObjectOwnership" in given:
            yield Permission("s3:PutBucketOwnershipControls", bucket)
        if operation == "PutBucketReplication":
            yield Permission("iam:PassRole", ROLE)

    def _of_dynamodb(self, operation: str, given: Mapping[str, Any]) -> Iterator[Permission]:
        if operation == "TransactWriteItems":
            for part in given["TransactItems"]:
                [(kind, said)] = part.items()
                yield Permission(f"dynamodb:{_PARTS[kind]}", self._table(said["TableName"]))
                yield Permission("kms:Decrypt", KEYS)
            return
        if operation == "TransactGetItems":
            for part in given["TransactItems"]:
                yield Permission("dynamodb:GetItem", self._table(part["Get"]["TableName"]))
                yield Permission("kms:Decrypt", KEYS)
            return
        if operation in ("BatchGetItem", "BatchWriteItem"):
            for name in given["RequestItems"]:
                yield Permission(f"dynamodb:{operation}", self._table(name))
                yield Permission("kms:Decrypt", KEYS)
            return
        name = given["TableName"] if "TableName" in given else given["ResourceArn"].rpartition("/")[2]
        yield Permission(f"dynamodb:{operation}", self._table(name))
        if operation in _ITEMS:
            yield Permission("kms:Decrypt", KEYS)
        if "SSESpecification" in given:
            yield from (Permission(f"kms:{action}", KEYS) for action in _SELECTING_A_KEY)
        if operation == "CreateTable" and "Tags" in given:
            yield Permission("dynamodb:TagResource", self._table(name))

    def _object(self, bucket: str, key: str) -> str:
        start, _, rest = key.removeprefix(f"{self.place.prefix}/").partition("/")
        ours = key.startswith(f"{self.place.prefix}/") and rest
        return f"{self._bucket({'Bucket': bucket})}/" + (f"PREFIX/{start}/*" if ours else key)

    def _bucket(self, given: Mapping[str, Any]) -> str:
        ours = {site.bucket for site in self.place.sites}
        return BUCKET if given["Bucket"] in ours else f"arn:aws:s3:::{given['Bucket']}"

    def _table(self, name: str) -> str:
        ours = {site.table for site in self.place.sites}
        named = "TABLE" if name in ours else self.apart.get(name, name)
        return TABLE.replace("TABLE", named)


def _of_kms(operation: str, given: Mapping[str, Any]) -> Iterator[Permission]:
    yield Permission(f"kms:{operation}", "*" if operation == "CreateKey" else KEYS)
    if operation == "CreateAlias":
        yield Permission("kms:CreateAlias", ALIASES)
    if given.get("MultiRegion"):
        yield Permission("iam:CreateServiceLinkedRole", ROLE_OF_KMS)
    if operation == "ReplicateKey":
        yield Permission("kms:CreateKey", "*")
    if "Tags" in given:
        yield Permission("kms:TagResource", KEYS)
