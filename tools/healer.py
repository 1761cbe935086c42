"""The healer's tools: read the incident, and choose among what is allowed. It has no others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ..bedrock import protocol
from ..healing.incident import Action
from .desk import HealerDesk
from .reports import read_incident
from .tool import Nothing, Tool


def _chosen(action: Action, desk: HealerDesk, nothing: Nothing) -> str:  # noqa: ARG001  # what every tool is given
    if action not in desk.allowed:
        return f"refused: allowed are {', '.join(desk.allowed)}"
    desk.action = action
    return "accepted"


HEALER_TOOLS: Sequence[Tool[Any, Nothing]] = (
    read_incident,
    Tool(protocol.RETRY_STEP, "Run the failed step again.", Nothing, partial(_chosen, "retry")),
    Tool(
        protocol.ROLL_BACK, "Make the newest genes live again that were stable.", Nothing, partial(_chosen, "rollback")
    ),
    Tool(protocol.STOP_RUN, "Stop the run, so that a person looks.", Nothing, partial(_chosen, "stop")),
)
