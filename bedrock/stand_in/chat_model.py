"""The stand-in: a deterministic, rule-based chat model for when there is no language model.

It follows the same tool-calling protocol as a language model in each of the four roles, so that the whole graph
runs without an account, and "fall back to local decision-making" is no second code path. It is no language
model and understands no text: it searches by rules (`search.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import TypeAdapter
from threadpoolctl import ThreadpoolController

from ...dna.genes import Gene
from ...errors import ModelCallFailed
from .. import protocol
from ..protocol import STAND_IN
from .ranking import compared
from .remark_reader import remarks_answered
from .search import Ancestor, Feedback, Proposal, Remark, propose

TRIALS_READ = 72
FAILURES_READ = 400
_RETRY_LIMIT = 2

_GENES: TypeAdapter[dict[str, Gene]] = TypeAdapter(dict[str, Gene])
_CATEGORY_BY_KIND = {"text": "communication enhancement", "code": "protocol improvement"}

Call = tuple[str, dict[str, Any]]


class StandIn(BaseChatModel):
    """Answers every role of the protocol by rules; equal messages give the equal answer."""

    @property
    def _llm_type(self) -> str:
        return STAND_IN

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Note the names of the tools: they tell the role."""
        return self.bind(tool_names=[_name(tool) for tool in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        names = kwargs.get("tool_names", ())
        role = next((role for tool, role in _ROLES.items() if tool in names), None)
        if role is None:
            raise ModelCallFailed(
                f"the stand-in knows no role with the tools {sorted(names)}.",
                hint="It plays the advisor, the decision engine, the healer and the cost governor only.",
            )
        calls = role(_Conversation(messages))
        message = AIMessage(
            content="",
            response_metadata={"model_name": STAND_IN},
            tool_calls=[
                {"name": name, "args": args, "id": f"local-{len(messages)}-{place}", "type": "tool_call"}
                for place, (name, args) in enumerate(calls)
            ],
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


class _Conversation:
    """What has been said so far: the brief and the latest result of each tool."""

    def __init__(self, messages: Sequence[BaseMessage]) -> None:
        brief = next((m for m in messages if isinstance(m, HumanMessage)), None)
        if brief is None:
            raise ModelCallFailed("the stand-in was given no brief.")
        self.situation = protocol.situation_in(brief.text)
        self._results = {m.name: m.text for m in messages if isinstance(m, ToolMessage)}
        self.own_calls = {
            call["name"]
            for message in messages
            if isinstance(message, AIMessage) and message.response_metadata.get("model_name") == STAND_IN
            for call in message.tool_calls
        }

    def result(self, tool: str) -> Any:
        """Return the latest answer of a tool as JSON, or None if it was not called or gave none."""
        try:
            return json.loads(self._results[tool])
        except (KeyError, ValueError):
            return None


def _name(tool: Any) -> str:
    if isinstance(tool, BaseTool):
        return tool.name
    return str(convert_to_openai_tool(tool)["function"]["name"])


# -- advisor


def _advise(talk: _Conversation) -> list[Call]:
    evidence = talk.result(protocol.READ_EVIDENCE)
    if evidence is None:
        return [(protocol.READ_EVIDENCE, {"trials": TRIALS_READ, "failures": FAILURES_READ})]
    answers = talk.result(protocol.PROPOSE_MUTATIONS)
    accepted = [a["id"] for a in answers if a.get("id")] if isinstance(answers, list) else []
    if not accepted and protocol.PROPOSE_MUTATIONS not in talk.own_calls:
        # Nobody has proposed yet, or a model did before and nothing of it was accepted.
        found = _search(talk.situation, evidence)
        if found:
            return [(protocol.PROPOSE_MUTATIONS, {"proposals": [_as_call(talk.situation, p) for p in found]})]
    return [(protocol.ADVICE, _advice(evidence, accepted))]


def _search(situation: dict[str, Any], evidence: dict[str, Any]) -> list[Proposal]:
    genes = _GENES.validate_json(json.dumps(situation["genes"]))
    live = {name: gene.value for name, gene in genes.items()}
    history = [
        Ancestor(values=live, fitness=evidence["live_fitness"], cases=evidence["cases"], origin="live", generation=0)
    ]
    history += [
        Ancestor(
            values=live | trial["differs"],
            fitness=trial["fitness"],
            cases=trial["cases"],
            origin=trial["origin"],
            generation=trial["generation"],
        )
        for trial in evidence["trials"]
    ]
    feedback = [
        Feedback(gene=gene or None, text=text) for gene, texts in evidence["failures"].items() for text in texts
    ]
    remarks = [Remark(remark["text"], remark.get("number")) for remark in evidence["feedback"]]
    # One thread: for matrices this small more only spin, and sums in another order would depend on the machine.
    with _blas().limit(limits=1):
        return propose(
            genes, live, history, feedback, count=situation["candidates"], seed=situation["seed"], remarks=remarks
        )


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _as_call(situation: dict[str, Any], proposal: Proposal) -> dict[str, Any]:
    kinds = {situation["genes"][name]["kind"] for name in proposal.changes}
    category = next(
        (_CATEGORY_BY_KIND[kind] for kind in sorted(kinds) if kind in _CATEGORY_BY_KIND), "intelligence upgrade"
    )
    answered = remarks_answered(proposal.origin)
    return {
        "changes": proposal.changes,
        "category": category,
        "rationale": proposal.rationale,
        "predicted_gain": proposal.predicted_gain,
        "probability": proposal.probability,
        "origin": proposal.origin,
        **({"feedback": answered} if answered else {}),
    }


def _advice(evidence: dict[str, Any], accepted: list[str]) -> dict[str, Any]:
    trials, failing = evidence["trials"], sorted(filter(None, evidence["failures"]))
    better = [t for t in trials if (t["fitness"] or 0) > evidence["live_fitness"]]
    return {
        "analysis": {
            "strengths": [f"the live genes score {evidence['live_fitness']:.4g} in training"],
            "weaknesses": [f"failed cases blame {', '.join(failing[:5])}"] if failing else [],
            "opportunities": [f"{len(better)} of {len(trials)} recent trials did better in training"],
            "threats": ["training gains may not hold on validation cases"],
            "focus": failing[:3],
            "confidence": round(len(better) / len(trials), 3) if trials else 0.5,
            "reasoning": "Rules over recorded trials and feedback; no language model was asked.",
        },
        "strategy": {
            "primary_mutations": accepted[:1],
            "contingency_mutations": accepted[1:],
            "execution_order": accepted,
            "success_criteria": ["a credible gain on the validation cases"],
            "risk_mitigation": ["each candidate is trialled before it can become live"],
            "expected_outcomes": ["a higher mean score, or one more direction ruled out"],
        },
    }


# -- decision engine


def _decide(talk: _Conversation) -> list[Call]:
    candidate = talk.result(protocol.READ_CANDIDATE)
    if candidate is None:
        return [(protocol.READ_CANDIDATE, {})]
    evidence, risk = candidate["evidence"], candidate["risk"]
    sound = evidence["credible"] and evidence["gain"] > 0
    gain = f"gain {evidence['gain']:+.4g} on {evidence['cases']} cases"
    return [
        (
            protocol.DECISION,
            {
                "verdict": "APPROVE" if sound else "REJECT",
                "confidence": round(min(1.0, evidence["confidence"]) if sound else 1.0, 4),
                "risks": risk["parts"],
                "benefits": [gain] if sound else [],
                "drawbacks": [f"changes {len(candidate['changes'])} genes"] if sound else [f"{gain} is not credible"],
                "mitigations": ["the previous generation is kept and can be restored"],
                "reasoning": "A rule: credible evidence on validation cases outweighs the risk of a reversible change.",
                "estimated_impact": evidence["at_least"] if sound else 0.0,
                **compared(candidate, sound=sound),
            },
        )
    ]


def _diagnose(talk: _Conversation) -> list[Call]:
    degradation = talk.result(protocol.READ_DEGRADATION)
    if degradation is None:
        return [(protocol.READ_DEGRADATION, {})]
    suspects = sorted(degradation["undone"])
    named = ", ".join(suspects)
    return [
        (
            protocol.ROOT_CAUSE,
            {
                "cause": f"the last change, of {named}" if suspects else "no gene changed: it lies outside the genes",
                "suspects": suspects,
                "confidence": round(1 / max(2, len(suspects)), 2),
                "evidence": [degradation["why"]],
                "recommendations": [f"change {named} one at a time"] if len(suspects) > 1 else [],
                "reasoning": "A rule: what changed last is suspected first; no language model was asked.",
            },
        )
    ]


# -- healer


_HEALING_TOOLS = {"retry": protocol.RETRY_STEP, "rollback": protocol.ROLL_BACK, "stop": protocol.STOP_RUN}
_WHY = {
    "retry": "Such a failure may pass, so the step is tried once more.",
    "rollback": "The live genes fail, and earlier ones were stable.",
    "stop": "Trying again would repeat the failure: a person has to look.",
}


def _heal(talk: _Conversation) -> list[Call]:
    incident = talk.result(protocol.READ_INCIDENT)
    if incident is None:
        return [(protocol.READ_INCIDENT, {})]
    action = _remedy(incident)
    return [(_HEALING_TOOLS[action], {}), (protocol.HEALING_PLAN, {"confidence": 0.9, "reasoning": _WHY[action]})]


def _remedy(incident: dict[str, Any]) -> str:
    kind, allowed = incident["kind"], incident["allowed"]
    if kind in ("storage", "evaluator") and incident["attempts"] < _RETRY_LIMIT and "retry" in allowed:
        return "retry"
    return "rollback" if kind in ("degraded", "stuck") and "rollback" in allowed else "stop"


# -- cost governor


def _govern(talk: _Conversation) -> list[Call]:
    spend = talk.result(protocol.READ_SPEND)
    if spend is None:
        return [(protocol.READ_SPEND, {})]
    return [
        (
            protocol.COST_MEASURES,
            {
                "measures": ["fewer_candidates", "shorter_context"],
                "reasoning": f"{spend['share']:.0%} of the {spend['scope']} budget is used.",
            },
        )
    ]


_ROLES: dict[str, Callable[[_Conversation], list[Call]]] = {
    protocol.ADVICE: _advise,
    protocol.DECISION: _decide,
    protocol.ROOT_CAUSE: _diagnose,
    protocol.HEALING_PLAN: _heal,
    protocol.COST_MEASURES: _govern,
}
