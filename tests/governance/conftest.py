"""A store with a short history and its anchor, and a clock that stands still."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.anchor import HeadAnchor
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
def anchor(database: Database) -> HeadAnchor:
    return HeadAnchor.beside(database)


@pytest.fixture
def store(database: Database, anchor: HeadAnchor) -> SQLiteDNAStore:
    """Four generations and five events."""
    made = SQLiteDNAStore(database, anchor)
    genes = {"x": number(0.5, low=0.0, high=1.0), "n": integer(0, low=0, high=9)}
    dna = SystemDNA.declare(APP, genes)
    made.commit(None, dna, draft("declared", kind="declared", dna=dna.checksum))
    for n in range(1, 4):
        mutation = Mutation(parent=dna.checksum, changes={"n": n}, category="intelligence upgrade")
        parent, dna = dna, dna.apply(mutation, fitness=n / 10)
        made.commit(parent.checksum, dna, draft(f"applied/{n}", kind="applied", dna=dna.checksum))
    made.append(draft("feedback"))
    return made


def draft(key: str, *, kind: str = "note", **data: Any) -> EventDraft:
    return EventDraft(app=APP, kind=kind, key=key, at=MOMENT, actor="rule", data={"about": key, **data})
