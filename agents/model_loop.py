"""The loop of an agent whose answers come from language models: LangChain's agent, behind the gateway."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, InputAgentState, ModelRequest, ModelResponse
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphRecursionError

from ..tools.desk import Desk
from ..tools.for_models import for_models
from .role import MAX_STEPS, Answer, OutOfSteps, Role

# A loop without checkpointer that inherits "sync" durability waits for a checkpoint nobody makes (langgraph 1.2.22),
# and `durability=` itself warns there; so what it would inherit is set back to langgraph's default.
# Tools run one after another: in parallel they would reach the desk in an order that differs between runs.
_CONFIG: RunnableConfig = {
    "recursion_limit": MAX_STEPS,
    "max_concurrency": 1,
    "configurable": {"__pregel_durability": "async"},
}


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


class ModelLoop(Generic[Answer]):
    """LangChain's agent.

    Args:
        role: What it is.
        system: Its system prompt.
        stand_in: The model it is made with; which one answers is the gateway's choice, call by call.
    """

    def __init__(self, role: Role[Answer], system: SystemMessage, stand_in: BaseChatModel) -> None:
        self._answer = role.answer
        # Without a checkpointer of its own an agent's steps are not stored: its node runs again from the top.
        self._agent = create_agent(
            stand_in,
            for_models(role.tools),
            system_prompt=system,
            middleware=[GatewayMiddleware(role.answer.__name__, role.attempts)],
            response_format=ToolStrategy(role.answer),
            context_schema=role.desk,
            checkpointer=False,
            name=role.name,
        )

    def run(self, messages: Sequence[AnyMessage], desk: Desk) -> tuple[list[AnyMessage], Answer | None]:
        """See `Loop.run`."""
        try:
            result: dict[str, Any] = self._agent.invoke(InputAgentState(messages=list(messages)), _CONFIG, context=desk)
        except GraphRecursionError as error:
            raise OutOfSteps from error
        answer = result.get("structured_response")
        return result["messages"], answer if isinstance(answer, self._answer) else None
