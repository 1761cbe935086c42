"""The documents of S3 that follow from a blueprint: the bucket's policy, its life cycle, its replication."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from ..place import CloudPlace, Site
from .blueprint import Blueprint, partition
from .comparing import AtLeast, Document

OURS = "BedrockEvolution"
"""How the names of our statements begin; all others are left alone."""
KMS = ("aws:kms", "aws:kms:dsse")
"""What S3 calls encryption with a key of KMS, once and twice."""
_DIGITS = 8
_ONE_KEY = "s3:x-amz-server-side-encryption-aws-kms-key-id"
_ENCRYPTION = "s3:x-amz-server-side-encryption"


def policy(blueprint: Blueprint, place: CloudPlace, site: Site, key_arn: str) -> dict[str, Document]:
    """Return the statements of the bucket's policy by name, in the form of `statement`.

    What names no encryption is encrypted by default with the key of the bucket, so it is not denied. What names
    `aws:kms` without a key would get the key of AWS, so it is.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
    """
    bucket = bucket_arn(site)
    everything, objects = [bucket, f"{bucket}/*"], [f"{bucket}/*"]
    statements = {
        "TlsOnly": _denied("s3:*", everything, {"Bool": {"aws:SecureTransport": ["false"]}}),
        "RecentTls": _denied("s3:*", everything, {"NumericLessThan": {"s3:TlsVersion": [blueprint.minimum_tls]}}),
        "NoOtherEncryption": _denied("s3:PutObject", objects, _named_and_not(_ENCRYPTION, KMS)),
        "NoOtherKey": _denied("s3:PutObject", objects, _named_and_not(_ONE_KEY, (key_arn,))),
        "NoUnnamedKey": _denied("s3:PutObject", objects, {"Null": {_ENCRYPTION: ["false"], _ONE_KEY: ["true"]}}),
        "NoKeyOfTheCaller": _denied(
            "s3:PutObject", objects, {"Null": {f"{_ENCRYPTION}-customer-algorithm": ["false"]}}
        ),
    }
    if blueprint.audit_retain_days:
        digest = sha256(place.prefix.encode()).hexdigest()[:_DIGITS]
        segments = [f"{bucket}/{place.prefix}/audit/*"]
        unlocked = {"StringNotEquals": {"s3:object-lock-mode": ["COMPLIANCE"]}}
        statements[f"LockedAudit{digest}"] = _denied("s3:PutObject", segments, unlocked)
    return {f"{OURS}{name}": each for name, each in statements.items()}


def _named_and_not(key: str, values: Sequence[str]) -> Document:
    # Of a key that is missing, StringNotEquals holds, with IfExists and without.
    return {"Null": {key: ["false"]}, "StringNotEquals": {key: list(values)}}


def _denied(action: str, resources: Sequence[str], condition: Document) -> Document:
    return {
        "Effect": "Deny",
        "Principal": "*",
        "Action": [action],
        "Resource": list(resources),
        "Condition": condition,
    }


def statement(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a statement in one form, since IAM takes a text for a list of one."""
    found: dict[str, Any] = {name: value for name, value in given.items() if name != "Sid"}
    for name in ("Action", "NotAction", "Resource", "NotResource"):
        if name in found:
            found[name] = _listed(found[name])
    if found.get("Principal") == {"AWS": "*"}:
        found["Principal"] = "*"
    if "Condition" in found:
        found["Condition"] = {
            operator: {key: _listed(values) for key, values in keys.items()}
            for operator, keys in found["Condition"].items()
        }
    return found


def _listed(value: Any) -> list[str]:
    return sorted(map(str, value)) if isinstance(value, list) else [str(value)]


def lifecycle(blueprint: Blueprint, prefix: str) -> dict[str, Document]:
    """Return the rules of the life cycle by name: current objects move, and are never deleted.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html
    """
    old = {"NoncurrentVersionExpiration": {"NoncurrentDays": AtLeast(blueprint.noncurrent_days)}}
    tiers = {"Transitions": {tier.storage_class: {"Days": tier.days} for tier in blueprint.tiers}}
    parts = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": blueprint.unfinished_upload_days}}
    rules = {
        **{folder: _rule(f"{prefix}/{folder}/", tiers | old) for folder in blueprint.tiered},
        **{folder: _rule(f"{prefix}/{folder}/", old) for folder in blueprint.kept},
        "uploads": _rule(f"{prefix}/", parts),
    }
    return {f"bedrock-evolution {prefix} {name}": rule for name, rule in rules.items()}


def _rule(prefix: str, actions: Document) -> Document:
    return {"Status": "Enabled", "Filter": {"Prefix": prefix}, **actions}


def rules_that_delete(rules: Mapping[str, Document], prefix: str) -> list[str]:
    """Return the names of rules that delete current objects which may be ours."""
    return sorted(name for name, rule in rules.items() if _deletes(rule) and _concerns(rule, prefix))


def _deletes(rule: Document) -> bool:
    return rule.get("Status") == "Enabled" and bool({"Days", "Date"} & set(rule.get("Expiration", {})))


def _concerns(rule: Document, prefix: str) -> bool:
    filtered = rule.get("Filter", {})
    named = str(rule.get("Prefix") or filtered.get("Prefix") or filtered.get("And", {}).get("Prefix") or "")
    return named.startswith(f"{prefix}/") or f"{prefix}/".startswith(named)


def replication(place: CloudPlace, role: str, keys: Mapping[str, str]) -> dict[str, Any]:
    """Return S3's own replication of the home bucket to all others.

    Args:
        place: Names the sites, home first.
        role: ARN of the role that S3 takes on.
        keys: ARN of the encryption key by region.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-add-config.html
    """
    return {"Role": role, **dict(_replicas(place, keys))}


def _replicas(place: CloudPlace, keys: Mapping[str, str]) -> Iterator[tuple[str, Document]]:
    for number, site in enumerate(place.sites[1:], 1):
        yield (
            f"bedrock-evolution {place.prefix} {site.region}",
            {
                "Priority": number,
                "Status": "Enabled",
                "Filter": {"Prefix": f"{place.prefix}/"},
                "SourceSelectionCriteria": {"SseKmsEncryptedObjects": {"Status": "Enabled"}},
                # A deletion at home stays one at home.
                "DeleteMarkerReplication": {"Status": "Disabled"},
                "Destination": {
                    "Bucket": bucket_arn(site),
                    "EncryptionConfiguration": {"ReplicaKmsKeyID": keys[site.region]},
                },
            },
        )


def bucket_arn(site: Site) -> str:
    """Return the ARN of a site's bucket."""
    return f"arn:{partition(site.region)}:s3:::{site.bucket}"
