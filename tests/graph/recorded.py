"""Runs on record for tests of replays and forks."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bedrock_evolution import Autonomy, Evolution, EvolutionResult
from bedrock_evolution.clock import FixedClock
from tests.garden import garden

CAREFUL = Autonomy(always_ask=("soil", "label"))
BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)


class TickingClock(FixedClock):
    """A clock that goes on by a second whenever it is read."""

    def now(self) -> datetime:
        self.moment += timedelta(seconds=1)
        return self.moment


def answered(folder: Path, verdict: str, *, generations: int = 3, **options: Any) -> tuple[Evolution, EvolutionResult]:
    """Run the garden, and give each of its questions the same answer."""
    app = garden(folder, **({"autonomy": CAREFUL} | options))
    return app, finished(app, app.run(generations, seed=5, progress=False), verdict)


def finished(app: Evolution, result: EvolutionResult, verdict: str = "approve") -> EvolutionResult:
    while result.status == "waiting":
        assert result.approval is not None
        app.answer(result.approval.approval_id, verdict, by="Ann", why="as the test says")  # type: ignore[arg-type]
        result = app.resume(result.run_id, progress=False)
    return result


def kinds(app: Evolution) -> list[str]:
    return [event.kind for event in app.store.events(app.app)]


def content(path: Path) -> list[str]:
    """Return all that a store's file holds, and the bytes of what lies beside it."""
    with sqlite3.connect(path) as connection:
        lines = list(connection.iterdump())
    connection.close()
    beside = [file for file in sorted(path.parent.iterdir()) if not file.name.startswith(path.name)]
    return [*lines, *(f"{file.name} {file.read_bytes().hex()}" for file in beside if file.is_file())]
