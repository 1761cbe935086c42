"""Items that say whether they still are as they were written.

A checksum covers the sort key too, so an item that turns up under another one is not taken for what belongs there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import IntegrityError
from ..canonical import checksum
from .items import Item
from .place import Site

_DIGITS = 16
"""Enough for what is altered by accident; whoever alters an item on purpose can write its sum too."""
_KEYS = ("pk", "sk")


def summed(sk: str, item: Item) -> dict[str, Any]:
    """Return an item with its sum."""
    plain = {name: value for name, value in item.items() if name not in (*_KEYS, "sum")}
    return {**plain, "sum": sum_of(sk, plain)}


def sum_of(sk: str, item: Item) -> str:
    """Return the sum of what is said under a sort key."""
    return checksum([sk, _as_read(item)])[:_DIGITS]


def unaltered(item: Item) -> bool:
    """Whether an item with a sum is as it was written."""
    return bool(item.get("sum") == summed(item["sk"], item)["sum"])


def altered(item: Item, site: Site) -> IntegrityError:
    """Return the error about an item that is not as it was written."""
    return IntegrityError(
        f"the item {item['sk']} of {item['pk']} in table {site.table} of {site.region} was altered: its sum is wrong.",
        hint="`bedrock-evolution store verify --repair` mends it, if there is a sound copy.",
    )


def _as_read(value: Any) -> Any:
    """Return a value as the table gives it back: there 1.0 is 1."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case Mapping():
            return {name: _as_read(each) for name, each in value.items()}
        case list() | tuple():
            return [_as_read(each) for each in value]
    return value
