"""The sessions of single agents in cassettes/: one a role, one a way of healing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bedrock_evolution.agents.advisor import EvolutionAdvisor
from bedrock_evolution.agents.agent import Reply
from bedrock_evolution.agents.cost_governor import CostGovernor
from bedrock_evolution.agents.decision import BedrockDecisionEngine
from bedrock_evolution.agents.healer import SelfHealer
from bedrock_evolution.bedrock.gateway import ModelTask
from bedrock_evolution.bedrock.money.ledger import Pressure
from tests.support.converse import Failure, Message, Respond
from tests.support.model import ScriptedModel, tool_use
from tests.support.stage import CANDIDATE, INCIDENT, Stage, advisor_desk, answering

_BUSY = Failure("ServiceUnavailableException", "The service is temporarily unavailable.")
_TOO_LONG = Failure("ValidationException", "Input is too long for requested model.")
_NO_OBJECT = Message([tool_use("call_1", "read_incident", "the newest incident, please")])
_READ = ("read_evidence", {"trials": 5, "failures": 5})
_PROPOSE = ("propose_mutations", {"proposals": [{"changes": {"depth": 2}, "rationale": "Deeper is better."}]})
_ADVISE = ("Advice", {"analysis": {"confidence": 0.7}, "strategy": {"execution_order": ["p1"]}})


@dataclass(frozen=True)
class Session:
    """What a cassette holds: an agent at work, and what its models answer while it is recorded."""

    role: str
    about: str
    answers: Respond = field(default_factory=ScriptedModel)
    settings: Mapping[str, Any] = field(default_factory=dict)


SESSIONS = {
    "advisor": Session("advisor", "reads the evidence, proposes, advises"),
    "decision": Session("decision", "reads the candidate, slips with its verdict, mends it"),
    "healer": Session("healer", "reads the incident, plans"),
    "cost_governor": Session("cost_governor", "reads the spend, chooses measures"),
    "throttled_then_answered": Session(
        "healer", "HTTP 429, backoff, the same model again", answering(Failure(), then=ScriptedModel())
    ),
    "overflow_then_shrunk": Session(
        "advisor",
        "the prompt is too long after the evidence was read, and is sent again at half its length",
        answering(_READ, _TOO_LONG, _PROPOSE, _ADVISE),
    ),
    "region_down": Session(
        "healer",
        "HTTP 503 twice in us-east-1, then us-west-2 answers",
        answering(_BUSY, _BUSY, then=ScriptedModel()),
        {"regions": ("us-east-1", "us-west-2")},
    ),
    "malformed_tool_call": Session(
        "healer",
        "arguments that are no object; the model is told and mends them",
        answering(_NO_OBJECT, then=ScriptedModel()),
    ),
}


def run_session(session: Session, stage: Stage) -> dict[str, Any]:
    """Let the agent work, and return what came of it."""
    reply = _work(session.role, stage)
    return {
        "model": reply.model if isinstance(reply, Reply) else None,
        "answer": reply.answer.model_dump(mode="json") if isinstance(reply, Reply) else reply,
        "attempts": [
            {"model": model, "region": region, "status": status, "error": error, "micro_usd": cost}
            for model, region, status, error, cost in stage.database.rows(
                "SELECT model, region, status, error, cost_micro_usd FROM calls ORDER BY rowid"
            )
        ],
    }


def _work(role: str, stage: Stage) -> Reply[Any] | list[Any]:
    gateway, attempts, task = stage.gateway, stage.settings.model_attempts, ModelTask(role, "run-1")
    match role:
        case "advisor":
            desk = advisor_desk()
            return EvolutionAdvisor(gateway, attempts=attempts).advise(desk, generation=1, seed=7, trend=[0.5])
        case "decision":
            return BedrockDecisionEngine(gateway, attempts=attempts).decide(CANDIDATE, task=task)
        case "healer":
            return SelfHealer(gateway, attempts=attempts).plan(INCIDENT, allowed=("retry", "stop"), task=task).reply
        case _:
            pressure = Pressure(share=0.85, scope="day", calls=17)
            return CostGovernor(gateway, attempts=attempts).govern(pressure, task=task)[0]
