"""The tools as LangChain tools, for agents that a language model drives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool
from langgraph.runtime import get_runtime

from .desk import Desk
from .tool import Tool


def for_models(tools: Sequence[Tool[Any, Any]]) -> list[BaseTool]:
    """Return tools as LangChain's; each acts at the desk that is the context of the agent's run."""
    return [_for_models(tool) for tool in tools]


def _for_models(tool: Tool[Any, Any]) -> BaseTool:
    def act(**given: Any) -> str:  # LangChain gives the arguments one by one
        return tool.act(get_runtime(Desk).context, tool.arguments.model_construct(**given))

    return StructuredTool(name=tool.name, description=tool.description, args_schema=tool.arguments, func=act)
