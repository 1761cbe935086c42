"""How large a prompt is, and how to make it smaller where a model's window is too small for it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ToolMessage

_BYTES_PER_TOKEN = 2
"""Fewer bytes of UTF-8 than tokenizers pack into a token on average, so that a hold covers the worst case."""
_TOOL_OVERHEAD_TOKENS = 1000
_SHORTEST = 400
"""Characters below which splitting a text is not worth it."""
_LEFT_OUT = "\n[the second half was left out: it did not fit into the context window; read less at once]"


def most_tokens(messages: Sequence[BaseMessage]) -> int:
    """Return more tokens than a prompt with tools can have."""
    return sum(map(_size, messages)) // _BYTES_PER_TOKEN + _TOOL_OVERHEAD_TOKENS


def half_of(messages: Sequence[BaseMessage]) -> int:
    """Return what half of a conversation has by the measure of `most_tokens`."""
    return (most_tokens(messages) + _TOOL_OVERHEAD_TOKENS) // 2


def shrunk(messages: Sequence[AnyMessage], *, most: int) -> list[AnyMessage]:
    """Return a shorter conversation that keeps its brief and its newest turns.

    The oldest turns go first, a call always together with its results. Where the newest turn alone is too long, the
    longest of the texts that tools returned, or the brief, is split and its first half kept.

    Args:
        messages: The conversation without its system prompt, which is never touched.
        most: Tokens it should have at most, by the measure of `most_tokens`.

    Returns:
        The conversation, equal to what was given if nothing can be left out.
    """
    brief, *turns = _turns(messages)
    while len(turns) > 1 and most_tokens(_flat([brief, *turns])) > most:
        turns.pop(0)
    kept = _flat([brief, *turns])
    while most_tokens(kept) > most:
        longest = max(range(len(kept)), key=lambda place: len(kept[place].text) * _splittable(kept[place]))
        if not _splittable(kept[longest]) or len(kept[longest].text) <= _SHORTEST:
            break
        half = kept[longest].text[: len(kept[longest].text) // 2]
        kept[longest] = kept[longest].model_copy(update={"content": half + _LEFT_OUT})
    return kept


def _turns(messages: Sequence[AnyMessage]) -> list[list[AnyMessage]]:
    """Group a conversation: what was asked first, then each answer with all that followed it."""
    turns: list[list[AnyMessage]] = [[]]
    for message in messages:
        if isinstance(message, AIMessage):
            turns.append([])
        turns[-1].append(message)
    return turns


def _flat(turns: Sequence[Sequence[AnyMessage]]) -> list[AnyMessage]:
    return [message for turn in turns for message in turn]


def _splittable(message: AnyMessage) -> bool:
    return isinstance(message, ToolMessage) or message.type == "human"


def _size(message: BaseMessage) -> int:
    sent = [message.content, getattr(message, "tool_calls", [])]
    return len(json.dumps(sent, ensure_ascii=False).encode("utf-8", "surrogatepass"))
