"""Where a cloud store is: an S3 bucket and a DynamoDB table in each of its regions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import parse_qsl, quote, urlsplit

from ...errors import StoreError

SCHEME = "s3://"
_FORM = "s3://BUCKET/PREFIX?table=TABLE&region=REGION, and &replica=REGION:BUCKET:TABLE for each other region"
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_TABLE = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_NAME_DIGITS = 10
_LONGEST = 800
"""Bytes of a prefix and the name of an application, with which every key fits the 1,024 bytes that S3 allows."""


@dataclass(frozen=True, slots=True)
class Site:
    """A region, with the bucket and the table that hold the store there."""

    region: str
    bucket: str
    table: str


@dataclass(frozen=True, slots=True)
class CloudPlace:
    """A cloud store as its URL names it.

    Args:
        prefix: What the keys of all its objects and items begin with, so that several stores share a bucket.
        sites: Where it is kept; written at the first, until another one is promoted.
    """

    prefix: str
    sites: tuple[Site, ...]

    @classmethod
    def parse(cls, url: str) -> CloudPlace:
        """Read a store URL.

        Raises:
            StoreError: It names no store.
        """
        parts = urlsplit(url)
        given = parse_qsl(parts.query, keep_blank_values=True)
        named, prefix = dict(given), parts.path.strip("/")
        if unknown := set(named) - {"table", "region", "replica"}:
            raise _unknown(url, f"{min(unknown)!r} is no part of it")
        if not url.startswith(SCHEME) or not prefix:
            raise _unknown(url, "the prefix is missing")
        sites = [Site(named.get("region", ""), parts.netloc, named.get("table", ""))]
        sites += [_replica(url, text, sites[0].table) for name, text in given if name == "replica"]
        for site in sites:
            _check(url, site)
        if len({site.region for site in sites}) < len(sites):
            raise _unknown(url, "a region is named twice")
        return cls(prefix, tuple(sites))

    @property
    def name(self) -> str:
        """A short name for files of this machine that belong to the store; replicas do not change it."""
        home = self.sites[0]
        digest = sha256(f"{home.region} {home.bucket} {home.table} {self.prefix}".encode()).hexdigest()
        return f"{home.bucket}-{digest[:_NAME_DIGITS]}"

    def partition(self, app: str) -> str:
        """Return the partition key of an application's items.

        Raises:
            StoreError: The name of the application is too long.
        """
        return f"{self.prefix}/{self._quoted(app)}"

    def folder(self, what: str, app: str) -> str:
        """Return where in the bucket an application keeps something, without a slash at the end.

        Raises:
            StoreError: The name of the application is too long.
        """
        return f"{self.prefix}/{what}/{self._quoted(app)}"

    def _quoted(self, app: str) -> str:
        quoted = quote(app, safe="")
        if len(quoted) > (room := _LONGEST - len(self.prefix.encode())):
            raise StoreError(
                f"the name of the application {app[:20]!r}… takes {len(quoted)} bytes in the keys of S3, where"
                f" {room} are left for it.",
                hint="Choose a shorter name, or a shorter prefix of the store.",
            )
        return quoted


def _replica(url: str, text: str, table: str) -> Site:
    region, _, rest = text.partition(":")
    bucket, _, own = rest.partition(":")
    if not bucket:
        raise _unknown(url, f"the replica {text!r} names no bucket")
    return Site(region, bucket, own or table)


def _check(url: str, site: Site) -> None:
    for what, value, form in (
        ("bucket", site.bucket, _BUCKET),
        ("table", site.table, _TABLE),
        ("region", site.region, _REGION),
    ):
        if not form.fullmatch(value):
            raise _unknown(url, f"{value!r} is no name of a {what}" if value else f"the {what} is missing")


def _unknown(url: str, why: str) -> StoreError:
    return StoreError(f"the store URL {url!r} cannot be read: {why}.", hint=f"Write {_FORM}.")
