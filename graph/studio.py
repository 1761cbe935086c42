"""The graph for LangGraph Studio and `langgraph dev`: that of the application named in the environment.

`langgraph.json` names this module; the server brings its own checkpointer.
"""

from __future__ import annotations

import os
from typing import Any

from ..errors import AppNotFound
from .loading import load_app

VARIABLE = "BEDROCK_EVOLUTION_APP"


def _graph() -> Any:
    name = os.environ.get(VARIABLE)
    if not name:
        raise AppNotFound(
            f"{VARIABLE} is not set, so there is no application to show.",
            hint='Set it to path/app.py:evolution, for instance under "env" in langgraph.json.',
        )
    return load_app(name).graph


graph = _graph()
