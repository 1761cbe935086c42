"""What a call used, read off the wire: also when its answer cannot be made a message of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from .models.prices import Tokens

_MOST_TOKENS = 10**9
"""More than any model takes or gives: a greater count is no count."""

_meter: ContextVar[list[Tokens] | None] = ContextVar("meter", default=None)


@contextmanager
def metered() -> Iterator[list[Tokens]]:
    """Collect what the calls of the `with` block used; a call without a usable figure adds nothing."""
    meter: list[Tokens] = []
    token = _meter.set(meter)
    try:
        yield meter
    finally:
        _meter.reset(token)


def watch(client: Any) -> None:
    """Let a `bedrock-runtime` client report what its calls use.

    Source: https://boto3.amazonaws.com/v1/documentation/api/latest/guide/events.html
    """
    client.meta.events.register("after-call.bedrock-runtime.Converse", _note, unique_id="bedrock-evolution-meter")


def _note(parsed: Mapping[str, Any], **_: Any) -> None:
    meter, used = _meter.get(), _tokens(parsed.get("usage"))
    if meter is not None and used is not None:
        meter.append(used)


def _tokens(usage: Any) -> Tokens | None:
    if not isinstance(usage, Mapping):
        return None
    names = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
    counts = [usage.get(name, 0 if "cache" in name else None) for name in names]
    whole = [count for count in counts if isinstance(count, int) and 0 <= count <= _MOST_TOKENS]
    if len(whole) < len(names):
        return None
    fresh, output, read, written = whole
    # Bedrock counts cached tokens apart, the price list counts them as input.
    return Tokens(input=fresh + read + written, output=output, cache_read=read, cache_write=written)
