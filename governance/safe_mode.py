"""Safe mode: after repeated failures nothing changes until a person lifts it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from ..clock import Clock
from ..dna.events import EventDraft, EvolutionEvent
from ..dna.store import DNAStore
from ..errors import SafeModeActive, UsageError
from .feedback import named

log = logging.getLogger(__name__)

_ENTERED, _LIFTED = "safe_mode", "safe_mode_lifted"


@dataclass(frozen=True, slots=True)
class SafeModeState:
    """That an application is in safe mode, since when and why."""

    app: str
    since: datetime
    why: str
    actor: str
    """Who or what entered it."""


class SafeMode:
    """Enters, lifts and enforces safe mode; the record of events is its only state.

    Args:
        store: Where events are kept.
        clock: Tells when.
    """

    def __init__(self, store: DNAStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def since(self, app: str) -> SafeModeState | None:
        """Return since when and why an application is in safe mode, or None."""
        event = self._newest(app)
        return _state(event) if event is not None and event.kind == _ENTERED else None

    def enter(self, app: str, *, why: str, actor: str) -> SafeModeState:
        """Enter safe mode and raise the alarm: an event, and a log record at level ERROR.

        An application that is in safe mode already stays in it, for its first reason.
        """
        newest = self._newest(app)
        if newest is not None and newest.kind == _ENTERED:
            return _state(newest)
        event = self._store.append(
            EventDraft(
                app=app,
                kind=_ENTERED,
                # Named by the lift before it, so that processes that enter at once enter once.
                key=f"{_ENTERED}/{newest.seq if newest else 0}",
                at=self._clock.now(),
                actor=actor,
                why=why,
            )
        )
        log.error(
            "app=<%s> | safe mode: %s. Nothing changes until a person lifts it:"
            " bedrock-evolution safe-mode lift --by NAME",
            app,
            why.rstrip("."),
        )
        return _state(event)

    def lift(self, app: str, *, by: str, why: str) -> EvolutionEvent:
        """Let evolution go on, in the name of a person.

        Raises:
            UsageError: Nobody answers for it, or the application is not in safe mode.
        """
        by, why = named(by, why, "lifting safe mode")
        newest = self._newest(app)
        if newest is None or newest.kind != _ENTERED:
            raise UsageError(f"{app!r} is not in safe mode.", hint="There is nothing to lift.")
        return self._store.append(
            EventDraft(
                app=app,
                kind=_LIFTED,
                key=f"{_LIFTED}/{newest.seq}",
                at=self._clock.now(),
                actor=by,
                why=why or "safe mode lifted",
            )
        )

    def check(self, app: str) -> None:
        """Do nothing, unless the application is in safe mode.

        Raises:
            SafeModeActive: It is; says since when and why.
        """
        state = self.since(app)
        if state is not None:
            raise SafeModeActive(
                f"{app!r} is in safe mode since {state.since:%Y-%m-%d %H:%M} UTC: {state.why.rstrip('.')}.",
                hint="When the cause is mended: bedrock-evolution safe-mode lift --by NAME.",
            )

    def _newest(self, app: str) -> EvolutionEvent | None:
        newest = self._store.recent(app, [_ENTERED, _LIFTED], limit=1)
        return newest[0] if newest else None


def _state(event: EvolutionEvent) -> SafeModeState:
    return SafeModeState(event.app, event.at, event.why, event.actor)
