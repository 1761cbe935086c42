"""`rollback` and `safe-mode` on a real store: what they print, what they leave, and how they refuse."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.anchor import HeadAnchor
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from bedrock_evolution.governance.audit import verify
from bedrock_evolution.governance.safe_mode import SafeMode
from tests.cli.conftest import Cli
from tests.governance.test_rollback import begun

STORE = ("--store", "sqlite:///store.db")
WHY = "3 automatic rollbacks without a change that lasted"


@pytest.fixture
def store(tmp_path: Path) -> SQLiteDNAStore:
    """Generations 0 to 3 of the application `router`."""
    database = Database(tmp_path / "store.db")
    begun(database)
    anchor = HeadAnchor.beside(database)
    anchor.path.touch()
    signed = SQLiteDNAStore(database, anchor)
    signed.sign_head("router")
    return signed


@pytest.fixture
def unsafe(store: SQLiteDNAStore) -> SQLiteDNAStore:
    """The same in safe mode."""
    clock = FixedClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
    SafeMode(store, clock).enter("router", why=WHY, actor="live outcomes")
    return store


def test_rollback_makes_an_earlier_generation_live(cli: Cli, store: SQLiteDNAStore) -> None:
    answer = cli("rollback", "--to", "1", "--by", "Mara", "--why", "worse", "--json", *STORE)
    head = store.head("router")
    assert head is not None
    assert answer.json == {"app": "router", "generation": 4, "checksum": head.checksum}
    assert head.values == store.snapshot("router", 1).values
    [event] = store.recent("router", ["restored"], limit=9)
    assert (event.actor, event.why, event.data["automatic"]) == ("Mara", "worse", False)
    assert verify(store, "router").intact

    again = cli("rollback", "--to", "3", "--by", "Mara", *STORE)
    assert (again.code, again.out) == (0, "router: generation 3 is live again, as generation 5\n")


@pytest.mark.parametrize("generation", range(4))
def test_every_generation_can_be_rolled_back_to(cli: Cli, store: SQLiteDNAStore, generation: int) -> None:
    assert cli("rollback", "--to", str(generation), "--by", "Mara", *STORE).code == 0
    head = store.head("router")
    assert head is not None
    assert head.values == store.snapshot("router", generation).values


@pytest.mark.parametrize(("to", "by", "said"), [("9", "Mara", "no generation 9"), ("1", " ", "name of the person")])
def test_a_rollback_that_cannot_be_made_changes_nothing(
    cli: Cli, store: SQLiteDNAStore, to: str, by: str, said: str
) -> None:
    before = list(store.events("router"))
    answer = cli("rollback", "--to", to, "--by", by, *STORE)
    assert answer.code == 2
    assert said in answer.err
    assert list(store.events("router")) == before


def test_status_names_the_stable_generations(cli: Cli, store: SQLiteDNAStore) -> None:
    told = cli("safe-mode", "status", "--json", *STORE)
    assert told.json == {"app": "router", "safe_mode": None, "stable": [3, 2, 1, 0]}
    assert cli("safe-mode", "status", *STORE).out == (
        "router: not in safe mode\nstable generations, newest first: 3, 2, 1, 0\n"
    )


def test_status_says_since_when_why_and_what_to_do(cli: Cli, unsafe: SQLiteDNAStore) -> None:
    told = cli("safe-mode", "status", "--json", *STORE).json["safe_mode"]
    assert told == {"since": "2026-03-01T12:00:00+00:00", "why": WHY, "actor": "live outcomes"}
    out = cli("safe-mode", "status", *STORE).out
    assert "in safe mode since 2026-03-01 12:00 UTC, by live outcomes" in out
    assert WHY in out
    assert "lift: bedrock-evolution safe-mode lift --by NAME" in out


def test_a_person_lifts_safe_mode(cli: Cli, unsafe: SQLiteDNAStore) -> None:
    told = cli("safe-mode", "lift", "--by", "Mara", "--why", "mended", "--json", *STORE).json
    assert (told["app"], told["by"], told["why"]) == ("router", "Mara", "mended")
    assert cli("safe-mode", "status", "--json", *STORE).json["safe_mode"] is None
    [event] = unsafe.recent("router", ["safe_mode_lifted"], limit=9)
    assert (event.actor, event.why) == ("Mara", "mended")


def test_a_rollback_by_a_person_is_made_in_safe_mode_too(cli: Cli, unsafe: SQLiteDNAStore) -> None:
    assert cli("rollback", "--to", "1", "--by", "Mara", *STORE).code == 0
    assert cli("safe-mode", "status", "--json", *STORE).json["safe_mode"] is not None


def test_safe_mode_is_lifted_only_where_it_is_and_by_name(cli: Cli, store: SQLiteDNAStore) -> None:
    answer = cli("safe-mode", "lift", "--by", "Mara", *STORE)
    assert (answer.code, answer.err.splitlines()[0]) == (2, "error: 'router' is not in safe mode.")
    unnamed = cli("safe-mode", "lift", *STORE)
    assert unnamed.code == 2
    assert "--by" in unnamed.err


def test_safe_mode_alone_shows_its_commands(cli: Cli) -> None:
    answer = cli("safe-mode", "--help")
    assert answer.code == 0
    assert "status" in answer.out
    assert "lift" in answer.out
