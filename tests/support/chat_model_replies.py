"""Any LangChain chat model as the model behind a Bedrock endpoint."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolCall, ToolMessage
from langchain_core.runnables import Runnable

from tests.support.converse import ConverseRequest, Message, Respond

_CHARS_PER_TOKEN = 4
_TOOL_USE_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_WITHOUT_MEANING_HERE = frozenset({"cachePoint", "reasoningContent"})


def from_chat_model(model: BaseChatModel) -> Respond:
    """Return a responder that lets `model` answer, with token usage counted as characters / 4.

    The model sees the system prompt, the text, the tool calls and the tool results of the request, and
    its tools through `bind_tools`. Ids of tool calls are the model's own where Bedrock would accept them,
    and else derived from the request. The responder raises ValueError for content that it cannot
    translate, such as images.
    """

    def respond(request: ConverseRequest) -> Message:
        runnable: Runnable[LanguageModelInput, AIMessage] = model
        if request.tool_specs:
            functions = [_function(spec) for spec in request.tool_specs]
            runnable = model.bind_tools(functions, tool_choice=_tool_choice(request))
        return _reply(runnable.invoke(to_langchain(request)), request)

    return respond


def to_langchain(request: ConverseRequest) -> list[BaseMessage]:
    """Return the request's conversation as LangChain messages.

    Raises ValueError for a content block that is neither text nor a tool call nor a tool result.
    """
    messages: list[BaseMessage] = [SystemMessage(request.system_text)] if request.system_text else []
    tool_names: dict[str, str] = {}
    for message in request.messages:
        blocks = [block for block in message["content"] if not _WITHOUT_MEANING_HERE & block.keys()]
        if message["role"] == "assistant":
            calls = [block["toolUse"] for block in blocks if "toolUse" in block]
            tool_names |= {call["toolUseId"]: call["name"] for call in calls}
            messages.append(_assistant(blocks, calls))
        else:
            messages.extend(_user(blocks, tool_names))
    return messages


def _assistant(blocks: Sequence[dict[str, Any]], calls: Iterable[dict[str, Any]]) -> AIMessage:
    text = _joined(block for block in blocks if "toolUse" not in block)
    tool_calls = [ToolCall(name=call["name"], args=call["input"], id=call["toolUseId"]) for call in calls]
    return AIMessage(text, tool_calls=tool_calls)


def _user(blocks: Iterable[dict[str, Any]], tool_names: dict[str, str]) -> Iterator[BaseMessage]:
    texts = []
    for block in blocks:
        if "toolResult" in block:
            result = block["toolResult"]
            call_id = result["toolUseId"]
            yield ToolMessage(
                _joined(result["content"]),
                tool_call_id=call_id,
                name=tool_names.get(call_id),
                status=result.get("status", "success"),
            )
        else:
            texts.append(block)
    if texts:
        yield HumanMessage(_joined(texts))


def _joined(blocks: Iterable[dict[str, Any]]) -> str:
    return "\n".join(_text(block) for block in blocks)


def _text(block: dict[str, Any]) -> str:
    if "text" in block:
        return str(block["text"])
    if "json" in block:
        return json.dumps(block["json"])
    raise ValueError(f"a chat model behind the endpoint gets text and tools only, not {sorted(block)}")


def _function(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": spec["name"],
            "description": spec.get("description", ""),
            "parameters": spec["inputSchema"]["json"],
        },
    }


def _tool_choice(request: ConverseRequest) -> str | None:
    match request.body["toolConfig"].get("toolChoice"):
        case {"tool": {"name": str(name)}}:
            return name
        case {"any": _}:
            return "any"
        case {"auto": _}:
            return "auto"
        case _:
            return None


def _reply(answer: BaseMessage, request: ConverseRequest) -> Message:
    if not isinstance(answer, AIMessage):
        raise TypeError(f"the chat model answered with a {type(answer).__name__}, not with an AIMessage")
    if answer.invalid_tool_calls:
        raise ValueError(f"the chat model made tool calls that cannot be parsed: {answer.invalid_tool_calls}")
    text = str(answer.text)
    content: list[dict[str, Any]] = [{"text": text}] if text else []
    ids = _tool_use_ids(answer.tool_calls, request)
    content += [
        {"toolUse": {"toolUseId": call_id, "name": call["name"], "input": call["args"]}}
        for call_id, call in zip(ids, answer.tool_calls, strict=True)
    ]
    return Message(content, input_tokens=_tokens(_prompt(request)), output_tokens=_tokens(content))


def _tool_use_ids(calls: Iterable[ToolCall], request: ConverseRequest) -> list[str]:
    # Bedrock refuses an id that occurs twice, and some models number their calls from 1 each time.
    taken = {
        block["toolUse"]["toolUseId"]
        for message in request.messages
        for block in message["content"]
        if "toolUse" in block
    }
    ids = []
    for index, call in enumerate(calls):
        own = call["id"] or ""
        call_id = own if _TOOL_USE_ID.fullmatch(own) and own not in taken else _derived_id(request, index)
        taken.add(call_id)
        ids.append(call_id)
    return ids


def _derived_id(request: ConverseRequest, index: int) -> str:
    digest = hashlib.sha256(f"{_canonical(request.body)}#{index}".encode()).hexdigest()
    return f"tooluse_{digest[:32]}"


def _prompt(request: ConverseRequest) -> list[Any]:
    return [request.body.get(part) for part in ("system", "messages", "toolConfig") if part in request.body]


def _tokens(value: Any) -> int:
    return math.ceil(len(_canonical(value)) / _CHARS_PER_TOKEN)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
