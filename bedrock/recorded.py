"""What was said, on record: each answer a conversation gave, with a hash of what was asked for it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..dna.database import Database
from ..errors import IntegrityError

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One answer that a conversation gave.

    Args:
        model: Who answered; `stand-in` if no model did.
        local: Whether the conversation was with the stand-in when the call began.
        request: SHA-256 of what was asked (`request_hash`).
        response: The answer, JSON-plain (`plain`); None if it could not be read.
        malformed: Why it could not be read; empty if it could.
        cost_micro_usd: What the attempts of this call cost, as the ledger settled them.
        input_tokens: What they read.
        output_tokens: What they wrote.
    """

    model: str
    local: bool
    request: str
    response: dict[str, Any] | None = None
    malformed: str = ""
    cost_micro_usd: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def document(self) -> str:
        """The record as it is stored: JSON, with empty fields left out."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return spelled({name: value for name, value in fields.items() if value})

    @property
    def digest(self) -> str:
        """SHA-256 of the document, as 64 hexadecimal digits: it differs if one byte of the record does."""
        return hashlib.sha256(self.document.encode()).hexdigest()

    @classmethod
    def read(cls, document: str) -> RecordedCall:
        """Read a stored record.

        Raises:
            IntegrityError: It is not as `document` writes one.
        """
        try:
            call = cls(**({"local": False} | json.loads(document)))
        except (TypeError, ValueError) as error:
            raise _altered(str(error)) from error
        if call.document != document:
            raise _altered("it is spelt as no record is")
        return call

    def message(self) -> AIMessage:
        """Return the answer as the message it was.

        Raises:
            IntegrityError: The record holds none.
        """
        from langchain_core.messages import AIMessage

        try:
            return AIMessage(**(self.response or {}))
        except (TypeError, ValueError) as error:
            raise _altered(str(error)) from error


class RecordedCalls:
    """The answers of every step of every run, in the application's file.

    Args:
        database: The application's file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.tables() as tables:
            tables.table("model_calls").create(
                {"run_id": str, "step": str, "number": int, "document": str},
                pk=("run_id", "step", "number"),
                if_not_exists=True,
            )

    def save(self, run_id: str, step: str, calls: Sequence[RecordedCall]) -> None:
        """Keep the answers of a step, in place of what an interrupted attempt at it left."""
        with self._database.transaction("advice.record") as connection:
            connection.execute("DELETE FROM model_calls WHERE run_id = ? AND step = ?", [run_id, step])
            connection.executemany(
                "INSERT INTO model_calls (run_id, step, number, document) VALUES (?, ?, ?, ?)",
                [(run_id, step, number, call.document) for number, call in enumerate(calls, 1)],
            )

    def read(self, run_id: str, step: str) -> list[RecordedCall]:
        """Return the answers of a step, in the order they were given; none if it asked for none.

        Raises:
            IntegrityError: A record was altered.
        """
        rows = self._database.rows(
            "SELECT document FROM model_calls WHERE run_id = ? AND step = ? ORDER BY number", [run_id, step]
        )
        return [RecordedCall.read(document) for (document,) in rows]


def spelled(value: Any, *, sort: bool = False) -> str:
    """Write JSON in ASCII: models say what no UTF-8 holds, and give numbers that no canonical JSON has."""
    return json.dumps(value, sort_keys=sort, separators=(",", ":"), default=_as_text)


def _as_text(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _altered(why: str) -> IntegrityError:
    return IntegrityError(f"the record of a model call cannot be read: {why}.", hint="Restore the store from a copy.")
