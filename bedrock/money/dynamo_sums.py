"""Whether the items of the books are as they were written."""

from __future__ import annotations

from ...dna.aws.items import Item
from ...dna.aws.sums import unaltered
from .dynamo_accounts import sound_account
from .dynamo_calls import sound_call


def sound(item: Item) -> bool:
    """Whether an item of the books is as it was written."""
    match str(item["sk"]).partition("#")[0]:
        case "call":
            return sound_call(item)
        case "account":
            return sound_account(item)
    return unaltered(item)
