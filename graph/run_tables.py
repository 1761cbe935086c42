"""The tables that hold the rows of runs, wherever they come from."""

from __future__ import annotations

from ..bedrock.recorded import RecordedCalls
from ..clock import SystemClock
from ..dna.database import Database
from ..fitness.journal import Journal
from .checkpoints import open_checkpointer


def prepare_run_tables(database: Database) -> None:
    """Make the tables that hold the rows of runs, where they are not there yet: rows can be brought here then."""
    Journal(database, SystemClock())
    RecordedCalls(database)
    open_checkpointer(database).conn.close()
