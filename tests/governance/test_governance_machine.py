"""Any sequence of runs, answers, remarks, outcomes, rollbacks and failures leaves a complete and truthful record (P5).

Two `Evolution` objects on one store stand for two processes of an application. The machine changes what its evaluator
says, answers in time, late and twice, and looks at the whole record after every step.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bedrock_evolution import Autonomy, Evolution, Score, flag, number, text
from bedrock_evolution.clock import CountedIds, FixedClock
from bedrock_evolution.dna.canonical import checksum
from bedrock_evolution.dna.events import EvolutionEvent
from bedrock_evolution.dna.genome import SystemDNA
from bedrock_evolution.errors import SafeModeActive, UsageError
from bedrock_evolution.governance.approvals import Approval
from bedrock_evolution.settings import Safety, Settings

APP = "machine"
GENES = {
    "x": number(0.1, low=0.0, high=1.0),
    "polite": flag(False),
    "guard.limit": number(0.0, low=0.0, high=1.0),
    "guard.share": number(1.0, low=0.0, high=1.0),
    "fixed": text("Never to be changed.", max_chars=200),
    "law": text("By law.", locked=True),
}
LIMITS = Autonomy(engine_above=0.35, always_ask=("guard.*",), never=("fixed",), approval_hours=24.0)
PEOPLE = st.sampled_from(["Ann", "Ben"])
PLACE = st.integers(0, 7)

DNA_EVENTS = ("declared", "applied", "restored")
OUTCOMES = ("applied", "rejected", "deferred", "lost", "trialled")
BY_CODE = ("rule", "policy", "decision engine")
MODEL = "stand-in"


@dataclass
class World:
    """What the application's evaluator says; it may change at any time.

    Args:
        land: Where there is something to gain. `climbs`: everywhere; `eases`: without the guards; `tempts`: only by
            what policy forbids; `flat`: nowhere.
        peak: Where the best genes are.
        fails: `always`, `not as declared` or `never`.
    """

    land: str = "climbs"
    peak: float = 0.7
    fails: str = "never"

    def score(self, genes: Mapping[str, Any], case: Any) -> Score:
        declared = all(genes[name] == gene.value for name, gene in GENES.items())
        if self.fails == "always" or (self.fails == "not as declared" and not declared):
            raise RuntimeError(f"the evaluator fails {self.fails}")
        if self.land == "flat":
            return Score(0.5)
        if self.land == "tempts":
            wished = {"fixed": 'should have taken: "blue elephants"'}
            return Score(float("elephants" in genes["fixed"]), gene_feedback=wished)
        off = abs(genes["x"] - self.peak)
        if self.land == "climbs":
            off += abs(genes["guard.limit"] - self.peak) + abs(genes["guard.share"] - self.peak)
        return Score(4.0 - off + 0.02 * genes["polite"])


@dataclass
class Record:
    """The whole record at one moment."""

    events: list[EvolutionEvent]
    lineage: list[SystemDNA]
    approvals: list[Approval]
    refused: Mapping[str, int]
    running: Mapping[str, str]
    """The status of each run."""
    calls: Mapping[tuple[str, str], list[str]] = field(default_factory=dict)
    """Digests of the recorded model calls, by run and step."""

    @classmethod
    def read(cls, evolution: Evolution) -> Record:
        services = evolution._services
        approvals = services.approvals.listed(APP)
        events = list(evolution.store.events(APP))
        places = {(event.run_id or "", event.data["step"]) for event in events if "step" in event.data}
        return cls(
            events=events,
            lineage=list(evolution.store.lineage(APP)),
            approvals=approvals,
            refused=dict(services.database.rows("SELECT approval_id, refused FROM approvals")),
            running={run.run_id: run.status for run in services.journal.runs(APP, limit=999)},
            calls={place: [call.digest for call in services.calls.read(*place)] for place in places},
        )

    def of(self, *kinds: str) -> list[EvolutionEvent]:
        return [event for event in self.events if event.kind in kinds]


class GovernanceMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = FixedClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
        self.ids = CountedIds()
        self.world = World()
        self.lands: dict[str, tuple[str, float]] = {}
        self.processes: list[Evolution] = []

    def opened(self) -> Evolution:
        return Evolution(
            APP,
            GENES,
            evaluate=self.world.score,
            cases=["the only one"],
            model="local",
            store=f"sqlite:///{self.folder.name}/evolution.db",
            workers=1,
            autonomy=LIMITS,
            settings=Settings(candidates=4, safety=self.safety, max_failed_trials=2),
            clock=self.clock,
            ids=self.ids,
        )

    def teardown(self) -> None:
        for evolution in self.processes:
            evolution.close()
        self.folder.cleanup()

    @contextmanager
    def acting(self, *, needs_no_safe_mode: bool = False) -> Iterator[None]:
        """Let a second pass, and see that work is refused in safe mode, and only then."""
        self.clock.moment += timedelta(seconds=1)
        safe = needs_no_safe_mode and self.processes[0].safe_mode() is not None
        try:
            yield
        except SafeModeActive:
            assert safe
        else:
            assert not safe

    # -- what evolution does

    @initialize(land=st.sampled_from(["climbs", "eases"]), seed=st.integers(0, 3), patience=st.integers(1, 2))
    def begin(self, land: str, seed: int, patience: int) -> None:
        self.safety = Safety(max_rollbacks=patience, reference=10)
        self.processes = [self.opened(), self.opened()]
        self.world.land = land
        self.propose_trial_decide(0, seed, 2)

    @rule(who=st.integers(0, 1), seed=st.integers(0, 3), generations=st.integers(1, 2))
    def propose_trial_decide(self, who: int, seed: int, generations: int) -> None:
        with self.acting(needs_no_safe_mode=True):
            result = self.processes[who].run(generations, seed=seed, progress=False)
            self.lands[result.run_id] = (self.world.land, self.world.peak)

    @rule(seed=st.integers(0, 3))
    def both_propose_the_same(self, seed: int) -> None:
        for who in (0, 1):
            self.propose_trial_decide(who, seed, 1)

    @precondition(lambda self: self.runs())
    @rule(who=st.integers(0, 1), place=PLACE, more=st.integers(0, 1))
    def go_on(self, who: int, place: int, more: int) -> None:
        run_id = chosen(self.runs(), place)
        wanted = int(self.processes[who]._services.journal.run(run_id).request["generations"]) + more
        # An objective may fail, but within a run it is promised to be the same.
        self.world.land, self.world.peak = self.lands[run_id]
        with self.acting(needs_no_safe_mode=True):
            self.processes[who].resume(run_id, generations=wanted, progress=False)

    @rule(
        land=st.sampled_from(["climbs", "eases", "tempts", "flat"]),
        peak=st.sampled_from([0.2, 0.7, 0.9]),
        fails=st.sampled_from(["never", "never", "always", "not as declared"]),
    )
    def the_world_changes(self, land: str, peak: float, fails: str) -> None:
        self.world.land, self.world.peak, self.world.fails = land, peak, fails

    # -- what people do

    @precondition(lambda self: self.processes[0].approvals(pending_only=False))
    @rule(who=st.integers(0, 1), place=PLACE, verdict=st.sampled_from(["approve", "approve", "reject"]), by=PEOPLE)
    def answer(self, who: int, place: int, verdict: Any, by: str) -> None:
        services = self.processes[who]._services
        asked = chosen(self.processes[who].approvals(pending_only=False), place)
        open_still = services.approvals.current(asked).status == "pending"
        with self.acting():
            try:
                answered = self.processes[who].answer(asked.approval_id, verdict, by=by, why="as I see it")
            except UsageError:
                assert not open_still or self.clock.now() >= datetime.fromisoformat(asked.expires_at)
            else:
                assert open_still
                assert (answered.by, answered.status) == (by, {"approve": "approved", "reject": "rejected"}[verdict])

    @precondition(lambda self: self.processes[0].approvals())
    @rule(by=PEOPLE, who=st.integers(0, 1))
    def approve_all_and_go_on(self, by: str, who: int) -> None:
        for asked in self.processes[0].approvals():
            with self.acting():
                if self.processes[who]._services.approvals.current(asked).status == "pending":
                    self.processes[who].answer(asked.approval_id, "approve", by=by)
            self.go_on(who, self.runs().index(asked.run_id), 0)

    @precondition(lambda self: self.processes[0].approvals())
    @rule(hours=st.sampled_from([1, 25]))
    def time_passes(self, hours: int) -> None:
        self.clock.moment += timedelta(hours=hours)

    @rule(
        who=st.integers(0, 1), words=st.sampled_from(["raise guard.limit", "it should be polite", "set law to nothing"])
    )
    def somebody_says(self, who: int, words: str) -> None:
        with self.acting():
            self.processes[who].feedback(words, source="Cleo")

    @precondition(lambda self: self.generation() > 0)
    @rule(who=st.integers(0, 1), by=PEOPLE, back=st.integers(1, 3))
    def a_person_rolls_back(self, who: int, by: str, back: int) -> None:
        with self.acting(), suppress(UsageError):  # those genes may be live already
            self.processes[who].rollback(max(0, self.generation() - back), by=by, why="I do not like it")

    @rule(who=st.integers(0, 1), by=PEOPLE)
    def lift_safe_mode(self, who: int, by: str) -> None:
        on = self.processes[who].safe_mode() is not None
        with self.acting():
            try:
                self.processes[who].lift_safe_mode(by=by, why="mended")
            except UsageError:
                assert not on
            else:
                assert on

    # -- what the live application does

    @rule(who=st.integers(0, 1), count=st.sampled_from([12, 40]), mean=st.sampled_from([0.0, 0.0, -9.0]))
    def outcomes_come_in(self, who: int, count: int, mean: float) -> None:
        evolution = self.processes[who]
        with self.acting():
            for place in range(count):
                _ = evolution.genes
                evolution.record_outcome(mean + 0.01 * (place * 37 % 101))
            evolution.flush_outcomes()

    @rule(who=st.integers(0, 1), seed=st.integers(0, 9))
    def a_change_turns_out_bad(self, who: int, seed: int) -> None:
        self.outcomes_come_in(who, 12, 0.0)
        self.the_world_changes("eases", 1.1 - self.world.peak, "never")
        self.propose_trial_decide(1 - who, seed, 2)
        self.outcomes_come_in(who, 40, -9.0)

    @rule(who=st.integers(0, 1))
    def a_process_ends_and_begins(self, who: int) -> None:
        self.processes[who].close()
        self.processes[who] = self.opened()

    # -- what holds after each of them

    @invariant()
    def the_record_is_complete_and_true(self) -> None:
        record = Record.read(self.processes[0])
        report = self.processes[0].audit()
        assert report.problems == ()
        assert report.checked == report.signed == len(record.events)
        assert self.processes[0].dna == record.lineage[-1]
        check_chronicle(record)
        check_dna(record)
        check_approvals(record)
        check_safe_mode(record, self.safety.max_rollbacks)
        check_decisions(record)
        check_outcomes(record)

    def runs(self) -> list[str]:
        return [run.run_id for run in self.processes[0]._services.journal.runs(APP, limit=999)]

    def generation(self) -> int:
        return self.processes[0].dna.generation


def chosen(things: list[Any], place: int) -> Any:
    return things[place % len(things)]


def check_chronicle(record: Record) -> None:
    """Every event tells when, who and why; none is told twice; time does not run backwards."""
    keys = Counter(event.key for event in record.events)
    assert [key for key, times in keys.items() if times > 1] == []
    moments = [event.at for event in record.events]
    assert moments == sorted(moments)
    for event in record.events:
        assert event.actor, event
        assert event.why or event.kind in ("answered", "feedback"), event


def check_dna(record: Record) -> None:
    """Every generation has its event, the last of them made what is live, and what may not change did not."""
    made = [event.data["dna"] for event in record.of(*DNA_EVENTS)]
    assert list(dict.fromkeys(made)) == [dna.checksum for dna in record.lineage]
    assert made[-1] == record.lineage[-1].checksum
    for dna in record.lineage:
        assert all(dna.values[name] == GENES[name].value for name in ("law", "fixed"))
    line = {dna.checksum: dna for dna in record.lineage}
    for event in record.of("applied"):
        dna = line[event.data["dna"]]
        parent = line[dna.parent or ""]
        assert dict(dna.values) == {**parent.values, **event.data["changes"]}
        assert event.data["was"] == {name: parent.values[name] for name in event.data["changes"]}
    for event in record.of("restored"):
        assert record.lineage[event.data["to"]].values == line[event.data["dna"]].values


_ENDS = {"approved": "answered", "rejected": "answered", "expired": "expired", "void": "voided"}


def check_approvals(record: Record) -> None:
    """The approvals and their events tell the same; what needs a person was approved by one, as it was asked."""
    told: dict[str, dict[str, EvolutionEvent]] = {}
    refused: Counter[str] = Counter()
    for event in record.of("asked", "answered", "answer_refused", "expired", "voided"):
        told.setdefault(event.data["approval_id"], {})[event.kind] = event
        refused[event.data["approval_id"]] += event.kind == "answer_refused"
    assert sorted(told) == sorted(approval.approval_id for approval in record.approvals)
    for approval in record.approvals:
        events = told[approval.approval_id]
        assert refused[approval.approval_id] == record.refused[approval.approval_id]
        assert events["asked"].data["question"] == approval.question
        assert all(event.data["binding"] == approval.binding for event in events.values())
        ends = [kind for kind in ("answered", "expired", "voided") if kind in events]
        assert ends == ([] if approval.status == "pending" else [_ENDS[approval.status]])
        if ends:
            assert (events[ends[0]].actor, events[ends[0]].why) == (approval.by, approval.why)
    line = {dna.checksum: dna for dna in record.lineage}
    for event in record.of("applied"):
        decision = event.data["decision"]
        if any(name.startswith("guard.") for name in event.data["changes"]):
            assert "approval_id" in decision, event
        if "approval_id" in decision:
            answered = told[decision["approval_id"]]["answered"]
            assert answered.seq < event.seq
            assert (answered.data["verdict"], answered.actor) == ("approve", event.actor)
            assert answered.data["binding"] == {
                "run_id": event.run_id,
                "mutation_id": event.mutation_id,
                "dna": line[event.data["dna"]].parent,
                "evidence": checksum(event.data["evidence"]),
            }
        else:
            assert event.actor in ("rule", "decision engine")


def check_safe_mode(record: Record, patience: int) -> None:
    """Safe mode begins when it must; in it nothing changes but by a person's word."""
    safe, in_a_row, before = False, 0, ""
    for event in record.of("safe_mode", "safe_mode_lifted", "applied", "restored"):
        if event.kind in ("safe_mode", "safe_mode_lifted"):
            assert safe == (event.kind == "safe_mode_lifted")
            safe, in_a_row = event.kind == "safe_mode", 0
        elif safe:
            assert event.kind == "restored"
            assert not event.data["automatic"]
        elif event.kind == "restored" and event.data["automatic"]:
            in_a_row += 1
            assert in_a_row <= patience
        elif event.kind == before == "applied":
            in_a_row = 0  # the change before it lasted
        before = event.kind


def check_decisions(record: Record) -> None:
    """Every autonomous decision says on what, why, how sure, by which model, at what cost, and with what outcome."""
    for event in record.events:
        data = event.data
        if event.kind in ("advised", "decided", "incident", "diagnosed"):
            check_reply(record, event)
        match event.kind:
            case "advised":
                assert data["head"] in {dna.checksum for dna in record.lineage}
                assert {"analysis", "strategy"} <= data["strategy"].keys()
                check_confidence(data["confidence"])
            case "decided":
                assert {"mutation_id", "changes", "evidence", "risk"} <= data["candidate"].keys()
                check_decision(event)
            case "incident":
                assert {"kind", "node", "attempts", "message"} <= data["incident"].keys()
                assert data["action"] in data["allowed"]
                check_confidence(data["confidence"])
            case "diagnosed":
                assert data["degradation"]["evidence"]
                check_confidence(data["diagnosis"]["confidence"])
            case "restored" if data["automatic"]:
                assert data["evidence"]
                assert event.actor in ("live outcomes", "healer")
            case "applied" | "rejected" | "deferred" | "lost":
                assert data["changes"]
                assert data["evidence"]["credible"]
                assert data["trials"]
                check_decision(event)


def check_reply(record: Record, event: EvolutionEvent) -> None:
    """A model's answer is on record, with what was asked for it and what it cost."""
    assert event.model == MODEL
    assert (event.cost_micro_usd, event.input_tokens, event.output_tokens) == (0, 0, 0), "the stand-in is free"
    assert event.data["calls"]
    assert event.data["calls"] == record.calls[event.run_id or "", event.data["step"]]


def check_decision(event: EvolutionEvent) -> None:
    decision = event.data["decision"]
    assert {"verdict", "by", "why", "risk", "impact", "model", "detail"} <= decision.keys()
    assert decision["why"]
    check_confidence(decision["confidence"])
    check_confidence(decision["risk"]["value"])
    assert event.model == decision["model"]
    # A person is named, and what asked for one is named too.
    assert decision["by"] in BY_CODE or "approval_id" in decision
    assert (decision["model"] == MODEL) == bool(decision["detail"])


def check_confidence(confidence: float) -> None:
    assert 0 <= confidence <= 1


def check_outcomes(record: Record) -> None:
    """Every generation that was advised came to one outcome; only the last of a run may still be under way."""
    own = [event for event in record.events if event.run_id and event.generation is not None]
    ended = {event.run_id for event in record.of("ended")}
    for (run_id, generation), events in groupby(sorted(own, key=place_of), key=place_of):
        kinds = Counter(event.kind for event in events)
        outcomes = sum(kinds[kind] for kind in OUTCOMES)
        assert outcomes <= 1, (run_id, generation, kinds)
        if kinds["advised"] and not outcomes:
            waiting = record.running[run_id] == "waiting" and kinds["asked"]
            assert waiting or kinds["incident"], (run_id, generation, kinds)
    for run_id, status in record.running.items():
        assert (run_id in ended) or status == "waiting"


def place_of(event: EvolutionEvent) -> tuple[str, int]:
    return event.run_id or "", event.generation or 0


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Alarms of safe mode are meant for people."""
    logger = logging.getLogger("bedrock_evolution")
    before, logger.disabled = logger.level, False
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


@pytest.fixture
def machine() -> Iterator[GovernanceMachine]:
    machine = GovernanceMachine()
    machine.safety = Safety(reference=10)
    machine.processes = [machine.opened(), machine.opened()]
    yield machine
    machine.the_record_is_complete_and_true()
    machine.teardown()


def test_a_run_ends_when_the_evaluator_fails_after_a_rollback_too(machine: GovernanceMachine) -> None:
    app = machine.processes[0]
    machine.world.land = "eases"
    result = app.run(2, progress=False)
    while result.status == "waiting":
        app.answer(result.approval.approval_id, "approve", by="Ann")
        result = app.resume(result.run_id, progress=False)
    assert result.dna_generation > 0
    machine.world.fails = "always"
    assert app.run(2, progress=False).status == "failed"
    actions = [event.data["action"] for event in app.store.events(APP) if event.kind == "incident"]
    assert actions == ["rollback", "retry", "stop"]


def test_a_change_that_another_run_made_and_a_person_undid_is_lost(machine: GovernanceMachine) -> None:
    first, second = machine.processes
    waiting = [app.run(4, seed=1, progress=False) for app in (first, second)]
    assert [result.status for result in waiting] == ["waiting", "waiting"]
    for asked in first.approvals():
        first.answer(asked.approval_id, "approve", by="Ann")
    first.resume(waiting[0].run_id, progress=False)
    first.rollback(0, by="Ben")
    second.resume(waiting[1].run_id, progress=False)
    kinds = [event.kind for event in first.store.events(APP) if event.run_id == waiting[1].run_id]
    assert "lost" in kinds
    assert first.dna.values == {name: gene.value for name, gene in GENES.items()}


def test_a_waiting_run_may_be_given_more_generations_twice(machine: GovernanceMachine) -> None:
    app = machine.processes[0]
    waiting = app.run(4, seed=1, progress=False)
    assert waiting.status == "waiting"
    for generations in (5, 6, 5):
        assert app.resume(waiting.run_id, generations=generations, progress=False).status == "waiting"


def test_a_run_that_another_process_went_on_with_is_counted_whole(machine: GovernanceMachine) -> None:
    first, second = machine.processes
    machine.world.land = "tempts"
    begun = first.run(2, seed=1, progress=False)
    further = second.resume(begun.run_id, generations=4, progress=False)
    assert further.evaluations > begun.evaluations
    assert first.resume(begun.run_id, progress=False).evaluations == further.evaluations


def play(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        GovernanceMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_few_steps_in_any_order_leave_a_complete_record() -> None:
    play(examples=6, steps=8)


@pytest.mark.slow
def test_any_steps_in_any_order_leave_a_complete_record() -> None:
    play(examples=40, steps=14)
