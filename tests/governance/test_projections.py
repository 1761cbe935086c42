"""Questions, answers and remarks follow the record: machines that share one come to the same state."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedrock_evolution.clock import FixedClock, RandomIds
from bedrock_evolution.dna.aws.regions import Regions
from bedrock_evolution.dna.cloud import CloudDNAStore
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.events import EventDraft, EvolutionEvent
from bedrock_evolution.dna.genes import integer
from bedrock_evolution.dna.genome import SystemDNA
from bedrock_evolution.dna.mutation import Mutation
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from bedrock_evolution.errors import UnknownRun, UsageError
from bedrock_evolution.governance.approvals import Approval, Approvals, Verdict
from bedrock_evolution.governance.feedback import FeedbackQueue, Remark
from bedrock_evolution.governance.projections import project
from bedrock_evolution.graph.replay import replay
from tests.garden import garden
from tests.governance.conftest import APP, MOMENT, draft
from tests.graph.recorded import BEGAN, CAREFUL, TickingClock, finished
from tests.graph.recorded import kinds as kinds_of
from tests.support.cloud import cloud
from tests.support.moto_server import moto_server

HOURS = 24.0
FIRST = SystemDNA.declare(APP, {"n": integer(0, low=0, high=9)})
DECLARED = draft("declared", kind="declared", dna=FIRST.checksum)


# -- machines that share a record


class SharedStore(SQLiteDNAStore):
    """Keeps a file in step with a record that other machines write to, as `WorkingCopy` does with one in the cloud.

    Args:
        database: The file of this machine.
        record: What all machines agree on.
    """

    shared = True

    def __init__(self, database: Database, record: list[EvolutionEvent]) -> None:
        super().__init__(database)
        self.record = record
        self.online = True
        self._known = 0

    def refresh(self, app: str) -> None:
        if self.online and not self._database.inside:
            self.exchange()

    def apps(self) -> list[str]:
        return [APP] if self.online else super().apps()

    def exchange(self) -> None:
        """Take over what is new in the record, and put behind it what was written here."""
        with self._database.transaction("event.append") as connection:
            own = self._lifted(connection)
            for event in self.record[self._known :]:
                _insert(connection, event)
                mine = own.pop(event.key, None)
                if mine is None or _said(mine) != _said(event):
                    project(connection, event)
            for event in own.values():
                fields = event.model_dump(exclude={"seq", "previous", "hash"})
                self.record.append(super()._record(connection, EventDraft.model_validate(fields)))
            self._known = len(self.record)

    def _lifted(self, connection: Connection) -> dict[str, EvolutionEvent]:
        own = {event.key: event for event in super().events(APP, after=self._known)}
        connection.execute("DELETE FROM events WHERE seq > ?", [self._known])
        return own

    def _record(self, connection: Connection, draft: EventDraft) -> EvolutionEvent:
        self._database.afterwards(lambda: self.refresh(APP))
        return super()._record(connection, draft)


def _insert(connection: Connection, event: EvolutionEvent) -> None:
    row = [event.app, event.seq, event.kind, event.key, event.hash, event.document()]
    connection.execute("INSERT INTO events (app, seq, kind, key, hash, document) VALUES (?, ?, ?, ?, ?, ?)", row)


def _said(event: EvolutionEvent) -> dict[str, Any]:
    return event.model_dump(exclude={"seq", "previous", "hash"})


class Machine:
    """One of the machines that work on an application."""

    def __init__(self, database: Database, store: SQLiteDNAStore, clock: FixedClock) -> None:
        self.database, self.store, self.clock = database, store, clock
        self.approvals = Approvals(database, store, clock, hours=HOURS)
        self.queue = FeedbackQueue(database, store, clock)

    @classmethod
    def sharing(cls, record: list[EvolutionEvent], clock: FixedClock) -> Machine:
        database = Database.in_memory()
        store = SharedStore(database, record)
        store.commit(None, FIRST, DECLARED)
        return cls(database, store, clock)

    def ask(self, about: int = 0) -> Approval:
        question = {"changes": {"n": {"to": about, "from": 0}}, "evidence": {"gain": 0.5}, "why": f"n is {about}"}
        return self.approvals.ask(
            app=APP, run_id="run-1", generation=3, mutation_id=f"m-{about}", dna=FIRST.checksum, question=question
        )

    def change_dna(self) -> None:
        head = self.store.head(APP)
        assert head is not None
        mutation = Mutation(parent=head.checksum, changes={"n": (head.generation + 1) % 10}, category="c")
        changed = head.apply(mutation)
        self.store.commit(head.checksum, changed, draft(f"applied/{changed.checksum}", dna=changed.checksum))


@dataclass(frozen=True)
class View:
    """What a machine shows of questions and remarks."""

    approvals: list[Approval]
    pending: list[Approval]
    refused: dict[str, int]
    remarks: list[Remark]
    queued: list[Remark]

    @classmethod
    def of(cls, machine: Machine) -> View:
        approvals, queue = machine.approvals, machine.queue
        return cls(
            approvals=approvals.listed(APP),
            pending=approvals.listed(APP, pending_only=True),
            refused=dict(machine.database.rows("SELECT approval_id, refused FROM approvals")),
            remarks=queue.listed(APP, limit=99),
            queued=queue.queued(APP, limit=99),
        )


def projected(record: list[EvolutionEvent], clock: FixedClock) -> Machine:
    """Return a machine that knows nothing but the record."""
    database = Database.in_memory()
    store = SQLiteDNAStore(database)
    with database.transaction("event.append") as connection:
        for event in record:
            _insert(connection, event)
            project(connection, event)
    return Machine(database, store, clock)


# -- any operations, on one machine and on several


Act = Callable[[Machine], object]
ABOUT = st.integers(0, 2)
TEXT = st.sampled_from(["too dry", "too wet", "字 🙂"])


def answered(about: int, verdict: Verdict, by: str, why: str) -> Act:
    return lambda machine: machine.approvals.answer(machine.ask(about).approval_id, verdict, by=by, why=why)


def settled(place: int) -> Act:
    def act(machine: Machine) -> None:
        for approval in machine.approvals.listed(APP)[place : place + 1]:
            machine.approvals.settle(approval.approval_id)

    return act


def advised(run: str, generation: int, shown: int, answers: list[str], meaning: str) -> Act:
    def act(machine: Machine) -> None:
        numbers = [remark.number for remark in machine.queue.queued(APP, limit=shown)]
        machine.queue.mark_read(
            APP,
            numbers,
            run_id=run,
            generation=generation,
            answers=dict.fromkeys(numbers[:1], answers),
            meanings=dict.fromkeys(numbers[:2], meaning),
        )

    return act


def passed(hours: int) -> Act:
    def act(machine: Machine) -> None:
        machine.clock.moment += timedelta(hours=hours)

    return act


def switched(machine: Machine) -> None:
    if isinstance(machine.store, SharedStore):
        machine.store.online = not machine.store.online


ACTS: st.SearchStrategy[Act] = st.one_of(
    st.builds(lambda about: lambda machine: machine.ask(about), ABOUT),
    st.builds(
        answered, ABOUT, st.sampled_from(["approve", "reject"]), st.sampled_from(["Ann", "Ben"]), st.just("") | TEXT
    ),
    st.builds(settled, st.integers(0, 3)),
    st.builds(passed, st.sampled_from([0, 1, 25])),
    st.builds(
        lambda text, source: lambda machine: machine.queue.add(APP, text, source=source), TEXT, st.sampled_from("ab")
    ),
    st.builds(
        advised,
        st.sampled_from(["run-1", "run-2"]),
        st.integers(1, 2),
        st.integers(0, 3),
        st.lists(st.sampled_from(["m-1", "m-2"]), max_size=2, unique=True),
        st.just("") | TEXT,
    ),
    st.just(Machine.change_dna),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(ACTS, max_size=14))
def test_a_file_that_knows_only_the_record_shows_what_the_one_shows_in_which_it_happened(acts: list[Act]) -> None:
    database, clock = Database.in_memory(), FixedClock(MOMENT)
    machine = Machine(database, SQLiteDNAStore(database), clock)
    machine.store.commit(None, FIRST, DECLARED)
    for act in acts:
        with suppress(UsageError):
            act(machine)
    assert View.of(projected(list(machine.store.events(APP)), clock)) == View.of(machine)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), ACTS | st.just(switched)), max_size=24))
def test_machines_that_meet_again_show_the_same_whatever_they_did_apart(acts: list[tuple[int, Act]]) -> None:
    record: list[EvolutionEvent] = []
    clock = FixedClock(MOMENT)
    machines = [Machine.sharing(record, clock) for _ in range(3)]
    for who, act in acts:
        with suppress(UsageError):
            act(machines[who])
    for machine in machines:
        assert isinstance(machine.store, SharedStore)
        machine.store.online = True
        machine.store.exchange()
    first, *others = [View.of(machine) for machine in (*machines, projected(record, clock))]
    assert others == [first] * 3
    assert all(list(machine.store.events(APP)) == record for machine in machines)


# -- two machines


@pytest.fixture
def record() -> list[EvolutionEvent]:
    return []


@pytest.fixture
def pair(record: list[EvolutionEvent], clock: FixedClock) -> tuple[Machine, Machine]:
    return Machine.sharing(record, clock), Machine.sharing(record, clock)


def during(machine: Machine, point: str, act: Callable[[], object]) -> None:
    """Let something happen elsewhere once, when a machine has read all it reads and is about to write."""

    def reached(met: str, moment: str) -> None:
        if (met, moment) == (point, "before"):
            machine.database.reached = lambda met, moment: None
            act()

    machine.database.reached = reached


def kinds(record: list[EvolutionEvent], approval: Approval) -> list[str]:
    return [event.kind for event in record if event.key.startswith(approval.approval_id)]


def test_a_question_of_one_machine_is_listed_and_answered_on_another(pair: tuple[Machine, Machine]) -> None:
    one, other = pair
    question = one.ask()
    assert other.approvals.listed(APP, pending_only=True) == [question]
    assert list(other.approvals.get(question.approval_id).question) == sorted(question.question)
    answer = other.approvals.answer(question.approval_id, "approve", by="Ann", why="looks right")
    assert one.approvals.settle(question.approval_id) == answer
    assert one.approvals.check(answer, dna=FIRST.checksum, mutation_id="m-0", question=question.question) == ""


def test_a_question_is_found_by_its_name_on_a_machine_that_has_not_met_it(pair: tuple[Machine, Machine]) -> None:
    one, other = pair
    question = one.ask()
    assert other.approvals.answer(question.approval_id, "reject", by="Ann").status == "rejected"
    with pytest.raises(UnknownRun, match="there is no approval 'ap-none'"):
        other.approvals.answer("ap-none", "reject", by="Ann")


def test_a_question_of_one_machine_expires_on_another(pair: tuple[Machine, Machine], clock: FixedClock) -> None:
    one, other = pair
    question = one.ask()
    clock.moment += timedelta(hours=HOURS)
    expired = other.approvals.settle(question.approval_id)
    assert expired.status == "expired"
    assert one.approvals.listed(APP) == [expired]


def test_an_answer_that_another_machine_was_faster_with_is_refused_and_on_record(
    pair: tuple[Machine, Machine], record: list[EvolutionEvent]
) -> None:
    one, other = pair
    question = one.ask()
    during(
        one, "approval.answer", lambda: other.approvals.answer(question.approval_id, "reject", by="Ben", why="risky")
    )
    with pytest.raises(UsageError, match=f"{question.approval_id} was rejected by Ben") as error:
        one.approvals.answer(question.approval_id, "approve", by="Ann", why="fine")
    assert "first answer stands" in error.value.hint
    assert kinds(record, question) == ["asked", "answered", "answer_refused"]
    assert (record[-1].actor, record[-1].why, record[-1].data["verdict"]) == ("Ann", "fine", "approve")
    assert "was rejected by Ben" in record[-1].data["reason"]
    assert View.of(one) == View.of(other)


def test_the_same_words_of_another_person_are_another_answer(pair: tuple[Machine, Machine]) -> None:
    one, other = pair
    question = one.ask()
    during(one, "approval.answer", lambda: other.approvals.answer(question.approval_id, "approve", by="Ben"))
    with pytest.raises(UsageError, match="approved by Ben"):
        one.approvals.answer(question.approval_id, "approve", by="Ann")


def test_a_question_that_expired_here_and_was_answered_there_before_is_answered(
    pair: tuple[Machine, Machine], record: list[EvolutionEvent], clock: FixedClock
) -> None:
    one, other = pair
    question = one.ask()

    def answer_just_in_time() -> None:
        clock.moment -= timedelta(hours=2)
        other.approvals.answer(question.approval_id, "approve", by="Ben")

    clock.moment += timedelta(hours=HOURS + 1)
    during(one, "approval.void", answer_just_in_time)
    settled = one.approvals.settle(question.approval_id)
    assert (settled.status, settled.by) == ("approved", "Ben")
    assert kinds(record, question) == ["asked", "answered", "expired"]
    assert View.of(one) == View.of(other)
    assert one.approvals.check(settled, dna=FIRST.checksum, mutation_id="m-0", question=question.question) == ""


def test_a_queued_answer_gives_way_to_the_one_on_record(
    pair: tuple[Machine, Machine], record: list[EvolutionEvent]
) -> None:
    one, other = pair
    question = one.ask()
    other.store.refresh(APP)
    assert isinstance(other.store, SharedStore)
    other.store.online = False
    mine = other.approvals.answer(question.approval_id, "approve", by="Ann")
    assert other.approvals.settle(question.approval_id) == mine
    theirs = one.approvals.answer(question.approval_id, "reject", by="Ben", why="risky")
    other.store.online = True
    assert other.approvals.settle(question.approval_id) == theirs
    assert kinds(record, question) == ["asked", "answered"]
    assert View.of(one) == View.of(other)


def test_an_approval_behind_another_end_in_the_record_allows_nothing(
    pair: tuple[Machine, Machine], record: list[EvolutionEvent]
) -> None:
    one, other = pair
    question = one.ask()
    other.store.refresh(APP)
    assert isinstance(other.store, SharedStore)
    other.store.online = False
    approved = other.approvals.answer(question.approval_id, "approve", by="Ann")
    one.change_dna()
    void = one.approvals.settle(question.approval_id)
    other.store.online = True
    assert other.approvals.settle(question.approval_id) == void
    assert one.approvals.get(question.approval_id) == void
    assert kinds(record, question) == ["asked", "voided", "answered"]
    for machine in pair:
        about: dict[str, Any] = {"dna": FIRST.checksum, "mutation_id": "m-0", "question": question.question}
        assert "the record holds no approval by Ann" in machine.approvals.check(approved, **about)


def test_a_row_that_was_altered_is_what_the_record_says_again(pair: tuple[Machine, Machine]) -> None:
    one, _ = pair
    answer = one.approvals.answer(one.ask().approval_id, "reject", by="Ann")
    with one.database.transaction("tables") as connection:
        connection.execute("UPDATE approvals SET status = 'pending', \"by\" = NULL")
    with pytest.raises(UsageError, match="was rejected by Ann"):
        one.approvals.answer(answer.approval_id, "approve", by="Ben")
    assert one.approvals.get(answer.approval_id) == answer


def test_remarks_of_several_machines_have_numbers_of_their_own_that_are_the_same_on_all(
    pair: tuple[Machine, Machine], clock: FixedClock
) -> None:
    one, other = pair
    assert isinstance(other.store, SharedStore)
    other.store.online = False
    left = []
    for n, machine in enumerate((other, one, other, one)):
        clock.moment += timedelta(seconds=1)
        left.append(machine.queue.add(APP, f"remark {n}", source="Ann"))
    left.append(one.queue.add(APP, "remark 3", source="Ann"))
    other.store.online = True
    assert len({remark.number for remark in left}) == 5
    assert sorted(other.queue.queued(APP, limit=9), key=str) == sorted(left, key=str)
    assert [remark.text for remark in other.queue.queued(APP, limit=3)] == ["remark 0", "remark 1", "remark 2"]
    assert View.of(one) == View.of(other)


def test_what_an_advisor_on_one_machine_read_is_read_on_all(pair: tuple[Machine, Machine]) -> None:
    one, other = pair
    remarks = [one.queue.add(APP, f"remark {n}", source="Ann") for n in range(2)]
    shown = [remark.number for remark in other.queue.queued(APP, limit=9)]
    assert sorted(shown) == sorted(remark.number for remark in remarks)
    other.queue.mark_read(
        APP, shown[:1], run_id="run-1", generation=2, answers={shown[0]: ["m-1"]}, meanings={shown[0]: "more water"}
    )
    assert one.queue.count_queued(APP) == 1
    [read] = [remark for remark in one.queue.listed(APP, limit=9) if remark.status == "read"]
    assert (read.number, read.run_id, read.generation) == (shown[0], "run-1", 2)
    assert (read.proposals, read.meaning) == (("m-1",), "more water")


def test_of_two_readings_of_a_remark_the_first_in_the_record_stands(pair: tuple[Machine, Machine]) -> None:
    one, other = pair
    remark = one.queue.add(APP, "too dry", source="Ann")
    other.store.refresh(APP)
    assert isinstance(other.store, SharedStore)
    other.store.online = False
    other.queue.mark_read(APP, [remark.number], run_id="run-2", generation=1, answers={remark.number: ["m-2"]})
    one.queue.mark_read(APP, [remark.number], run_id="run-1", generation=1, answers={remark.number: ["m-1"]})
    other.store.online = True
    for machine in (other, one):
        [read] = machine.queue.listed(APP, limit=9)
        assert (read.run_id, read.proposals) == ("run-1", ("m-1",))


def test_only_what_the_record_says_was_shown_counts_as_read(pair: tuple[Machine, Machine]) -> None:
    """The same step of a run was done on two machines; the one that came first is on record."""
    one, other = pair
    first = one.queue.add(APP, "seen by both", source="Ann")
    other.store.refresh(APP)
    assert isinstance(other.store, SharedStore)
    other.store.online = False
    second = other.queue.add(APP, "seen by one", source="Ann")
    shown = [first.number, second.number]
    other.queue.mark_read(APP, shown, run_id="run-1", generation=1, answers={first.number: ["m-1"]})
    one.queue.mark_read(APP, [first.number], run_id="run-1", generation=1, answers={})
    other.store.online = True
    assert other.queue.queued(APP, limit=9) == [second]
    assert [remark.proposals for remark in other.queue.listed(APP, limit=9)] == [(), ()]
    assert View.of(one) == View.of(other)


# -- projecting


def test_the_tables_are_made_when_there_is_something_to_write(clock: FixedClock, record: list[EvolutionEvent]) -> None:
    machine = Machine.sharing(record, clock)
    question, remark = machine.ask(), machine.queue.add(APP, "too dry", source="Ann")
    database = Database.in_memory()
    SQLiteDNAStore(database)
    tables = "SELECT name FROM sqlite_master WHERE name IN ('approvals', 'feedback') ORDER BY name"
    with database.transaction("event.append") as connection:
        project(connection, record[0])
        assert database.rows(tables) == []
        for event in record[1:]:
            project(connection, event)
    assert database.rows(tables) == [("approvals",), ("feedback",)]
    fresh = Machine(database, SQLiteDNAStore(database), clock)
    assert (fresh.approvals.listed(APP), fresh.queue.listed(APP, limit=9)) == ([question], [remark])


@pytest.mark.parametrize("kind", ["asked", "answered", "expired", "voided", "answer_refused", "feedback"])
def test_an_event_that_only_bears_the_name_changes_nothing(clock: FixedClock, kind: str) -> None:
    database = Database.in_memory()
    store = SQLiteDNAStore(database)
    event = store.append(draft("somebody's own", kind=kind))
    machine = Machine(database, store, clock)
    with database.transaction("event.append") as connection:
        project(connection, event)
    assert View.of(machine) == View([], [], {}, [], [])


def test_an_event_of_one_application_leaves_the_questions_of_another_alone(
    clock: FixedClock, record: list[EvolutionEvent]
) -> None:
    machine = Machine.sharing(record, clock)
    answer = machine.approvals.answer(machine.ask().approval_id, "reject", by="Ann")
    refusal = draft(
        f"{answer.approval_id}/answered", kind="answered", approval_id=answer.approval_id, verdict="approve"
    )
    forged = machine.store.append(refusal.model_copy(update={"app": "other"}))
    with machine.database.transaction("event.append") as connection:
        project(connection, forged)
    assert machine.approvals.listed(APP) == [answer]


# -- replaying


LATE: dict[str, dict[str, Any]] = {
    "expired": {"live": None},
    "answered": {"verdict": "approve"},
    "refused/1": {"verdict": "approve", "reason": "counted, as by older versions"},
}


@pytest.mark.parametrize(("stands", "late"), [("rejected", "expired"), ("expired", "answered")])
def test_a_run_is_replayed_with_ends_of_its_question_that_came_too_late_from_elsewhere(
    tmp_path: Path, stands: str, late: str
) -> None:
    clock = TickingClock(BEGAN)
    app = garden(tmp_path, autonomy=CAREFUL, clock=clock)
    result = app.run(2, seed=5, progress=False)
    assert result.approval is not None
    first = result.approval.approval_id
    if stands == "rejected":
        app.answer(first, "reject", by="Ann")
    else:
        clock.moment += timedelta(days=30)
        app._services.approvals.settle(first)
    for what in (late, "refused/1"):
        kind = "answer_refused" if what == "refused/1" else what
        event = draft(f"{first}/{what}", kind=kind, approval_id=first, **LATE[what])
        event = event.model_copy(update={"run_id": result.run_id, "at": clock.now(), "app": app.app})
        with app._database.transaction("event.append") as connection:
            project(connection, app.store.append(event))
    assert [approval.status for approval in app.approvals(pending_only=False)] == [stands]
    result = finished(app, app.resume(result.run_id, progress=False))
    assert {late, "answer_refused"} <= set(kinds_of(app))
    report = replay(app._database, result.run_id)
    assert report.identical, str(report.difference)


def test_a_run_that_read_remarks_of_other_machines_is_replayed_identically(tmp_path: Path) -> None:
    app = garden(tmp_path, autonomy=CAREFUL)
    text, number = "Everything is dry, use more water.", 618_279_103_442
    left = draft(f"feedback/{number}", kind="feedback", number=number, text=text).model_copy(update={"app": app.app})
    with app._database.transaction("event.append") as connection:
        project(connection, app.store.append(left))
    result = finished(app, app.run(2, seed=5, progress=False))
    [read] = app._services.feedback.listed(app.app, limit=9)
    assert (read.number, read.status, read.run_id) == (number, "read", result.run_id)
    report = replay(app._database, result.run_id)
    assert report.identical, str(report.difference)


# -- in the cloud


@pytest.fixture
def in_the_cloud(tmp_path: Path, clock: FixedClock) -> Iterator[tuple[Machine, Machine]]:
    with moto_server() as server:
        there = cloud(server.url)

        def opened(name: str) -> Machine:
            store = CloudDNAStore(
                database := Database(tmp_path / f"{name}.db"),
                Regions(there.clients(), there.place, clock),
                clock=clock,
                ids=RandomIds(clock),
                draws=random.Random(name),
                project=project,
            )
            return Machine(database, store, clock)

        one, other = opened("one"), opened("other")
        one.store.commit(None, FIRST, DECLARED)
        yield one, other
        for machine in (one, other):
            machine.store.close()
            machine.database.close()


@pytest.mark.slow
def test_machines_that_share_a_store_in_the_cloud_ask_answer_and_read_for_each_other(
    in_the_cloud: tuple[Machine, Machine], clock: FixedClock
) -> None:
    one, other = in_the_cloud
    question = one.ask()
    assert other.approvals.listed(APP) == [question]
    during(one, "approval.answer", lambda: other.approvals.answer(question.approval_id, "reject", by="Ben"))
    with pytest.raises(UsageError, match="was rejected by Ben"):
        one.approvals.answer(question.approval_id, "approve", by="Ann")
    remark = one.queue.add(APP, "too dry", source="Ann")
    assert other.queue.queued(APP, limit=9) == [remark]
    other.queue.mark_read(APP, [remark.number], run_id="run-1", generation=1, answers={remark.number: ["m-1"]})
    clock.moment += timedelta(hours=1)
    expiring = other.ask(about=1)
    clock.moment += timedelta(hours=HOURS)
    assert one.approvals.settle(expiring.approval_id).status == "expired"
    assert View.of(one) == View.of(other)
    told = [event.kind for event in other.store.events(APP)]
    assert told == ["declared", "asked", "answered", "answer_refused", "feedback", "feedback_read", "asked", "expired"]
