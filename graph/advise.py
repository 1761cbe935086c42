"""govern and advise: how much to spend on a generation, and what to try in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage

from ..clock import derive_seed
from ..dna.events import EvolutionEvent
from ..dna.genome import SystemDNA
from ..dna.mutation import Mutation
from ..errors import InvalidMutation
from ..fitness.journal import TrialRecord
from ..fitness.scorer import genes_key
from ..governance.feedback import Remark
from ..tools.desk import AdvisorDesk
from .evidence import Evidence
from .records import event_of, key_of
from .services import Services, model_task, step_of
from .state import EvolutionState

AHEAD = "advised/ahead"
"""Ends the key of what was advised for a generation while the one before it was on trial."""
_SHOWN_CHARS = 300
_RATIONALE_CHARS = 160


def govern(services: Services, state: EvolutionState) -> dict[str, Any]:
    """Choose this generation's cost measures, and fix what the router knows in it."""
    if services.gateway.local:
        return {"measures": [], "routing": {}, "pressure": None}
    known = services.store.event(services.app, key_of(state, "governed"))
    if known is not None:
        return {"measures": known.data["measures"], **known.data["spend"]}
    pressure = services.gateway.ledger.pressure(state["run_id"])
    spend: EvolutionState = {
        "routing": dict(services.gateway.tracker.snapshot()),
        "pressure": asdict(pressure),
    }
    measures, reply = services.governor.govern(pressure, task=model_task("cost_governor", {**state, **spend}))
    if reply is not None:
        with services.database.transaction("decision.record"):
            services.calls.save(state["run_id"], step := step_of("cost_governor", state), reply.calls)
            services.store.append(
                event_of(
                    services,
                    state,
                    "governed",
                    why=reply.answer.reasoning,
                    actor="cost governor",
                    reply=reply,
                    step=step,
                    data={"measures": measures, "spend": spend},
                )
            )
    return {"measures": measures, **spend}


def advise(services: Services, state: EvolutionState) -> dict[str, Any]:
    """Ask the advisor for candidates, unless it was asked while those of the last generation were on trial.

    What is on record already is not asked again: the model's answer may be another one the next time.
    """
    known = services.store.event(services.app, key_of(state, "advised"))
    if known is None and (ahead := services.store.event(services.app, key_of(state, AHEAD))) is not None:
        unmoved = ahead.data["head"] == state["head"]["checksum"]
        known = ahead if unmoved else _carried_over(services, state, ahead)
    if known is not None:
        return {"candidates": known.data["candidates"], "strategy": known.data["strategy"]}
    head, remarks = services.snapshot(state["head"]["generation"]), services.remarks()
    return ask(services, state, Evidence(services, state, head, remarks), remarks)


def ask(
    services: Services, state: EvolutionState, evidence: Evidence, remarks: Sequence[Remark], what: str = "advised"
) -> dict[str, Any]:
    """Ask the advisor for a generation's candidates and record them, in the order of its strategy."""
    run_id, generation, measures = state["run_id"], state["generation"], state.get("measures", [])
    head, wanted = services.snapshot(state["head"]["generation"]), services.settings.candidates
    task = model_task("advisor", state, what.removeprefix("advised").strip("/"))
    desk = AdvisorDesk(
        task=task,
        dna=head,
        engine=services.engine,
        evidence=evidence,
        refusal=partial(_refusal, services, state, head),
        candidates=max(1, wanted // 2) if "fewer_candidates" in measures else wanted,
        forbidden=frozenset(filter(services.autonomy.forbids, head.genes)),
    )
    reply = services.advisor.advise(
        desk,
        generation=generation,
        seed=derive_seed(state["seed"], "propose", generation),
        trend=state["trend"],
    )
    order = [name for name in reply.answer.strategy.ordered() if name in desk.accepted]
    ordered = [desk.accepted[name] for name in dict.fromkeys([*order, *desk.accepted])]
    trials = [_trial(generation, slot, head, mutation) for slot, mutation in enumerate(ordered)]
    advised = {"candidates": _in_short(trials), "strategy": reply.answer.model_dump(mode="json")}
    told = [remark.number for remark in remarks]
    analysis = reply.answer.analysis
    data = {**advised, "confidence": analysis.confidence, "remarks": told, "head": head.checksum}
    with services.database.transaction("advice.record"):
        services.calls.save(run_id, task.step, reply.calls)
        services.journal.propose(run_id, generation, trials)
        services.store.append(
            event_of(
                services,
                state,
                "advised",
                what=what,
                why=analysis.reasoning,
                actor="advisor",
                reply=reply,
                step=task.step,
                data=data,
            )
        )
        if told:
            services.feedback.mark_read(
                services.app, told, run_id=run_id, generation=generation, answers=_answers(told, desk)
            )
    return {**advised, "transcript": transcript(reply.messages)}


def _carried_over(services: Services, state: EvolutionState, ahead: EvolutionEvent) -> EvolutionEvent | None:
    """Propose for the live genes what was advised ahead for those before them; None if nothing is left of it.

    The advisor was paid for these ideas, and a change of some genes is seldom worth less because another gene changed.
    """
    head, generation = services.snapshot(state["head"]["generation"]), state["generation"]
    carried: list[Mutation] = []
    for trial in services.journal.trials(state["run_id"], generation=generation):
        try:
            mutation = services.engine.propose(head, trial.changes, **trial.about)
        except InvalidMutation:
            continue  # the live genes are so by now, or are declared otherwise
        if mutation not in carried and not _refusal(services, state, head, mutation):
            carried.append(mutation)
    if not carried:
        return None
    trials = [_trial(generation, slot, head, mutation) for slot, mutation in enumerate(carried)]
    data = {"candidates": _in_short(trials), "strategy": ahead.data["strategy"], "head": head.checksum}
    why = "it was advised before the live genes changed"
    with services.database.transaction("advice.record"):
        services.journal.propose(state["run_id"], generation, trials)
        return services.store.append(event_of(services, state, "advised", why=why, actor="rule", data=data))


def _in_short(trials: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    return [
        {
            "slot": trial.slot,
            "mutation_id": trial.mutation,
            "genes": sorted(trial.changes),
            "origin": trial.about["origin"],
            "rationale": trial.about["rationale"][:_RATIONALE_CHARS],
        }
        for trial in trials
    ]


def _refusal(services: Services, state: EvolutionState, head: SystemDNA, mutation: Mutation) -> str:
    """Say why a valid mutation is not put to trial; empty if it is."""
    policy = services.autonomy.policy(mutation)
    if policy is not None and policy.rule == "never":
        return policy.told
    if services.journal.tried(state["run_id"], _genes(head, mutation), before=state["generation"]):
        return "these gene values were tried before in this run"
    return ""


def _answers(remarks: Sequence[int], desk: AdvisorDesk) -> dict[int, list[str]]:
    """Return the mutations that were proposed in answer to each remark."""
    return {
        number: [mutation.id for name, mutation in desk.accepted.items() if number in desk.answered.get(name, ())]
        for number in remarks
    }


def transcript(messages: Sequence[AnyMessage]) -> list[dict[str, Any]]:
    """Return a conversation in short, JSON-plain: who said what, which tools were called, with what result."""
    lines: list[dict[str, Any]] = []
    for message in messages:
        line: dict[str, Any] = {"role": message.type, "text": message.text[:_SHOWN_CHARS]}
        if isinstance(message, AIMessage) and message.tool_calls:
            line["calls"] = [{"name": c["name"], "args": str(c["args"])[:_SHOWN_CHARS]} for c in message.tool_calls]
        if isinstance(message, ToolMessage):
            line["tool"] = message.name
        lines.append(line)
    return lines


def _genes(head: SystemDNA, mutation: Mutation) -> str:
    return genes_key({**head.values, **mutation.changes})


def _trial(generation: int, slot: int, head: SystemDNA, mutation: Mutation) -> TrialRecord:
    return TrialRecord(
        generation=generation,
        slot=slot,
        mutation=mutation.id,
        genes=_genes(head, mutation),
        parent_generation=head.generation,
        changes=dict(mutation.changes),
        about=mutation.model_dump(include={"category", "rationale", "origin", "predicted_gain", "probability"}),
    )
