"""How the bucket, the table and the keys of a cloud store have to be: data, without a call."""

from __future__ import annotations

from dataclasses import dataclass

from ..place import CloudPlace, Site

_ALIAS = "alias/bedrock-evolution"


@dataclass(frozen=True, slots=True)
class Tier:
    """Where objects are moved to as they age.

    Args:
        days: Days after they were made.
        storage_class: What S3 calls it.
    """

    days: int
    storage_class: str


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What `store init` builds, and `store doctor` compares with what is there.

    Args:
        tiers: Where old objects move to; current objects are never deleted.
        tiered: Folders whose objects move.
        kept: Folders whose objects stay in the standard class.
        noncurrent_days: Days for which what was overwritten or deleted can be brought back.
        unfinished_upload_days: Days after which the parts of an upload that was never finished are removed.
        minimum_tls: Connections with an earlier version of TLS are refused.
        audit_retain_days: Days for which an audit segment has to be locked when it is put; 0 for segments without a
            lock.
        recovery_days: Days back to which the table can be restored, to the second.
        signing_spec: Kind of the key that signs the heads of the record.
        tags: Of the bucket, the table and the keys.
    """

    tiers: tuple[Tier, ...] = (Tier(30, "STANDARD_IA"), Tier(90, "GLACIER_IR"))
    tiered: tuple[str, ...] = ("events", "dna")
    kept: tuple[str, ...] = ("runs",)
    noncurrent_days: int = 90
    unfinished_upload_days: int = 7
    minimum_tls: str = "1.2"
    audit_retain_days: int = 0
    recovery_days: int = 35
    signing_spec: str = "RSA_2048"
    tags: tuple[tuple[str, str], ...] = (("managed-by", "bedrock-evolution"),)


def encryption_alias(site: Site) -> str:
    """Return the alias of the key that encrypts a bucket and its table; all stores in the bucket share it."""
    return f"{_ALIAS}/{_aliased(site.bucket)}"


def signing_alias(place: CloudPlace) -> str:
    """Return the alias of the key that signs the heads of a store's record, the same in each of its regions."""
    return f"{_ALIAS}/{_aliased(place.name)}/signing"


def _aliased(name: str) -> str:
    # Aliases have no dots, and buckets no underscores.
    return name.replace(".", "_")


def partition(region: str) -> str:
    """Return the part of AWS a region belongs to, as ARNs name it.

    Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html
    """
    apart = {"cn": "aws-cn", "us-gov": "aws-us-gov"}
    return next((name for start, name in apart.items() if region.startswith(f"{start}-")), "aws")
