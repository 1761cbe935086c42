"""Prices of model calls, in whole micro-dollars; an unknown price refuses the call."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from ...errors import UnknownPrice
from ...settings import MICRO, ModelPrice
from .model_ids import ModelId

if TYPE_CHECKING:
    from langchain_core.messages.ai import UsageMetadata


@dataclass(frozen=True, slots=True)
class Override:
    """A price that wins over genai-prices.

    Args:
        read: The day it was looked up.
        source: Where, or how it was derived.
        price: In dollars per million tokens.
    """

    read: date
    source: str
    price: ModelPrice


def _override(
    read: date, source: str, input_usd: float, output_usd: float, cache_read_usd: float, cache_write_usd: float
) -> Override:
    return Override(
        read,
        source,
        ModelPrice(
            input_usd=input_usd,
            output_usd=output_usd,
            cache_read_usd=cache_read_usd,
            cache_write_usd=cache_write_usd,
        ),
    )


_LITELLM = "litellm's model_prices_and_context_window.json"
_GOV_LITELLM = f"{_LITELLM}, us-gov-west-1"
_TOKYO = f"{_GOV_LITELLM}; as dear as Tokyo, 20 % above the US (AWS price list, APN1-NovaPro-input-tokens)"
_TOKYO_2 = "AWS price list, APN1-Nova2.0Lite-input-tokens, as others quote it"
_FRANKFURT = "no figure known: the US price raised as Nova Pro's is in Frankfurt, by 31.25 %"

OVERRIDES: Mapping[str, Override] = {
    # genai-prices gives every Nova id the price of the US.
    "eu.amazon.nova-pro-v1:0": _override(date(2026, 11, 22), _LITELLM, 1.05, 4.2, 0.2625, 1.05),
    "eu.amazon.nova-lite-v1:0": _override(date(2026, 11, 22), _LITELLM, 0.078, 0.312, 0.0195, 0.078),
    "eu.amazon.nova-micro-v1:0": _override(date(2026, 11, 22), _LITELLM, 0.046, 0.184, 0.0115, 0.046),
    # Of the regions that a bare id or a profile may be called from, the dearest that is known.
    "apac.amazon.nova-pro-v1:0": _override(date(2026, 11, 22), _TOKYO, 0.96, 3.84, 0.24, 0.96),
    "apac.amazon.nova-lite-v1:0": _override(date(2026, 11, 22), _TOKYO, 0.072, 0.288, 0.018, 0.072),
    "apac.amazon.nova-micro-v1:0": _override(date(2026, 11, 22), _TOKYO, 0.042, 0.168, 0.0105, 0.042),
    "amazon.nova-pro-v1:0": _override(date(2026, 11, 22), _TOKYO, 0.96, 3.84, 0.24, 0.96),
    "amazon.nova-lite-v1:0": _override(date(2026, 11, 22), _TOKYO, 0.072, 0.288, 0.018, 0.072),
    "amazon.nova-micro-v1:0": _override(date(2026, 11, 22), _TOKYO, 0.042, 0.168, 0.0105, 0.042),
    "us-gov.amazon.nova-pro-v1:0": _override(date(2026, 11, 22), _GOV_LITELLM, 0.96, 3.84, 0.24, 0.96),
    "us-gov.amazon.nova-lite-v1:0": _override(date(2026, 11, 22), _GOV_LITELLM, 0.072, 0.288, 0.018, 0.072),
    "us-gov.amazon.nova-micro-v1:0": _override(date(2026, 11, 22), _GOV_LITELLM, 0.042, 0.168, 0.0105, 0.042),
    "jp.amazon.nova-2-lite-v1:0": _override(date(2026, 11, 22), _TOKYO_2, 0.396, 3.311, 0.099, 0.396),
    "eu.amazon.nova-2-lite-v1:0": _override(date(2026, 11, 22), _FRANKFURT, 0.434, 3.61, 0.1085, 0.434),
    "global.amazon.nova-2-lite-v1:0": _override(date(2026, 11, 22), _FRANKFURT, 0.394, 3.29, 0.0985, 0.394),
    # genai-prices does not know it.
    "amazon.nova-2-lite-v1:0": _override(date(2026, 11, 22), _FRANKFURT, 0.434, 3.61, 0.1085, 0.434),
    # genai-prices has 3.3 and 16.5, litellm's older figure.
    "us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0": _override(
        date(2026, 11, 22), _GOV_LITELLM, 3.6, 18.0, 0.36, 4.5
    ),
}
"""Prices that genai-prices lacks or has too low, by id. Where sources differ, the dearer one: a hold that is too large
refuses a call too early, one that is too small lets a budget be passed."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one call; `input` includes what was read from or written to the prompt cache."""

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0

    @property
    def all_input(self) -> int:
        """Never less than what came from or went to the cache, whatever a response reports."""
        return max(self.input, self.cache_read + self.cache_write)

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


def cost_at(price: ModelPrice, tokens: Tokens) -> int:
    """Return what a call costs at a price, in micro-dollars, rounded up.

    Args:
        price: In dollars per million tokens.
        tokens: What the call used, or at most can use.
    """
    read_usd = price.input_usd if price.cache_read_usd is None else price.cache_read_usd
    write_usd = price.input_usd if price.cache_write_usd is None else price.cache_write_usd
    parts = (
        (tokens.all_input - tokens.cache_read - tokens.cache_write, price.input_usd),
        (tokens.cache_read, read_usd),
        (tokens.cache_write, write_usd),
        (tokens.output, price.output_usd),
    )
    # A dollar per million tokens is a micro-dollar per token.
    return math.ceil(sum((count * Decimal(str(usd)) for count, usd in parts), Decimal(0)))


def cost_micro_usd(model_id: str, tokens: Tokens) -> int:
    """Return what a call costs in micro-dollars, rounded up; what is written to the cache, at the price of 5 minutes.

    Args:
        model_id: A Bedrock model or inference profile, by id or ARN.
        tokens: What it used, or at most can use.

    Raises:
        UnknownPrice: No price is known for the model.
    """
    name = ModelId.parse(model_id).name
    if override := OVERRIDES.get(name):
        return cost_at(override.price, tokens)
    usd = _listed_usd(name, tokens) if name else None
    if usd is None:
        raise UnknownPrice(
            f"no price is known for the model {model_id!r}, so no call to it can be admitted to a budget.",
            hint="Use a model id that genai-prices knows, such as global.anthropic.claude-sonnet-4-5-20250929-v1:0,"
            f' or give its price in pyproject.toml under [tool.bedrock-evolution.model_cards."{model_id}".price].',
        )
    return math.ceil(usd * MICRO)


def _listed_usd(name: str, tokens: Tokens) -> Decimal | None:
    """What genai-prices says, in dollars; None where it lacks the model, or its price of input or output."""
    from genai_prices import Usage, calc_price

    usage = Usage(
        input_tokens=tokens.all_input,
        output_tokens=tokens.output,
        cache_read_tokens=tokens.cache_read,
        cache_write_tokens=tokens.cache_write,
    )
    try:
        found = calc_price(usage, model_ref=name, provider_id="aws")
    except LookupError:
        return None
    whole = found.model_price.input_mtok is not None and found.model_price.output_mtok is not None
    return found.total_price if whole else None
