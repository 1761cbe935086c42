"""Approvals: what waits for a person, and what persons have answered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..clock import Clock
from ..dna.canonical import checksum, storable
from ..dna.database import Database
from ..errors import UnknownRun, UsageError

ApprovalStatus = Literal["pending", "approved", "rejected"]
Verdict = Literal["approve", "reject"]


@dataclass(frozen=True, slots=True)
class Approval:
    """A question to a person about one mutation of one DNA, and the answer once there is one."""

    approval_id: str
    app: str
    run_id: str
    mutation_id: str
    status: ApprovalStatus
    asked_at: str
    question: Mapping[str, Any]
    """The mutation's changes, its evidence and its risk."""
    answered_at: str | None = None
    by: str | None = None
    why: str | None = None


class Approvals:
    """Durable approvals; the first answer stands.

    Args:
        database: The application's file.
        clock: Tells when a question was asked and answered.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        with database.tables() as tables:
            tables.table("approvals").create(
                {
                    "approval_id": str,
                    "app": str,
                    "run_id": str,
                    "mutation_id": str,
                    "status": str,
                    "asked_at": str,
                    "question": str,
                    "answered_at": str,
                    "by": str,
                    "why": str,
                },
                pk="approval_id",
                if_not_exists=True,
            )

    def ask(self, *, app: str, run_id: str, mutation_id: str, question: Mapping[str, Any]) -> Approval:
        """Put a question to a person; the same question of the same run is asked once."""
        approval_id = "ap-" + checksum([run_id, mutation_id])[:10]
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO approvals (approval_id, app, run_id, mutation_id, status, asked_at, question)"
                " VALUES (?, ?, ?, ?, 'pending', ?, ?)",
                [approval_id, app, run_id, mutation_id, self._clock.now().isoformat(), json.dumps(dict(question))],
            )
        return self.get(approval_id)

    def answer(self, approval_id: str, verdict: Verdict, *, by: str, why: str = "") -> Approval:
        """Record a person's answer.

        Raises:
            UnknownRun: There is no such approval.
            UsageError: It was answered already, or nobody answers for it.
        """
        if not by.strip():
            raise UsageError("an approval needs the name of the person who answers.", hint="Give --by NAME.")
        by, why = storable(by.strip()), storable(why)
        status = "approved" if verdict == "approve" else "rejected"
        with self._database.transaction() as connection:
            known = self.get(approval_id)
            if known.status != "pending":
                raise UsageError(
                    f"{approval_id} was {known.status} by {known.by} at {known.answered_at}.",
                    hint="The first answer stands.",
                )
            connection.execute(
                'UPDATE approvals SET status = ?, answered_at = ?, "by" = ?, why = ? WHERE approval_id = ?',
                [status, self._clock.now().isoformat(), by, why, approval_id],
            )
        return self.get(approval_id)

    def get(self, approval_id: str) -> Approval:
        """Return one approval.

        Raises:
            UnknownRun: There is no such approval.
        """
        found = self._select("approval_id = ?", [approval_id])
        if not found:
            raise UnknownRun(f"there is no approval {approval_id!r}.", hint="`bedrock-evolution approvals` lists them.")
        return found[0]

    def listed(self, app: str, *, pending_only: bool = False) -> list[Approval]:
        """Return an application's approvals, newest first."""
        return self._select(
            "app = ? AND (status = 'pending' OR NOT ?) ORDER BY asked_at DESC, rowid DESC", [app, pending_only]
        )

    def _select(self, where: str, parameters: Sequence[Any]) -> list[Approval]:
        rows = self._database.rows(
            "SELECT approval_id, app, run_id, mutation_id, status, asked_at, question, answered_at,"  # noqa: S608  # no outside text
            f' "by", why FROM approvals WHERE {where}',
            parameters,
        )
        return [_read(row) for row in rows]


def _read(row: tuple[Any, ...]) -> Approval:
    approval_id, app, run_id, mutation_id, status, asked_at, question, answered_at, by, why = row
    return Approval(approval_id, app, run_id, mutation_id, status, asked_at, json.loads(question), answered_at, by, why)
