"""What a tool is to every agent, whoever drives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel

from .desk import Desk

At = TypeVar("At", bound=Desk)
Given = TypeVar("Given", bound=BaseModel)


class Nothing(BaseModel):
    """The arguments of a tool that takes none."""


@dataclass(frozen=True, slots=True)
class Tool(Generic[At, Given]):
    """A tool of a role.

    Args:
        name: What it is called by.
        description: What a model is told of it. It goes over the wire, so it is no docstring: Python 3.13 indents
            those anew.
        arguments: What it must be given.
        act: Does it, at the desk of the agent that called it, and returns what the agent is told.
    """

    name: str
    description: str
    arguments: type[Given]
    act: Callable[[At, Given], str]
