"""Checkpoints of a run, in the same SQLite file as its records."""

from __future__ import annotations

import sqlite3
import weakref
from pathlib import Path

from langgraph.checkpoint.sqlite import SqliteSaver

_BUSY_MS = 30_000


def open_checkpointer(path: Path) -> SqliteSaver:
    """Open the checkpointer of a store's file.

    A checkpoint lost with the power only makes a step run again, which every step allows, so checkpoints are
    written without waiting for the disk (`synchronous=NORMAL`); the store's own commits do wait.

    Args:
        path: The file of the store.
    """
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    saver = SqliteSaver(connection)
    weakref.finalize(saver, connection.close)
    saver.setup()
    connection.execute("PRAGMA synchronous=NORMAL")
    return saver
