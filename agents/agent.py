"""What the four agents share: a tool-calling loop behind the gateway, with a validated, structured answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, InputAgentState, ModelRequest, ModelResponse
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.errors import GraphRecursionError
from langgraph.graph.state import CompiledStateGraph
from pydantic import BaseModel

from ..bedrock.gateway import Gateway, model_of
from ..bedrock.recorded import RecordedCall
from ..bedrock.stand_in import STAND_IN
from ..errors import MalformedAnswer, ModelCallFailed
from ..prompts import prompt
from ..tools.desk import Desk

Answer = TypeVar("Answer", bound=BaseModel)
_MAX_STEPS = 24
"""Graph steps of one attempt: about a dozen model calls with their tools."""
# A loop without checkpointer that inherits "sync" durability waits for a checkpoint nobody makes (langgraph 1.2.22),
# and `durability=` itself warns there; so what it would inherit is set back to langgraph's default.
# Tools run one after another: in parallel they would reach the desk in an order that differs between runs.
_LOOP_CONFIG: RunnableConfig = {
    "recursion_limit": _MAX_STEPS,
    "max_concurrency": 1,
    "configurable": {"__pregel_durability": "async"},
}


@dataclass(frozen=True, slots=True)
class Reply(Generic[Answer]):
    """An agent's answer, what was said on the way, which model gave it, and every answer a model gave for it."""

    answer: Answer
    messages: list[AnyMessage]
    model: str
    calls: list[RecordedCall]

    @property
    def cost_micro_usd(self) -> int:
        """What the conversation cost as far as it was settled, its useless attempts included."""
        return sum(call.cost_micro_usd for call in self.calls)

    @property
    def input_tokens(self) -> int:
        """Tokens that were read for it."""
        return sum(call.input_tokens for call in self.calls)

    @property
    def output_tokens(self) -> int:
        """Tokens that were written for it."""
        return sum(call.output_tokens for call in self.calls)


class GatewayMiddleware(AgentMiddleware[Any, Any]):
    """Sends every model call of an agent through the gateway.

    Args:
        answer: Name of the structured answer.
        attempts: Ill-formed calls after which the stand-in goes on with the conversation.
    """

    def __init__(self, answer: str, attempts: int) -> None:
        super().__init__()
        self._answer = answer
        self._attempts = attempts

    def _ill_formed(self, message: AnyMessage) -> bool:
        """Whether a message tells the model that its call was refused, or that its answer was no good."""
        return isinstance(message, ToolMessage) and (message.status == "error" or message.name == self._answer)

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Make one model call through the gateway."""
        desk: Desk = request.runtime.context
        if sum(map(self._ill_formed, request.messages)) >= self._attempts:
            desk.conversation.give_up()
        system = [request.system_message] if request.system_message else []

        def invoke(model: BaseChatModel, messages: list[AnyMessage], settings: dict[str, Any]) -> ModelResponse[Any]:
            return handler(
                request.override(model=model, messages=messages, model_settings=request.model_settings | settings)
            )

        return desk.conversation.call(system, request.messages, invoke)


class Agent(Generic[Answer]):
    """A tool-calling agent with a structured answer.

    Args:
        name: Its role; also the name of its prompt.
        tools: The tools of its role, and no others.
        answer: The structured answer it must finish with.
        desk: Type of the records its tools read.
        gateway: Where its model calls go.
        attempts: Tries a model gets at a usable answer before the stand-in gives one.
    """

    def __init__(
        self,
        name: str,
        *,
        tools: Sequence[BaseTool],
        answer: type[Answer],
        desk: type[Desk],
        gateway: Gateway,
        attempts: int,
    ) -> None:
        self._name = name
        self._tools = tools
        self._answer = answer
        self._desk = desk
        self._attempts = attempts
        self._gateway = gateway
        self._system = SystemMessage(prompt(name))

    @cached_property
    def _loop(self) -> CompiledStateGraph[Any, Desk, Any, Any]:
        """The compiled loop, made when it is first needed: many roles are never asked."""
        # Without a checkpointer of its own an agent's steps are not stored: its node runs again from the top.
        return create_agent(
            self._gateway.stand_in,
            self._tools,
            system_prompt=self._system,
            middleware=[GatewayMiddleware(self._answer.__name__, self._attempts)],
            response_format=ToolStrategy(self._answer),
            context_schema=self._desk,
            checkpointer=False,
            name=self._name,
        )

    def run(self, brief: str, desk: Desk, *, unusable: Callable[[Answer], str] = lambda _: "") -> Reply[Answer]:
        """Work on one task.

        Args:
            brief: The task, with its situation.
            desk: The records its tools may read.
            unusable: Says why a well-formed answer cannot be used, or returns an empty text.

        Returns:
            The answer; the stand-in's, if the model gave no usable one in the attempts it has.

        Raises:
            SpendExhausted: A model call does not fit a cap.
        """
        messages: list[AnyMessage] = [HumanMessage(brief)]
        conversation = desk.conversation = self._gateway.open(desk.task, [self._system, *messages])
        if not conversation.local:
            for _ in range(self._attempts):
                answer, messages, reason = self._attempt(messages, desk, unusable)
                conversation.judge(usable=answer is not None and not reason)
                if answer is not None and not reason:
                    return Reply(answer, messages, model_of(messages) or conversation.model, conversation.calls)
                messages = [*messages, HumanMessage(f"That answer cannot be used: {reason}. Mend it and answer again.")]
            conversation.give_up()
            messages = [HumanMessage(brief)]
        answer, messages, reason = self._attempt(messages, desk, lambda _: "")
        if answer is None:
            raise ModelCallFailed(f"the stand-in gave no answer: {reason}.")
        return Reply(answer, messages, STAND_IN, conversation.calls)

    def _attempt(
        self, messages: list[AnyMessage], desk: Desk, unusable: Callable[[Answer], str]
    ) -> tuple[Answer | None, list[AnyMessage], str]:
        try:
            result: dict[str, Any] = self._loop.invoke(
                InputAgentState(messages=list(messages)), _LOOP_CONFIG, context=desk
            )
        except MalformedAnswer as error:
            return None, messages, error.message
        except GraphRecursionError:
            return None, messages, f"no {self._answer.__name__} after {_MAX_STEPS} steps"
        answer = result.get("structured_response")
        if not isinstance(answer, self._answer):
            return None, result["messages"], f"the tool {self._answer.__name__} was not called"
        return answer, result["messages"], unusable(answer)
