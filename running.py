"""Running an application's graph: durably, step by step, from its beginning or from where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from functools import cached_property
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from langgraph.types import Command

from .errors import UsageError
from .fitness.journal import RunRecord, RunStatus
from .governance.approvals import Approval
from .graph.build import EvolutionGraph, build
from .graph.checkpoints import open_checkpointer
from .graph.finish import summed_up
from .graph.services import Services, nothing_foreseen, stuck_at
from .graph.state import EvolutionState
from .healing.incident import MAX_ATTEMPTS
from .results import EvolutionResult, Progress, gene_changes
from .settings import MICRO
from .stop import Stop

_STEPS_PER_GENERATION = 12
_STEPS_BESIDES = 50


class Runner:
    """Runs the graph of an application.

    Args:
        services: The application.
        checkpointer: Opens the checkpoints; by default those in the store's file.
    """

    def __init__(self, services: Services, checkpointer: Callable[[], BaseCheckpointSaver[str]] | None = None) -> None:
        self._services = services
        self._open = checkpointer or (lambda: open_checkpointer(services.database))

    @cached_property
    def graph(self) -> EvolutionGraph:
        """The compiled graph, with its checkpoints."""
        return build(self._services, self._checkpointer)

    @cached_property
    def _checkpointer(self) -> BaseCheckpointSaver[str]:
        return self._open()

    def compile(self) -> None:
        """Compile the graph before it is needed, which takes a moment."""
        _ = self.graph

    def close(self) -> None:
        """Close the checkpoints; those in the cloud are reached by clients that are not their own."""
        if "_checkpointer" in self.__dict__ and isinstance(self._checkpointer, SqliteSaver):
            self._checkpointer.conn.close()

    def config(self, run_id: str, generations: int) -> RunnableConfig:
        """Return what the graph is run with."""
        steps = _STEPS_PER_GENERATION * generations + _STEPS_BESIDES
        return {"configurable": {"thread_id": run_id}, "recursion_limit": steps}

    def next_input(self, record: RunRecord, generations: int) -> Any:
        """Return what the graph is given to go on: nothing inside a generation, the request otherwise.

        A run has ended when its state has no tasks. `state.next` will not do: it is empty too when a process died after
        a task's writes were stored and before the checkpoint that takes them up.

        Raises:
            UsageError: The run has come some way, and its checkpoints are gone or elsewhere.
        """
        state = self.graph.get_state(self.config(record.run_id, generations))
        if not state.values:
            if self._services.journal.count_trials(record.run_id):
                raise UsageError(
                    f"run {record.run_id} has no checkpoint to go on from: they have expired, or are kept elsewhere.",
                    hint="Set `checkpoints` to what it was begun with, or start a new run from the live genes.",
                )
            return {"run_id": record.run_id, "generations": generations, "seed": record.seed}
        if not state.tasks:
            return {"generations": generations}
        return None if state.values.get("generations") == generations else Command(update={"generations": generations})

    def stream(self, run_id: str, given: Any, generations: int, stop: Stop) -> Generator[Progress | EvolutionResult]:
        """Run the graph and yield the progress after each step; the last item is the result.

        Args:
            run_id: A run that is open.
            given: What the graph is given.
            generations: How many generations at most.
            stop: Ends the run after the current step.
        """
        services, config, control = self._services, self.config(run_id, generations), RunControl()
        stop.reaches(control.request_drain)
        self.compile()
        services.store.watch_runs()  # the tables of checkpoints are there by now
        self._foresee_stuck(run_id, config)
        services.journal.set_status(run_id, "running")
        services.gateway.ledger.give_up(run_id)  # calls of a process that died: this one is the run's only worker
        seen: dict[str, Any] = dict(self.graph.get_state(config).values)
        trials = services.journal.count_trials(run_id)
        try:
            for update in self.graph.stream(given, config, stream_mode="updates", durability="sync", control=control):
                for step, changed in update.items():
                    # A node that changes nothing is told as None; an interrupt is no node.
                    if step != "__interrupt__":
                        seen |= changed or {}
                        trials += len(seen.get("candidates", [])) if step == "trial" else 0
                        yield self._progress(run_id, step, seen, trials)
        except GraphDrained:
            yield self._stopped(run_id, "interrupted", seen)
            return
        except Exception:
            services.journal.set_status(run_id, "failed")
            raise
        except (KeyboardInterrupt, GeneratorExit):
            services.journal.set_status(run_id, "interrupted")
            raise
        finally:
            services.gateway.ledger.give_up(run_id)
        yield self._ended(run_id, config, seen)

    def _ended(self, run_id: str, config: RunnableConfig, seen: Mapping[str, Any]) -> EvolutionResult:
        state = self.graph.get_state(config)
        if state.tasks:
            values = [pause.value for task in state.tasks for pause in task.interrupts]
            spent = next((value for value in values if isinstance(value, dict) and "budget" in value), None)
            if spent is None:
                return self._stopped(run_id, "waiting", seen)
            return self._stopped(run_id, "budget", {**seen, "message": f"{spent['budget']} {spent['hint']}"})
        # Recorded here too: a process that died after its report was stored and before the checkpoint is resumed
        # without another report.
        summary = state.values["summary"]
        self._services.journal.set_status(run_id, summary["status"], summary)
        return self._result(summary)

    def _foresee_stuck(self, run_id: str, config: RunnableConfig) -> None:
        """Meet a step that this run died in again and again as an incident, instead of dying in it once more."""
        services = self._services
        services.foreseen = nothing_foreseen
        if services.journal.run(run_id).status != "running":
            return
        at = self.graph.get_state(config)
        times = services.journal.resumed(run_id, str(at.config["configurable"].get("checkpoint_id")))
        if times > MAX_ATTEMPTS and at.next:
            services.foreseen = stuck_at(at.next[0], times)

    def _progress(self, run_id: str, step: str, seen: Mapping[str, Any], trials: int) -> Progress:
        services = self._services
        spend = 0 if services.gateway.local else services.gateway.ledger.run_spend(run_id).micro_usd
        return Progress(
            run_id=run_id,
            step=step,
            generation=min(seen.get("generation", 0), seen.get("generations", 0)),
            generations=seen.get("generations", 0),
            fitness=seen.get("fitness"),
            baseline_fitness=(seen.get("start") or {}).get("fitness"),
            trials=trials,
            evaluations=services.run(run_id).scorer.used,
            cost_usd=spend / MICRO,
            dna_generation=(seen.get("head") or {}).get("generation"),
        )

    def _stopped(self, run_id: str, status: RunStatus, seen: Mapping[str, Any]) -> EvolutionResult:
        """Record a run that did not reach its report, and return what is known of it."""
        services = self._services
        waiting = [a for a in services.approvals.listed(services.app, pending_only=True) if a.run_id == run_id]
        summary = summed_up(services, cast(EvolutionState, {**seen, "run_id": run_id})) | {"status": status}
        services.journal.set_status(run_id, status, summary)
        return self._result(summary, waiting[0] if waiting else None)

    def _result(self, summary: Mapping[str, Any], approval: Approval | None = None) -> EvolutionResult:
        before = self._services.snapshot(summary["baseline_generation"])
        after = self._services.snapshot(summary["dna_generation"])
        promoted = self._services.journal.promoted(summary["run_id"])
        confidence = min((trial.evidence["confidence"] for trial in promoted), default=None)
        return EvolutionResult(**summary, confidence=confidence, changes=gene_changes(before, after), approval=approval)
