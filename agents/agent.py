"""What the four agents share: attempts at a task, each with a structured answer that is validated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic

from ..bedrock.gateway import Gateway
from ..bedrock.protocol import STAND_IN
from ..bedrock.recorded import RecordedCall
from ..errors import MalformedAnswer, ModelCallFailed
from ..prompts import prompt
from ..tools.desk import Desk
from ..tools.tool import Tool
from .role import MAX_STEPS, Answer, Loop, OutOfSteps, Role

if TYPE_CHECKING:
    from langchain_core.messages import AnyMessage, SystemMessage

    from .local_loop import LocalLoop
    from .model_loop import ModelLoop


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
        tools: Sequence[Tool[Any, Any]],
        answer: type[Answer],
        desk: type[Desk],
        gateway: Gateway,
        attempts: int,
    ) -> None:
        self._role = Role(name, tools, answer, desk, attempts)
        self._gateway = gateway

    # Made when they are first needed: many roles are never asked, and LangChain takes its time to be imported.

    @cached_property
    def _system(self) -> SystemMessage:
        from langchain_core.messages import SystemMessage

        return SystemMessage(prompt(self._role.name))

    @cached_property
    def _with_models(self) -> ModelLoop[Answer]:
        from .model_loop import ModelLoop

        return ModelLoop(self._role, self._system, self._gateway.stand_in)

    @cached_property
    def _alone(self) -> LocalLoop[Answer]:
        from .local_loop import LocalLoop

        return LocalLoop(self._role, self._system)

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
        from langchain_core.messages import HumanMessage

        messages: list[AnyMessage] = [HumanMessage(brief)]
        conversation = desk.conversation = self._gateway.open(desk.task, [self._system, *messages])
        if not conversation.local:
            for _ in range(self._role.attempts):
                answer, messages, reason = self._attempt(self._with_models, messages, desk, unusable)
                conversation.judge(usable=answer is not None and not reason)
                if answer is not None and not reason:
                    return Reply(answer, messages, conversation.calls[-1].model, conversation.calls)
                messages = [*messages, HumanMessage(f"That answer cannot be used: {reason}. Mend it and answer again.")]
            conversation.give_up()
            messages = [HumanMessage(brief)]
        answer, messages, reason = self._attempt(self._alone, messages, desk, lambda _: "")
        if answer is None:
            raise ModelCallFailed(f"the stand-in gave no answer: {reason}.")
        return Reply(answer, messages, STAND_IN, conversation.calls)

    def _attempt(
        self, loop: Loop[Answer], messages: list[AnyMessage], desk: Desk, unusable: Callable[[Answer], str]
    ) -> tuple[Answer | None, list[AnyMessage], str]:
        name = self._role.answer.__name__
        try:
            said, answer = loop.run(messages, desk)
        except MalformedAnswer as error:
            return None, messages, error.message
        except OutOfSteps:
            return None, messages, f"no {name} after {MAX_STEPS} steps"
        if answer is None:
            return None, said, f"the tool {name} was not called"
        return answer, said, unusable(answer)
