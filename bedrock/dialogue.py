"""What an agent sees of its conversation with models, whoever answers in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from .recorded import RecordedCall

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AnyMessage, BaseMessage


class Response(Protocol):
    """What a model was made to say: its answer, and whatever else its caller adds."""

    @property
    def result(self) -> Sequence[BaseMessage]:
        """Messages, the model's answer among them."""
        ...


Said = TypeVar("Said", bound=Response)
Invoke: TypeAlias = "Callable[[BaseChatModel, list[AnyMessage], dict[str, Any]], Said]"
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

    def call(self, system: Sequence[BaseMessage], messages: Sequence[AnyMessage], invoke: Invoke[Said]) -> Said:
        """Make one model call."""
        ...

    def give_up(self) -> None:
        """Let the stand-in go on: the models gave no usable answer in the attempts they have."""
        ...

    def judge(self, *, usable: bool) -> None:
        """Let the router learn whether the models of this conversation gave a usable answer."""
        ...
