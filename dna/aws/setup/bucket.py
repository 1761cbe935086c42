"""The S3 bucket of a store in one region."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ....errors import StoreUnavailable
from ..place import CloudPlace, Site
from .blueprint import Blueprint
from .calls import SetupCalls
from .comparing import Document, OneOf
from .documents import KMS, lifecycle, policy, replication, rules_that_delete
from .keys import Key
from .s3 import CONFIGURATIONS

_NO_LOCATION = "us-east-1"
"""The one region that S3 does not take as a location."""
_NOT_FOUND = ("404", "NoSuchBucket", "NotFound")


@dataclass(slots=True)
class BucketSetup:
    """A bucket.

    Every call names the account that has to own it, so that nothing is sent to a bucket of that name of somebody else.

    Args:
        calls: Ask AWS.
        place: The store.
        site: Names the bucket.
        blueprint: How it has to be.
        keys: The encryption key of each region.
        replication_role: ARN of the role with which S3 replicates the home bucket; empty where it does not.
    """

    calls: SetupCalls
    place: CloudPlace
    site: Site
    blueprint: Blueprint
    keys: Mapping[str, Key]
    replication_role: str = ""

    fixed: ClassVar[frozenset[str]] = frozenset({"place", "deletion"})
    entries: ClassVar[frozenset[str]] = frozenset({"policy", "lifecycle", "replication"})

    @property
    def what(self) -> str:
        """See `Resource.what`."""
        return f"bucket {self.site.bucket} in {self.site.region}"

    def wanted(self) -> dict[str, Document]:
        """See `Resource.wanted`; versions come first, since locks and replicas are made of them."""
        key_arn = self.keys[self.site.region].arn
        aspects: dict[str, Document] = {
            "place": {"region": self.site.region},
            "versioning": {"Status": "Enabled"},
            "object lock": {"ObjectLockEnabled": "Enabled"},
            "ownership": {"ObjectOwnership": "BucketOwnerEnforced"},
            "public access": dict.fromkeys(
                ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
            ),
            "encryption": {"SSEAlgorithm": OneOf(KMS), "KMSMasterKeyID": key_arn, "BucketKeyEnabled": True},
            "policy": policy(self.blueprint, self.place, self.site, key_arn),
            "lifecycle": lifecycle(self.blueprint, self.place.prefix),
            "deletion": {"rules that delete current objects": []},
            "tags": dict(self.blueprint.tags),
        }
        if self.replication_role and self.site == self.place.sites[0] and len(self.place.sites) > 1:
            arns = {region: key.arn for region, key in self.keys.items()}
            aspects["replication"] = replication(self.place, self.replication_role, arns)
        return aspects

    def found(self) -> dict[str, Document] | None:
        """See `Resource.found`."""
        region = self._region()
        if region is None:
            return None
        read = {name: self._read(name) for name in CONFIGURATIONS if name in self.wanted()}
        deleting = rules_that_delete(read["lifecycle"], self.place.prefix)
        return {
            "place": {"region": region},
            "deletion": {"rules that delete current objects": deleting},
            **read,
        }

    def create(self) -> None:
        """See `Resource.create`."""
        region = self.site.region
        location = {} if region == _NO_LOCATION else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        self.calls.do(
            "s3",
            region,
            "create_bucket",
            self.what,
            Bucket=self.site.bucket,
            ObjectLockEnabledForBucket=True,
            ObjectOwnership="BucketOwnerEnforced",
            **location,
        )
        self.calls.wait(self.what, lambda: self._region() is not None)

    def change(self, aspect: str, document: Document) -> None:
        """See `Resource.change`."""
        configuration = CONFIGURATIONS[aspect]
        self._do(configuration.put, **configuration.given(document))

    def _read(self, name: str) -> Document:
        configuration = CONFIGURATIONS[name]
        told = self.calls.ask(
            "s3", self.site.region, configuration.get, self.what, absent=configuration.absent, **self._named()
        )
        read: Callable[[Mapping[str, Any]], Document] = configuration.taken
        return {} if told is None else read(told)

    def _region(self) -> str | None:
        try:
            told = self.calls.ask("s3", self.site.region, "head_bucket", self.what, absent=_NOT_FOUND, **self._named())
        except StoreUnavailable as error:
            if error.passing:
                raise
            raise StoreUnavailable(
                f"the {self.what} exists, and may not be looked at: it belongs to somebody else than account"
                f" {self.calls.account(self.site.region)}, or s3:ListBucket is not allowed.",
                hint="Choose another name for the bucket, or allow s3:ListBucket as docs/cloud-operator-policy.json"
                " does.",
                passing=False,
            ) from error
        return None if told is None else str(told.get("BucketRegion") or self.site.region)

    def _do(self, operation: str, **arguments: Any) -> dict[str, Any]:
        return self.calls.do("s3", self.site.region, operation, self.what, **self._named(), **arguments)

    def _named(self) -> dict[str, str]:
        return {"Bucket": self.site.bucket, "ExpectedBucketOwner": self.calls.account(self.site.region)}
