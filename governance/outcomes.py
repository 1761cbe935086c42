"""The stored outcomes of live use, and how those of the live genes compare with those of the genes before them.

The comparison is made from the stored outcomes alone, so all processes that record for an application come to the same
result.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from ..clock import derive_seed
from ..dna.database import Database
from ..dna.genome import SystemDNA
from ..dna.sqlite import SQLiteDNAStore
from ..fitness.scorer import genes_key
from ..settings import Safety
from .degradation import Degradation, assess, threshold_of

REFERENCE = 500
"""Newest outcomes of the earlier genes that new ones are compared with."""
JUDGED = 2000
"""First outcomes of new genes that are compared."""
_ANCESTORS = 20
"""Generations that are looked back on for outcomes to compare with."""
_CHANGES = ("applied", "restored", "declared")
_CHANGES_LOOKED_AT = 1000
_AFTER_ALL = 2**62


class Given(NamedTuple):
    """One outcome as it was handed in."""

    value: float
    genes: str
    at: datetime


@dataclass(frozen=True, slots=True)
class LiveSummary:
    """How the live genes do.

    Args:
        generation: Generation of the live DNA.
        outcomes: Its outcomes that are stored since it became live.
        mean_now: Their mean; None where there are none.
        comparison: How they compare with those before, where they are compared.
        why_not: Why they are not, otherwise.
    """

    generation: int
    outcomes: int
    mean_now: float | None
    comparison: Degradation | None
    why_not: str


@dataclass(frozen=True, slots=True)
class Watched:
    """The live DNA, and what its outcomes are compared with."""

    head: SystemDNA
    genes: str
    since: str
    ancestors: tuple[str, ...]
    """Names of the gene values before it, newest first; none where the live DNA is not judged."""
    change: int
    """Number of the change that made it, from 1."""


class OutcomeTable:
    """The stored outcomes of one application, and the comparison they are for.

    Args:
        database: The application's file.
        store: Where its DNA is kept.
        app: The application.
        safety: What is needed to compare.
    """

    def __init__(self, database: Database, store: SQLiteDNAStore, *, app: str, safety: Safety) -> None:
        self._database = database
        self._store = store
        self._app = app
        self._safety = safety
        self._watched: Watched | None = None
        self._final: Degradation | None = None
        with database.tables() as tables:
            tables.table("outcomes").create(
                {"app": str, "number": int, "genes": str, "value": float, "at": str},
                pk=("app", "number"),
                if_not_exists=True,
            )
            tables.table("outcomes").create_index(["app", "genes", "number"], if_not_exists=True)

    def add(self, given: Sequence[Given]) -> tuple[Watched, Degradation | None] | None:
        """Store outcomes in their order, and compare those of the live genes in the same transaction.

        Returns:
            The live DNA and how it compares, if it is compared; None where there is no DNA yet.
        """
        with self._database.transaction("outcomes.record") as connection:
            last = connection.execute("SELECT max(number) FROM outcomes WHERE app = ?", [self._app]).fetchone()[0] or 0
            connection.executemany(
                "INSERT INTO outcomes (app, number, genes, value, at) VALUES (?, ?, ?, ?, ?)",
                [
                    (self._app, number, outcome.genes, outcome.value, _text(outcome.at))
                    for number, outcome in enumerate(given, start=last + 1)
                ],
            )
            watched = self._watch()
            if watched is None:
                return None
            first = self._first(watched)
            for genes in sorted({outcome.genes for outcome in given}):
                self._prune(connection, genes, first or _AFTER_ALL)
            return watched, self._compared(watched, first)

    def judged(self) -> tuple[Watched, Degradation | None] | None:
        """Return the live DNA and how its stored outcomes compare, as `add` does, without storing any."""
        watched = self._watch()
        return None if watched is None else (watched, self._compared(watched, self._first(watched)))

    def summary(self) -> LiveSummary | None:
        """Return how the live genes do, or None where there is no DNA yet."""
        watched = self._watch()
        if watched is None:
            return None
        first = self._first(watched)
        row = self._database.row(
            "SELECT count(*), avg(value) FROM outcomes WHERE app = ? AND genes = ? AND number >= ?",
            [self._app, watched.genes, first or _AFTER_ALL],
        )
        outcomes, mean = row or (0, None)
        comparison = self._compared(watched, first)
        why_not = ""
        if not watched.ancestors:
            why_not = "no change of evolution made the live genes"
        elif first is None:
            why_not = "they have no outcomes yet"
        elif comparison is None:
            why_not = f"no genes before them had {self._safety.reference} outcomes"
        return LiveSummary(watched.head.generation, outcomes, mean, comparison, why_not)

    def _watch(self) -> Watched | None:
        head = self._store.head(self._app)
        if head is None:
            return None
        if self._watched is None or self._watched.head.checksum != head.checksum:
            self._watched, self._final = self._found(head), None
        return self._watched

    def _found(self, head: SystemDNA) -> Watched:
        genes = genes_key(head.values)
        newest = self._store.recent(self._app, _CHANGES, limit=_CHANGES_LOOKED_AT)
        # The oldest of those that name it: another run that proposed the same change has an event of its own.
        made = next((event for event in reversed(newest) if event.data.get("dna") == head.checksum), None)
        since = "" if made is None else _text(made.at)
        # What a person brought back or the application declared is theirs to answer for.
        if made is None or made.kind != "applied" or head.generation == 0:
            return Watched(head, genes, since, ancestors=(), change=0)
        earlier = self._store.history(self._app, limit=_ANCESTORS + 1)[1:]
        ancestors = dict.fromkeys(name for dna in earlier if (name := genes_key(dna.values)) != genes)
        row = self._database.row(
            "SELECT count(*) FROM events WHERE app = ? AND kind = 'applied' AND seq <= ?", [self._app, made.seq]
        )
        return Watched(head, genes, since, tuple(ancestors), change=int(row[0]) if row else 1)

    def _first(self, watched: Watched) -> int | None:
        """Return the number of the first outcome that the live genes had since they became live."""
        row = self._database.row(
            "SELECT number FROM outcomes WHERE app = ? AND genes = ? AND at >= ? ORDER BY number LIMIT 1",
            [self._app, watched.genes, watched.since],
        )
        return None if row is None else int(row[0])

    def _compared(self, watched: Watched, first: int | None) -> Degradation | None:
        if first is None or self._final is not None:
            return self._final
        before, _ = self._before(watched, first)
        if not before:
            return None
        comparison = assess(
            before,
            self._values("genes = ? AND number >= ? ORDER BY number LIMIT ?", [watched.genes, first, JUDGED]),
            threshold=threshold_of(watched.change, alpha=self._safety.alpha),
            seed=derive_seed(0, self._app, watched.head.checksum),
        )
        self._final = comparison if comparison.outcomes == JUDGED else None
        return comparison

    def better(self, watched: Watched) -> str:
        """Return the name of the gene values that the live ones are compared with; empty for none."""
        first = self._first(watched)
        return "" if first is None else self._before(watched, first)[1]

    def _before(self, watched: Watched, first: int) -> tuple[list[float], str]:
        """Return the outcomes of the newest genes before the live ones that had enough of them, and their name.

        Genes that were replaced before they had met anybody say nothing, and are passed over.
        """
        for genes in watched.ancestors:
            # Those before the first new one: later ones of slow processes must not change what is compared with.
            values = self._values("genes = ? AND number < ? ORDER BY number DESC LIMIT ?", [genes, first, REFERENCE])
            if len(values) >= self._safety.reference:
                return values, genes
        return [], ""

    def _values(self, which: str, parameters: Sequence[str | int]) -> list[float]:
        rows = self._database.rows(
            f"SELECT value FROM outcomes WHERE app = ? AND {which}",  # noqa: S608  # no outside text
            [self._app, *parameters],
        )
        return [value for (value,) in rows]

    def _prune(self, connection: sqlite3.Connection, genes: str, first: int) -> None:
        """Keep what comparisons need: the newest before outcome `first`, the first since then, and the newest."""
        where = [self._app, genes, first]
        old = "FROM outcomes WHERE app = ? AND genes = ? AND number < ?"
        new = "FROM outcomes WHERE app = ? AND genes = ? AND number >= ?"
        connection.execute(
            f"DELETE {old} AND number <= (SELECT number {old} ORDER BY number DESC LIMIT 1 OFFSET ?)",
            [*where, *where, REFERENCE],
        )
        connection.execute(
            f"DELETE {new} AND number > (SELECT number {new} ORDER BY number LIMIT 1 OFFSET ?)"
            f" AND number <= (SELECT number {new} ORDER BY number DESC LIMIT 1 OFFSET ?)",
            [*where, *where, JUDGED - 1, *where, REFERENCE],
        )


def _text(moment: datetime) -> str:
    """Write a moment so that texts sort as moments do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
