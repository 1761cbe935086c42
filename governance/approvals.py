"""Approvals: what waits for a person, and what persons have answered; each bound to what the question was about."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from sqlite3 import Connection
from typing import Any, Literal

from ..clock import Clock
from ..dna.canonical import checksum
from ..dna.database import Database
from ..dna.events import EventDraft
from ..dna.store import DNAStore
from ..errors import UnknownRun, UsageError
from .feedback import named

ApprovalStatus = Literal["pending", "approved", "rejected", "expired", "void"]
Verdict = Literal["approve", "reject"]

_POLICY = "policy"
_STATUS: Mapping[Verdict, ApprovalStatus] = {"approve": "approved", "reject": "rejected"}
_SETTLED = {"expired": "expired", "void": "voided"}
"""The kind of event that tells how a question ended which nobody answered."""


@dataclass(frozen=True, slots=True)
class Approval:
    """A question to a person about one mutation of one DNA on one evidence, and the answer once there is one."""

    approval_id: str
    """Begins with `ap-`; a checksum of run, mutation, DNA and question, so it fits no other."""
    app: str
    run_id: str
    generation: int
    """Generation of the run, not of the DNA."""
    mutation_id: str
    dna: str
    """Checksum of the live DNA that the mutation is for."""
    evidence: str
    """Checksum of the evidence in the question."""
    status: ApprovalStatus
    asked_at: str
    expires_at: str
    question: Mapping[str, Any]
    """The mutation's changes, its evidence and its risk."""
    answered_at: str | None = None
    by: str | None = None
    """The person who answered; `policy` where it expired or became void."""
    why: str | None = None

    @property
    def binding(self) -> dict[str, str]:
        """What an answer is bound to: with any of these changed, it does not count."""
        return {"run_id": self.run_id, "mutation_id": self.mutation_id, "dna": self.dna, "evidence": self.evidence}


_COLUMNS = tuple(Approval.__dataclass_fields__)
_SELECTED = ", ".join(f'"{column}"' for column in _COLUMNS)


class Approvals:
    """Durable approvals: one verdict stands, and every attempt to answer is on record.

    Args:
        database: The applications' file.
        store: Tells which DNA is live, and keeps the events; its tables are in the same file, so that an answer and
            its event are stored together.
        clock: Tells when a question was asked and answered.
        hours: Hours after which an unanswered question expires.
    """

    def __init__(self, database: Database, store: DNAStore, clock: Clock, *, hours: float) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self._life = timedelta(hours=hours)
        columns: dict[str, type] = dict.fromkeys(_COLUMNS, str) | {"generation": int, "refused": int}
        with database.tables() as tables:
            tables.table("approvals").create(columns, pk="approval_id", defaults={"refused": 0}, if_not_exists=True)
            tables.table("approvals").create_index(["app", "status"], if_not_exists=True)

    # -- asking and answering

    def ask(
        self, *, app: str, run_id: str, generation: int, mutation_id: str, dna: str, question: Mapping[str, Any]
    ) -> Approval:
        """Put a question to a person; the same question about the same DNA is asked once.

        Args:
            app: The application.
            run_id: The run that waits.
            generation: Generation of that run.
            mutation_id: The mutation to decide on.
            dna: Checksum of the live DNA it is for.
            question: What the person is shown, JSON-plain, with `changes`, `evidence`, `risk` and `why`.
        """
        now = self._clock.now()
        asked = Approval(
            approval_id=_binding_id(run_id, mutation_id, dna, question),
            app=app,
            run_id=run_id,
            generation=generation,
            mutation_id=mutation_id,
            dna=dna,
            evidence=_evidence_checksum(question),
            status="pending",
            asked_at=now.isoformat(),
            expires_at=(now + self._life).isoformat(),
            question=question,
        )
        row = asdict(asked) | {"question": json.dumps(dict(question), ensure_ascii=False, allow_nan=False)}
        with self._database.transaction("approval.ask") as connection:
            added = connection.execute(
                f"INSERT OR IGNORE INTO approvals ({_SELECTED}) VALUES ({', '.join('?' * len(_COLUMNS))})",  # noqa: S608  # ours
                [row[column] for column in _COLUMNS],
            ).rowcount
            if added:
                data = {"question": dict(question), "expires_at": asked.expires_at}
                self._tell(
                    asked, "asked", actor=_POLICY, why=str(question.get("why", "")), data=data, at=asked.asked_at
                )
        return self.get(asked.approval_id)

    def answer(self, approval_id: str, verdict: Verdict, *, by: str, why: str = "") -> Approval:
        """Record a person's answer; one that does not stand is on record too.

        Raises:
            UnknownRun: There is no such approval.
            UsageError: Nobody answers for it, or it was answered, expired or became void before.
        """
        if verdict not in _STATUS:
            raise UsageError(f"{verdict!r} is no verdict.", hint="Answer approve or reject.")
        by, why = named(by, why, "an approval")
        with self._database.transaction("approval.answer") as connection:
            found = self._settled(connection, self.get(approval_id))
            if found.status == "pending":
                answered = _ended(found, _STATUS[verdict], self._clock.now(), by=by, why=why)
                _store_end(connection, answered)
                self._tell(answered, "answered", actor=by, why=why, data={"verdict": verdict}, at=answered.answered_at)
                return answered
            self._refuse(connection, found, verdict, by=by, why=why)
        # Raised only now, so that the attempt stays on record.
        answered_before = found.status in _STATUS.values()
        hint = "The first answer stands." if answered_before else "The change is not made; resume the run to go on."
        raise UsageError(_told(found), hint=hint)

    def settle(self, approval_id: str) -> Approval:
        """Return an approval as it stands now: a question that expired or became void is recorded as such.

        Raises:
            UnknownRun: There is no such approval.
        """
        found = self.get(approval_id)
        if self.current(found).status == found.status:
            return found
        with self._database.transaction("approval.void") as connection:
            return self._settled(connection, self.get(approval_id))

    # -- reading

    def get(self, approval_id: str) -> Approval:
        """Return one approval as it is recorded.

        Raises:
            UnknownRun: There is no such approval.
        """
        found = self._select("approval_id = ?", [approval_id])
        if not found:
            raise UnknownRun(f"there is no approval {approval_id!r}.", hint="`bedrock-evolution approvals` lists them.")
        return found[0]

    def listed(self, app: str, *, pending_only: bool = False) -> list[Approval]:
        """Return an application's approvals as they are recorded, newest first."""
        return self._select(
            "app = ? AND (status = 'pending' OR NOT ?) ORDER BY asked_at DESC, rowid DESC", [app, pending_only]
        )

    def current(self, approval: Approval) -> Approval:
        """Return an approval as it would stand if it were settled now; nothing is written."""
        if approval.status != "pending":
            return approval
        now = self._clock.now()
        if void := self._void(approval):
            return _ended(approval, "void", now, by=_POLICY, why=void)
        if now >= datetime.fromisoformat(approval.expires_at):
            late = f"nobody answered before {approval.expires_at}"
            return _ended(approval, "expired", now, by=_POLICY, why=late)
        return approval

    def check(self, approval: Approval, *, dna: str, mutation_id: str, question: Mapping[str, Any]) -> str:
        """Say why an approved approval does not allow a change, or return an empty text if it does.

        Args:
            approval: The approval.
            dna: Checksum of the DNA that is live.
            mutation_id: The mutation about to be made.
            question: What would be asked of it now.
        """
        if approval.status != "approved":
            return f"{approval.approval_id} is {approval.status}, not approved"
        if approval.dna != dna:
            return _other_dna(approval.dna, dna)
        if approval.mutation_id != mutation_id:
            return f"it approves mutation {approval.mutation_id}, not {mutation_id}"
        if approval.evidence != _evidence_checksum(question):
            return "the evidence is not that which was shown to the person"
        if _altered(approval) or checksum(dict(question)) != checksum(dict(approval.question)):
            return "the question is not that which was put to the person"
        return self._unrecorded(approval)

    # -- inside a transaction

    def _settled(self, connection: Connection, approval: Approval) -> Approval:
        standing = self.current(approval)
        if standing.status != approval.status:
            _store_end(connection, standing)
            kind, live = _SETTLED[standing.status], self._live(approval.app)
            self._tell(
                standing, kind, actor=_POLICY, why=standing.why or "", data={"live": live}, at=standing.answered_at
            )
        return standing

    def _refuse(self, connection: Connection, approval: Approval, verdict: Verdict, *, by: str, why: str) -> None:
        [number] = connection.execute(
            "UPDATE approvals SET refused = refused + 1 WHERE approval_id = ? RETURNING refused", [approval.approval_id]
        ).fetchone()
        data = {"verdict": verdict, "reason": _told(approval)}
        self._tell(approval, "answer_refused", key=f"refused/{number}", actor=by, why=why, data=data)

    def _tell(
        self,
        approval: Approval,
        kind: str,
        *,
        key: str = "",
        actor: str,
        why: str,
        data: Mapping[str, Any],
        at: str | None = None,
    ) -> None:
        event = EventDraft(
            app=approval.app,
            kind=kind,
            key=f"{approval.approval_id}/{key or kind}",
            at=datetime.fromisoformat(at) if at else self._clock.now(),
            actor=actor,
            why=why,
            run_id=approval.run_id,
            generation=approval.generation,
            mutation_id=approval.mutation_id,
            data={"approval_id": approval.approval_id, "binding": approval.binding, **data},
        )
        self._store.append(event)

    def _unrecorded(self, approval: Approval) -> str:
        """Say that no such answer is on record, if the table and the chained record disagree."""
        said = self._store.event(approval.app, f"{approval.approval_id}/answered")
        if said is not None and said.data["verdict"] == "approve" and said.actor == approval.by:
            return ""
        return f"the record holds no approval by {approval.by}: the answer was altered"

    def _void(self, approval: Approval) -> str:
        asked = self._store.event(approval.app, f"{approval.approval_id}/asked")
        if asked is None or asked.data["expires_at"] != approval.expires_at or _altered(approval):
            return "the question was altered after it was asked"
        live = self._live(approval.app)
        return "" if live == approval.dna else _other_dna(approval.dna, live)

    def _live(self, app: str) -> str | None:
        head = self._store.head(app)
        return head.checksum if head else None

    def _select(self, where: str, parameters: Sequence[Any]) -> list[Approval]:
        rows = self._database.rows(f"SELECT {_SELECTED} FROM approvals WHERE {where}", parameters)  # noqa: S608  # ours
        named = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
        return [Approval(**row | {"question": json.loads(row["question"])}) for row in named]


def _binding_id(run_id: str, mutation_id: str, dna: str, question: Mapping[str, Any]) -> str:
    return "ap-" + checksum([run_id, mutation_id, dna, checksum(dict(question))])[:10]


def _evidence_checksum(question: Mapping[str, Any]) -> str:
    return checksum(question.get("evidence"))


def _altered(approval: Approval) -> bool:
    named = _binding_id(approval.run_id, approval.mutation_id, approval.dna, approval.question)
    return named != approval.approval_id or _evidence_checksum(approval.question) != approval.evidence


def _ended(approval: Approval, status: ApprovalStatus, at: datetime, *, by: str, why: str) -> Approval:
    return replace(approval, status=status, answered_at=at.isoformat(), by=by, why=why)


def _store_end(connection: Connection, ended: Approval) -> None:
    connection.execute(
        'UPDATE approvals SET status = ?, answered_at = ?, "by" = ?, why = ? WHERE approval_id = ?',
        [ended.status, ended.answered_at, ended.by, ended.why, ended.approval_id],
    )


def _other_dna(bound: str, live: str | None) -> str:
    return f"the live DNA changed: it was {bound[:12]} when the question was asked, and is {str(live)[:12]} now"


def _told(approval: Approval) -> str:
    if approval.status in _STATUS.values():
        return f"{approval.approval_id} was {approval.status} by {approval.by} at {approval.answered_at}."
    ended = "expired" if approval.status == "expired" else "became void"
    return f"{approval.approval_id} {ended} at {approval.answered_at}: {approval.why}."
