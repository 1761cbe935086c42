"""Thinking ahead: the next generation's candidates are asked for while those of this one are on trial."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial

from ..errors import EvolutionError, ReplayDiverged
from ..fitness.workers import beside
from .advise import AHEAD, ask
from .evidence import Evidence
from .records import key_of
from .services import Services
from .state import EvolutionState

log = logging.getLogger(__name__)


@contextmanager
def advised_ahead(services: Services, state: EvolutionState) -> Iterator[None]:
    """Ask for the next generation's candidates during a block, and wait for them at its end.

    The advisor is told what was known when the block began, so that what it answers depends on nothing that is measured
    meanwhile, nor on how long that takes. If the live DNA changes, its proposals are carried over to the new one. It is
    asked in its turn where its call fails, or where people left feedback, which is answered once.

    Args:
        services: The application.
        state: The run's, in the generation that is on trial.
    """
    following: EvolutionState = {**state, "generation": state["generation"] + 1}
    last = following["generation"] > state["generations"]
    if last or not services.settings.advise_ahead or services.remarks() or _asked(services, following):
        yield
        return
    head = services.snapshot(state["head"]["generation"])
    evidence = Evidence(services, state, head, ()).as_of_now()
    with beside(partial(copy_context().run, ask, services, following, evidence, (), AHEAD)) as asked:
        yield
    try:
        asked.result()
    except EvolutionError as error:
        if isinstance(error, ReplayDiverged) and error.expected is not None:
            raise
        # The step that needs the answer asks again, and meets what is wrong where it can be dealt with.
        log.info("generation=<%d> reason=<%s> | the advisor did not answer ahead", following["generation"], error)


def _asked(services: Services, state: EvolutionState) -> bool:
    return any(services.store.event(services.app, key_of(state, what)) for what in ("advised", AHEAD))
