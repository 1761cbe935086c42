"""What the tables of governance take over from the record: questions, answers and remarks of other machines."""

from __future__ import annotations

from sqlite3 import Connection

from ..dna.events import EvolutionEvent
from . import approvals, feedback


def project(connection: Connection, event: EvolutionEvent) -> None:
    """Bring questions and remarks up to date with an event on record; called once for each, in the record's order.

    Args:
        connection: Of a file with the table `events`, which holds what comes before the event in the record, and of
            what waits to be sent nothing that would come before it.
        event: An event that this file did not write itself.
    """
    approvals.project(connection, event)
    feedback.project(connection, event)
