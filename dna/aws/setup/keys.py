"""The KMS keys of a store: one that encrypts in each region, and one that signs, the same in all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ....errors import StoreError
from .blueprint import Blueprint
from .calls import SetupCalls, error_code
from .comparing import Document


@dataclass(slots=True)
class Key:
    """A key, known by its alias.

    Args:
        calls: Ask AWS.
        region: Where it is.
        alias: Its alias.
        blueprint: How it has to be.
        signs: Whether it signs; otherwise it encrypts.
        primary: For a key that signs, the one it is a replica of; None where it is the first.
    """

    calls: SetupCalls
    region: str
    alias: str
    blueprint: Blueprint
    signs: bool = False
    primary: Key | None = None
    arn: str = ""
    """Of the key that was found; a text in its place while there is none."""

    fixed: ClassVar[frozenset[str]] = frozenset({"key"})
    entries: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        self.arn = f"(ARN of {self.alias})"

    @property
    def what(self) -> str:
        """See `Resource.what`."""
        return f"{'signing' if self.signs else 'encryption'} key {self.alias} in {self.region}"

    def wanted(self) -> dict[str, Document]:
        """See `Resource.wanted`."""
        tags = {"tags": dict(self.blueprint.tags)}
        if self.signs:
            # A key that exists in one region only could not be taken to another one later.
            kind = {"KeySpec": self.blueprint.signing_spec, "KeyUsage": "SIGN_VERIFY", "MultiRegion": True}
            return {"key": {**kind, "KeyState": "Enabled"}, **tags}
        kind = {"KeySpec": "SYMMETRIC_DEFAULT", "KeyUsage": "ENCRYPT_DECRYPT"}
        return {"key": {**kind, "KeyState": "Enabled"}, "rotation": {"KeyRotationEnabled": True}, **tags}

    def found(self) -> dict[str, Document] | None:
        """See `Resource.found`."""
        described = self._described()
        if described is None:
            return None
        self.arn = described["Arn"]
        found: dict[str, Document] = {
            "key": {name: described.get(name) for name in ("KeySpec", "KeyUsage", "MultiRegion", "KeyState")},
            "tags": {
                tag["TagKey"]: tag["TagValue"] for tag in self._do("list_resource_tags", KeyId=self.arn).get("Tags", [])
            },
        }
        if not self.signs:
            # A key that is about to be deleted does not tell.
            absent = ("KMSInvalidStateException",)
            status = self.calls.ask(
                "kms", self.region, "get_key_rotation_status", self.what, absent=absent, KeyId=self.arn
            )
            found["rotation"] = {"KeyRotationEnabled": (status or {}).get("KeyRotationEnabled")}
        return found

    def create(self) -> None:
        """See `Resource.create`.

        Source: https://docs.aws.amazon.com/kms/latest/developerguide/multi-region-keys-overview.html
        """
        made = self._replica() if self.primary else self._do("create_key", **self._new())["KeyMetadata"]
        self._named(str(made["KeyId"]))
        # An alias is known everywhere only after some seconds.
        self.calls.wait(self.what, lambda: (self._described() or {}).get("KeyState") == "Enabled")

    def change(self, aspect: str, document: Document) -> None:
        """See `Resource.change`."""
        if aspect == "rotation":
            self._do("enable_key_rotation", KeyId=self.arn)
        else:
            self._do("tag_resource", KeyId=self.arn, Tags=_tags(document))

    def _new(self) -> dict[str, Any]:
        kind = self.wanted()["key"]
        return {
            "Description": f"bedrock-evolution: {'signs heads of' if self.signs else 'encrypts'} {self.alias}",
            "KeySpec": kind["KeySpec"],
            "KeyUsage": kind["KeyUsage"],
            "Tags": _tags(self.wanted()["tags"]),
            **({"MultiRegion": True} if self.signs else {}),
        }

    def _replica(self) -> dict[str, Any]:
        assert self.primary is not None  # noqa: S101  # for the type checker
        told = self.calls.do(
            "kms",
            self.primary.region,
            "replicate_key",
            self.primary.what,
            KeyId=self.primary.arn.rpartition("/")[2],
            ReplicaRegion=self.region,
            Description=self._new()["Description"],
            Tags=self._new()["Tags"],
        )
        return dict(told["ReplicaKeyMetadata"])

    def _named(self, key_id: str) -> None:
        try:
            self._do("create_alias", AliasName=self.alias, TargetKeyId=key_id)
        except StoreError as error:
            if error_code(error) == "AlreadyExistsException" and (self._described() or {}).get("KeyId") == key_id:
                return
            raise type(error)(
                f"the key {key_id} was made in {self.region}, and its alias {self.alias} was not: {error.message}",
                hint=f"`aws kms create-alias --region {self.region} --alias-name {self.alias}"
                f" --target-key-id {key_id}`, then `store init` again; without the alias it makes another key.",
            ) from error

    def _described(self) -> dict[str, Any] | None:
        told = self.calls.ask("kms", self.region, "describe_key", self.what, absent=(), KeyId=self.alias)
        return None if told is None else dict(told["KeyMetadata"])

    def _do(self, operation: str, **arguments: Any) -> dict[str, Any]:
        return self.calls.do("kms", self.region, operation, self.what, **arguments)


def _tags(tags: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"TagKey": name, "TagValue": str(value)} for name, value in tags.items()]
