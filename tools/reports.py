"""The reading tools of the decision engine, the healer and the cost governor: one report each."""

from __future__ import annotations

import json

from langchain.tools import ToolRuntime, tool

from ..bedrock import protocol
from .desk import ReportDesk


@tool(protocol.READ_CANDIDATE)
def read_candidate(runtime: ToolRuntime[ReportDesk]) -> str:
    """Read the candidate: its changes, its evidence on validation cases, its risk and the parts of that risk."""
    return _report(runtime)


@tool(protocol.READ_INCIDENT)
def read_incident(runtime: ToolRuntime[ReportDesk]) -> str:
    """Read the incident: its kind, the failed step, how often it failed, and the error."""
    return _report(runtime)


@tool(protocol.READ_SPEND)
def read_spend(runtime: ToolRuntime[ReportDesk]) -> str:
    """Read the spend: the budget closest to its limit, the share of it that is used, and the calls so far."""
    return _report(runtime)


def _report(runtime: ToolRuntime[ReportDesk]) -> str:
    return json.dumps(runtime.context.report, ensure_ascii=False)
