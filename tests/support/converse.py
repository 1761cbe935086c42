"""What a Converse call asks, what an endpoint can reply, and how a reply looks on the wire.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

STATUS_BY_CODE = {
    "ThrottlingException": 429,
    "TooManyRequestsException": 429,
    "ModelNotReadyException": 429,
    "ServiceUnavailableException": 503,
    "InternalServerException": 500,
    "ModelTimeoutException": 408,
    "ModelErrorException": 424,
    "ModelStreamErrorException": 424,
    "AccessDeniedException": 403,
    "ExpiredTokenException": 403,
    "UnrecognizedClientException": 403,
    "ResourceNotFoundException": 404,
    "ValidationException": 400,
    "ServiceQuotaExceededException": 400,
}
_SCOPE = re.compile(r"Credential=[^/]+/\d{8}/(?P<region>[a-z0-9-]+)/")
_STATUS_OF_CODE = 0
_CHARS_PER_DELTA = 8


@dataclass(frozen=True)
class ConverseRequest:
    """One Converse or ConverseStream call as it arrived."""

    model_id: str
    stream: bool
    body: dict[str, Any]
    headers: dict[str, str]  # names in lower case
    number: int = 0  # order of arrival, from 0

    @property
    def region(self) -> str:
        """The region that the call was signed for; empty if it was not signed."""
        scope = _SCOPE.search(self.headers.get("authorization", ""))
        return scope["region"] if scope else ""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation, as Converse message dicts."""
        return list(self.body.get("messages", []))

    @property
    def system_text(self) -> str:
        """The text blocks of the system prompt, joined by newlines."""
        return "\n".join(block["text"] for block in self.body.get("system", []) if "text" in block)

    @property
    def tool_specs(self) -> list[dict[str, Any]]:
        """The `toolSpec` of every tool offered, without cache points."""
        tools = self.body.get("toolConfig", {}).get("tools", [])
        return [tool["toolSpec"] for tool in tools if "toolSpec" in tool]

    @property
    def tools(self) -> list[str]:
        """The names of the tools offered."""
        return [spec["name"] for spec in self.tool_specs]


@dataclass(frozen=True)
class Message:
    """A complete answer; the stop reason follows from the content unless it is given."""

    content: list[dict[str, Any]]
    stop_reason: str = ""
    input_tokens: int = 10  # without cache tokens, as Bedrock counts
    output_tokens: int = 5
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_ttl: str = ""  # tells what was written to the cache by its time to live, as Bedrock does

    def __post_init__(self) -> None:
        """Fill in the stop reason."""
        if not self.stop_reason:
            calls_tool = any("toolUse" in block for block in self.content)
            object.__setattr__(self, "stop_reason", "tool_use" if calls_tool else "end_turn")


_PARTIAL = Message([{"text": "The first part of an answer"}])


@dataclass(frozen=True)
class Failure:
    """An error response, or an exception event after some events of `partial` when streaming."""

    code: str = "ThrottlingException"
    message: str = "Too many requests, please wait before trying again."
    status: int = _STATUS_OF_CODE
    mid_stream_after: int | None = None  # events
    partial: Message = _PARTIAL

    def __post_init__(self) -> None:
        """Fill in the HTTP status that Bedrock uses for the code."""
        if self.status == _STATUS_OF_CODE:
            object.__setattr__(self, "status", STATUS_BY_CODE.get(self.code, 400))


@dataclass(frozen=True)
class Hang:
    """Silence for some seconds and then a closed connection, at once or in the middle of a stream."""

    seconds: float
    mid_stream_after: int | None = None  # events
    partial: Message = _PARTIAL


@dataclass(frozen=True)
class Cut:
    """A stream that ends cleanly but too early, or a connection closed in the middle of a body."""

    message: Message
    after: int  # events


@dataclass(frozen=True)
class Late:
    """A complete answer that keeps its caller waiting; it is not streamed."""

    message: Message
    seconds: float


@dataclass(frozen=True)
class Raw:
    """Any body at all, sent as the JSON body of a Converse response; it is not streamed."""

    body: bytes
    status: int = 200


Reply: TypeAlias = Message | Failure | Hang | Cut | Late | Raw
Respond: TypeAlias = Callable[[ConverseRequest], Reply]
StreamEvent: TypeAlias = tuple[str, dict[str, Any]]


def in_order(*replies: Reply) -> Respond:
    """Return a responder that gives the n-th reply to the n-th request, and an error after the last."""

    def respond(request: ConverseRequest) -> Reply:
        if request.number >= len(replies):
            raise LookupError(f"request {request.number} came, but only {len(replies)} replies were planned")
        return replies[request.number]

    return respond


def converse_body(message: Message) -> dict[str, Any]:
    """Return the JSON body of a Converse response."""
    return {
        "output": {"message": {"role": "assistant", "content": message.content}},
        "stopReason": message.stop_reason,
        "usage": _usage(message),
        "metrics": {"latencyMs": 1},
    }


def stream_events(message: Message) -> list[StreamEvent]:
    """Return the events of a ConverseStream response, as names and payloads.

    Raises ValueError for a content block that this endpoint cannot stream.
    """
    events: list[StreamEvent] = [("messageStart", {"role": "assistant"})]
    for index, block in enumerate(message.content):
        events += [(name, {**payload, "contentBlockIndex": index}) for name, payload in _block_events(block)]
    events.append(("messageStop", {"stopReason": message.stop_reason}))
    events.append(("metadata", {"usage": _usage(message), "metrics": {"latencyMs": 1}}))
    return events


def cut_events(cut: Cut) -> list[StreamEvent]:
    """Return the events that come before the cut.

    Raises ValueError if they hold `messageStop`: the answer would be complete.
    """
    events = stream_events(cut.message)[: cut.after]
    if any(name == "messageStop" for name, _ in events):
        raise ValueError(f"Cut(after={cut.after}) comes after messageStop, so nothing is cut; cut earlier")
    return events


def _usage(message: Message) -> dict[str, Any]:
    cached = message.cache_read_tokens + message.cache_write_tokens
    details = [{"ttl": message.cache_ttl, "inputTokens": message.cache_write_tokens}] if message.cache_ttl else []
    return {
        "inputTokens": message.input_tokens,
        "outputTokens": message.output_tokens,
        "totalTokens": message.input_tokens + message.output_tokens + cached,
        "cacheReadInputTokens": message.cache_read_tokens,
        "cacheWriteInputTokens": message.cache_write_tokens,
        **({"cacheDetails": details} if details else {}),
    }


def _block_events(block: dict[str, Any]) -> Iterator[StreamEvent]:
    if "text" in block:
        for piece in _pieces(block["text"]):
            yield "contentBlockDelta", {"delta": {"text": piece}}
    elif "toolUse" in block:
        call = block["toolUse"]
        start = {"toolUseId": call["toolUseId"], "name": call["name"]}
        yield "contentBlockStart", {"start": {"toolUse": start}}
        for piece in _pieces(json.dumps(call["input"])):
            yield "contentBlockDelta", {"delta": {"toolUse": {"input": piece}}}
    else:
        raise ValueError(f"this endpoint streams text and toolUse blocks, not {sorted(block)}")
    yield "contentBlockStop", {}


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), _CHARS_PER_DELTA):
        yield text[start : start + _CHARS_PER_DELTA]
