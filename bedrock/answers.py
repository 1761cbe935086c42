"""Whether an answer of a model can be worked with: its calls carried out, and itself sent back in the next request."""

from __future__ import annotations

import re

from langchain_core.messages import AIMessage

from ..errors import MalformedAnswer
from .dialogue import Said

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
"""What Bedrock takes: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ToolUseBlock.html"""


def checked(response: Said) -> Said:
    """Return a model's response as it is.

    Raises:
        MalformedAnswer: It cannot be worked with; says why.
    """
    for message in response.result:
        if isinstance(message, AIMessage) and (problem := _problem(message)):
            raise MalformedAnswer(problem)
    return response


def _problem(message: AIMessage) -> str:
    for call in message.tool_calls:
        if not isinstance(call["name"], str) or not _NAME.fullmatch(call["name"]):
            return "a tool call has no usable name"
        if not isinstance(call["id"], str) or not _ID.fullmatch(call["id"]):
            return "a tool call has no usable id"
    blocks = message.content if isinstance(message.content, list) else []
    strange = [block for block in blocks if isinstance(block, dict) and not isinstance(block.get("type"), str)]
    return "a part of the answer is of no known type" if strange else ""
