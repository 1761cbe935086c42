"""Approvals: a question is bound to what it is about, one verdict stands, and every attempt is on record."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.canonical import checksum
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.events import EvolutionEvent
from bedrock_evolution.dna.genome import SystemDNA
from bedrock_evolution.dna.mutation import Mutation
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from bedrock_evolution.errors import ExitCode, UnknownRun, UsageError
from bedrock_evolution.governance.approvals import Approval, Approvals, Verdict
from tests.governance.conftest import APP, MOMENT, draft

HOURS = 24.0
EVIDENCE = {"gain": 0.1, "cases": 40}
QUESTION = {"changes": {"n": {"from": 3, "to": 4}}, "evidence": EVIDENCE, "risk": {"value": 0.9}, "why": "risk 0.90"}


@pytest.fixture
def approvals(database: Database, store: SQLiteDNAStore, clock: FixedClock) -> Approvals:
    return Approvals(database, store, clock, hours=HOURS)


def live(store: SQLiteDNAStore) -> SystemDNA:
    head = store.head(APP)
    assert head is not None
    return head


@pytest.fixture
def dna(store: SQLiteDNAStore) -> str:
    return live(store).checksum


def asked(
    approvals: Approvals,
    dna: str,
    mutation: str = "m-1",
    run: str = "run-1",
    question: Mapping[str, Any] = QUESTION,
) -> Approval:
    return approvals.ask(app=APP, run_id=run, generation=4, mutation_id=mutation, dna=dna, question=question)


def change_dna(store: SQLiteDNAStore) -> str:
    head = live(store)
    mutation = Mutation(parent=head.checksum, changes={"n": 9}, category="c")
    return store.commit(head.checksum, head.apply(mutation), draft("applied/another")).checksum


def told(store: SQLiteDNAStore, question: Approval) -> list[EvolutionEvent]:
    return [event for event in store.events(APP) if event.key.startswith(question.approval_id)]


def alter(database: Database, column: str, value: str) -> None:
    with database.transaction("tables") as connection:
        assert connection.execute(f'UPDATE approvals SET "{column}" = ?', [value]).rowcount == 1


# -- asking


def test_a_question_waits_with_all_it_is_bound_to_until_it_is_answered(approvals: Approvals, dna: str) -> None:
    question = asked(approvals, dna)
    assert (question.status, question.asked_at) == ("pending", MOMENT.isoformat())
    assert question.expires_at == (MOMENT + timedelta(hours=HOURS)).isoformat()
    assert (question.answered_at, question.by, question.why) == (None, None, None)
    assert (question.run_id, question.generation, question.mutation_id) == ("run-1", 4, "m-1")
    assert (question.dna, question.evidence) == (dna, checksum(EVIDENCE))
    assert question.question == QUESTION
    assert approvals.get(question.approval_id) == approvals.settle(question.approval_id) == question


def test_the_name_of_a_question_is_what_it_is_bound_to(approvals: Approvals, dna: str) -> None:
    others = [
        asked(approvals, dna),
        asked(approvals, dna, mutation="m-2"),
        asked(approvals, dna, run="run-2"),
        asked(approvals, "another DNA"),
        asked(approvals, dna, question=QUESTION | {"evidence": {"gain": 0.11, "cases": 40}}),
        asked(approvals, dna, question=QUESTION | {"changes": {"n": {"from": 3, "to": 5}}}),
    ]
    assert len({question.approval_id for question in others}) == len(others)


def test_the_same_question_is_asked_once_and_keeps_its_time(
    approvals: Approvals, store: SQLiteDNAStore, clock: FixedClock, dna: str
) -> None:
    first = asked(approvals, dna)
    clock.moment += timedelta(hours=1)
    assert asked(approvals, dna) == first
    [event] = told(store, first)
    assert (event.kind, event.actor, event.why, event.at) == ("asked", "policy", "risk 0.90", MOMENT)
    assert (event.run_id, event.generation, event.mutation_id) == ("run-1", 4, "m-1")
    assert event.data == {
        "approval_id": first.approval_id,
        "binding": {"run_id": "run-1", "mutation_id": "m-1", "dna": dna, "evidence": checksum(EVIDENCE)},
        "question": QUESTION,
        "expires_at": first.expires_at,
    }


# -- answering


@pytest.mark.parametrize(("verdict", "status"), [("approve", "approved"), ("reject", "rejected")])
def test_an_answer_is_kept_with_its_name_reason_and_time_and_told_in_the_record(
    approvals: Approvals, store: SQLiteDNAStore, clock: FixedClock, dna: str, verdict: Verdict, status: str
) -> None:
    question = asked(approvals, dna)
    clock.moment += timedelta(hours=1)
    answer = approvals.answer(question.approval_id, verdict, by="  Mara\x1b ", why="read\nit")
    assert (answer.status, answer.by, answer.why) == (status, "Mara", "read it")
    assert answer.answered_at == (MOMENT + timedelta(hours=1)).isoformat()
    assert asked(approvals, dna) == approvals.settle(question.approval_id) == answer
    [_, event] = told(store, question)
    assert (event.kind, event.actor, event.why, event.at) == ("answered", "Mara", "read it", clock.moment)
    assert event.key == f"{question.approval_id}/answered"
    assert (event.data["verdict"], event.data["binding"]) == (verdict, question.binding)


def test_a_second_answer_is_refused_and_on_record_and_the_first_stands(
    approvals: Approvals, store: SQLiteDNAStore, dna: str
) -> None:
    question = asked(approvals, dna)
    first = approvals.answer(question.approval_id, "reject", by="Mara")
    for number, verdict in enumerate(("approve", "reject"), 1):
        with pytest.raises(
            UsageError, match=f"{question.approval_id} was rejected by Mara at 2026-03-01T12:00"
        ) as error:
            approvals.answer(question.approval_id, verdict, by="Tom", why="I know better")  # type: ignore[arg-type]
        assert "first answer stands" in error.value.hint
        assert error.value.exit_code == ExitCode.USAGE
        assert approvals.get(question.approval_id) == first
        refused = told(store, question)[-1]
        assert refused.key.startswith(f"{question.approval_id}/refused/")
        assert len(told(store, question)) == 2 + number
        assert (refused.kind, refused.actor, refused.why) == ("answer_refused", "Tom", "I know better")
        assert refused.data["verdict"] == verdict
        assert "was rejected by Mara" in refused.data["reason"]


@pytest.mark.parametrize(
    ("by", "why", "problem"),
    [
        ("", "", "name of the person"),
        ("  ", "", "name of the person"),
        ("\t\n\x00", "", "name of the person"),
        ("x" * 201, "", "characters long"),
        ("Mara", "x" * 2001, "characters long"),
    ],
)
def test_nobody_cannot_answer(
    approvals: Approvals, store: SQLiteDNAStore, dna: str, by: str, why: str, problem: str
) -> None:
    question = asked(approvals, dna)
    with pytest.raises(UsageError, match=problem):
        approvals.answer(question.approval_id, "approve", by=by, why=why)
    assert approvals.get(question.approval_id).status == "pending"
    assert [event.kind for event in told(store, question)] == ["asked"]


def test_an_unknown_approval_is_named(approvals: Approvals) -> None:
    for call in (approvals.get, approvals.settle, lambda unknown: approvals.answer(unknown, "approve", by="Mara")):
        with pytest.raises(UnknownRun, match="there is no approval 'ap-none'"):
            call("ap-none")


def test_an_answer_and_its_event_are_stored_together_or_not_at_all(
    approvals: Approvals, store: SQLiteDNAStore, database: Database, dna: str
) -> None:
    question = asked(approvals, dna)

    def stop(point: str, moment: str) -> None:
        if (point, moment) == ("approval.answer", "before"):
            raise KeyboardInterrupt

    database.reached = stop
    with pytest.raises(KeyboardInterrupt):
        approvals.answer(question.approval_id, "approve", by="Mara")
    assert approvals.get(question.approval_id) == question
    assert [event.kind for event in told(store, question)] == ["asked"]


# -- void and expired


def test_an_answer_to_a_question_about_other_dna_is_void_and_says_what_changed(
    approvals: Approvals, store: SQLiteDNAStore, dna: str
) -> None:
    question = asked(approvals, dna)
    now = change_dna(store)
    with pytest.raises(UsageError, match=f"became void at .*: the live DNA changed: it was {dna[:12]}") as error:
        approvals.answer(question.approval_id, "approve", by="Mara")
    assert now[:12] in error.value.message
    assert (approvals.get(question.approval_id).status, approvals.get(question.approval_id).by) == ("void", "policy")
    voided, refused = told(store, question)[1:]
    assert (voided.kind, voided.actor, voided.data["live"]) == ("voided", "policy", now)
    assert voided.data["binding"]["dna"] == dna
    assert (refused.kind, refused.actor, refused.data["verdict"]) == ("answer_refused", "Mara", "approve")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("question", '{"changes":{"n":{"from":3,"to":9}},"evidence":{"gain":0.1,"cases":40}}'),
        ("mutation_id", "m-2"),
        ("run_id", "run-2"),
        ("evidence", "0" * 64),
        ("expires_at", (MOMENT + timedelta(days=900)).isoformat()),
    ],
)
def test_an_altered_question_is_void(
    approvals: Approvals, store: SQLiteDNAStore, database: Database, dna: str, column: str, value: str
) -> None:
    question = asked(approvals, dna)
    alter(database, column, value)
    with pytest.raises(UsageError, match="the question was altered"):
        approvals.answer(question.approval_id, "approve", by="Mara")
    assert approvals.get(question.approval_id).status == "void"
    assert [event.kind for event in told(store, question)] == ["asked", "voided", "answer_refused"]


def test_a_question_expires_at_its_time_and_not_before(
    approvals: Approvals, store: SQLiteDNAStore, clock: FixedClock, dna: str
) -> None:
    question = asked(approvals, dna)
    clock.moment += timedelta(hours=HOURS, microseconds=-1)
    assert approvals.settle(question.approval_id) == question
    clock.moment += timedelta(microseconds=1)
    with pytest.raises(UsageError, match=r"expired at .*: nobody answered before"):
        approvals.answer(question.approval_id, "approve", by="Mara")
    assert approvals.get(question.approval_id).status == "expired"
    expired, refused = told(store, question)[1:]
    assert (expired.kind, expired.key) == ("expired", f"{question.approval_id}/expired")
    assert refused.kind == "answer_refused"


def test_settling_records_an_end_once_and_reading_records_nothing(
    approvals: Approvals, store: SQLiteDNAStore, clock: FixedClock, dna: str
) -> None:
    question = asked(approvals, dna)
    clock.moment += timedelta(hours=HOURS)
    [listed] = approvals.listed(APP, pending_only=True)
    assert listed == question
    assert approvals.current(listed).status == "expired"
    assert approvals.get(question.approval_id).status == "pending"
    settled = approvals.settle(question.approval_id)
    assert settled.status == "expired"
    clock.moment += timedelta(hours=1)
    assert approvals.settle(question.approval_id) == approvals.get(question.approval_id) == settled
    assert [event.kind for event in told(store, question)] == ["asked", "expired"]


def test_an_answered_question_neither_expires_nor_becomes_void(
    approvals: Approvals, store: SQLiteDNAStore, clock: FixedClock, dna: str
) -> None:
    answer = approvals.answer(asked(approvals, dna).approval_id, "approve", by="Mara")
    change_dna(store)
    clock.moment += timedelta(hours=HOURS)
    assert approvals.settle(answer.approval_id) == approvals.current(answer) == answer


# -- before a change is made


def test_an_approval_allows_exactly_what_was_asked(approvals: Approvals, dna: str) -> None:
    answer = approvals.answer(asked(approvals, dna).approval_id, "approve", by="Mara")
    assert approvals.check(answer, dna=dna, mutation_id="m-1", question=QUESTION) == ""


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"dna": "f" * 64}, "the live DNA changed"),
        ({"mutation_id": "m-2"}, "it approves mutation m-1, not m-2"),
        ({"question": QUESTION | {"evidence": EVIDENCE | {"gain": 0.2}}}, "the evidence is not that which was shown"),
        ({"question": QUESTION | {"changes": {}}}, "the question is not that which was put"),
    ],
    ids=["dna", "mutation", "evidence", "question"],
)
def test_an_approval_allows_nothing_else(approvals: Approvals, dna: str, other: dict[str, Any], reason: str) -> None:
    answer = approvals.answer(asked(approvals, dna).approval_id, "approve", by="Mara")
    about = {"dna": dna, "mutation_id": "m-1", "question": QUESTION} | other
    assert reason in approvals.check(answer, **about)


def test_only_an_approval_that_is_on_record_allows_anything(approvals: Approvals, database: Database, dna: str) -> None:
    question = asked(approvals, dna)
    about: dict[str, Any] = {"dna": dna, "mutation_id": "m-1", "question": QUESTION}
    assert "is pending, not approved" in approvals.check(question, **about)
    alter(database, "status", "approved")
    alter(database, "by", "Mara")
    assert "the record holds no approval by Mara" in approvals.check(approvals.get(question.approval_id), **about)
    alter(database, "status", "pending")
    rejected = approvals.answer(question.approval_id, "reject", by="Mara")
    assert "is rejected, not approved" in approvals.check(rejected, **about)
    alter(database, "status", "approved")
    assert "the answer was altered" in approvals.check(approvals.get(question.approval_id), **about)


# -- listing, and many at once


def test_they_are_listed_newest_first_by_application(approvals: Approvals, clock: FixedClock, dna: str) -> None:
    ids = []
    for n in range(3):
        clock.moment += timedelta(minutes=1)
        ids.append(asked(approvals, dna, mutation=f"m-{n}").approval_id)
    approvals.ask(app="other", run_id="run-1", generation=1, mutation_id="m-9", dna=dna, question={})
    approvals.answer(ids[1], "approve", by="Mara")
    assert [found.approval_id for found in approvals.listed(APP)] == ids[::-1]
    assert [found.approval_id for found in approvals.listed(APP, pending_only=True)] == [ids[2], ids[0]]


def test_approvals_outlive_the_process(path: Path, approvals: Approvals, clock: FixedClock, dna: str) -> None:
    question = asked(approvals, dna)
    again = Database(path)
    reopened = Approvals(again, SQLiteDNAStore(again), clock, hours=1.0)
    assert reopened.get(question.approval_id) == question
    answer = reopened.answer(question.approval_id, "approve", by="Mara")
    assert approvals.get(question.approval_id) == answer


def test_one_of_many_concurrent_threads_answers(
    path: Path, approvals: Approvals, store: SQLiteDNAStore, clock: FixedClock, dna: str
) -> None:
    rivals = 6
    start = threading.Barrier(rivals)
    question = asked(approvals, dna)
    accepted: list[Approval] = []
    refused: list[str] = []

    def answer(me: int) -> None:
        own = Database(path)
        mine = Approvals(own, SQLiteDNAStore(own), clock, hours=HOURS)
        start.wait(20)
        try:
            accepted.append(mine.answer(question.approval_id, "approve" if me % 2 else "reject", by=f"person {me}"))
        except UsageError as error:
            refused.append(error.message)

    threads = [threading.Thread(target=answer, args=[me]) for me in range(rivals)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    [winner] = accepted
    assert approvals.get(question.approval_id) == winner
    assert len(refused) == rivals - 1
    assert all(f"by {winner.by}" in message for message in refused)
    kinds = [event.kind for event in told(store, question)]
    assert kinds == ["asked", "answered", *["answer_refused"] * (rivals - 1)]
    assert {event.actor for event in told(store, question)[1:]} == {f"person {me}" for me in range(rivals)}


ANSWER = """
import sys
from pathlib import Path
from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from bedrock_evolution.errors import UsageError
from bedrock_evolution.governance.approvals import Approvals
from datetime import datetime
path, approval_id, verdict, by, now = sys.argv[1:]
database = Database(Path(path))
approvals = Approvals(database, SQLiteDNAStore(database), FixedClock(datetime.fromisoformat(now)), hours=24.0)
print("ready", flush=True)
input()
try:
    print(approvals.answer(approval_id, verdict, by=by).status)
except UsageError:
    print("refused")
"""


def test_two_people_approve_and_reject_at_once_one_verdict_stands_and_both_attempts_are_on_record(
    path: Path, approvals: Approvals, store: SQLiteDNAStore, dna: str
) -> None:
    question = asked(approvals, dna)
    rivals = [
        subprocess.Popen(
            [sys.executable, "-c", ANSWER, str(path), question.approval_id, verdict, by, MOMENT.isoformat()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for verdict, by in (("approve", "Mara"), ("reject", "Tom"))
    ]
    for rival in rivals:
        assert rival.stdout
        assert rival.stdout.readline() == "ready\n"
    for rival in rivals:
        assert rival.stdin
        rival.stdin.write("\n")
        rival.stdin.flush()
    answers = sorted(rival.communicate(timeout=30)[0].strip() for rival in rivals)
    standing = approvals.get(question.approval_id)
    assert answers == sorted([standing.status, "refused"])
    assert (standing.status, standing.by) in {("approved", "Mara"), ("rejected", "Tom")}
    answered, refused = told(store, question)[1:]
    assert (answered.kind, refused.kind) == ("answered", "answer_refused")
    assert {(answered.actor, answered.data["verdict"]), (refused.actor, refused.data["verdict"])} == {
        ("Mara", "approve"),
        ("Tom", "reject"),
    }
    assert answered.actor == standing.by
