"""The loop of an agent that the stand-in drives: the protocol of LangChain's agent, word for word, without its graph.

Transcripts, request hashes and events come out as they would there, so that a replay cannot tell which of the two ran;
`tests/agents/test_local_loop.py` runs both on the same answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, SystemMessage, ToolCall, ToolMessage
from pydantic import ValidationError

from ..tools.desk import Desk
from .role import MAX_STEPS, Answer, OutOfSteps, Role

# The words of langchain's `agents/factory.py` and `agents/structured_output.py`, and of langgraph's
# `prebuilt/tool_node.py`: they are part of what is asked next.
_TAKEN = "Returning structured response: {answer}"
_MULTIPLE = "Model incorrectly returned multiple structured responses ({names}) when only one is expected."
_UNREADABLE = "Failed to parse structured output for tool '{name}': Failed to parse data to {name}: {error}."
_MEND = "Error: {error}\n Please fix your mistakes."
_UNKNOWN_TOOL = "Error: {name} is not a valid tool, try one of [{tools}]."
_REFUSED = "Error invoking tool '{name}' with kwargs {args} with error:\n {error}\n Please fix the error and try again."


@dataclass(frozen=True, slots=True)
class _Turn(Generic[Answer]):
    """What the model said, what it was told of the structured answers in that, and the one that is good."""

    said: AIMessage
    told: list[ToolMessage]
    answer: Answer | None

    @property
    def result(self) -> list[AnyMessage]:
        """The messages of the turn."""
        return [self.said, *self.told]


class LocalLoop(Generic[Answer]):
    """Asks the stand-in and does what it says.

    Args:
        role: What the agent is.
        system: Its system prompt.
    """

    def __init__(self, role: Role[Answer], system: SystemMessage) -> None:
        self._role = role
        self._system = system
        self._tools = {tool.name: tool for tool in role.tools}
        self._names = [*self._tools, role.answer.__name__]

    def run(self, messages: Sequence[AnyMessage], desk: Desk) -> tuple[list[AnyMessage], Answer | None]:
        """See `Loop.run`."""
        talk, steps = list(messages), 0
        while steps < MAX_STEPS:
            turn, steps = desk.conversation.call([self._system], talk, self._turn), steps + 1
            talk += turn.result
            pending = self._pending(turn)
            over = not pending and (turn.answer is not None or not turn.said.tool_calls)
            if pending and steps < MAX_STEPS:
                talk, steps = talk + [self._done(call, desk) for call in pending], steps + 1
                over = bool(turn.told)  # an answer beside other calls is the last word, good or not
            # An end in the last step comes too late: LangGraph notices an end in the step after it.
            if over and steps < MAX_STEPS:
                return talk, turn.answer
        raise OutOfSteps

    def _turn(self, model: BaseChatModel, messages: list[AnyMessage], settings: dict[str, Any]) -> _Turn[Answer]:
        said = model.invoke([self._system, *messages], tool_names=self._names, **settings)
        said.name = self._role.name
        calls = [call for call in said.tool_calls if call["name"] == self._role.answer.__name__]
        if not calls:
            return _Turn(said, [], None)
        answer, told = self._read(calls)
        return _Turn(said, [_result(call, told) for call in calls], answer)

    def _read(self, calls: Sequence[ToolCall]) -> tuple[Answer | None, str]:
        """Return the structured answer and what the model is told of it; None if it is no good."""
        name = self._role.answer.__name__
        if len(calls) > 1:
            names = ", ".join(call["name"] for call in calls)
            return None, _MEND.format(error=_MULTIPLE.format(names=names))
        try:
            answer = self._role.answer.model_validate(calls[0]["args"])
        except ValidationError as error:
            return None, _MEND.format(error=_UNREADABLE.format(name=name, error=error))
        return answer, _TAKEN.format(answer=answer)

    def _pending(self, turn: _Turn[Answer]) -> list[ToolCall]:
        """Return the calls of tools in a turn."""
        return [call for call in turn.said.tool_calls if call["name"] != self._role.answer.__name__]

    def _done(self, call: ToolCall, desk: Desk) -> ToolMessage:
        """Carry a call out, or say why it is none."""
        tool = self._tools.get(call["name"])
        if tool is None:
            told = _UNKNOWN_TOOL.format(name=call["name"], tools=", ".join(self._tools))
            return _result(call, told, status="error")
        try:
            return _result(call, tool.act(desk, tool.arguments.model_validate(call["args"])))
        except ValidationError as error:
            wrong = "\n".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            told = _REFUSED.format(name=call["name"], args=call["args"], error=wrong)
            return _result(call, told, status="error")


def _result(call: ToolCall, content: str, *, status: Literal["success", "error"] = "success") -> ToolMessage:
    return ToolMessage(content, name=call["name"], tool_call_id=call["id"], status=status)
