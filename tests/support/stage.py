"""The agents over the real gateway, ledger and Bedrock client, with a test endpoint as the service."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution import Evolution
from bedrock_evolution.agents.advisor import Advice, EvolutionAdvisor
from bedrock_evolution.agents.agent import Reply
from bedrock_evolution.bedrock.gateway import ModelTask
from bedrock_evolution.clock import Clock, CountedIds, FixedClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.engine import MutationEngine
from bedrock_evolution.dna.genes import choice, flag, integer, number, text
from bedrock_evolution.dna.genome import SystemDNA
from bedrock_evolution.settings import Budget, Settings
from bedrock_evolution.tools.desk import AdvisorDesk
from tests.support.bedrock_endpoint import BedrockEndpoint
from tests.support.converse import ConverseRequest, Failure, Message, Respond
from tests.support.converse import Reply as WireReply
from tests.support.model import Call, ScriptedModel, strict, tool_use

ACCESS_KEY = "AKIACANARYCANARY0002"
SECRET_KEY = "canary-secret-key/of+a+session="
SESSION_TOKEN = "canary-session-token/of+a+session="
CANARIES = (ACCESS_KEY, SECRET_KEY, SESSION_TOKEN)

SONNET = "global.anthropic.claude-sonnet-4-5-20250929-v1:0"
HAIKU = "global.anthropic.claude-haiku-4-5-20251001-v1:0"

GENES = {
    "words": text("old words", min_chars=1, max_chars=100),
    "threshold": number(0.3, low=0.0, high=1.0),
    "depth": integer(1, low=0, high=9),
    "mode": choice("plain", options=["plain", "fancy"]),
    "eager": flag(False),
    "frozen": number(1.0, low=0.0, high=2.0, locked=True),
}
DNA = SystemDNA.declare("demo", GENES)
EVIDENCE = {
    "live_fitness": 0.5,
    "cases": 10,
    "trials": [],
    "failures": {
        "words": ['should have taken: "blue elephants dance"', 'should have taken: "elephants in blue"'],
    },
    "feedback": [],
}
CANDIDATE = {
    "mutation_id": "m-1",
    "changes": {"depth": {"from": 1, "to": 2}},
    "rationale": "deeper is better",
    "evidence": {"gain": 0.1, "cases": 200, "credible": True, "confidence": 0.99, "at_least": 0.05},
    "risk": {"value": 0.5, "parts": {"kind": 0.3, "size": 0.1}},
}
ALTERNATIVES = [
    {
        "mutation_id": "m-2",
        "changes": {"depth": {"from": 1, "to": 3}},
        "training_gain": 0.2,
        "cases": 40,
        "risk": 0.4,
    },
    {
        "mutation_id": "m-3",
        "changes": {"words": {"from": "old words", "to": "new words"}},
        "training_gain": 0.2,
        "cases": 40,
        "risk": 0.3,
    },
]
DEGRADATION = {
    "why": "the live genes did worse than before",
    "evidence": {"mean": 0.4, "reference": 0.6, "outcomes": 90, "e_value": 44.0},
    "undone": {"depth": {"from": 1, "to": 2}, "words": {"from": "old words", "to": "new words"}},
}
INCIDENT = {"kind": "storage", "node": "apply", "attempts": 1, "message": "the disk is full", "hint": "Free some."}

# One piece of a scripted conversation: prose, one tool call, several blocks, or a reply as it is.
Answer = str | Call | list[str | Call] | WireReply


def with_dummy_aws(patch: pytest.MonkeyPatch) -> None:
    """Replace whatever AWS configuration, proxy, tracing or settings of ours the environment has."""
    ours = [name for name in os.environ if name.startswith("BEDROCK_EVOLUTION_")]
    proxies = [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy")]
    aws = [name for name in os.environ if name.startswith("AWS_")]
    for name in [*ours, *proxies, *aws]:
        patch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_SESSION_TOKEN": SESSION_TOKEN,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "LANGSMITH_TRACING": "false",
        "LANGCHAIN_TRACING_V2": "false",
    }.items():
        patch.setenv(name, value)


def answering(*answers: Answer, then: Respond | None = None) -> Respond:
    """Return a responder that gives these answers first and is well behaved afterwards.

    It refuses what Bedrock would refuse, by failing the test.
    """
    after = then or ScriptedModel()

    def respond(request: ConverseRequest) -> WireReply:
        if request.number >= len(answers):
            return after(request)
        return _as_reply(answers[request.number], request.number)

    return strict(respond)


def always(answer: Answer) -> Respond:
    """Return a responder that gives the same answer to every request."""
    return strict(lambda request: _as_reply(answer, request.number))


def _as_reply(answer: Answer, number: int) -> WireReply:
    match answer:
        case str() | (str(), _):
            return _as_reply([answer], number)
        case list():
            return Message(
                [
                    {"text": part} if isinstance(part, str) else tool_use(f"call_{number}_{place}", *part)
                    for place, part in enumerate(answer)
                ]
            )
        case _:
            return answer


class Stage:
    """A gateway whose Bedrock is a local endpoint; `answer` says what it replies from now on."""

    def __init__(self, folder: Path, *, budget: Budget | None = None, clock: Clock | None = None, **given: Any) -> None:
        self.endpoint = BedrockEndpoint(self._reply)
        self._respond: Respond = answering()
        self._before = 0
        self._calls_before = 0
        self.settings = Settings.load(
            near=folder,
            **{
                "model": "bedrock",
                "endpoint_url": self.endpoint.url,
                "regions": ("us-east-1",),
                "models": (SONNET, HAIKU),
                "advisor_model": SONNET,
                "decision_model": SONNET,
                "healer_model": HAIKU,
                "cost_governor_model": HAIKU,
                "store": f"sqlite:///{folder / 'stage.db'}",
                **given,
            },
        )
        self.database = Database.from_url(self.settings.store)
        evolution = Evolution(
            "demo",
            GENES,
            evaluate=lambda genes, case: 0.0,
            cases=[None],
            budget=budget,
            settings=self.settings,
            clock=clock or FixedClock(datetime(2026, 3, 1, tzinfo=UTC)),
            ids=CountedIds(),
        )
        self.gateway = evolution._services.gateway
        self.ledger = self.gateway.ledger

    def answer(self, respond: Respond) -> None:
        """Let this responder answer from now on, and forget the requests and calls so far."""
        self._respond = respond
        self._before = len(self.endpoint.requests)
        self._calls_before += len(self.calls())

    def _reply(self, request: ConverseRequest) -> WireReply:
        return self._respond(replace(request, number=request.number - self._before))

    @property
    def requests(self) -> list[ConverseRequest]:
        """The requests since the responder was chosen."""
        return self.endpoint.requests[self._before :]

    def calls(self) -> list[tuple[str, str, int, int]]:
        """Return status, error, money held and money spent of the calls in the ledger, oldest first."""
        query = "SELECT status, error, held_micro_usd, cost_micro_usd FROM calls ORDER BY rowid LIMIT -1 OFFSET ?"
        return list(self.database.rows(query, [self._calls_before]))

    def advise(self, desk: AdvisorDesk) -> Reply[Advice]:
        """Let the advisor work on a desk."""
        advisor = EvolutionAdvisor(self.gateway, attempts=self.settings.model_attempts)
        return advisor.advise(desk, generation=1, seed=7, trend=[0.5])


def advisor_desk(*, candidates: int = 2) -> AdvisorDesk:
    """Return a desk with the demo genes and nothing proposed yet."""
    return AdvisorDesk(
        task=ModelTask("advisor", "run-1"),
        dna=DNA,
        engine=MutationEngine(),
        evidence=lambda trials, failures: EVIDENCE,
        refusal=lambda mutation: "",
        candidates=candidates,
    )


@contextmanager
def staged(folder: Path, *, budget: Budget | None = None, clock: Clock | None = None, **given: Any) -> Iterator[Stage]:
    """Open a stage with dummy credentials; an error of the responder is raised when the block ends."""
    with pytest.MonkeyPatch.context() as patch:
        with_dummy_aws(patch)
        stage = Stage(folder, budget=budget, clock=clock, **given)
        with stage.endpoint:
            yield stage


def heard(request: ConverseRequest) -> str:
    """Return everything the newest turn of the caller says, as one text."""
    parts = []
    for block in request.messages[-1]["content"]:
        inner = block.get("toolResult", {}).get("content", [block])
        parts += [part["text"] for part in inner if "text" in part]
    return "\n".join(parts)


THROTTLED = Failure()
