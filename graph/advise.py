"""govern and advise: how much to spend on this generation, and what to try in it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage

from ..clock import derive_seed
from ..dna.genome import SystemDNA
from ..dna.mutation import Mutation
from ..fitness.journal import TrialRecord
from ..fitness.racing import HeadScores
from ..fitness.scorer import Request, genes_key
from ..governance.feedback import Remark
from ..tools.desk import AdvisorDesk
from .records import event_of, key_of
from .services import Services, model_task, step_of
from .state import EvolutionState

_FEEDBACK_CHARS = 300
_SHOWN_CHARS = 300
_RATIONALE_CHARS = 160


def govern(services: Services, state: EvolutionState) -> dict[str, Any]:
    """Choose this generation's cost measures, and fix what the router knows in it."""
    if services.gateway.local:
        return {"measures": [], "routing": {}, "pressure": 0.0, "room_micro_usd": None}
    known = services.store.event(services.app, key_of(state, "governed"))
    if known is not None:
        return {"measures": known.data["measures"], **known.data["spend"]}
    pressure = services.gateway.ledger.pressure(state["run_id"])
    spend: EvolutionState = {
        "routing": dict(services.gateway.tracker.snapshot()),
        "pressure": pressure.share,
        "room_micro_usd": pressure.room_micro_usd,
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
    """Ask the advisor for candidates and record them, in the order of its strategy.

    What is on record already is not asked again: the model's answer may be another one the next time.
    """
    run_id, generation, measures = state["run_id"], state["generation"], state.get("measures", [])
    if (known := services.store.event(services.app, key_of(state, "advised"))) is not None:
        return {"candidates": known.data["candidates"], "strategy": known.data["strategy"]}
    head = services.snapshot(state["head"]["generation"])
    wanted = services.settings.candidates
    remarks = services.remarks()
    desk = AdvisorDesk(
        task=model_task("advisor", state),
        dna=head,
        engine=services.engine,
        evidence=_Evidence(services, state, head, remarks, shorter="shorter_context" in measures),
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
    advised = {
        "candidates": [
            {
                "slot": trial.slot,
                "mutation_id": trial.mutation,
                "genes": sorted(trial.changes),
                "origin": trial.about["origin"],
                "rationale": trial.about["rationale"][:_RATIONALE_CHARS],
            }
            for trial in trials
        ],
        "strategy": reply.answer.model_dump(mode="json"),
    }
    told = [remark.number for remark in remarks]
    analysis = reply.answer.analysis
    data = {**advised, "confidence": analysis.confidence, "remarks": told, "head": head.checksum}
    with services.database.transaction("advice.record"):
        services.calls.save(run_id, step := step_of("advisor", state), reply.calls)
        services.journal.propose(run_id, generation, trials)
        services.store.append(
            event_of(
                services, state, "advised", why=analysis.reasoning, actor="advisor", reply=reply, step=step, data=data
            )
        )
        if told:
            services.feedback.mark_read(
                services.app, told, run_id=run_id, generation=generation, answers=_answers(told, desk)
            )
    return {**advised, "transcript": transcript(reply.messages)}


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


class _Evidence:
    """Answers the advisor's one question about the past: recent trials, and failures of the best parent."""

    def __init__(
        self,
        services: Services,
        state: EvolutionState,
        head: SystemDNA,
        remarks: Sequence[Remark],
        *,
        shorter: bool,
    ) -> None:
        self._services = services
        self._state = state
        self._head = head
        self._remarks = remarks
        self._share = 2 if shorter else 1

    def __call__(self, trials: int, failures: int) -> dict[str, Any]:
        state, run = self._state, self._services.run(self._state["run_id"])
        scores = run.head(self._head)
        recent = self._services.journal.recent_trials(
            state["run_id"], before=state["generation"], limit=trials // self._share
        )
        places = {(trial.generation, trial.slot) for trial in recent}
        best = [(entry["generation"], entry["slot"]) for entry in state["pool"]]
        older = self._services.journal.trials_at(state["run_id"], [place for place in best if place not in places])
        known = sorted([*older, *recent], key=lambda trial: (trial.generation, trial.slot)) if trials else []
        return {
            "live_fitness": scores.train_fitness,
            "cases": len(scores.train),
            "trials": [self._told(trial) for trial in known],
            "failures": self._failures(scores, failures // self._share),
            "feedback": [
                {"number": remark.number, "source": remark.source, "text": remark.text[:_FEEDBACK_CHARS]}
                for remark in self._remarks
            ],
        }

    def _told(self, trial: TrialRecord) -> dict[str, Any]:
        values = self._services.values_of(trial)
        live = self._head.values
        return {
            "generation": trial.generation,
            "differs": {name: value for name, value in values.items() if name in live and value != live[name]},
            "fitness": trial.fitness if trial.status != "failed" else None,
            "cases": trial.cases,
            "status": trial.status,
            "origin": trial.about["origin"].partition(":")[2] or trial.about["origin"],
        }

    def _failures(self, scores: HeadScores, limit: int) -> dict[str, list[str]]:
        """Feedback on the training cases that the best parent scores lowest on, by the gene it is about.

        Each gene is named once: an advisor pays for every word it reads.
        """
        state, run = self._state, self._services.run(self._state["run_id"])
        values, sample = scores.values, 0 if self._services.deterministic else 1
        if state["pool"]:
            first = state["pool"][0]
            [trial] = self._services.journal.trials_at(state["run_id"], [(first["generation"], first["slot"])])
            values, sample = self._services.values_of(trial), 0
        outcomes = run.scorer.recorded(Request(values, "train", (), sample))
        worst = sorted((o.value or 0.0, index, o) for index, o in outcomes.items() if o.feedback or o.gene_feedback)
        told: list[tuple[str, str]] = []
        for _, _, outcome in worst:
            told += list(outcome.gene_feedback.items()) or [("", outcome.feedback)]
        by_gene: dict[str, list[str]] = {}
        for gene, text in told[:limit]:
            by_gene.setdefault(gene, []).append(text[:_FEEDBACK_CHARS])
        return by_gene
