"""The application's file, opened a second time for the metrics alone."""

from __future__ import annotations

import threading
from pathlib import Path

from ..dna.database import Database


class WorkFile:
    """Opens the file when it is first needed: a run waits for nothing that the metrics do with it.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._opened: Database | None = None

    @property
    def database(self) -> Database:
        """The opened file.

        Raises:
            StoreError: It cannot be opened.
        """
        with self._lock:
            if self._opened is None:
                self._opened = Database(self._path)
            return self._opened

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None
