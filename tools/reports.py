"""The reading tools of the decision engine, the healer and the cost governor: one report each."""

from __future__ import annotations

import json

from langchain.tools import ToolRuntime, tool

from ..bedrock import protocol
from .desk import ReportDesk


@tool(
    protocol.READ_CANDIDATE,
    description="Read the candidate: its changes, its evidence on validation cases, its risk and the parts of it;"
    " alternatives to it, conflicts to resolve, and how well earlier verdicts held, where there are any.",
)
def read_candidate(runtime: ToolRuntime[ReportDesk]) -> str:
    """Return the candidate under decision."""
    return _report(runtime)


@tool(
    protocol.READ_DEGRADATION,
    description="Read the degradation: how it showed, the evidence, and the gene changes that were undone.",
)
def read_degradation(runtime: ToolRuntime[ReportDesk]) -> str:
    """Return the degradation to explain."""
    return _report(runtime)


@tool(
    protocol.READ_INCIDENT,
    description="Read the incident: its kind, the failed step, how often it failed, the error, and what is allowed.",
)
def read_incident(runtime: ToolRuntime[ReportDesk]) -> str:
    """Return the incident to heal."""
    return _report(runtime)


@tool(
    protocol.READ_SPEND,
    description="Read the spend: the budget closest to its limit, the share of it that is used, the calls so far.",
)
def read_spend(runtime: ToolRuntime[ReportDesk]) -> str:
    """Return the spend to govern."""
    return _report(runtime)


def _report(runtime: ToolRuntime[ReportDesk]) -> str:
    return json.dumps(runtime.context.report, ensure_ascii=False)
