"""A wish to stop, which may be uttered before there is anything that could."""

from __future__ import annotations

from collections.abc import Callable

_WHY = "stopped by the user"


class Stop:
    """Tells a run to stop after its current step, or before its first; safe from any thread or signal."""

    def __init__(self) -> None:
        self._asked = False
        self._tell: Callable[[str], None] | None = None

    def ask(self) -> None:
        """Tell the run, or keep it for when there is one."""
        # Both methods write before they read: a wish between the two is told twice, and never not at all.
        self._asked = True
        if self._tell is not None:
            self._tell(_WHY)

    def reaches(self, tell: Callable[[str], None]) -> None:
        """Let it reach a run.

        Args:
            tell: Tells the run, given the reason; may be called more than once.
        """
        self._tell = tell
        if self._asked:
            tell(_WHY)
