"""Safe mode: nothing changes until a person lifts it, and somebody is told."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from bedrock_evolution.errors import ExitCode, SafeModeActive, UsageError
from bedrock_evolution.governance.audit import verify
from bedrock_evolution.governance.safe_mode import SafeMode
from tests.governance.conftest import APP, MOMENT
from tests.governance.test_rollback import begun

LOGGER = "bedrock_evolution.governance.safe_mode"


@pytest.fixture
def store(database: Database) -> SQLiteDNAStore:
    return begun(database)


@pytest.fixture
def safe_mode(store: SQLiteDNAStore, clock: FixedClock) -> SafeMode:
    return SafeMode(store, clock)


def test_an_application_is_not_in_safe_mode_by_itself(safe_mode: SafeMode) -> None:
    assert safe_mode.since(APP) is None
    safe_mode.check(APP)


def test_safe_mode_holds_until_a_person_lifts_it(
    safe_mode: SafeMode, store: SQLiteDNAStore, clock: FixedClock, database: Database
) -> None:
    safe_mode.enter(APP, why="three rollbacks.", actor="live outcomes")
    clock.moment += timedelta(days=400)
    other = SafeMode(SQLiteDNAStore(Database(database.path)), clock)
    for one in (safe_mode, other):
        state = one.since(APP)
        assert state is not None
        assert (state.since, state.why, state.actor) == (MOMENT, "three rollbacks.", "live outcomes")
        with pytest.raises(SafeModeActive, match=r"since 2026-03-01 12:00 UTC: three rollbacks\.") as refused:
            one.check(APP)
    assert "safe-mode lift --by" in refused.value.hint
    assert refused.value.exit_code == ExitCode.WAITING_FOR_APPROVAL

    event = other.lift(APP, by=" Mara ", why="mended the tool")
    assert (event.kind, event.actor, event.why, event.at) == (
        "safe_mode_lifted",
        "Mara",
        "mended the tool",
        clock.moment,
    )
    assert safe_mode.since(APP) is None
    safe_mode.check(APP)
    assert verify(store, APP).intact


def test_entering_is_an_alarm_once(safe_mode: SafeMode, store: SQLiteDNAStore, caplog) -> None:
    with caplog.at_level(logging.ERROR, logger=LOGGER):
        first = safe_mode.enter(APP, why="the first reason", actor="live outcomes")
        again = safe_mode.enter(APP, why="another reason", actor="audit")
    assert first == again
    assert len(store.recent(APP, ["safe_mode"], limit=10)) == 1
    [told] = [record for record in caplog.records if record.name == LOGGER]
    assert told.levelno == logging.ERROR
    assert APP in told.getMessage()
    assert "the first reason" in told.getMessage()
    assert "safe-mode lift --by NAME" in told.getMessage()


def test_it_can_be_entered_and_lifted_many_times(safe_mode: SafeMode, store: SQLiteDNAStore) -> None:
    for turn in range(3):
        safe_mode.enter(APP, why=f"reason {turn}", actor="live outcomes")
        safe_mode.lift(APP, by="Mara", why="")
    events = store.recent(APP, ["safe_mode", "safe_mode_lifted"], limit=10)
    assert [event.kind for event in events] == ["safe_mode_lifted", "safe_mode"] * 3
    assert events[1].why == "reason 2"
    assert safe_mode.since(APP) is None


@pytest.mark.parametrize("by", ["", "  "])
def test_nobody_cannot_lift_it(safe_mode: SafeMode, by: str) -> None:
    safe_mode.enter(APP, why="a reason", actor="live outcomes")
    with pytest.raises(UsageError, match="name of the person"):
        safe_mode.lift(APP, by=by, why="")
    assert safe_mode.since(APP) is not None


def test_what_was_not_entered_cannot_be_lifted(safe_mode: SafeMode) -> None:
    with pytest.raises(UsageError, match="not in safe mode"):
        safe_mode.lift(APP, by="Mara", why="")


def test_applications_of_one_store_are_apart(safe_mode: SafeMode) -> None:
    safe_mode.enter(APP, why="a reason", actor="live outcomes")
    safe_mode.check("another")
