"""What a service would bill for what it answered, by prices of the tests' own."""

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal

from tests.support.converse import ConverseRequest, Message

# $ per million tokens, which is micro-dollars per token: input, output, read from the cache, written to it.
PRICES: Mapping[str, tuple[Decimal, Decimal, Decimal, Decimal]] = {
    "global.anthropic.claude-sonnet-4-5-20250929-v1:0": (Decimal(3), Decimal(15), Decimal("0.3"), Decimal("3.75")),
    "global.anthropic.claude-haiku-4-5-20251001-v1:0": (Decimal(1), Decimal(5), Decimal("0.1"), Decimal("1.25")),
}


def micro_usd(model_id: str, usage: Message) -> int:
    """Return what the usage of one call costs, rounded up as one call."""
    plain, output, read, written = PRICES[model_id]
    tokens = (
        usage.input_tokens * plain,
        usage.output_tokens * output,
        usage.cache_read_tokens * read,
        usage.cache_write_tokens * written,
    )
    return math.ceil(sum(tokens))


def billed_micro_usd(answered: Iterable[tuple[ConverseRequest, Message]]) -> int:
    """Return what a service would bill for all that it answered in full."""
    return sum(micro_usd(request.model_id, message) for request, message in answered)
