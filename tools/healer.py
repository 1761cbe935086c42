"""The healer's tools: read the incident, and choose among what is allowed. It has no others."""

from __future__ import annotations

from langchain.tools import ToolRuntime, tool

from ..bedrock import protocol
from ..healing.incident import Action
from .desk import HealerDesk
from .reports import read_incident


@tool(protocol.RETRY_STEP, description="Run the failed step again.")
def retry_step(runtime: ToolRuntime[HealerDesk]) -> str:
    """Choose to run the failed step again."""
    return _chosen("retry", runtime.context)


@tool(protocol.ROLL_BACK, description="Make the newest genes live again that were stable.")
def roll_back(runtime: ToolRuntime[HealerDesk]) -> str:
    """Choose to go back to genes that were stable."""
    return _chosen("rollback", runtime.context)


@tool(protocol.STOP_RUN, description="Stop the run, so that a person looks.")
def stop_run(runtime: ToolRuntime[HealerDesk]) -> str:
    """Choose to stop the run."""
    return _chosen("stop", runtime.context)


def _chosen(action: Action, desk: HealerDesk) -> str:
    if action not in desk.allowed:
        return f"refused: allowed are {', '.join(desk.allowed)}"
    desk.action = action
    return "accepted"


HEALER_TOOLS = [read_incident, retry_step, roll_back, stop_run]
