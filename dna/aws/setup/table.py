"""The DynamoDB table of a store in one region."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..place import Site
from .blueprint import Blueprint
from .calls import SetupCalls
from .comparing import AtLeast, Document
from .keys import Key

_KEYS = {"pk": "HASH S", "sk": "RANGE S"}


@dataclass(slots=True)
class TableSetup:
    """A table.

    Args:
        calls: Ask AWS.
        site: Names it.
        blueprint: How it has to be.
        key: Encrypts it.
    """

    calls: SetupCalls
    site: Site
    blueprint: Blueprint
    key: Key

    fixed: ClassVar[frozenset[str]] = frozenset({"keys"})
    entries: ClassVar[frozenset[str]] = frozenset()

    @property
    def what(self) -> str:
        """See `Resource.what`."""
        return f"table {self.site.table} in {self.site.region}"

    def wanted(self) -> dict[str, Document]:
        """See `Resource.wanted`."""
        return {
            "keys": _KEYS,
            "capacity": {"BillingMode": "PAY_PER_REQUEST"},
            "protection": {"DeletionProtectionEnabled": True},
            "encryption": {"SSEType": "KMS", "KMSMasterKeyArn": self.key.arn},
            "recovery": {
                "PointInTimeRecoveryStatus": "ENABLED",
                "RecoveryPeriodInDays": AtLeast(self.blueprint.recovery_days),
            },
            # Nothing of a record goes by itself.
            "expiry": {"TimeToLiveStatus": "DISABLED"},
            "tags": dict(self.blueprint.tags),
        }

    def found(self) -> dict[str, Document] | None:
        """See `Resource.found`."""
        table = self._described()
        if table is None:
            return None
        recovery = self._do("describe_continuous_backups")["ContinuousBackupsDescription"]
        tags = self._do("list_tags_of_resource", named=False, ResourceArn=table["TableArn"])
        return {
            "keys": _keys(table),
            "capacity": {"BillingMode": table.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED")},
            "protection": {"DeletionProtectionEnabled": table.get("DeletionProtectionEnabled", False)},
            "encryption": {name: table.get("SSEDescription", {}).get(name) for name in ("SSEType", "KMSMasterKeyArn")},
            "recovery": recovery.get("PointInTimeRecoveryDescription", {}),
            "expiry": self._do("describe_time_to_live")["TimeToLiveDescription"],
            "tags": {tag["Key"]: tag["Value"] for tag in tags.get("Tags", [])},
        }

    def create(self) -> None:
        """See `Resource.create`."""
        self._do(
            "create_table",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": kind[-1]} for name, kind in _KEYS.items()],
            KeySchema=[{"AttributeName": name, "KeyType": kind.split()[0]} for name, kind in _KEYS.items()],
            BillingMode="PAY_PER_REQUEST",
            DeletionProtectionEnabled=True,
            SSESpecification=self._encryption(),
            Tags=_tags(self.wanted()["tags"]),
        )
        self._settle()

    def change(self, aspect: str, document: Document) -> None:
        """See `Resource.change`."""
        changes: Mapping[str, Callable[[], object]] = {
            "capacity": lambda: self._do("update_table", BillingMode=document["BillingMode"]),
            "protection": lambda: self._do("update_table", DeletionProtectionEnabled=True),
            "encryption": lambda: self._do("update_table", SSESpecification=self._encryption()),
            "recovery": lambda: self._do(
                "update_continuous_backups",
                PointInTimeRecoverySpecification={
                    "PointInTimeRecoveryEnabled": True,
                    "RecoveryPeriodInDays": document["RecoveryPeriodInDays"],
                },
            ),
            "expiry": lambda: self._do(
                "update_time_to_live",
                TimeToLiveSpecification={"Enabled": False, "AttributeName": document["AttributeName"]},
            ),
            "tags": lambda: self._do(
                "tag_resource", named=False, ResourceArn=(self._described() or {})["TableArn"], Tags=_tags(document)
            ),
        }
        changes[aspect]()
        self._settle()

    def _encryption(self) -> dict[str, Any]:
        return {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": self.key.arn}

    def _settle(self) -> None:
        self.calls.wait(self.what, lambda: (self._described() or {}).get("TableStatus") == "ACTIVE")

    def _described(self) -> dict[str, Any] | None:
        absent = ("ResourceNotFoundException",)
        told = self.calls.ask(
            "dynamodb", self.site.region, "describe_table", self.what, absent=absent, TableName=self.site.table
        )
        return None if told is None else dict(told["Table"])

    def _do(self, operation: str, *, named: bool = True, **arguments: Any) -> dict[str, Any]:
        table = {"TableName": self.site.table} if named else {}
        return self.calls.do("dynamodb", self.site.region, operation, self.what, **table, **arguments)


def _keys(table: Mapping[str, Any]) -> dict[str, str]:
    kinds = {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]}
    return {each["AttributeName"]: f"{each['KeyType']} {kinds[each['AttributeName']]}" for each in table["KeySchema"]}


def _tags(tags: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"Key": name, "Value": str(value)} for name, value in tags.items()]
