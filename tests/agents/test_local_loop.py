"""The loop that the stand-in drives, beside LangChain's agent: equal answers make the equal conversation in both."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from bedrock_evolution.agents.advisor import Advice
from bedrock_evolution.agents.agent import Agent
from bedrock_evolution.agents.cost_governor import CostMeasures
from bedrock_evolution.agents.decision import DecisionResult, RootCause
from bedrock_evolution.agents.healer import HealingPlan
from bedrock_evolution.agents.local_loop import LocalLoop
from bedrock_evolution.agents.model_loop import ModelLoop
from bedrock_evolution.agents.role import MAX_STEPS, Loop, OutOfSteps, Role
from bedrock_evolution.bedrock.gateway import ModelTask
from bedrock_evolution.bedrock.local_conversation import LocalConversation
from bedrock_evolution.bedrock.protocol import STAND_IN, brief_with
from bedrock_evolution.bedrock.stand_in import StandIn
from bedrock_evolution.clock import CountedIds, FixedClock
from bedrock_evolution.errors import IntegrityError
from bedrock_evolution.tools.advisor import ADVISOR_TOOLS
from bedrock_evolution.tools.desk import AdvisorDesk, Desk, HealerDesk, ReportDesk
from bedrock_evolution.tools.healer import HEALER_TOOLS
from bedrock_evolution.tools.reports import read_candidate, read_degradation, read_spend
from tests.garden import garden
from tests.support.model import Call
from tests.support.stage import ALTERNATIVES, CANDIDATE, DEGRADATION, DNA, EVIDENCE, INCIDENT, advisor_desk

SYSTEM = SystemMessage("Do your work.")
TASK = ModelTask("advisor", "run-1")
ADVISOR = Role("advisor", ADVISOR_TOOLS, Advice, AdvisorDesk, attempts=3)
BRIEF = brief_with(
    "Generation 1.",
    {"app": "demo", "generation": 1, "seed": 5, "candidates": 2, "genes": DNA.model_dump(mode="json")["genes"]},
)

Turn = str | Call | list[str | Call]


class Scripted(BaseChatModel):
    """Answers as the script says, and with its last turn ever after."""

    turns: list[Any]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        number = sum(isinstance(message, AIMessage) for message in messages)
        turn = self.turns[min(number, len(self.turns) - 1)]
        parts = turn if isinstance(turn, list) else [turn]
        calls = [part for part in parts if not isinstance(part, str)]
        said = AIMessage(
            " ".join(part for part in parts if isinstance(part, str)),
            response_metadata={"model_name": STAND_IN},
            tool_calls=[
                {"name": name, "args": args, "id": f"local-{number}-{place}", "type": "tool_call"}
                for place, (name, args) in enumerate(calls)
            ],
        )
        return ChatResult(generations=[ChatGeneration(message=said)])


def told(message: AnyMessage) -> dict[str, Any]:
    """Return everything in a message that is not drawn at random."""
    assert isinstance(message, (HumanMessage, AIMessage, ToolMessage))
    return message.model_dump(exclude={"id"})


def outcome(loop: Loop[Any], model: BaseChatModel, desk: Desk) -> dict[str, Any]:
    """Let a loop make an attempt, and return all that came of it."""
    conversation = desk.conversation = LocalConversation(model)
    ending: dict[str, Any]
    try:
        messages, answer = loop.run([HumanMessage(BRIEF)], desk)
        ending = {"messages": [told(message) for message in messages], "answer": answer}
    except (OutOfSteps, IntegrityError) as error:
        ending = {"raised": repr(error)}
    left = {name: getattr(desk, name) for name in ("accepted", "answered", "remarks", "action") if hasattr(desk, name)}
    return {"calls": [call.document for call in conversation.calls], "left": left, **ending}


def compared(role: Role[Any], model: BaseChatModel, make_desk: Callable[[], Desk]) -> dict[str, Any]:
    """Let both loops work on equal tasks, and return what came of both."""
    ours = outcome(LocalLoop(role, SYSTEM), model, make_desk())
    assert ours == outcome(ModelLoop(role, SYSTEM, model), model, make_desk())
    return ours


def noticed(remarks: Sequence[str], **evidence: Any) -> Callable[[], AdvisorDesk]:
    """Return what makes desks whose evidence has remarks and more."""

    def make() -> AdvisorDesk:
        desk = advisor_desk()
        numbered = [{"number": number, "source": "people", "text": text} for number, text in enumerate(remarks, 1)]
        desk.evidence = lambda trials, failures: EVIDENCE | {"feedback": numbered} | evidence
        return desk

    return make


REPORTS: dict[str, tuple[Role[Any], Callable[[], Desk]]] = {
    "advisor": (ADVISOR, advisor_desk),
    "advisor with remarks": (ADVISOR, noticed(["Raise the threshold.", "Go deeper."])),
    "decision": (
        Role("decision", [read_candidate], DecisionResult, ReportDesk, attempts=3),
        lambda: ReportDesk(TASK, CANDIDATE | {"alternatives": ALTERNATIVES}),
    ),
    "diagnosis": (
        Role("diagnosis", [read_degradation], RootCause, ReportDesk, attempts=3),
        lambda: ReportDesk(TASK, DEGRADATION),
    ),
    "healer": (
        Role("healer", HEALER_TOOLS, HealingPlan, HealerDesk, attempts=3),
        lambda: HealerDesk(TASK, INCIDENT | {"allowed": ["retry", "stop"]}, ("retry", "stop")),
    ),
    "cost governor": (
        Role("cost_governor", [read_spend], CostMeasures, ReportDesk, attempts=3),
        lambda: ReportDesk(TASK, {"share": 0.9, "scope": "run", "calls": 3}),
    ),
}


@pytest.mark.parametrize(("role", "desk"), REPORTS.values(), ids=REPORTS)
def test_the_stand_in_plays_every_role_alike_in_both_loops(role: Role[Any], desk: Callable[[], Desk]) -> None:
    found = compared(role, StandIn(), desk)
    assert isinstance(found["answer"], role.answer)
    assert {json.loads(call)["model"] for call in found["calls"]} == {STAND_IN}
    assert {message["name"] for message in found["messages"] if message["type"] == "ai"} == {role.name}


READ: Call = ("read_evidence", {"trials": 5, "failures": 5})
PROPOSE: Call = ("propose_mutations", {"proposals": [{"changes": {"depth": 2}}, {"changes": {"frozen": 2}}]})
ADVICE: Call = ("Advice", {"analysis": {"confidence": 0.7}, "strategy": {"execution_order": ["p1"]}})
NO_ADVICE: Call = ("Advice", {"analysis": {"confidence": 7}, "strategy": []})

TURNS: dict[str, tuple[list[Turn], str]] = {
    "the whole protocol": ([READ, PROPOSE, ADVICE], "answer"),
    "all at once": ([[READ, PROPOSE, ADVICE]], "answer"),
    "prose": (["Let me think."], "none"),
    "prose beside calls": ([["I read.", READ], ["I am done.", ADVICE]], "answer"),
    "nothing": ([[]], "none"),
    "an answer that is none, then one": ([NO_ADVICE, ADVICE], "answer"),
    "an answer that is none beside a call": ([[READ, NO_ADVICE], ADVICE], "none"),
    "two answers, then one": ([[ADVICE, ADVICE], ADVICE], "answer"),
    "two answers beside a call": ([[ADVICE, READ, ADVICE], ADVICE], "none"),
    "a tool nobody has": ([("apply", {"id": "p1"}), ADVICE], "answer"),
    "a tool of another role": ([[("read_spend", {}), READ], ADVICE], "answer"),
    "arguments missing": ([("propose_mutations", {}), ADVICE], "answer"),
    "arguments too many": (
        [("read_evidence", {"trials": 1, "failures": 1, "runtime": 1, "desk": {}}), ADVICE],
        "answer",
    ),
    "arguments of wrong types": ([("propose_mutations", {"proposals": [{"changes": [], "probability": 7}]})], "steps"),
    "numbers out of bounds": ([("read_evidence", {"trials": -1, "failures": "all"}), ADVICE], "answer"),
    "no end of calls": ([READ], "steps"),
    "no end of answers that are none": ([NO_ADVICE], "steps"),
    "an answer just in time": ([*[NO_ADVICE] * (MAX_STEPS - 2), ADVICE], "answer"),
    "an answer in the last step": ([*[NO_ADVICE] * (MAX_STEPS - 1), ADVICE], "steps"),
    "an answer a step too late": ([*[NO_ADVICE] * MAX_STEPS, ADVICE], "steps"),
    "an answer after calls, just in time": ([*[READ] * (MAX_STEPS // 2 - 1), ADVICE], "answer"),
    "an answer after calls, in the last step": ([*[READ] * (MAX_STEPS // 2 - 1), NO_ADVICE, ADVICE], "steps"),
    "a call in the last step": ([*[READ] * (MAX_STEPS // 2 - 1), NO_ADVICE, READ], "steps"),
    "an answer beside a call, just in time": ([NO_ADVICE, *[READ] * (MAX_STEPS // 2 - 2), [READ, ADVICE]], "answer"),
    "an answer beside the last call": ([*[READ] * (MAX_STEPS // 2 - 1), [READ, ADVICE]], "steps"),
}


@pytest.mark.parametrize(("turns", "ending"), TURNS.values(), ids=TURNS)
def test_whatever_is_said_is_dealt_with_alike_in_both_loops(turns: list[Turn], ending: str) -> None:
    found = compared(ADVISOR, Scripted(turns=turns), advisor_desk)
    assert ("raised" in found) == (ending == "steps")
    assert (found.get("answer") is not None) == (ending == "answer")


def test_what_a_tool_raises_ends_both_loops() -> None:
    def broken() -> AdvisorDesk:
        def evidence(trials: int, failures: int) -> dict[str, Any]:
            raise IntegrityError("a record was altered.")

        desk = advisor_desk()
        desk.evidence = evidence
        return desk

    assert "a record was altered" in compared(ADVISOR, Scripted(turns=[READ]), broken)["raised"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
PROPOSAL = st.dictionaries(st.sampled_from(["changes", "category", "probability", "feedback", "origin"]), JSON)
CALLS = st.sampled_from([READ, PROPOSE, ADVICE, NO_ADVICE]) | st.tuples(
    st.sampled_from(["read_evidence", "propose_mutations", "Advice", "apply"]),
    st.dictionaries(st.sampled_from(["trials", "failures", "proposals", "analysis", "strategy"]), JSON)
    | st.fixed_dictionaries({"proposals": st.lists(PROPOSAL, max_size=2)}),
)


@settings(max_examples=40, deadline=None)
@given(turns=st.lists(st.text() | CALLS | st.lists(st.text() | CALLS, max_size=3), min_size=1, max_size=5))
def test_no_json_value_is_dealt_with_otherwise(turns: list[Turn]) -> None:
    compared(ADVISOR, Scripted(turns=turns), advisor_desk)


def test_a_run_leaves_the_same_record_whichever_loop_its_agents_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(folder: Path) -> tuple[list[Any], list[Any]]:
        folder.mkdir()
        evolution = garden(folder, clock=FixedClock(datetime(2026, 3, 1, tzinfo=UTC)), ids=CountedIds())
        result = evolution.run(4, seed=3, progress=False)
        events = [event.document() for event in evolution.store.events("garden")]
        calls = evolution._services.database.rows(
            "SELECT step, number, document FROM model_calls ORDER BY step, number"
        )
        evolution.close()
        assert result.status == "done"
        return events, list(calls)

    ours = record(tmp_path / "ours")
    asked = []

    def with_models(agent: Agent[Any]) -> ModelLoop[Any]:
        asked.append(agent)
        return ModelLoop(agent._role, agent._system, agent._gateway.stand_in)

    replaced = cached_property(with_models)
    replaced.__set_name__(Agent, "_alone")
    monkeypatch.setattr(Agent, "_alone", replaced)
    assert record(tmp_path / "langchains") == ours
    assert asked
