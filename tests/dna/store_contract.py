"""What every `DNAStore` must do, whatever it keeps its documents in.

A store is tested by a class that inherits `StoreContract` and provides the fixture `place`.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.dna.events import GENESIS, EventDraft
from bedrock_evolution.dna.genes import flag, integer, number
from bedrock_evolution.dna.genome import SystemDNA
from bedrock_evolution.dna.mutation import Mutation
from bedrock_evolution.dna.store import DNAStore
from bedrock_evolution.errors import EvolutionError, IntegrityError, StaleParent, UnknownRun, UsageError

APP = "router"
MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)
PROMPT_SECONDS = 60
CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Place:
    """Where a store keeps its documents.

    Args:
        open: Opens the store there; every call is a connection of its own.
        program: Python statements that leave the opened store in `store`, for another process.
        alter: Replaces a text in the stored document of one generation, behind the store's back.
        fail: Makes the store fail when it writes an event, until the returned function is called.
    """

    open: Callable[[], DNAStore]
    program: str
    alter: Callable[[int, str, str], None]
    fail: Callable[[], Callable[[], None]]


def first(app: str = APP) -> SystemDNA:
    return SystemDNA.declare(
        app,
        {"x": number(0.5, low=0.0, high=1.0), "n": integer(0, low=0, high=10**6), "safe": flag(True, locked=True)},
    )


def child(parent: SystemDNA, n: int) -> SystemDNA:
    made = Mutation(parent=parent.checksum, changes={"n": n}, category="intelligence upgrade")
    return parent.apply(made, fitness=float(n))


def draft(key: str, *, app: str = APP, **more: Any) -> EventDraft:
    return EventDraft(app=app, kind="applied", key=key, at=MOMENT, actor="rule", **more)


def grown(store: DNAStore, generations: int) -> list[SystemDNA]:
    """Commit a first DNA and some generations after it."""
    line = [store.commit(None, first(), made("declared", first()))]
    for n in range(1, generations + 1):
        dna = child(line[-1], n)
        line.append(store.commit(line[-1].checksum, dna, made(f"applied/{n}", dna)))
    return line


def made(key: str, dna: SystemDNA) -> EventDraft:
    """Return the event that makes DNA live."""
    return draft(key, app=dna.app, data={"dna": dna.checksum})


class StoreContract:
    """The behaviours; each test name is one of them."""

    @pytest.fixture
    def place(self) -> Place:
        raise NotImplementedError

    @pytest.fixture
    def store(self, place: Place) -> DNAStore:
        return place.open()

    # -- reading and writing

    def test_it_is_a_dna_store(self, store: DNAStore) -> None:
        assert isinstance(store, DNAStore)

    def test_a_new_application_has_nothing(self, store: DNAStore) -> None:
        assert store.head(APP) is None
        assert store.history(APP) == []
        assert list(store.events(APP)) == []
        with pytest.raises(UnknownRun, match="no generation 0"):
            store.snapshot(APP, 0)

    def test_what_is_committed_is_live_and_explained(self, place: Place, store: DNAStore) -> None:
        line = grown(store, 2)
        again = place.open()
        assert again.head(APP) == line[2]
        assert [again.snapshot(APP, n) for n in range(3)] == line
        assert again.history(APP) == line[::-1]
        assert again.history(APP, limit=2) == line[:0:-1]
        assert [event.key for event in again.events(APP)] == ["declared", "applied/1", "applied/2"]

    def test_a_generation_that_is_not_there_is_named(self, store: DNAStore) -> None:
        grown(store, 1)
        with pytest.raises(UnknownRun, match=f"'{APP}' has no generation 7"):
            store.snapshot(APP, 7)

    def test_applications_do_not_see_each_other(self, store: DNAStore) -> None:
        grown(store, 1)
        store.commit(None, first("other"), draft("declared", app="other"))
        assert [event.seq for event in store.events("other")] == [1]
        head = store.head("other")
        assert head is not None
        assert head.generation == 0

    # -- events

    def test_events_are_numbered_and_chained(self, store: DNAStore) -> None:
        grown(store, 3)
        store.append(draft("note", why="just so"))
        events = list(store.events(APP))
        assert [event.seq for event in events] == [1, 2, 3, 4, 5]
        assert [event.previous for event in events] == [GENESIS, *(event.hash for event in events[:-1])]
        assert all(event.intact() for event in events)
        assert [event.seq for event in store.events(APP, after=3)] == [4, 5]

    def test_an_event_is_stored_once_per_key(self, store: DNAStore) -> None:
        one = store.append(draft("note", why="first"))
        assert store.append(draft("note", why="second")) == one
        assert [event.why for event in store.events(APP)] == ["first"]

    def test_an_event_keeps_all_that_was_said(self, place: Place, store: DNAStore) -> None:
        said = draft("note", why="é 字 \n", data={"deep": [1, 2.5, None, {"a": True}]}, cost_micro_usd=7)
        store.append(said)
        [event] = place.open().events(APP)
        assert EventDraft(**event.model_dump(include=set(EventDraft.model_fields))) == said
        assert event.intact()

    def test_an_event_is_found_by_its_key(self, place: Place, store: DNAStore) -> None:
        grown(store, 2)
        event = place.open().event(APP, "applied/1")
        assert event is not None
        assert (event.seq, event.key) == (2, "applied/1")
        assert store.event(APP, "applied/3") is None
        assert store.event("other", "applied/1") is None

    def test_recent_events_are_the_newest_of_their_kinds_newest_first(self, store: DNAStore) -> None:
        for place, kind in enumerate(["asked", "answered", "asked", "feedback", "asked"]):
            store.append(draft(f"{place}").model_copy(update={"kind": kind}))
        store.append(draft("elsewhere", app="other").model_copy(update={"kind": "asked"}))
        assert [event.key for event in store.recent(APP, ["asked"], limit=2)] == ["4", "2"]
        assert [event.key for event in store.recent(APP, ["answered", "feedback"], limit=9)] == ["3", "1"]
        assert store.recent(APP, ["expired"], limit=9) == []
        assert store.recent(APP, [], limit=9) == []

    def test_what_append_returns_is_what_is_stored(self, place: Place, store: DNAStore) -> None:
        told = store.append(draft("note", data={"pair": (1, 2), "deep": {"a": [None, 1e-9]}}))
        assert told == place.open().event(APP, "note")
        assert told.intact()

    # -- compare-and-set

    def test_a_stale_parent_is_refused_and_nothing_is_written(self, store: DNAStore) -> None:
        line = grown(store, 2)
        with pytest.raises(StaleParent, match=line[2].checksum[:12]):
            store.commit(line[1].checksum, child(line[1], 99), draft("applied/99"))
        with pytest.raises(StaleParent):
            store.commit(None, first(), draft("declared again"))
        assert store.head(APP) == line[2]
        assert [event.key for event in store.events(APP)] == ["declared", "applied/1", "applied/2"]

    def test_a_first_dna_must_not_expect_another(self, store: DNAStore) -> None:
        with pytest.raises(StaleParent):
            store.commit("f" * 64, first(), draft("declared"))
        assert store.head(APP) is None
        assert list(store.events(APP)) == []

    def test_the_same_mutation_committed_again_is_returned_as_stored(self, place: Place, store: DNAStore) -> None:
        line = grown(store, 1)
        retried = line[0].successor({"n": 1}, mutation=line[1].mutation, fitness=99.0)
        assert place.open().commit(line[0].checksum, retried, draft("applied/1")) == line[1]
        assert store.head(APP) == line[1]
        assert len(list(store.events(APP))) == 2

    def test_another_run_that_commits_the_same_mutation_tells_its_own_event(self, store: DNAStore) -> None:
        line = grown(store, 1)
        assert store.commit(line[0].checksum, child(line[0], 1), draft("another run")) == line[1]
        assert store.history(APP) == line[::-1]
        assert [event.key for event in store.events(APP)] == ["declared", "applied/1", "another run"]

    def test_a_mutation_committed_before_others_is_still_known(self, store: DNAStore) -> None:
        line = grown(store, 3)
        assert store.commit(line[0].checksum, child(line[0], 1), draft("applied/1")) == line[1]
        assert store.head(APP) == line[3]

    def test_dna_and_event_are_stored_together_or_not_at_all(self, place: Place, store: DNAStore) -> None:
        line = grown(store, 1)
        mend = place.fail()
        with pytest.raises(EvolutionError):
            store.commit(line[1].checksum, child(line[1], 2), draft("applied/2"))
        assert store.head(APP) == line[1]
        mend()
        assert len(list(store.events(APP))) == 2
        after = store.commit(line[1].checksum, child(line[1], 2), draft("applied/2"))
        assert store.head(APP) == after
        assert [event.key for event in store.events(APP)][-1] == "applied/2"

    # -- what allows a change

    def test_what_another_one_stored_is_heard_before_a_change_is_made(self, place: Place, store: DNAStore) -> None:
        line = grown(store, 1)
        place.open().append(draft("stop"))

        def allowed() -> None:
            if store.event(APP, "stop"):
                raise UsageError("it was stopped")

        with pytest.raises(UsageError, match="it was stopped"):
            store.commit(line[1].checksum, child(line[1], 2), draft("applied/2"), allowed=allowed)
        assert place.open().head(APP) == line[1]
        assert [event.key for event in place.open().events(APP)] == ["declared", "applied/1", "stop"]

    def test_what_was_made_live_is_told_whether_or_not_it_would_be_allowed_by_now(self, store: DNAStore) -> None:
        line = grown(store, 1)

        def allowed() -> None:
            raise UsageError("too late")

        assert store.commit(line[0].checksum, child(line[0], 1), draft("applied/1"), allowed=allowed) == line[1]

    # -- concurrency

    def test_one_of_many_threads_wins_each_parent(self, place: Place, store: DNAStore) -> None:
        grown(store, 0)
        rounds, rivals = 6, 5
        start, wins = threading.Barrier(rivals), [[0] * rivals for _ in range(rounds)]
        unexpected: list[BaseException] = []

        def rival(me: int) -> None:
            own = place.open()
            for turn in range(rounds):
                try:
                    parent = own.snapshot(APP, turn)
                    start.wait(PROMPT_SECONDS)
                    own.commit(parent.checksum, child(parent, 100 * turn + me + 1), draft(f"{turn}/{me}"))
                    wins[turn][me] = 1
                except StaleParent:
                    pass
                except BaseException as error:
                    unexpected.append(error)
                    start.abort()
                    return
                start.wait(PROMPT_SECONDS)

        threads = [threading.Thread(target=rival, args=[me], daemon=True) for me in range(rivals)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PROMPT_SECONDS)
        assert not unexpected
        assert [sum(turn) for turn in wins] == [1] * rounds
        winners = [f"{turn}/{won.index(1)}" for turn, won in enumerate(wins)]
        assert [event.key for event in store.events(APP)] == ["declared", *winners]

    def test_one_of_many_processes_wins_each_parent(self, place: Place, store: DNAStore) -> None:
        grown(store, 0)
        rounds, rivals = 8, 2
        program = textwrap.dedent(place.program) + textwrap.dedent(f"""
            import sys
            from bedrock_evolution.errors import StaleParent
            from tests.dna.store_contract import APP, child, draft
            won = 0
            print("ready", flush=True)
            input()
            for turn in range({rounds}):
                while (head := store.head(APP)).generation < turn:
                    pass
                try:
                    parent = store.snapshot(APP, turn)
                    mine = child(parent, 100 * turn + int(sys.argv[1]) + 1)
                    store.commit(parent.checksum, mine, draft(f"{{turn}}/{{sys.argv[1]}}"))
                    won += 1
                except StaleParent:
                    pass
            print(won)
        """)
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", program, str(me)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=CHECKOUT,
            )
            for me in range(rivals)
        ]
        for process in processes:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        answers = [process.communicate(timeout=PROMPT_SECONDS)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * rivals
        assert sum(map(int, answers)) == rounds
        line = store.history(APP, limit=100)[::-1]
        assert [dna.generation for dna in line] == list(range(rounds + 1))
        assert [dna.parent for dna in line[1:]] == [dna.checksum for dna in line[:-1]]
        assert len(list(store.events(APP))) == rounds + 1

    # -- integrity

    def test_an_altered_document_is_detected_and_named(self, place: Place, store: DNAStore) -> None:
        line = grown(store, 3)
        place.alter(2, '"fitness": 2.0', '"fitness": 9.0')
        with pytest.raises(IntegrityError, match=f"generation 2 of '{APP}' does not match its checksum"):
            store.snapshot(APP, 2)
        with pytest.raises(IntegrityError):
            store.history(APP)
        assert store.head(APP) == line[3]

    def test_an_altered_head_is_never_live(self, place: Place, store: DNAStore) -> None:
        line = grown(store, 1)
        place.alter(1, '"locked": true', '"locked": false')
        with pytest.raises(IntegrityError, match="generation 1"):
            store.head(APP)
        with pytest.raises(IntegrityError):
            store.commit(line[1].checksum, child(line[1], 2), draft("applied/2"))

    def test_a_document_that_cannot_be_read_is_detected(self, place: Place, store: DNAStore) -> None:
        grown(store, 1)
        place.alter(1, '"app"', '"application"')
        with pytest.raises(IntegrityError, match="cannot be read"):
            store.snapshot(APP, 1)
