"""What the router has learned, in a cloud store's table: all machines of an application add to it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from ...clock import Clock
from ...dna.aws.calls import ConditionFailed
from ...dna.aws.items import put, put_new
from ...dna.aws.regions import Regions
from ...errors import StoreUnavailable, WriterFenced
from ..money.partition import Partition
from .performance import Evidence, Outcome, after_call, evidence_of, most_known
from .task import TaskContext

log = logging.getLogger(__name__)

_ROUNDS = 32
"""How often evidence is read again that others add to at the same time."""


class DynamoPerformanceTracker:
    """The `PerformanceTracker` of one application in the table of a cloud store.

    A family is one item with a version, which is put on the condition that nobody else did meanwhile; otherwise it is
    read again, so no outcome is lost. Nothing waits for what is learned here: where the table cannot be reached an
    outcome is logged and dropped, and what was last read is told.

    Args:
        regions: Know the table.
        app: The application's name.
        clock: Tells when evidence was last added.
    """

    def __init__(self, regions: Regions, *, app: str, clock: Clock) -> None:
        self._partition = Partition(regions, f"{regions.place.partition(app)}/routing", clock)
        self._app = app
        self._draws = regions.clients.draws
        self._clock = clock
        self._known: dict[str, dict[str, Evidence]] = {}

    def record(self, context: TaskContext, model_id: str, *, success: bool, latency_ms: int, micro_usd: int) -> None:
        """Add the outcome of one call; see `PerformanceTracker.record`."""
        try:
            self._learn(context.family, model_id, Outcome(success, latency_ms, micro_usd))
        except (StoreUnavailable, WriterFenced) as error:
            log.warning("family=<%s> model=<%s> | an outcome is dropped: %s", context.family, model_id, error.message)

    def _learn(self, family: str, model_id: str, outcome: Outcome) -> None:
        key, writer = f"family#{family}", f"{self._draws.getrandbits(64):016x}"
        for _ in range(_ROUNDS):
            item = self._partition.get(key) or {"version": 0, "models": {}, "writer": ""}
            if item["writer"] == writer:
                return  # it was written, and the answer lost
            new = {
                "family": family,
                "version": item["version"] + 1,
                "models": after_call(_evidence(item), model_id, outcome),
                "writer": writer,
                "updated": self._clock.now().astimezone(UTC).isoformat(timespec="seconds"),
            }
            name, known = self._partition.name, item["version"]
            unchanged = put(name, key, new, condition="#version = :known", known=known) if known else None
            try:
                self._partition.transact([unchanged or put_new(name, key, new)])
            except ConditionFailed:
                self._partition.pause()
            else:
                return
        raise StoreUnavailable(f"what is known of {family} changes faster than it can be read.")

    def snapshot(self) -> dict[str, dict[str, Evidence]]:
        """Return what was learned; see `PerformanceTracker.snapshot`."""
        try:
            items = list(self._partition.query("family#"))
        except StoreUnavailable as error:
            log.warning("app=<%s> | what was learned is told as last known: %s", self._app, error.message)
            return self._known
        self._known = most_known({item["family"]: _evidence(item) for item in items})
        return self._known


def _evidence(item: Mapping[str, Any]) -> dict[str, Evidence]:
    return {
        model: evidence_of([float(sums[name]) for name in ("calls", "successes", "latency_ms", "micro_usd")])
        for model, sums in sorted(item["models"].items())
    }
