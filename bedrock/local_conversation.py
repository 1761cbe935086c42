"""The stand-in's work on one task: it answers every call, at no cost."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage, BaseMessage

from .dialogue import Invoke, Said
from .plain_messages import answer_in, plain, request_hash
from .protocol import STAND_IN
from .recorded import RecordedCall


class LocalConversation:
    """The calls of one agent on one task, where the stand-in answers from the start.

    Args:
        stand_in: What answers.
    """

    local = True
    model = STAND_IN

    def __init__(self, stand_in: BaseChatModel) -> None:
        self._stand_in = stand_in
        self.calls: list[RecordedCall] = []

    def call(self, system: Sequence[BaseMessage], messages: Sequence[AnyMessage], invoke: Invoke[Said]) -> Said:
        """Ask the stand-in, and put its answer on record."""
        request = request_hash(system, messages)
        response = invoke(self._stand_in, list(messages), {})
        answer = answer_in(response)
        model = str(answer.response_metadata.get("model_name") or self.model)
        self.calls.append(RecordedCall(model, local=True, request=request, response=plain(answer)))
        return response

    def give_up(self) -> None:
        """See `Dialogue.give_up`: there is nobody else to ask."""

    def judge(self, *, usable: bool) -> None:
        """See `Dialogue.judge`: there is nothing to learn about models."""
