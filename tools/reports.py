"""The reading tools of the decision engine, the healer and the cost governor: one report each."""

from __future__ import annotations

import json

from ..bedrock import protocol
from .desk import ReportDesk
from .tool import Nothing, Tool


def _report(desk: ReportDesk, nothing: Nothing) -> str:  # noqa: ARG001  # what every tool is given
    return json.dumps(desk.report, ensure_ascii=False)


read_candidate = Tool(
    protocol.READ_CANDIDATE,
    "Read the candidate: its changes, its evidence on validation cases, its risk and the parts of it;"
    " alternatives to it, conflicts to resolve, and how well earlier verdicts held, where there are any.",
    Nothing,
    _report,
)
read_degradation = Tool(
    protocol.READ_DEGRADATION,
    "Read the degradation: how it showed, the evidence, and the gene changes that were undone.",
    Nothing,
    _report,
)
read_incident = Tool(
    protocol.READ_INCIDENT,
    "Read the incident: its kind, the failed step, how often it failed, the error, and what is allowed.",
    Nothing,
    _report,
)
read_spend = Tool(
    protocol.READ_SPEND,
    "Read the spend: the budget closest to its limit, the share of it that is used, the calls so far.",
    Nothing,
    _report,
)
