"""What an agent is, whoever drives it: a role with its tools, and the form of the answer it must finish with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pydantic import BaseModel

from ..tools.desk import Desk
from ..tools.tool import Tool

if TYPE_CHECKING:
    from langchain_core.messages import AnyMessage

Answer = TypeVar("Answer", bound=BaseModel)
Answer_co = TypeVar("Answer_co", bound=BaseModel, covariant=True)
MAX_STEPS = 24
"""Steps of one attempt: a model call is one, and the tools it asked for are another."""


class OutOfSteps(Exception):
    """An attempt came to no end within its steps."""


@dataclass(frozen=True, slots=True)
class Role(Generic[Answer]):
    """A role.

    Args:
        name: Also the name of its prompt.
        tools: Its tools, and no others.
        answer: The structured answer it must finish with.
        desk: Type of the records its tools read.
        attempts: Tries a model gets at a usable answer before the stand-in gives one.
    """

    name: str
    tools: Sequence[Tool[Any, Any]]
    answer: type[Answer]
    desk: type[Desk]
    attempts: int


class Loop(Protocol[Answer_co]):
    """Calls a model and the tools it asks for, again and again, until it gives the answer or asks for nothing."""

    def run(self, messages: Sequence[AnyMessage], desk: Desk) -> tuple[list[AnyMessage], Answer_co | None]:
        """Make one attempt.

        Args:
            messages: The conversation so far, without its system prompt.
            desk: The records its tools may read, and the conversation with its models.

        Returns:
            The conversation from then on, and the answer; None if there was none in it.

        Raises:
            MalformedAnswer: The model answered, but not in a form that can be read as a message.
            OutOfSteps: There was no end to it.
        """
        ...
