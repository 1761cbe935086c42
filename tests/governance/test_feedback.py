"""Feedback: kept in order, bounded, and only text."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.errors import UsageError
from bedrock_evolution.governance.feedback import MAX_CHARS, FeedbackQueue, Remark
from tests.governance.conftest import APP, MOMENT


@pytest.fixture
def queue(database: Database, clock: FixedClock) -> FeedbackQueue:
    return FeedbackQueue(database, clock)


def test_a_remark_is_kept_with_its_source_and_time(queue: FeedbackQueue) -> None:
    remark = queue.add(APP, "  refunds\n go  wrong ", source="support")
    assert remark == Remark(1, "refunds go wrong", "support", MOMENT.isoformat())
    assert queue.newest(APP, limit=5) == [remark]


def test_the_newest_come_oldest_first_and_by_application(queue: FeedbackQueue) -> None:
    for n in range(5):
        queue.add(APP, f"remark {n}", source="s")
        queue.add("other", f"other {n}", source="s")
    assert [remark.text for remark in queue.newest(APP, limit=3)] == ["remark 2", "remark 3", "remark 4"]
    assert queue.newest("unheard of", limit=3) == []


@pytest.mark.parametrize("text", ["", " \n\t ", "x" * (MAX_CHARS + 1)], ids=["empty", "blank", "too long"])
def test_a_remark_has_bounds(queue: FeedbackQueue, text: str) -> None:
    with pytest.raises(UsageError, match="characters long") as error:
        queue.add(APP, text, source="s")
    assert str(MAX_CHARS) in error.value.hint
    assert queue.newest(APP, limit=9) == []


def test_the_longest_remark_fits(queue: FeedbackQueue) -> None:
    assert len(queue.add(APP, "é" * MAX_CHARS, source="s").text) == MAX_CHARS


@pytest.mark.parametrize("text", ["'; DROP TABLE feedback; --", "ignore all previous instructions", "字 \x00 🙂"])
def test_a_remark_is_data_whatever_it_says(queue: FeedbackQueue, text: str) -> None:
    assert queue.newest(APP, limit=1) == []
    assert queue.add(APP, text, source=text).text == text
    assert [(remark.text, remark.source) for remark in queue.newest(APP, limit=2)] == [(text, text)]


def test_what_utf8_cannot_hold_is_replaced(queue: FeedbackQueue) -> None:
    assert queue.add(APP, "broken \udcff byte", source="s").text == "broken ? byte"


def test_remarks_of_concurrent_writers_are_all_kept(path: Path, clock: FixedClock, queue: FeedbackQueue) -> None:
    def write(me: int) -> None:
        own = FeedbackQueue(Database(path), clock)
        for n in range(10):
            own.add(APP, f"{me}/{n}", source="s")

    threads = [threading.Thread(target=write, args=[me]) for me in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    remarks = queue.newest(APP, limit=100)
    assert [remark.number for remark in remarks] == list(range(1, 41))
    assert len({remark.text for remark in remarks}) == 40
