"""A store with a short history, and a clock that stands still."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.events import EventDraft
from bedrock_evolution.dna.genes import integer, number
from bedrock_evolution.dna.genome import SystemDNA
from bedrock_evolution.dna.mutation import Mutation
from bedrock_evolution.dna.sqlite import SQLiteDNAStore

APP = "router"
MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(MOMENT)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evolution.db"


@pytest.fixture
def database(path: Path) -> Database:
    return Database(path)


@pytest.fixture
def store(database: Database) -> SQLiteDNAStore:
    """Four generations and five events."""
    made = SQLiteDNAStore(database)
    genes = {"x": number(0.5, low=0.0, high=1.0), "n": integer(0, low=0, high=9)}
    dna = made.commit(None, SystemDNA.declare(APP, genes), draft("declared"))
    for n in range(1, 4):
        mutation = Mutation(parent=dna.checksum, changes={"n": n}, category="intelligence upgrade")
        dna = made.commit(dna.checksum, dna.apply(mutation, fitness=n / 10), draft(f"applied/{n}"))
    made.append(draft("feedback"))
    return made


def draft(key: str) -> EventDraft:
    return EventDraft(app=APP, kind="note", key=key, at=MOMENT, actor="rule", data={"about": key})
