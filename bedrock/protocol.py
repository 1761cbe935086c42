"""Names that agents, tools and the stand-in agree on: the tool-calling protocol of each role."""

from __future__ import annotations

import json
from typing import Any

STAND_IN = "stand-in"
"""The name the stand-in signs its answers with, so that no record takes them for a model's."""

READ_EVIDENCE = "read_evidence"
PROPOSE_MUTATIONS = "propose_mutations"
ADVICE = "Advice"

READ_CANDIDATE = "read_candidate"
DECISION = "DecisionResult"

READ_DEGRADATION = "read_degradation"
ROOT_CAUSE = "RootCause"

READ_INCIDENT = "read_incident"
RETRY_STEP = "retry_step"
ROLL_BACK = "roll_back"
STOP_RUN = "stop_run"
HEALING_PLAN = "HealingPlan"

READ_SPEND = "read_spend"
COST_MEASURES = "CostMeasures"

_OPENING = "```json\n"


def brief_with(text: str, situation: dict[str, Any]) -> str:
    """Append a situation to the words of a brief, as the JSON block that the stand-in reads too."""
    return f"{text.rstrip()}\n\n{_OPENING}{json.dumps(situation, ensure_ascii=False)}\n```"


def situation_in(brief: str) -> dict[str, Any]:
    """Read the situation out of a brief.

    Raises:
        ValueError: There is none.
    """
    start = brief.find(_OPENING)
    if start < 0:
        raise ValueError("the brief holds no situation")
    # Decoding stops where the JSON value ends, so text inside it cannot end the block early.
    found, _ = json.JSONDecoder().raw_decode(brief, start + len(_OPENING))
    return dict(found)
