"""What a run's record tells beside its progress: what was decided."""

from __future__ import annotations

from .work_file import WorkFile

_VERDICTS = {"apply": ("applied", "lost"), "record": ("rejected", "deferred", "trialled")}
"""Kinds of the event that ends a generation, by the step that stores it."""


class Outcomes:
    """Looks up what became of generations.

    It is asked for by the keys of events: their numbers change when another machine's events are put before them.

    Args:
        file: The application's file.
        app: The application.
    """

    def __init__(self, file: WorkFile, app: str) -> None:
        self._file = file
        self._app = app

    def of(self, run_id: str, generation: int, step: str) -> list[str]:
        """Return what was decided in a generation, if this step is one that decides: one at most.

        Raises:
            StoreError: The file cannot be read.
        """
        keys = [f"{run_id}/{generation}/{kind}" for kind in _VERDICTS.get(step, ())]
        if not keys:
            return []
        marks = ", ".join("?" * len(keys))
        sql = f"SELECT kind FROM events WHERE app = ? AND key IN ({marks})"  # noqa: S608  # only marks
        return [kind for (kind,) in self._file.database.rows(sql, [self._app, *keys])]
