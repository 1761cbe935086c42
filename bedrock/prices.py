"""Prices of model calls, in whole micro-dollars; an unknown price refuses the call."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from langchain_core.messages.ai import UsageMetadata

from ..errors import UnknownPrice
from ..settings import MICRO


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one call; `input` includes what was read from or written to the prompt cache."""

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0

    @classmethod
    def used(cls, usage: UsageMetadata | None) -> Tokens:
        """Read the usage a response reports; none reported counts as zero."""
        if usage is None:
            return cls(0, 0)
        details = usage.get("input_token_details", {})
        return cls(
            input=usage["input_tokens"],
            output=usage["output_tokens"],
            cache_read=details.get("cache_read", 0) or 0,
            cache_write=details.get("cache_creation", 0) or 0,
        )


def cost_micro_usd(model_id: str, tokens: Tokens) -> int:
    """Return what a call costs in micro-dollars, rounded up.

    Args:
        model_id: A Bedrock model or inference profile id.
        tokens: What it used, or at most can use.

    Raises:
        UnknownPrice: The price list (genai-prices) does not hold the model.
    """
    from genai_prices import Usage, calc_price

    usage = Usage(
        # Never less than what came from or went to the cache, whatever a response reports.
        input_tokens=max(tokens.input, tokens.cache_read + tokens.cache_write),
        output_tokens=tokens.output,
        cache_read_tokens=tokens.cache_read,
        cache_write_tokens=tokens.cache_write,
    )
    try:
        price: Decimal = calc_price(usage, model_ref=model_id, provider_id="aws").total_price
    except LookupError as error:
        raise UnknownPrice(
            f"no price is known for the model {model_id!r}, so no call to it can be admitted to a budget.",
            hint="Use a model id that genai-prices knows, such as global.anthropic.claude-sonnet-4-5-20250929-v1:0.",
        ) from error
    return math.ceil(price * MICRO)
