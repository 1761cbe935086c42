"""The configurations of a bucket: which calls read and write them, and their documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from .comparing import Document
from .documents import statement

_POLICY_VERSION = "2012-10-17"


@dataclass(frozen=True, slots=True)
class Configuration:
    """One configuration of a bucket.

    Args:
        get: The call that reads it.
        put: The call that writes the whole of it.
        absent: What S3 says where there is none.
        taken: Makes a document of what was read; lists of named things become documents of them by name.
        given: Makes arguments of a document.
    """

    get: str
    put: str
    absent: tuple[str, ...]
    taken: Callable[[Mapping[str, Any]], Document]
    given: Callable[[Document], dict[str, Any]]


def _encryption_taken(told: Mapping[str, Any]) -> Document:
    [rule] = told["ServerSideEncryptionConfiguration"]["Rules"]
    return {**rule["ApplyServerSideEncryptionByDefault"], "BucketKeyEnabled": rule.get("BucketKeyEnabled", False)}


def _encryption_given(document: Document) -> dict[str, Any]:
    default = {name: document[name] for name in ("SSEAlgorithm", "KMSMasterKeyID")}
    rule = {"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": document["BucketKeyEnabled"]}
    return {"ServerSideEncryptionConfiguration": {"Rules": [rule]}}


def _policy_taken(told: Mapping[str, Any]) -> Document:
    statements = json.loads(told["Policy"])["Statement"]
    listed = statements if isinstance(statements, list) else [statements]
    # One without a name is kept under a number, which is no name.
    return {each.get("Sid", f"#{number}"): statement(each) for number, each in enumerate(listed)}


def _policy_given(document: Document) -> dict[str, Any]:
    statements = [{**({} if name.startswith("#") else {"Sid": name}), **each} for name, each in document.items()]
    return {"Policy": json.dumps({"Version": _POLICY_VERSION, "Statement": statements})}


def _rules_taken(told: Mapping[str, Any]) -> Document:
    return {rule["ID"]: _rule_taken(rule) for rule in told["Rules"]}


def _rule_taken(rule: Mapping[str, Any]) -> Document:
    taken = {name: value for name, value in rule.items() if name != "ID"}
    # Moves of foreign rules may name a date, or a class twice: they stay as they are.
    moves = rule.get("Transitions", [])
    if moves and all(move.keys() == {"Days", "StorageClass"} for move in moves):
        taken["Transitions"] = {move["StorageClass"]: {"Days": move["Days"]} for move in moves}
    return taken


def _rules_given(document: Document) -> dict[str, Any]:
    return {"LifecycleConfiguration": {"Rules": [_rule_given(name, rule) for name, rule in document.items()]}}


def _rule_given(name: str, rule: Document) -> dict[str, Any]:
    given = {"ID": name, **rule}
    if isinstance(moves := given.get("Transitions"), Mapping):
        given["Transitions"] = [{**move, "StorageClass": storage_class} for storage_class, move in moves.items()]
    return given


def _replication_taken(told: Mapping[str, Any]) -> Document:
    found = told["ReplicationConfiguration"]
    rules = {rule["ID"]: {name: value for name, value in rule.items() if name != "ID"} for rule in found["Rules"]}
    return {"Role": found["Role"], **rules}


def _replication_given(document: Document) -> dict[str, Any]:
    rules = [{"ID": name, **rule} for name, rule in document.items() if name != "Role"]
    return {"ReplicationConfiguration": {"Role": document["Role"], "Rules": rules}}


CONFIGURATIONS: Final[Mapping[str, Configuration]] = MappingProxyType(
    {
        "versioning": Configuration(
            "get_bucket_versioning",
            "put_bucket_versioning",
            (),
            lambda told: {"Status": told.get("Status")},
            lambda document: {"VersioningConfiguration": {"Status": document["Status"]}},
        ),
        "object lock": Configuration(
            "get_object_lock_configuration",
            "put_object_lock_configuration",
            ("ObjectLockConfigurationNotFoundError",),
            lambda told: told["ObjectLockConfiguration"],
            lambda document: {"ObjectLockConfiguration": dict(document)},
        ),
        "ownership": Configuration(
            "get_bucket_ownership_controls",
            "put_bucket_ownership_controls",
            ("OwnershipControlsNotFoundError",),
            lambda told: told["OwnershipControls"]["Rules"][0],
            lambda document: {"OwnershipControls": {"Rules": [dict(document)]}},
        ),
        "public access": Configuration(
            "get_public_access_block",
            "put_public_access_block",
            ("NoSuchPublicAccessBlockConfiguration",),
            lambda told: told["PublicAccessBlockConfiguration"],
            lambda document: {"PublicAccessBlockConfiguration": dict(document)},
        ),
        "encryption": Configuration(
            "get_bucket_encryption",
            "put_bucket_encryption",
            ("ServerSideEncryptionConfigurationNotFoundError",),
            _encryption_taken,
            _encryption_given,
        ),
        "policy": Configuration(
            "get_bucket_policy", "put_bucket_policy", ("NoSuchBucketPolicy",), _policy_taken, _policy_given
        ),
        "lifecycle": Configuration(
            "get_bucket_lifecycle_configuration",
            "put_bucket_lifecycle_configuration",
            ("NoSuchLifecycleConfiguration",),
            _rules_taken,
            _rules_given,
        ),
        "tags": Configuration(
            "get_bucket_tagging",
            "put_bucket_tagging",
            ("NoSuchTagSet",),
            lambda told: {tag["Key"]: tag["Value"] for tag in told["TagSet"]},
            lambda document: {"Tagging": {"TagSet": [{"Key": k, "Value": v} for k, v in document.items()]}},
        ),
        "replication": Configuration(
            "get_bucket_replication",
            "put_bucket_replication",
            ("ReplicationConfigurationNotFoundError",),
            _replication_taken,
            _replication_given,
        ),
    }
)
