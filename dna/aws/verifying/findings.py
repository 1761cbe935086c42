"""What a verification finds wrong, item by item and object by object, and mends where it may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ....errors import StoreError
from ..calls import ConditionFailed
from ..items import Key
from ..place import Site

Told = Callable[[str, int, int], None]
"""Told what is looked at, how many of its items have been, and how many there are."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    Args:
        region: Where.
        what: Names the item or the object.
        wrong: What is wrong with it.
        mended: What it was mended from; empty where it is still so.
        why_not: Why it was not mended, though that was asked for.
    """

    region: str
    what: str
    wrong: str
    mended: str = ""
    why_not: str = ""


def nobody(what: str, done: int, total: int) -> None:
    """Hear of the progress, and say nothing."""


@dataclass(slots=True)
class Findings:
    """Collects what is wrong.

    Args:
        repair: Whether to mend what can be mended.
    """

    repair: bool = False
    found: list[Finding] = field(default_factory=list)
    items: int = 0
    """So many items were looked at."""
    objects: int = 0
    """So many objects were read."""

    def add(
        self, site: Site, what: str, wrong: str, *, source: str = "", mend: Callable[[], None] | None = None
    ) -> None:
        """Note something that is wrong, and mend it if it can and may be.

        Args:
            site: Where.
            what: Names the item or the object.
            wrong: What is wrong with it.
            source: Names the sound copy.
            mend: Brings the sound copy to its place; None where there is none.
        """
        finding = Finding(site.region, what, wrong.rstrip("."))
        if self.repair and mend is not None:
            try:
                mend()
            except StoreError as error:
                finding = replace(finding, why_not=error.message)
            except ConditionFailed:
                finding = replace(finding, why_not="it was written to meanwhile")
            else:
                finding = replace(finding, mended=source)
        elif self.repair:
            finding = replace(finding, why_not="there is no sound copy")
        self.found.append(finding)


def item_name(site: Site, key: Key) -> str:
    """Return how an item is named to people."""
    return f"item {key.sk} of {key.pk} in table {site.table}"


def object_name(site: Site, name: str) -> str:
    """Return how an object is named to people."""
    return f"s3://{site.bucket}/{name}"
