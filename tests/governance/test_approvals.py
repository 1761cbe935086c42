"""Approvals: a question is asked once, and the first answer stands."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.errors import UnknownRun, UsageError
from bedrock_evolution.governance.approvals import Approval, Approvals
from tests.governance.conftest import APP, MOMENT


@pytest.fixture
def approvals(database: Database, clock: FixedClock) -> Approvals:
    return Approvals(database, clock)


def asked(approvals: Approvals, mutation: str = "m-1", run: str = "run-1") -> Approval:
    return approvals.ask(app=APP, run_id=run, mutation_id=mutation, question={"changes": {"x": 0.5}, "risk": 0.9})


def test_a_question_waits_until_it_is_answered(approvals: Approvals) -> None:
    question = asked(approvals)
    assert (question.status, question.asked_at) == ("pending", MOMENT.isoformat())
    assert (question.answered_at, question.by, question.why) == (None, None, None)
    assert question.question == {"changes": {"x": 0.5}, "risk": 0.9}
    assert approvals.get(question.approval_id) == question


def test_the_same_question_of_the_same_run_is_asked_once(approvals: Approvals, clock: FixedClock) -> None:
    first = asked(approvals)
    clock.moment += timedelta(hours=1)
    assert asked(approvals) == first
    others = {asked(approvals, mutation="m-2").approval_id, asked(approvals, run="run-2").approval_id}
    assert len(others | {first.approval_id}) == 3


@pytest.mark.parametrize(("verdict", "status"), [("approve", "approved"), ("reject", "rejected")])
def test_an_answer_is_kept_with_its_name_reason_and_time(
    approvals: Approvals, clock: FixedClock, verdict: str, status: str
) -> None:
    question = asked(approvals)
    clock.moment += timedelta(hours=1)
    answer = approvals.answer(question.approval_id, verdict, by="  Mara ", why="read it")  # type: ignore[arg-type]
    assert (answer.status, answer.by, answer.why) == (status, "Mara", "read it")
    assert answer.answered_at == (MOMENT + timedelta(hours=1)).isoformat()
    assert asked(approvals) == answer


def test_a_second_answer_is_refused_and_the_first_stands(approvals: Approvals) -> None:
    question = asked(approvals)
    first = approvals.answer(question.approval_id, "reject", by="Mara")
    with pytest.raises(UsageError, match=f"{question.approval_id} was rejected by Mara at 2026-03-01T12:00") as error:
        approvals.answer(question.approval_id, "approve", by="Tom")
    assert "first answer stands" in error.value.hint
    assert approvals.get(question.approval_id) == first


@pytest.mark.parametrize("name", ["", "  ", "\t\n"])
def test_nobody_cannot_answer(approvals: Approvals, name: str) -> None:
    question = asked(approvals)
    with pytest.raises(UsageError, match="name of the person"):
        approvals.answer(question.approval_id, "approve", by=name)
    assert approvals.get(question.approval_id).status == "pending"


def test_an_unknown_approval_is_named(approvals: Approvals) -> None:
    for call in (approvals.get, lambda unknown: approvals.answer(unknown, "approve", by="Mara")):
        with pytest.raises(UnknownRun, match="there is no approval 'ap-none'"):
            call("ap-none")


def test_they_are_listed_newest_first_by_application(approvals: Approvals, clock: FixedClock) -> None:
    ids = []
    for n in range(3):
        clock.moment += timedelta(minutes=1)
        ids.append(asked(approvals, mutation=f"m-{n}").approval_id)
    approvals.ask(app="other", run_id="run-1", mutation_id="m-9", question={})
    approvals.answer(ids[1], "approve", by="Mara")
    assert [found.approval_id for found in approvals.listed(APP)] == ids[::-1]
    assert [found.approval_id for found in approvals.listed(APP, pending_only=True)] == [ids[2], ids[0]]


def test_one_of_many_concurrent_threads_answers(path: Path, approvals: Approvals, clock: FixedClock) -> None:
    rivals = 6
    start = threading.Barrier(rivals)
    question = asked(approvals)
    accepted: list[Approval] = []
    refused: list[str] = []

    def answer(me: int) -> None:
        own = Approvals(Database(path), clock)
        start.wait(20)
        try:
            verdict = "approve" if me % 2 else "reject"
            accepted.append(own.answer(question.approval_id, verdict, by=f"person {me}"))  # type: ignore[arg-type]
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


ANSWER = """
import sys
from pathlib import Path
from bedrock_evolution.clock import SystemClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.errors import UsageError
from bedrock_evolution.governance.approvals import Approvals
approvals = Approvals(Database(Path(sys.argv[1])), SystemClock())
print("ready", flush=True)
input()
try:
    print(approvals.answer(sys.argv[2], "approve", by=sys.argv[3]).by)
except UsageError:
    print("refused")
"""


def test_one_of_two_concurrent_processes_answers(path: Path, approvals: Approvals) -> None:
    question = asked(approvals)
    rivals = [
        subprocess.Popen(
            [sys.executable, "-c", ANSWER, str(path), question.approval_id, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("Mara", "Tom")
    ]
    for rival in rivals:
        assert rival.stdout
        assert rival.stdout.readline() == "ready\n"
    for rival in rivals:
        assert rival.stdin
        rival.stdin.write("\n")
        rival.stdin.flush()
    answers = sorted(rival.communicate(timeout=30)[0].strip() for rival in rivals)
    winner = approvals.get(question.approval_id).by
    assert answers == sorted([str(winner), "refused"])
