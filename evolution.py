"""`Evolution`: the one object an application embeds."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import queue
import random
import sys
import threading
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import closing, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .agents.advisor import EvolutionAdvisor
from .agents.cost_governor import CostGovernor
from .agents.decision import BedrockDecisionEngine
from .agents.healer import SelfHealer
from .bedrock.gateway import ModelGateway
from .bedrock.models.catalog import Catalog
from .bedrock.recorded import RecordedCalls
from .clock import Clock, IdSource, RandomIds, SystemClock
from .dna.database import Database
from .dna.engine import MutationEngine
from .dna.genes import BaseGene, GeneValue
from .dna.genome import SystemDNA
from .dna.sqlite import SQLiteDNAStore
from .errors import StoreUnavailable, UsageError, WriterFenced
from .fitness.cases import split_cases
from .fitness.evaluator import EvaluateAll, EvaluateEach, Evaluator
from .fitness.journal import Journal, RunRecord
from .fitness.scorer import genes_key
from .fitness.workers import DEFAULT_TIMEOUT_S, Workers
from .governance.approvals import Approval, Approvals, Verdict
from .governance.audit import AuditReport, verify
from .governance.autonomy import AutonomyController, check_policies
from .governance.feedback import FeedbackQueue, Remark
from .governance.rollback import roll_back
from .governance.safe_mode import SafeMode, SafeModeState
from .governance.stores import OpenStore, open_store
from .graph.live_dna import live_dna
from .graph.replaying.recorded_scores import Application
from .graph.services import Services
from .healing.breaker import CircuitBreaker
from .healing.strategies import CloudHealingStrategies
from .progress import watch
from .results import EvolutionResult, Progress
from .settings import DEFAULT_GENERATIONS, Autonomy, Budget, ModelMode, Settings
from .stop import Stop

if TYPE_CHECKING:
    from .bedrock.aws.session import BedrockSession
    from .governance.live import LiveOutcomes
    from .graph.build import EvolutionGraph
    from .graph.replaying.alternatives import Alternative
    from .graph.replaying.reports import ForkReport, ReplayReport
    from .graph.replaying.transitions import Checkpointer
    from .monitoring.metrics import Metrics
    from .running import Runner

_LARGEST = 2**63 - 1
"""What a whole number in the store may be at most."""


class Evolution:
    """Lets an application improve itself under supervision.

    Args:
        app: Name of the application; its DNA is stored under it.
        genes: What may change, declared with `text`, `number`, `integer`, `choice`, `flag`, `code`.
        evaluate: `(genes, case) -> float | Score`, sync or async. With a parameter `seed` it is given one that
            is equal for all candidates on the same case.
        evaluate_all: `(genes, cases) -> list[float | Score]` instead, where batches are cheaper.
        cases: The application's data: a list that is split 40/40/20 by a stable hash, or a mapping with `train`,
            `validation` and `test`. A single case is one deterministic objective.
        budget: Hard limits.
        store: `sqlite:///path.db`, or `s3://BUCKET/PREFIX?table=TABLE&region=REGION`; default from the settings.
        model: `bedrock`, or `local` for the stand-in; by default Bedrock where AWS credentials are found.
        executor: Any `concurrent.futures.Executor` to evaluate on; by default threads of our own.
        workers: Evaluations at once; by default the executor's size or the number of processors.
        timeout_s: Seconds an evaluation (of a batch: the whole batch) may take before it counts as failed.
        score_range: Lowest and highest possible score, if known: promotions then need no assumption at all.
        deterministic: Whether equal genes and case always give the equal score.
        categories: The application's own mutation categories.
        autonomy: What may be decided without a person.
        settings: All other settings; read from environment and `pyproject.toml` when left out.
        clock: Where the time is read.
        ids: Where run and call ids come from.

    Raises:
        UsageError: Something given cannot be used; the message names it and the remedy.
    """

    def __init__(  # noqa: PLR0913  # the one place where an application says everything about itself
        self,
        app: str,
        genes: Mapping[str, BaseGene],
        *,
        evaluate: EvaluateEach | None = None,
        evaluate_all: EvaluateAll | None = None,
        cases: Iterable[Any] | Mapping[str, Iterable[Any]],
        budget: Budget | None = None,
        store: str | None = None,
        model: ModelMode | None = None,
        executor: Executor | None = None,
        workers: int | None = None,
        timeout_s: float | None = DEFAULT_TIMEOUT_S,
        score_range: tuple[float, float] | None = None,
        deterministic: bool = True,
        categories: Iterable[str] = (),
        autonomy: Autonomy | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
        ids: IdSource | None = None,
    ) -> None:
        if not isinstance(genes, Mapping) or not genes:
            raise UsageError(
                "no genes are declared.", hint="Declare at least one part of the application that may change."
            )
        if not app or not app.isprintable():
            raise UsageError(f"{app!r} is no name for an application.", hint="Use printable characters.")
        self.app = app
        self.budget = budget or Budget()
        given = {"store": store, "model": model, "autonomy": autonomy}
        self._given = (settings.model_dump() if settings else {}) | {k: v for k, v in given.items() if v is not None}
        self.settings = Settings.load(**self._given)
        self._declared = SystemDNA.declare(app, genes)
        self._evaluator = Evaluator.adapt(evaluate, evaluate_all, score_range)
        self._cases = split_cases(cases)
        if workers is not None:
            _check_whole("workers", workers, least=1)
        if timeout_s is not None and not timeout_s > 0:
            raise UsageError(f"timeout_s={timeout_s!r} is not above zero.", hint="Give seconds, or None for no limit.")
        self._workers = Workers(executor, workers, timeout_s)
        self._deterministic = deterministic
        self._engine = MutationEngine(tuple(categories))
        self._check_policies()
        self._clock = clock or SystemClock()
        self._ids = ids or RandomIds(self._clock)
        self._stop = Stop()
        self._last_read = ""

    def _check_policies(self) -> None:
        check_policies(self.settings.autonomy, genes=self._declared.genes, categories=self._engine.categories)

    def using(self, *, near: Path | None = None, store: str | None = None, model: str | None = None) -> Evolution:
        """Return the same application with other settings, as the command line's options ask for.

        Args:
            near: A file of the application; the nearest `pyproject.toml` above it is read.
            store: Another store.
            model: `bedrock` or `local`.

        Raises:
            InvalidSetting: A setting is not allowed.
        """
        other = copy.copy(self)
        for name in ("graph", "_runner", "_opened", "_services", "_live", "_metrics"):
            other.__dict__.pop(name, None)
        chosen = {name: value for name, value in (("store", store), ("model", model)) if value is not None}
        other.settings = Settings.load(near=near, **(self._given | chosen))
        other._check_policies()  # noqa: SLF001  # of the same class
        return other

    # -- what the application reads

    @property
    def genes(self) -> Mapping[str, GeneValue]:
        """The live gene values, for the application to use; read anew at each access."""
        values = self.dna.values
        self._last_read = genes_key(values)
        return values

    @property
    def dna(self) -> SystemDNA:
        """The live DNA."""
        return live_dna(self._services)

    @property
    def application(self) -> Application:
        """What scores the cases, for forks of its runs."""
        return Application(self._evaluator, self._cases, self._workers)

    @property
    def store(self) -> SQLiteDNAStore:
        """The DNA and events of this application."""
        return self._store

    @property
    def local(self) -> bool:
        """Whether the stand-in answers instead of a language model."""
        return self._services.gateway.local

    # -- running

    def run(self, generations: int = DEFAULT_GENERATIONS, *, seed: int = 0, progress: bool = True) -> EvolutionResult:
        """Evolve the application.

        Args:
            generations: How many generations at most.
            seed: Equal seeds give equal runs, whatever the executor and the number of workers.
            progress: Show a progress bar, where the output is a terminal.

        Raises:
            UsageError: The arguments or the application's declarations cannot be used.
        """
        return watch(self.stream(generations, seed=seed), show=progress)

    def resume(self, run_id: str, *, generations: int | None = None, progress: bool = True) -> EvolutionResult:
        """Go on with a run that was interrupted, waits for an approval that is answered by now, or ran out of budget.

        Args:
            run_id: The run.
            generations: A new limit of generations; by default the one it was started with.
            progress: Show a progress bar, where the output is a terminal.

        Raises:
            UnknownRun: The store holds no such run.
            UsageError: The run belongs to another application or to other cases.
        """
        return watch(self.stream_resumed(run_id, generations=generations), show=progress)

    def stream(self, generations: int = DEFAULT_GENERATIONS, *, seed: int = 0) -> Iterator[Progress | EvolutionResult]:
        """Evolve, and yield the progress after each step; the last item is the result."""
        _check_whole("generations", generations, least=1)
        _check_whole("seed", seed, least=-_LARGEST)
        services = self._services
        # What cannot work is refused before a run is recorded: a budget that decides nothing, a damaged record.
        services.panels(seed=seed, max_evaluations=self.budget.max_evaluations)
        services.begin()
        live_dna(services)
        run_id = services.ids.new("run")
        # In one transaction: a replay takes what was live then for what was scored first.
        with self._database.transaction("run.begin"):
            services.open_run(run_id, seed=seed, request={"generations": generations})
            live = services.store.head(self.app)
        given = {"run_id": run_id, "generations": generations, "seed": seed}
        yield from self._stream(run_id, given, generations, live)

    def stream_resumed(self, run_id: str, *, generations: int | None = None) -> Iterator[Progress | EvolutionResult]:
        """Go on with a run as `resume` does, and yield the progress after each step."""
        self._fetch(run_id)
        record = self._services.journal.run(run_id)
        self._check_same(record)
        if generations is not None:
            _check_whole("generations", generations, least=1)
        wanted = generations or int(record.request["generations"])
        self._services.begin()
        self._services.forget_runs()  # another process may have gone on with it meanwhile
        self._services.reopen_run(run_id, {"generations": wanted})
        yield from self._stream(run_id, self._runner.next_input(record, wanted), wanted)

    async def arun(self, generations: int = DEFAULT_GENERATIONS, *, seed: int = 0) -> EvolutionResult:
        """Evolve as `run` does, without blocking the event loop."""
        try:
            return await asyncio.to_thread(self.run, generations, seed=seed, progress=False)
        except asyncio.CancelledError:
            self.stop()  # a thread cannot be cancelled, but the run in it can be told to stop
            raise

    async def astream(
        self, generations: int = DEFAULT_GENERATIONS, *, seed: int = 0
    ) -> AsyncIterator[Progress | EvolutionResult]:
        """Evolve as `stream` does, without blocking the event loop."""
        items: queue.SimpleQueue[Progress | EvolutionResult | BaseException | None] = queue.SimpleQueue()

        def work() -> None:
            try:
                for item in self.stream(generations, seed=seed):
                    items.put(item)
                items.put(None)
            except BaseException as error:  # noqa: BLE001  # raised again in the caller's task
                items.put(error)

        threading.Thread(target=work, name="evolution", daemon=True).start()
        item: Progress | EvolutionResult | BaseException | None = None
        try:
            while (item := await asyncio.to_thread(items.get)) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            if isinstance(item, Progress):
                self.stop()  # whoever watched has left before the end

    def stop(self) -> None:
        """Let the run stop after its current step, or the next run before its first; safe from any thread or signal."""
        self._stop.ask()

    def close(self) -> None:
        """Close the store and let idle threads end; the object is of no use afterwards."""
        if "_live" in self.__dict__:
            self._live.close()
        if "_runner" in self.__dict__:
            self._runner.close()
        if self.__dict__.get("_metrics") is not None:
            self._metrics.close()  # type: ignore[union-attr]  # just looked at
        if "_opened" in self.__dict__:
            self._store.close()
            self._database.close()
        self._workers.close()

    # -- supervising

    def approvals(self, *, pending_only: bool = True) -> list[Approval]:
        """Return what waits for a person, newest first; what expired or became void by now no longer does."""
        approvals = self._services.approvals
        found = [approvals.current(each) for each in approvals.listed(self.app, pending_only=pending_only)]
        return [approval for approval in found if approval.status == "pending" or not pending_only]

    def record_outcome(self, value: float, *, genes: Mapping[str, GeneValue] | None = None) -> None:
        """Tell how well the live application did, once; it costs microseconds and never waits.

        Outcomes of genes that evolution made live are compared with those of the genes before them, and the earlier
        genes are made live again when the new ones do worse (`docs/rollback.md`).

        Args:
            value: Any finite number, higher is better, on the same scale every time.
            genes: The gene values it was produced with; by default those that `genes` returned last.

        Raises:
            UsageError: The value is no finite number.
        """
        used = genes_key(genes) if genes is not None else self._last_read or genes_key(self.genes)
        self._live.record(value, genes=used)

    def flush_outcomes(self, timeout_s: float = 30.0) -> None:
        """Wait until all outcomes given so far are stored and judged.

        Raises:
            StoreError: They could not be stored.
            TimeoutError: It took longer.
        """
        self._live.flush(timeout_s)

    def safe_mode(self) -> SafeModeState | None:
        """Return since when and why nothing may change, or None."""
        return self._services.safe_mode.since(self.app)

    def lift_safe_mode(self, *, by: str, why: str = "") -> None:
        """Let changes be made again.

        Raises:
            UsageError: It is not in safe mode, or nobody answers for it.
        """
        self._services.safe_mode.lift(self.app, by=by, why=why)

    def audit(self) -> AuditReport:
        """Check that the record is complete and unaltered (`docs/audit.md`)."""
        return verify(self._store, self.app)

    def replay(self, run_id: str) -> ReplayReport:
        """Do a run on record again, from its recorded answers and scores, and compare (`docs/replay.md`).

        Raises:
            UnknownRun: There is no such run.
        """
        from .graph.replay import replay

        self._read_run(run_id)
        return replay(self._database, run_id, self._checkpointer)

    def fork(self, run_id: str, *, at: int, alternative: Alternative) -> ForkReport:
        """Do a run again up to a generation and otherwise from there: what would have happened.

        Args:
            run_id: The run.
            at: The first generation to do otherwise, from 1.
            alternative: What is otherwise.

        Raises:
            UnknownRun: There is no such run.
            UsageError: It has no such generation.
        """
        from .graph.fork import fork

        self._read_run(run_id)
        return fork(
            self._database,
            run_id,
            at=at,
            alternative=alternative,
            application=self.application,
            checkpointer=self._checkpointer,
        )

    def answer(self, approval_id: str, verdict: Verdict, *, by: str, why: str = "") -> Approval:
        """Answer an approval; the run goes on when it is resumed.

        Raises:
            UnknownRun: There is no such approval.
            UsageError: It was answered already.
        """
        return self._services.approvals.answer(approval_id, verdict, by=by, why=why)

    def rollback(self, generation: int, *, by: str, why: str = "") -> SystemDNA:
        """Make the gene values of an earlier generation live again, as a new generation.

        Raises:
            UnknownRun: There is no such generation.
        """
        return roll_back(self._store, self.app, generation, by=by, why=why, clock=self._clock)

    def feedback(self, text: str, *, source: str) -> Remark:
        """Leave feedback for the advisor; it is data and has no authority, whatever it says.

        Raises:
            UsageError: It is empty or too long.
        """
        return self._services.feedback.add(self.app, text, source=source)

    # -- the graph

    @cached_property
    def graph(self) -> EvolutionGraph:
        """The compiled graph without a checkpointer, to use as a node of another graph or to serve in Studio."""
        from .graph.build import build

        return build(self._services)

    @cached_property
    def _runner(self) -> Runner:
        from .running import Runner

        return Runner(self._services, self._checkpointer)

    @property
    def _checkpointer(self) -> Checkpointer | None:
        """Opens the checkpoints, where they are not in the store's file."""
        if self.settings.checkpoints == "store":
            return None
        from .graph.cloud_checkpoints import open_cloud_checkpointer

        return partial(
            open_cloud_checkpointer,
            self.settings.checkpoints,
            self._opened.clients,
            self._database,
            before_put=self._before_checkpoint,
        )

    def _before_checkpoint(self, run_id: str) -> None:
        """Send what a checkpoint refers to, and see that the run is still this machine's.

        Raises:
            StoreUnavailable: It cannot be sent for too long.
            WriterFenced: The run goes on at another machine: its newest checkpoint is made there.
        """
        self._store.ready()
        if not self._store.works_on(self.app, run_id):
            raise WriterFenced(
                f"run {run_id} goes on at another machine.",
                hint="Let it go on there: `bedrock-evolution status` tells how it stands.",
            )

    @cached_property
    def _opened(self) -> OpenStore:
        return open_store(self.settings, clock=self._clock, ids=self._ids)

    @property
    def _database(self) -> Database:
        return self._opened.database

    @property
    def _store(self) -> SQLiteDNAStore:
        return self._opened.store

    @cached_property
    def _metrics(self) -> Metrics | None:
        if self.settings.metrics == "off":
            return None
        from .monitoring.opening import open_metrics

        clients = self._opened.clients
        return open_metrics(
            app=self.app,
            namespace=self.settings.metrics_namespace,
            path=self._database.path,
            clients=clients,
            region=self.settings.home_region,
            clock=self._clock,
            draws=clients.draws,
            environment=os.environ,
            out=sys.stdout,
        )

    @cached_property
    def _live(self) -> LiveOutcomes:
        from .governance.live import LiveOutcomes

        live_dna(self._services)
        live = LiveOutcomes(self._database, self._store, app=self.app, safety=self.settings.safety, clock=self._clock)
        with suppress(StoreUnavailable):  # the next outcomes are judged with those that are stored
            live.make_up()
        return live

    @cached_property
    def _services(self) -> Services:
        settings, database = self.settings, self._database
        ledger = self._opened.ledger(app=self.app, budget=self.budget, clock=self._clock, ids=self._ids)
        gateway = ModelGateway(
            settings,
            ledger,
            clock=self._clock,
            healing=CloudHealingStrategies(
                CircuitBreaker(database, self._clock),
                random.Random(self._ids.new("jitter")),  # noqa: S311  # jitter is no secret
            ),
            tracker=self._opened.tracker(app=self.app, clock=self._clock),
            catalog=Catalog(settings.model_cards),
            session=self._session(),
            answered=lambda run_id, model, ms: self._metrics.called(run_id, model, ms) if self._metrics else None,
        )
        attempts = settings.model_attempts
        services = Services(
            declared=self._declared,
            settings=settings,
            budget=self.budget,
            engine=self._engine,
            database=database,
            store=self._store,
            journal=Journal(database, self._clock),
            approvals=Approvals(database, self._store, self._clock, hours=settings.autonomy.approval_hours),
            feedback=FeedbackQueue(database, self._store, self._clock),
            gateway=gateway,
            advisor=EvolutionAdvisor(gateway, attempts=attempts),
            decision=BedrockDecisionEngine(gateway, attempts=attempts),
            healer=SelfHealer(gateway, attempts=attempts),
            governor=CostGovernor(gateway, attempts=attempts),
            autonomy=AutonomyController(settings.autonomy),
            safe_mode=SafeMode(self._store, self._clock),
            calls=RecordedCalls(database),
            evaluator=self._evaluator,
            cases=self._cases,
            workers=self._workers,
            deterministic=self._deterministic,
            clock=self._clock,
            ids=self._ids,
        )
        self._store.watch_runs()
        return services

    def _session(self) -> BedrockSession | None:
        if self.settings.model == "local":
            return None
        from .bedrock.aws.credentials import credentials_found

        if self.settings.model is None and not credentials_found(self.settings):
            return None
        from .bedrock.aws.session import BedrockSession

        return BedrockSession(self.settings)

    # -- running, inside

    def _fetch(self, run_id: str) -> None:
        """Bring a run here that another machine worked on: first what its rows are kept in, then the rows."""
        if self._opened.regions is not None:
            self._runner.compile()
            self._store.watch_runs()
            self._store.fetch_run(self.app, run_id)

    def _read_run(self, run_id: str) -> None:
        """Bring what another machine has of a run here, to look at it."""
        if self._opened.regions is not None:
            from .graph.run_tables import prepare_run_tables

            prepare_run_tables(self._database)
            self._store.read_run(self.app, run_id)

    def _check_same(self, record: RunRecord) -> None:
        if record.app != self.app:
            raise UsageError(
                f"run {record.run_id} is one of {record.app!r}, not of {self.app!r}.", hint="Name its app."
            )
        now = json.loads(json.dumps(self._services.request({})))
        for name in ("cases", "alpha", "score_range", "deterministic"):
            if record.request[name] != now[name]:
                raise UsageError(
                    f"the {name} changed since run {record.run_id} began, so its scores compare with nothing.",
                    hint=f"Restore the {name}, or start a new run.",
                )

    def _stream(
        self, run_id: str, given: Any, generations: int, live: SystemDNA | None = None
    ) -> Iterator[Progress | EvolutionResult]:
        with self._database.lease(run_id):
            try:
                self._begin_measuring(run_id)
                if live is not None and "_runner" not in self.__dict__:
                    self._compile_beside_scoring(run_id, live)
                yield from self._measured(self._runner.stream(run_id, given, generations, self._stop))
            finally:
                self._stop = Stop()
                self._store.flush()
                if self._metrics is not None:
                    self._metrics.flush()

    def _begin_measuring(self, run_id: str) -> None:
        if self._metrics is None:
            return
        from .monitoring.seen import Totals

        services = self._services
        journal, ledger = services.journal, services.gateway.ledger
        spent = 0 if services.gateway.local else ledger.run_spend(run_id).micro_usd
        self._metrics.begin(
            run_id,
            Totals(trials=journal.count_trials(run_id), evaluations=journal.count_evaluations(run_id), micro_usd=spent),
        )

    def _measured(self, items: Generator[Progress | EvolutionResult]) -> Iterator[Progress | EvolutionResult]:
        if self._metrics is None:
            yield from items
            return
        with closing(items):  # the run must hear of a caller who leaves before its lease is released
            for item in items:
                if isinstance(item, Progress):
                    self._metrics.observe(item)
                    if (queue := self._store.queue()) is not None:
                        self._metrics.depth(queue.waiting)
                else:
                    self._metrics.ended(item)
                yield item

    def _compile_beside_scoring(self, run_id: str, live: SystemDNA) -> None:
        """LangGraph takes a second to be imported: the workers score the live genes meanwhile."""
        try:
            with self._services.run(run_id).scored_early(live):
                self._runner.compile()
        except KeyboardInterrupt:
            self._services.journal.set_status(run_id, "interrupted")
            raise


def _check_whole(name: str, value: Any, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _LARGEST:
        raise UsageError(f"{name}={value!r} cannot be used.", hint=f"Give a whole number from {least} to {_LARGEST}.")
