"""What lies in a site's bucket beside what its items name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from .calls import Missing
from .table import Table

_OLDER = 20
"""So many versions of an object are looked at."""


def names(table: Table, prefix: str) -> Iterator[str]:
    """Yield the names of the objects that begin so, in order, a thousand a read."""
    for page in _pages(table, Prefix=prefix):
        yield from (each["Key"] for each in page.get("Contents", ()))


def folders(table: Table, prefix: str) -> list[str]:
    """Return the names of the folders below a prefix that ends with a slash, as they were before they were quoted."""
    found = (each["Prefix"] for page in _pages(table, Prefix=prefix, Delimiter="/") for each in _common(page))
    return [unquote(name.removeprefix(prefix).rstrip("/")) for name in found]


def older(table: Table, name: str) -> Iterator[bytes]:
    """Yield the versions of an object that were replaced or deleted, the newest first."""
    found = _s3(table, "list_object_versions", Prefix=name, MaxKeys=_OLDER)
    for version in found.get("Versions", ()):
        if version["Key"] != name or version["IsLatest"]:
            continue
        try:
            yield bytes(_s3(table, "get_object", Key=name, VersionId=version["VersionId"])["Body"])
        except Missing:
            continue


def _common(page: dict[str, Any]) -> list[dict[str, str]]:
    return list(page.get("CommonPrefixes", ()))


def _pages(table: Table, **asked: str) -> Iterator[dict[str, Any]]:
    while True:
        page = _s3(table, "list_objects_v2", **asked)
        yield page
        if not page.get("IsTruncated"):
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


def _s3(table: Table, operation: str, **arguments: Any) -> dict[str, Any]:
    return table.clients.call("s3", table.site.region, operation, Bucket=table.site.bucket, **arguments)
