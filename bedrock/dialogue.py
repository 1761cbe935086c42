"""What an agent sees of its conversation with models, whoever answers in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from langchain.agents.middleware import ModelResponse
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage, BaseMessage

from .recorded import RecordedCall

Invoke = Callable[[BaseChatModel, list[AnyMessage], dict[str, Any]], ModelResponse[Any]]
"""Sends messages to a model, with settings of the call."""


class Dialogue(Protocol):
    """The model calls of one agent on one task, as the agent sees them."""

    @property
    def local(self) -> bool:
        """Whether the stand-in answers from now on."""
        ...

    @property
    def model(self) -> str:
        """The model that is asked first, or `stand-in`."""
        ...

    @property
    def calls(self) -> list[RecordedCall]:
        """The answers so far, the unreadable ones among them."""
        ...

    def call(self, system: Sequence[BaseMessage], messages: Sequence[AnyMessage], invoke: Invoke) -> ModelResponse[Any]:
        """Make one model call."""
        ...

    def give_up(self) -> None:
        """Let the stand-in go on: the models gave no usable answer in the attempts they have."""
        ...

    def judge(self, *, usable: bool) -> None:
        """Let the router learn whether the models of this conversation gave a usable answer."""
        ...
