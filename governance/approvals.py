"""Approvals: what waits for a person, and what persons have answered; each bound to what the question was about.

The table is a projection of the record: a row is written from the event that tells of it, whoever stored that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from sqlite3 import Connection
from typing import Any, Literal

from ..clock import Clock
from ..dna.canonical import checksum
from ..dna.database import Database
from ..dna.events import EventDraft, EvolutionEvent
from ..dna.sqlite import SQLiteDNAStore
from ..errors import UnknownRun, UsageError
from .feedback import named

ApprovalStatus = Literal["pending", "approved", "rejected", "expired", "void"]
Verdict = Literal["approve", "reject"]

_POLICY = "policy"
_STATUS: Mapping[Verdict, ApprovalStatus] = {"approve": "approved", "reject": "rejected"}
_UNANSWERED: Mapping[str, ApprovalStatus] = {"expired": "expired", "voided": "void"}
"""The kinds of event that tell how a question ended which nobody answered."""
_ENDS = ("answered", *_UNANSWERED)


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
_TABLE = (
    """
    CREATE TABLE IF NOT EXISTS "approvals" (
        "approval_id" TEXT PRIMARY KEY, "app" TEXT, "run_id" TEXT, "generation" INTEGER, "mutation_id" TEXT,
        "dna" TEXT, "evidence" TEXT, "status" TEXT, "asked_at" TEXT, "expires_at" TEXT, "question" TEXT,
        "answered_at" TEXT, "by" TEXT, "why" TEXT, "refused" INTEGER DEFAULT 0
    )
    """,
    'CREATE INDEX IF NOT EXISTS "idx_approvals_app_status" ON "approvals" ("app", "status")',
)


def project(connection: Connection, event: EvolutionEvent) -> None:
    """Bring the row of a question up to date with an event on record; other events change nothing.

    The first end of a question in the record stands, whatever this file held before.

    Args:
        connection: Of a file with the table `events`, which holds what comes before the event in the record.
        event: The event.
    """
    approval_id, _, _ = event.key.partition("/")
    if event.data.get("approval_id") != approval_id:
        return
    if event.kind == "asked":
        _create_table(connection)
        _project_question(connection, event)
    elif event.kind in _ENDS:
        _create_table(connection)
        _project_end(connection, _first_end(connection, event))
    elif event.kind == "answer_refused":
        _create_table(connection)
        connection.execute(
            "UPDATE approvals SET refused = refused + 1 WHERE approval_id = ? AND app = ?", [approval_id, event.app]
        )


class Approvals:
    """Durable approvals: one verdict stands, and every attempt to answer is on record.

    Args:
        database: The applications' file.
        store: Tells which DNA is live, and keeps the events; its tables are in the same file, so that an answer and
            its event are stored together. What other machines stored is taken over before anything is read.
        clock: Tells when a question was asked and answered.
        hours: Hours after which an unanswered question expires.
    """

    def __init__(self, database: Database, store: SQLiteDNAStore, clock: Clock, *, hours: float) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self._life = timedelta(hours=hours)
        with database.transaction("tables") as connection:
            _create_table(connection)

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
        with self._database.transaction("approval.ask") as connection:
            if self._found(asked.approval_id) is None:
                data = {"question": dict(question), "expires_at": asked.expires_at}
                told = str(question.get("why", ""))
                self._tell(connection, asked, "asked", actor=_POLICY, why=told, data=data, at=asked.asked_at)
        return self._read(asked.approval_id)

    def answer(self, approval_id: str, verdict: Verdict, *, by: str, why: str = "") -> Approval:
        """Record a person's answer; one that does not stand is on record too.

        Raises:
            UnknownRun: There is no such approval.
            UsageError: Nobody answers for it, or it was answered, expired or became void before.
        """
        if verdict not in _STATUS:
            raise UsageError(f"{verdict!r} is no verdict.", hint="Answer approve or reject.")
        by, why = named(by, why, "an approval")
        self.get(approval_id)
        with self._database.transaction("approval.answer") as connection:
            found = self._settled(connection, self._read(approval_id))
            in_time = found.status == "pending"
            now = self._clock.now()
            answer = _ended(found, _STATUS[verdict], now, by=by, why=why)
            if in_time:
                data = {"verdict": verdict}
                self._tell(connection, answer, "answered", actor=by, why=why, data=data, at=now.isoformat())
            else:
                self._refuse(connection, found, answer, verdict)
        standing = self._read(approval_id)
        if in_time:
            if _end_of(standing) == _end_of(answer):
                return standing
            # The store sent it when the transaction had ended, and met another machine's answer.
            with self._database.transaction("approval.answer") as connection:
                self._refuse(connection, standing, answer, verdict)
        # Raised only now, so that the attempt stays on record.
        answered_before = standing.status in _STATUS.values()
        hint = "The first answer stands." if answered_before else "The change is not made; resume the run to go on."
        raise UsageError(_told(standing), hint=hint)

    def settle(self, approval_id: str) -> Approval:
        """Return an approval as it stands now: a question that expired or became void is recorded as such.

        Raises:
            UnknownRun: There is no such approval.
        """
        found = self.get(approval_id)
        if self.current(found).status == found.status:
            return found
        with self._database.transaction("approval.void") as connection:
            self._settled(connection, self._read(approval_id))
        # Another machine may have recorded an answer before this end.
        return self._read(approval_id)

    # -- reading

    def get(self, approval_id: str) -> Approval:
        """Return one approval as it is recorded.

        Raises:
            UnknownRun: There is no such approval.
        """
        found = self._found(approval_id)
        for app in [found.app] if found else self._store.apps():
            self._store.refresh(app)
        return self._read(approval_id)

    def listed(self, app: str, *, pending_only: bool = False) -> list[Approval]:
        """Return an application's approvals as they are recorded, newest first."""
        self._store.refresh(app)
        return self._select(
            "app = ? AND (status = 'pending' OR NOT ?) ORDER BY asked_at DESC, approval_id DESC", [app, pending_only]
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
        if standing.status == approval.status:
            return approval
        [kind] = [kind for kind, status in _UNANSWERED.items() if status == standing.status]
        data = {"live": self._live(approval.app)}
        why, at = standing.why or "", standing.answered_at or ""
        self._tell(connection, standing, kind, actor=_POLICY, why=why, data=data, at=at)
        return self._read(approval.approval_id)

    def _refuse(self, connection: Connection, standing: Approval, answer: Approval, verdict: Verdict) -> None:
        by, why, at = answer.by or "", answer.why or "", answer.answered_at or ""
        data = {"verdict": verdict, "reason": _told(standing)}
        # Two machines would count to the same number; these differ.
        key = f"refused/{checksum([by, why, at, data])[:10]}"
        if self._store.event(standing.app, f"{standing.approval_id}/{key}") is None:
            self._tell(connection, standing, "answer_refused", key=key, actor=by, why=why, data=data, at=at)

    def _tell(
        self,
        connection: Connection,
        approval: Approval,
        kind: str,
        *,
        key: str = "",
        actor: str,
        why: str,
        data: Mapping[str, Any],
        at: str,
    ) -> None:
        event = EventDraft(
            app=approval.app,
            kind=kind,
            key=f"{approval.approval_id}/{key or kind}",
            at=datetime.fromisoformat(at),
            actor=actor,
            why=why,
            run_id=approval.run_id,
            generation=approval.generation,
            mutation_id=approval.mutation_id,
            data={"approval_id": approval.approval_id, "binding": approval.binding, **data},
        )
        project(connection, self._store.append(event))

    def _unrecorded(self, approval: Approval) -> str:
        """Say that no such answer is on record, if the table and the chained record disagree."""
        ends = [self._store.event(approval.app, f"{approval.approval_id}/{kind}") for kind in _ENDS]
        said = min((end for end in ends if end is not None), key=lambda end: end.seq, default=None)
        if said is not None and said.data.get("verdict") == "approve" and said.actor == approval.by:
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

    def _read(self, approval_id: str) -> Approval:
        found = self._found(approval_id)
        if found is None:
            raise UnknownRun(f"there is no approval {approval_id!r}.", hint="`bedrock-evolution approvals` lists them.")
        return found

    def _found(self, approval_id: str) -> Approval | None:
        return next(iter(self._select("approval_id = ?", [approval_id])), None)

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


def _end_of(approval: Approval) -> tuple[ApprovalStatus, str | None, str | None, str | None]:
    return approval.status, approval.answered_at, approval.by, approval.why


def _other_dna(bound: str, live: str | None) -> str:
    return f"the live DNA changed: it was {bound[:12]} when the question was asked, and is {str(live)[:12]} now"


def _told(approval: Approval) -> str:
    if approval.status in _STATUS.values():
        return f"{approval.approval_id} was {approval.status} by {approval.by} at {approval.answered_at}."
    ended = "expired" if approval.status == "expired" else "became void"
    return f"{approval.approval_id} {ended} at {approval.answered_at}: {approval.why}."


# -- from the record


def _create_table(connection: Connection) -> None:
    for statement in _TABLE:
        connection.execute(statement)


def _project_question(connection: Connection, asked: EvolutionEvent) -> None:
    """Write what was asked; how it ended is told by other events."""
    row = {
        "run_id": asked.run_id,
        "generation": asked.generation,
        "mutation_id": asked.mutation_id,
        "dna": asked.data["binding"]["dna"],
        "evidence": asked.data["binding"]["evidence"],
        "asked_at": asked.at.isoformat(),
        "expires_at": asked.data["expires_at"],
        "question": json.dumps(asked.data["question"], ensure_ascii=False, allow_nan=False),
    }
    place = {"approval_id": asked.data["approval_id"], "app": asked.app}
    connection.execute(
        "INSERT OR IGNORE INTO approvals (approval_id, app, status) VALUES (:approval_id, :app, 'pending')", place
    )
    changes = ", ".join(f"{column} = :{column}" for column in row)
    connection.execute(
        f"UPDATE approvals SET {changes} WHERE approval_id = :approval_id AND app = :app",  # noqa: S608  # ours
        row | place,
    )


def _first_end(connection: Connection, event: EvolutionEvent) -> EvolutionEvent:
    """Return the end of a question that stands: an event, or the first one before it in the record."""
    keys = [f"{event.data['approval_id']}/{kind}" for kind in _ENDS]
    before = connection.execute(
        "SELECT document, hash FROM events WHERE app = ? AND key IN (?, ?, ?) AND seq BETWEEN 1 AND ?"
        " ORDER BY seq LIMIT 1",
        [event.app, *keys, event.seq - 1],
    ).fetchone()
    return EvolutionEvent.read(*before) if before else event


def _project_end(connection: Connection, end: EvolutionEvent) -> None:
    status = _STATUS[end.data["verdict"]] if end.kind == "answered" else _UNANSWERED[end.kind]
    connection.execute(
        'UPDATE approvals SET status = ?, answered_at = ?, "by" = ?, why = ? WHERE approval_id = ? AND app = ?',
        [status, end.at.isoformat(), end.actor, end.why, end.data["approval_id"], end.app],
    )
