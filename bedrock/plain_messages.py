"""Messages without what differs from one run to the next: what was asked, as a hash, and what was answered, as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from .dialogue import Response
from .recorded import spelled

_ABOUT_THE_WIRE = "ResponseMetadata"
"""HTTP headers and the number of retries: nothing that an agent reads."""


def answer_in(response: Response) -> AIMessage:
    """Return the model's answer in a response."""
    return next(message for message in response.result if isinstance(message, AIMessage))


def request_hash(system: Sequence[BaseMessage], messages: Sequence[BaseMessage]) -> str:
    """Return the SHA-256 of what is asked: the words, the calls and the results, without ids drawn at random."""
    asked = [_asked(message) for message in (*system, *messages)]
    return hashlib.sha256(spelled(asked, sort=True).encode()).hexdigest()


def plain(message: AIMessage) -> dict[str, Any]:
    """Return a message JSON-plain: what differs from an empty one, without ids drawn at random."""
    metadata = {name: value for name, value in message.response_metadata.items() if name != _ABOUT_THE_WIRE}
    fields: dict[str, Any] = {
        "tool_calls": [{"name": call["name"], "args": call["args"], "id": call["id"]} for call in message.tool_calls],
        "invalid_tool_calls": message.invalid_tool_calls,
        "additional_kwargs": message.additional_kwargs,
        "usage_metadata": message.usage_metadata,
        "response_metadata": metadata,
    }
    told = {"content": message.content} | {name: value for name, value in fields.items() if value}
    return dict(json.loads(spelled(told)))


def _asked(message: BaseMessage) -> list[Any]:
    asked: list[Any] = [message.type, message.content]
    if isinstance(message, AIMessage):
        asked.append([[call["name"], call["args"], call["id"]] for call in message.tool_calls])
    if isinstance(message, ToolMessage):
        asked += [message.name, message.tool_call_id, message.status]
    return asked
