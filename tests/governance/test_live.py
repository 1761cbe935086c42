"""Live outcomes: recorded without waiting, judged by all that is stored, and a fall is rolled back once."""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bedrock_evolution.clock import FixedClock, SystemClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.events import EvolutionEvent
from bedrock_evolution.dna.genome import SystemDNA
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from bedrock_evolution.errors import StoreError, UsageError
from bedrock_evolution.fitness.scorer import genes_key
from bedrock_evolution.governance import live as live_module
from bedrock_evolution.governance.audit import verify
from bedrock_evolution.governance.live import LiveOutcomes
from bedrock_evolution.governance.outcomes import JUDGED, REFERENCE, Given, OutcomeTable
from bedrock_evolution.governance.rollback import roll_back
from bedrock_evolution.governance.safe_mode import SafeMode
from bedrock_evolution.settings import Safety
from tests.governance.conftest import APP, MOMENT
from tests.governance.test_rollback import begun, change, declare, head_of
from tests.support.forked import in_child

SAFETY = Safety()
FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture
def store(database: Database) -> SQLiteDNAStore:
    return begun(database)


@pytest.fixture
def live(database: Database, store: SQLiteDNAStore, clock: FixedClock) -> Iterator[LiveOutcomes]:
    made = LiveOutcomes(database, store, app=APP, safety=SAFETY, clock=clock)
    yield made
    made.close()


def feed(live: LiveOutcomes, dna: SystemDNA, values: Sequence[float]) -> None:
    genes = genes_key(dna.values)
    for value in values:
        live.record(float(value), genes=genes)
    live.flush()


def normal(count: int, *, mean: float = 0.0, seed: int = 1) -> list[float]:
    return [float(value) for value in np.random.default_rng(seed).normal(mean, 1.0, count)]


def stored(database: Database) -> list[tuple[Any, ...]]:
    return database.rows("SELECT genes, value FROM outcomes ORDER BY number")


def rollbacks(store: SQLiteDNAStore) -> list[EvolutionEvent]:
    return [event for event in store.recent(APP, ["restored"], limit=99) if event.data["automatic"]]


# -- recording


def test_outcomes_are_stored_in_their_order(live: LiveOutcomes, database: Database, store: SQLiteDNAStore) -> None:
    values = normal(600)
    feed(live, head_of(store), values)
    assert stored(database) == [(genes_key(head_of(store).values), value) for value in values]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "1.0", None, Decimal(1), 1j, 10**400])
def test_what_is_no_finite_number_is_refused(live: LiveOutcomes, database: Database, value: Any) -> None:
    with pytest.raises(UsageError, match="no finite number"):
        live.record(value, genes="g")
    live.flush()
    assert stored(database) == []


@pytest.mark.parametrize("value", [1, True, np.float32(1.0), np.int64(1)])
def test_every_kind_of_number_is_taken(live: LiveOutcomes, database: Database, value: Any) -> None:
    live.record(value, genes="g")
    live.flush()
    assert stored(database) == [("g", 1.0)]


def test_recording_does_not_wait_for_the_store(live: LiveOutcomes, database: Database, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # nobody else can write now
        for value in range(400):
            live.record(value, genes="g")
        with pytest.raises(StoreError, match=r"not stored within 0\.3 s"):
            live.flush(0.3)
        assert other.execute("SELECT count(*) FROM outcomes").fetchone() == (0,)
        other.execute("ROLLBACK")
    live.flush()
    assert [value for _, value in stored(database)] == list(range(400))


def test_many_threads_may_record_at_once(live: LiveOutcomes, database: Database) -> None:
    def work(name: str) -> None:
        for value in range(500):
            live.record(value, genes=name)

    threads = [threading.Thread(target=work, args=[f"g{place}"]) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    live.flush()
    for place in range(4):
        assert [value for genes, value in stored(database) if genes == f"g{place}"] == list(range(500))


def test_a_store_that_fails_is_told_and_nothing_is_lost(live: LiveOutcomes, database: Database, caplog) -> None:
    database.rows("ALTER TABLE outcomes RENAME TO gone")
    for value in range(300):
        live.record(value, genes="g")
    with pytest.raises(StoreError, match="no such table: outcomes"):
        live.flush()
    assert "live outcomes could not be stored" in caplog.text
    assert "kept=<300>" in caplog.text
    database.rows("ALTER TABLE gone RENAME TO outcomes")
    live.flush()
    assert [value for _, value in stored(database)] == list(range(300))


def test_what_does_not_fit_the_queue_is_counted_and_told(
    live: LiveOutcomes, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "LONGEST_QUEUE", 10)
    database.rows("ALTER TABLE outcomes RENAME TO gone")
    live.record(0, genes="g")
    with pytest.raises(StoreError, match="no such table"):
        live.flush()  # the first one is in the hands of the thread now
    for value in range(1, 101):
        live.record(value, genes="g")
    database.rows("ALTER TABLE gone RENAME TO outcomes")
    with pytest.raises(StoreError, match=r"\d+ outcomes were dropped") as told:
        live.flush()
    dropped = int(str(told.value).split()[0])
    kept = [value for _, value in stored(database)]
    assert len(kept) + dropped == 101
    assert kept[-10:] == list(range(91, 101)), "the oldest are dropped"
    live.flush()


def test_closing_stores_what_is_left_and_another_outcome_opens_again(live: LiveOutcomes, database: Database) -> None:
    live.record(1, genes="g")
    live.close()
    assert stored(database) == [("g", 1.0)]
    assert not any(thread.name == f"outcomes of {APP}" for thread in threading.enumerate())
    live.record(2, genes="g")
    live.flush()
    assert stored(database) == [("g", 1.0), ("g", 2.0)]


def test_a_process_that_ends_without_closing_stores_what_it_was_given(
    store: SQLiteDNAStore, database: Database
) -> None:
    program = """
        import sys
        from pathlib import Path
        from bedrock_evolution.clock import SystemClock
        from bedrock_evolution.dna.database import Database
        from bedrock_evolution.dna.sqlite import SQLiteDNAStore
        from bedrock_evolution.governance.live import LiveOutcomes
        from bedrock_evolution.settings import Safety

        database = Database(Path(sys.argv[1]))
        live = LiveOutcomes(database, SQLiteDNAStore(database), app="router", safety=Safety(), clock=SystemClock())
        for value in range(100):
            live.record(value, genes="g")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(database.path)], check=True, timeout=60)
    assert [value for _, value in stored(database)] == list(range(100))


@FORKS
def test_a_child_of_a_process_that_records_may_record_too(live: LiveOutcomes, database: Database) -> None:
    live.record(1, genes="parent")
    live.flush()
    live.record(2, genes="parent")

    def work() -> None:
        live.record(3, genes="child")
        live.flush()
        assert live._table._database is not database, "a connection must not be carried over a fork"
        live.close()

    assert os.waitpid(in_child(work), 0)[1] == 0
    live.flush()
    assert sorted(stored(database)) == [("child", 3.0), ("parent", 1.0), ("parent", 2.0)]


def test_an_application_without_dna_may_record(database: Database, clock: FixedClock) -> None:
    live = LiveOutcomes(database, SQLiteDNAStore(database), app="new", safety=SAFETY, clock=clock)
    live.record(1, genes="g")
    live.close()
    assert stored(database) == [("g", 1.0)]
    assert live.summary() is None


# -- judging


def test_worse_outcomes_bring_the_genes_before_them_back(live: LiveOutcomes, store: SQLiteDNAStore) -> None:
    before = head_of(store)
    feed(live, before, normal(100))
    worse = change(store, n=9)
    feed(live, worse, normal(100, mean=-1.0, seed=2))
    head = head_of(store)
    assert head.values == before.values
    [event] = rollbacks(store)
    assert (event.actor, event.at) == ("live outcomes", MOMENT)
    assert "live outcomes got worse: mean -" in event.why
    assert (event.data["from"], event.data["to"], event.data["dna"]) == (4, 3, head.checksum)
    evidence = event.data["evidence"]
    assert evidence["e_value"] >= evidence["threshold"] == 4 * 5 / SAFETY.alpha
    assert 0 < evidence["at"] <= evidence["outcomes"] <= 100
    assert verify(store, APP).intact
    assert SafeMode(store, FixedClock(MOMENT)).since(APP) is None


def test_better_outcomes_change_nothing(live: LiveOutcomes, store: SQLiteDNAStore) -> None:
    feed(live, head_of(store), normal(100))
    better = change(store, n=9)
    feed(live, better, normal(500, mean=0.5, seed=2))
    assert head_of(store) == better
    told = live.summary()
    assert told is not None
    assert (told.generation, told.outcomes, told.why_not) == (4, 500, "")
    assert told.comparison is not None
    assert not told.comparison.degraded
    assert told.mean_now == pytest.approx(told.comparison.mean_now)
    assert told.comparison.mean_before == pytest.approx(np.mean(normal(100)))


def test_too_few_outcomes_before_are_no_reference(live: LiveOutcomes, store: SQLiteDNAStore) -> None:
    feed(live, head_of(store), normal(SAFETY.reference - 1))
    worse = change(store, n=9)
    feed(live, worse, normal(200, mean=-5.0, seed=2))
    assert head_of(store) == worse
    told = live.summary()
    assert told is not None
    assert (told.comparison, told.why_not) == (None, "no genes before them had 30 outcomes")


def test_outcomes_of_other_genes_are_stored_and_not_judged(
    live: LiveOutcomes, store: SQLiteDNAStore, database: Database
) -> None:
    before = head_of(store)
    feed(live, before, normal(100))
    head = change(store, n=9)
    feed(live, store.snapshot(APP, 0), normal(200, mean=-5.0, seed=2))
    feed(live, before, normal(200, mean=-5.0, seed=3))
    assert head_of(store) == head
    assert len(stored(database)) == 500


def test_late_outcomes_of_the_genes_before_do_not_move_the_reference(live: LiveOutcomes, store: SQLiteDNAStore) -> None:
    before = head_of(store)
    feed(live, before, normal(100))
    head = change(store, n=9)
    feed(live, head, normal(10, seed=2))
    first = live.summary()
    feed(live, before, normal(REFERENCE * 2, mean=50.0, seed=3))
    assert live.summary() == first


@pytest.mark.parametrize("by", ["person", "application"])
def test_genes_that_no_run_made_live_are_not_judged(
    live: LiveOutcomes, store: SQLiteDNAStore, clock: FixedClock, by: str
) -> None:
    feed(live, head_of(store), normal(100))
    if by == "person":
        head = roll_back(store, APP, 1, by="Mara", why="", clock=clock)
    else:
        genes = head_of(store).genes
        head = declare(store, x=genes["x"].model_copy(update={"value": 0.1}))
    feed(live, head, normal(200, mean=-5.0, seed=2))
    assert head_of(store) == head
    told = live.summary()
    assert told is not None
    assert (told.outcomes, told.why_not) == (200, "no change of evolution made the live genes")


def test_outcomes_of_values_that_are_live_again_are_one_reference(live: LiveOutcomes, store: SQLiteDNAStore) -> None:
    good = head_of(store)
    feed(live, good, normal(20))
    feed(live, change(store, n=9), normal(20, mean=-5.0, seed=2))
    assert rollbacks(store) == [], "20 outcomes are no reference"
    head = roll_back(store, APP, good.generation, by="Mara", why="", clock=FixedClock(MOMENT))
    feed(live, head, normal(20, seed=3))
    feed(live, change(store, n=8), normal(100, mean=-3.0, seed=4))
    [event] = rollbacks(store)
    assert event.data["evidence"]["mean_before"] == pytest.approx(np.mean([*normal(20), *normal(20, seed=3)]))
    assert head_of(store).values == good.values


def test_values_that_become_live_again_are_judged_by_what_comes_then(
    live: LiveOutcomes, store: SQLiteDNAStore, clock: FixedClock
) -> None:
    feed(live, head_of(store), normal(100))
    clock.sleep(60)
    worse = change_at(store, clock, n=9)
    feed(live, worse, normal(100, mean=-2.0, seed=2))
    assert len(rollbacks(store)) == 1
    clock.sleep(60)
    again = change_at(store, clock, n=9)
    feed(live, again, normal(100, seed=3))
    assert head_of(store) == again, "the outcomes of its first life do not count"
    told = live.summary()
    assert told is not None
    assert told.outcomes == 100


def change_at(store: SQLiteDNAStore, clock: FixedClock, **values: Any) -> SystemDNA:
    """Apply a change at the clock's time."""
    from bedrock_evolution.dna.mutation import Mutation
    from tests.governance.test_rollback import event

    head = head_of(store)
    mutation = Mutation(parent=head.checksum, changes=values, category="intelligence upgrade")
    dna = head.apply(mutation, fitness=1.0)
    return store.commit(head.checksum, dna, event("applied", dna).model_copy(update={"at": clock.now()}))


def test_the_verdict_does_not_depend_on_how_outcomes_come_in(tmp_path: Path) -> None:
    found = set()
    for size in (1, 7, 100):
        database = Database(tmp_path / f"{size}.db")
        store = begun(database)
        table = OutcomeTable(database, store, app=APP, safety=SAFETY)
        table.add([Given(value, genes_key(head_of(store).values), MOMENT) for value in normal(100)])
        worse = genes_key(change(store, n=9).values)
        given = [Given(value, worse, MOMENT) for value in normal(100, mean=-1.0, seed=2)]
        for start in range(0, 100, size):
            told = table.add(given[start : start + size])
        assert told is not None
        found.add(told[1])
    [comparison] = found
    assert comparison is not None
    assert comparison.degraded


def test_the_table_stays_small_and_the_verdict_the_same(store: SQLiteDNAStore, database: Database) -> None:
    table = OutcomeTable(database, store, app=APP, safety=SAFETY)
    before = genes_key(head_of(store).values)
    table.add([Given(value, before, MOMENT) for value in normal(3 * REFERENCE)])
    now = genes_key(change(store, n=9).values)
    verdicts = []
    for batch in range(20):
        told = table.add([Given(value, now, MOMENT) for value in normal(250, seed=batch)])
        assert told is not None
        verdicts.append(told[1])
        table.add([Given(value, before, MOMENT) for value in normal(250, mean=9.0, seed=batch)])
    judged = OutcomeTable(database, store, app=APP, safety=SAFETY).summary()
    assert judged is not None
    assert judged.comparison == verdicts[-1] == verdicts[JUDGED // 250 - 1]
    assert judged.comparison is not None
    assert judged.comparison.outcomes == JUDGED
    assert judged.comparison.mean_before == pytest.approx(np.mean(normal(3 * REFERENCE)[-REFERENCE:]))
    for genes in (before, now):
        assert len([1 for name, _ in stored(database) if name == genes]) <= JUDGED + 2 * REFERENCE
    newest = [value for name, value in stored(database) if name == now][-250:]
    assert newest == normal(250, seed=19)


# -- processes that die or work side by side


@FORKS
def test_two_processes_that_record_at_once_roll_back_once(
    store: SQLiteDNAStore, database: Database, tmp_path: Path
) -> None:
    genes = genes_key(head_of(store).values)
    table = OutcomeTable(database, store, app=APP, safety=SAFETY)
    table.add([Given(value, genes, MOMENT) for value in normal(100)])
    worse = change(store, n=9)
    go = tmp_path / "go"

    def work(seed: int) -> None:
        own = Database(database.path)
        live = LiveOutcomes(own, SQLiteDNAStore(own), app=APP, safety=SAFETY, clock=FixedClock(MOMENT))
        while not go.exists():
            pass
        for value in normal(200, mean=-1.0, seed=seed):
            live.record(value, genes=genes_key(worse.values))
            live.flush()
        live.close()

    children = [in_child(lambda seed=seed: work(seed)) for seed in (2, 3)]
    go.touch()
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    [event] = rollbacks(store)
    assert head_of(store).generation == worse.generation + 1
    assert event.data["dna"] == head_of(store).checksum
    assert verify(store, APP).intact
    assert len(stored(database)) == 500


@FORKS
@pytest.mark.parametrize(("point", "done"), [("outcomes.record", 0), ("dna.commit", 1)])
def test_a_process_that_dies_before_what_follows_is_made_up_for(
    store: SQLiteDNAStore, database: Database, point: str, done: int
) -> None:
    safety = Safety(max_rollbacks=1)
    table = OutcomeTable(database, store, app=APP, safety=safety)
    table.add([Given(value, genes_key(head_of(store).values), MOMENT) for value in normal(100)])
    worse = change(store, n=9)

    def work() -> None:
        own = Database(database.path)
        live = LiveOutcomes(own, SQLiteDNAStore(own), app=APP, safety=safety, clock=FixedClock(MOMENT))
        own.reached = lambda at, moment: os._exit(9) if (at, moment) == (point, "after") else None
        feed(live, worse, normal(100, mean=-2.0, seed=2))

    status = os.waitpid(in_child(work), 0)[1]
    assert os.waitstatus_to_exitcode(status) == 9
    assert len(rollbacks(store)) == done
    assert SafeMode(store, SystemClock()).since(APP) is None

    live = LiveOutcomes(database, store, app=APP, safety=safety, clock=FixedClock(MOMENT))
    live.record(0.0, genes="any")
    live.close()
    assert len(rollbacks(store)) == 1
    assert SafeMode(store, SystemClock()).since(APP) is not None


def test_what_follows_is_tried_again_when_it_fails(
    live: LiveOutcomes, store: SQLiteDNAStore, database: Database, caplog
) -> None:
    feed(live, head_of(store), normal(100))
    worse = change(store, n=9)
    database.rows("CREATE TRIGGER full BEFORE INSERT ON dna BEGIN SELECT RAISE(ABORT, 'no room'); END")
    with caplog.at_level(logging.ERROR), pytest.raises(StoreError, match="no room"):
        feed(live, worse, normal(100, mean=-2.0, seed=2))
    assert "no room" in caplog.text
    assert (len(stored(database)), head_of(store)) == (200, worse)
    database.rows("DROP TRIGGER full")
    live.flush()
    assert (len(stored(database)), len(rollbacks(store))) == (200, 1)


# -- the claim


@pytest.mark.slow
@pytest.mark.parametrize(("drop", "outcomes", "least", "most"), [(1.0, 100, 0.95, 1.0), (0.0, 400, 0.0, 0.05)])
def test_a_fall_of_one_standard_deviation_is_rolled_back_within_100_outcomes_and_no_fall_is_not(
    tmp_path: Path, drop: float, outcomes: int, least: float, most: float
) -> None:
    runs, rolled_back = 100, 0
    for run in range(runs):
        database = Database(tmp_path / f"{run}.db")
        store = begun(database)
        live = LiveOutcomes(database, store, app=APP, safety=SAFETY, clock=FixedClock(MOMENT))
        feed(live, head_of(store), normal(100, mean=5.0, seed=1000 + run))
        feed(live, change(store, n=9), normal(outcomes, mean=5.0 - drop, seed=5000 + run))
        live.close()
        rolled_back += len(rollbacks(store))
        database.close()
    assert least * runs <= rolled_back <= most * runs
