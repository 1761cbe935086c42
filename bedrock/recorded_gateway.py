"""A gateway that asks nobody: it gives the answers on record again, as long as the same is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

from ..errors import MalformedAnswer, ReplayDiverged
from .dialogue import Dialogue, Invoke, Said
from .gateway import Gateway, ModelTask
from .plain_messages import request_hash
from .protocol import STAND_IN
from .recorded import RecordedCall
from .stand_in import StandIn

Read = Callable[[str, str], Sequence[RecordedCall]]
"""Returns the answers on record of a run's step, such as `RecordedCalls.read`."""


class RecordedGateway:
    """Answers from the record of a run; make one for each replay.

    Args:
        read: Finds the record.
        fallback: For forks: what answers from the first request on that differs; None makes it an error.
    """

    def __init__(self, read: Read, *, fallback: Gateway | None = None) -> None:
        self._read = read
        self.fallback = fallback
        self.stand_in: BaseChatModel = StandIn()
        self.model: BaseChatModel = _Recorded()
        self.diverged = False
        """Whether a request differed from the record, so that the fallback answers all others."""

    @property
    def local(self) -> bool:
        """Whether no model is asked: always, unless there is a fallback that asks some."""
        return self.fallback is None or self.fallback.local

    def open(self, task: ModelTask, messages: Sequence[BaseMessage]) -> Dialogue:
        """Open a conversation that gives the answers of the task's step.

        Args:
            task: Names the run and the step.
            messages: The system prompt and the brief.

        Raises:
            ReplayDiverged: There is no such record, or it is about another request.
        """
        if self.fallback is not None and self.diverged:
            return self.fallback.open(task, messages)
        records = self._read(task.run_id, task.step)
        expected, found = records[0].request if records else None, request_hash([], messages)
        if expected != found:
            return self.diverge(task, messages, number=1, expected=expected, found=found)
        return RecordedConversation(self, task, records, messages)

    def diverge(
        self, task: ModelTask, messages: Sequence[BaseMessage], *, number: int, expected: str | None, found: str
    ) -> Dialogue:
        """Turn to the fallback, for good.

        Args:
            task: What the conversation is for.
            messages: The system prompt and the brief.
            number: Which call of the step differs, from 1.
            expected: The hash of the request on record; None if there is none.
            found: The hash of what was asked.

        Raises:
            ReplayDiverged: There is no fallback.
        """
        if self.fallback is None:
            differs = "asks for something else than the run on record" if expected else "is not on record"
            raise ReplayDiverged(
                f"model call {number} of step {task.step!r} {differs}.",
                step=task.step,
                number=number,
                expected=expected,
                found=found,
                hint="The store, the settings or the version differ from those of the run.",
            )
        self.diverged = True
        return self.fallback.open(task, messages)


class RecordedConversation:
    """One conversation, given again; where the record ends or another request is made, the fallback goes on.

    Args:
        gateway: Knows the fallback.
        task: What it is for.
        records: Its answers, at least one.
        opening: The system prompt and the brief.
    """

    def __init__(
        self, gateway: RecordedGateway, task: ModelTask, records: Sequence[RecordedCall], opening: Sequence[BaseMessage]
    ) -> None:
        self._gateway = gateway
        self._task = task
        self._records = records
        self._opening = list(opening)
        self._given: list[RecordedCall] = []
        self._live: Dialogue | None = None
        self.local = records[0].local

    @property
    def model(self) -> str:
        """Who gives the first answer."""
        return STAND_IN if self.local else self._records[0].model

    @property
    def calls(self) -> list[RecordedCall]:
        """The answers so far."""
        return self._given + (self._live.calls if self._live else [])

    def call(self, system: Sequence[BaseMessage], messages: Sequence[AnyMessage], invoke: Invoke[Said]) -> Said:
        """Give the next answer on record.

        Raises:
            MalformedAnswer: It could not be read then either.
            ReplayDiverged: Something else was asked then, or nothing more, and there is no fallback.
        """
        turn = self._live or self._next(request_hash(system, messages))
        if not isinstance(turn, RecordedCall):
            return turn.call(system, messages, invoke)
        if turn.malformed:
            raise MalformedAnswer(turn.malformed)
        return invoke(self._gateway.model, list(messages), {"answer": turn.message()})

    def give_up(self) -> None:
        """Let the stand-in go on, as it did."""
        self.local = True
        if self._live is not None:
            self._live.give_up()

    def judge(self, *, usable: bool) -> None:
        """Tell the fallback's router, if one answered; nothing is learnt from a record."""
        if self._live is not None:
            self._live.judge(usable=usable)

    def _next(self, found: str) -> RecordedCall | Dialogue:
        """Return the next answer on record; where another request is made, the conversation that goes on."""
        place = len(self._given)
        record = self._records[place] if place < len(self._records) else None
        if record is not None:
            self.local = self.local or record.local
            if record.request == found:
                self._given.append(record)
                return record
        # What the stand-in began it finishes: the agent takes such a conversation for its own.
        task = replace(self._task, local_only=self._task.local_only or self.local)
        expected = record.request if record else None
        self._live = self._gateway.diverge(task, self._opening, number=place + 1, expected=expected, found=found)
        return self._live


class _Recorded(BaseChatModel):
    """Gives the answer that it is bound to, whatever it is asked; one for all answers, since making one takes long."""

    @property
    def _llm_type(self) -> str:
        return "recorded"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Need no tools to know the answer."""
        return self.bind(**kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=kwargs["answer"])])
