"""What follows from a blueprint, and how it is compared: no calls."""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest

from bedrock_evolution.dna.aws.place import CloudPlace
from bedrock_evolution.dna.aws.setup.blueprint import Blueprint, encryption_alias, partition, signing_alias
from bedrock_evolution.dna.aws.setup.comparing import AtLeast, OneOf, compare, merged
from bedrock_evolution.dna.aws.setup.documents import lifecycle, policy, rules_that_delete, statement
from bedrock_evolution.dna.aws.setup.s3 import CONFIGURATIONS

PLACE = CloudPlace.parse("s3://evolution.acme/prod?table=evolution&region=eu-central-1&replica=eu-west-1:acme-copy")
KEY = "arn:aws:kms:eu-central-1:111122223333:key/1234"
SSE, SSE_KEY = "s3:x-amz-server-side-encryption", "s3:x-amz-server-side-encryption-aws-kms-key-id"
TLS = {"aws:SecureTransport": "true", "s3:TlsVersion": "1.3"}


class TestNames:
    def test_stores_in_one_bucket_share_its_key_and_sign_with_their_own(self) -> None:
        other = CloudPlace.parse("s3://evolution.acme/test?table=evolution&region=eu-central-1")
        assert encryption_alias(PLACE.sites[0]) == encryption_alias(other.sites[0])
        assert signing_alias(PLACE) != signing_alias(other)

    def test_replicas_have_keys_of_their_own_and_the_same_signature(self) -> None:
        alone = CloudPlace.parse("s3://evolution.acme/prod?table=evolution&region=eu-central-1")
        assert encryption_alias(PLACE.sites[0]) != encryption_alias(PLACE.sites[1])
        assert signing_alias(PLACE) == signing_alias(alone)

    def test_an_alias_has_no_dots(self) -> None:
        assert encryption_alias(PLACE.sites[0]) == "alias/bedrock-evolution/evolution_acme"
        assert signing_alias(PLACE).startswith("alias/bedrock-evolution/evolution_acme-")
        assert signing_alias(PLACE).endswith("/signing")

    @pytest.mark.parametrize(
        ("region", "found"),
        [("eu-west-1", "aws"), ("us-gov-west-1", "aws-us-gov"), ("cn-north-1", "aws-cn"), ("us-east-1", "aws")],
    )
    def test_the_partition_is_the_regions(self, region: str, found: str) -> None:
        assert partition(region) == found


def denied(request: dict[str, str], action: str, resource: str, *, retain_days: int = 400) -> list[str]:
    """Return the statements that deny a request, as IAM judges conditions.

    Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
    """
    statements = policy(Blueprint(audit_retain_days=retain_days), PLACE, PLACE.sites[0], KEY)
    return [
        name
        for name, each in statements.items()
        if each["Effect"] == "Deny"
        and each["Principal"] == "*"
        and any(fnmatch.fnmatchcase(action, pattern) for pattern in each["Action"])
        and any(fnmatch.fnmatchcase(resource, pattern) for pattern in each["Resource"])
        and all(
            _holds(operator, request.get(key), values)
            for operator, keys in each["Condition"].items()
            for key, values in keys.items()
        )
    ]


def _holds(operator: str, found: str | None, values: list[str]) -> bool:
    match operator:
        case "Bool":
            return found in values
        case "NumericLessThan":
            return found is not None and float(found) < float(values[0])
        case "StringNotEquals":
            return found not in values  # and so of a key that is missing
        case "Null":
            return (found is None) == (values == ["true"])
    raise AssertionError(operator)


class TestPolicyOfTheBucket:
    OBJECT = "arn:aws:s3:::evolution.acme/prod/events/a"
    SEGMENT = "arn:aws:s3:::evolution.acme/prod/audit/a"

    @pytest.mark.parametrize(
        ("request_", "by"),
        [
            (TLS, []),
            (TLS | {SSE: "aws:kms", SSE_KEY: KEY}, []),
            (TLS | {SSE: "aws:kms:dsse", SSE_KEY: KEY}, []),
            (TLS | {"aws:SecureTransport": "false"}, ["TlsOnly"]),
            (TLS | {"s3:TlsVersion": "1.1"}, ["RecentTls"]),
            (TLS | {SSE: "AES256"}, ["NoOtherEncryption", "NoUnnamedKey"]),
            (TLS | {SSE: "aws:kms"}, ["NoUnnamedKey"]),
            (TLS | {SSE: "aws:kms", SSE_KEY: KEY + "5"}, ["NoOtherKey"]),
            (TLS | {f"{SSE}-customer-algorithm": "AES256"}, ["NoKeyOfTheCaller"]),
        ],
    )
    def test_an_object_is_put_encrypted_with_the_stores_key_over_tls(
        self, request_: dict[str, str], by: list[str]
    ) -> None:
        assert denied(request_, "s3:PutObject", self.OBJECT) == [f"BedrockEvolution{name}" for name in by]

    def test_reading_needs_tls_and_names_no_encryption(self) -> None:
        assert denied(TLS, "s3:GetObject", self.OBJECT) == []
        assert denied(TLS | {"aws:SecureTransport": "false"}, "s3:ListBucket", "arn:aws:s3:::evolution.acme")

    def test_an_audit_segment_is_put_with_its_lock(self) -> None:
        [by] = denied(TLS, "s3:PutObject", self.SEGMENT)
        assert by.startswith("BedrockEvolutionLockedAudit")
        assert denied(TLS | {"s3:object-lock-mode": "GOVERNANCE"}, "s3:PutObject", self.SEGMENT) == [by]
        assert denied(TLS | {"s3:object-lock-mode": "COMPLIANCE"}, "s3:PutObject", self.SEGMENT) == []
        assert denied(TLS, "s3:PutObject", self.SEGMENT, retain_days=0) == []

    def test_each_store_in_the_bucket_has_a_lock_of_its_own(self) -> None:
        other = CloudPlace.parse("s3://evolution.acme/test?table=evolution&region=eu-central-1")
        locked = Blueprint(audit_retain_days=1)
        ours, theirs = (policy(locked, place, place.sites[0], KEY) for place in (PLACE, other))
        assert {name for name in ours if ours[name] != theirs.get(name)} == {n for n in ours if "LockedAudit" in n}

    def test_iams_short_forms_are_the_same_statement(self) -> None:
        for wanted in policy(Blueprint(audit_retain_days=1), PLACE, PLACE.sites[0], KEY).values():
            short = {**wanted, "Sid": "x", "Principal": {"AWS": "*"}, "Action": wanted["Action"][0]}
            short["Resource"] = wanted["Resource"][::-1] if len(wanted["Resource"]) > 1 else wanted["Resource"][0]
            assert statement(short) == wanted


class TestLifeCycle:
    RULES = lifecycle(Blueprint(), "prod")

    def test_no_rule_deletes_what_is_current(self) -> None:
        assert all("Expiration" not in rule for rule in self.RULES.values())
        assert rules_that_delete(self.RULES, "prod") == []

    def test_events_and_dna_move_and_audit_segments_stay(self) -> None:
        moving = {rule["Filter"]["Prefix"] for rule in self.RULES.values() if "Transitions" in rule}
        assert moving == {"prod/events/", "prod/dna/"}
        assert not any("audit" in rule["Filter"]["Prefix"] for rule in self.RULES.values())

    @pytest.mark.parametrize(
        ("rule", "ours"),
        [
            ({"Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 5}}, True),
            ({"Status": "Enabled", "Filter": {}, "Expiration": {"Date": "2030-01-01"}}, True),
            ({"Status": "Enabled", "Prefix": "prod/events/", "Expiration": {"Days": 5}}, True),
            ({"Status": "Enabled", "Filter": {"And": {"Prefix": "prod", "Tags": []}}, "Expiration": {"Days": 5}}, True),
            ({"Status": "Disabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 5}}, False),
            ({"Status": "Enabled", "Filter": {"Prefix": "product/"}, "Expiration": {"Days": 5}}, False),
            ({"Status": "Enabled", "Filter": {}, "Expiration": {"ExpiredObjectDeleteMarker": True}}, False),
        ],
    )
    def test_a_foreign_rule_that_deletes_our_objects_is_found(self, rule: dict[str, Any], ours: bool) -> None:
        assert rules_that_delete({"theirs": rule}, "prod") == (["theirs"] if ours else [])

    def test_rules_come_back_from_s3_as_they_were_given(self) -> None:
        configuration = CONFIGURATIONS["lifecycle"]
        dated = {"ID": "by date", "Transitions": [{"Date": "2030-01-01", "StorageClass": "GLACIER"}]}
        given = configuration.given(merged(self.RULES, {}))["LifecycleConfiguration"]
        rules = [*given["Rules"], dated]
        assert configuration.given(configuration.taken({"Rules": rules}))["LifecycleConfiguration"]["Rules"] == rules


class TestComparing:
    @pytest.mark.parametrize(
        ("wanted", "found", "ok", "written"),
        [
            (True, False, False, True),
            ("Enabled", None, False, "Enabled"),
            (AtLeast(90), 30, False, 90),
            (AtLeast(90), 90, True, 90),
            (AtLeast(90), 365, True, 365),
            (AtLeast(90), None, False, 90),
            (OneOf(("a", "b")), "b", True, "b"),
            (OneOf(("a", "b")), "c", False, "a"),
        ],
    )
    def test_what_is_stronger_stays(self, wanted: Any, found: Any, ok: bool, written: Any) -> None:
        [difference] = compare({"field": wanted}, {"field": found})
        assert difference.ok is ok
        assert merged({"field": wanted}, {"field": found}) == {"field": written}

    def test_what_is_not_ours_is_neither_compared_nor_lost(self) -> None:
        wanted, found = {"ours": {"a": 1}}, {"ours": {"a": 2, "b": 3}, "theirs": {"c": 4}}
        assert [each.name for each in compare(wanted, found)] == ["ours.a"]
        assert merged(wanted, found) == {"ours": {"a": 1, "b": 3}, "theirs": {"c": 4}}

    def test_an_entry_of_ours_holds_nothing_else(self) -> None:
        wanted, found = {"ours": {"a": 1}}, {"ours": {"a": 1, "b": 3}, "theirs": {"c": 4}}
        wrong = [each for each in compare(wanted, found, entries=True) if not each.ok]
        assert [(each.name, each.wanted, each.found) for each in wrong] == [("ours.b", None, 3)]
        assert merged(wanted, found, entries=True) == {"ours": {"a": 1}, "theirs": {"c": 4}}
