"""What the router has learned, in a cloud store's table: all machines of an application add to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC
from typing import Any

from ...clock import Clock
from ...dna.aws.calls import ConditionFailed
from ...dna.aws.copies import Copies, transact
from ...dna.aws.items import Item, put, put_new
from ...dna.aws.regions import Regions
from ...dna.aws.sums import altered, summed, unaltered
from ...errors import IntegrityError, StoreUnavailable, WriterFenced
from ..money.partition import Partition
from .performance import Evidence, Family, Outcome, after_call, evidence_of, most_known
from .task import TaskContext

log = logging.getLogger(__name__)

_ROUNDS = 32
"""How often evidence is read again that others add to at the same time."""


class DynamoPerformanceTracker:
    """The `PerformanceTracker` of one application in the table of a cloud store.

    A family is one item with a version, which is put on the condition that nobody else did meanwhile; otherwise it is
    read again, so no outcome is lost. Nothing waits for what is learned here: where the table cannot be reached, or an
    item was altered, an outcome is logged and dropped, and what was last read is told.

    Args:
        regions: Know the table.
        app: The application's name.
        clock: Tells when evidence was last added.
    """

    def __init__(self, regions: Regions, *, app: str, clock: Clock) -> None:
        name = f"{regions.place.partition(app)}/routing"
        self._partition = Partition(regions, name, sound=unaltered, clock=clock)
        self._copies = Copies(regions, _Families(regions, name))
        self._app = app
        self._draws = regions.clients.draws
        self._clock = clock
        self._known: dict[str, dict[str, Evidence]] = {}

    def record(self, context: TaskContext, model_id: str, *, success: bool, latency_ms: int, micro_usd: int) -> None:
        """Add the outcome of one call; see `PerformanceTracker.record`."""
        try:
            self._learn(context.family, model_id, Outcome(success, latency_ms, micro_usd))
        except (StoreUnavailable, WriterFenced, IntegrityError) as error:
            log.warning("family=<%s> model=<%s> | an outcome is dropped: %s", context.family, model_id, error.message)

    def _learn(self, family: str, model_id: str, outcome: Outcome) -> None:
        now = self._clock.now().astimezone(UTC).isoformat(timespec="seconds")
        self._change(
            family, lambda known: Family(family, after_call(known.models if known else {}, model_id, outcome), now)
        )

    def _change(self, family: str, change: Callable[[Family | None], Family | None]) -> bool:
        """Change what is known of a family, and again where others were faster; whether there was anything to do."""
        key, writer = family_key(family), f"{self._draws.getrandbits(64):016x}"
        for _ in range(_ROUNDS):
            item = self._partition.get(key)
            if item is not None and item["writer"] == writer:
                return True  # it was written, and the answer lost
            changed = change(None if item is None else _family(item))
            if changed is None:
                return False
            known = 0 if item is None else item["version"]
            said = {"family": family, "version": known + 1, "models": changed.models}
            new = summed(key, {**said, "writer": writer, "updated": changed.updated})
            name, region = self._partition.name, self._partition.region
            unchanged = put(name, key, new, condition="#version = :known", known=known) if known else None
            try:
                self._partition.transact([unchanged or put_new(name, key, new)])
            except ConditionFailed:
                self._partition.pause()
            else:
                self._copies.add(key, new, written_in=region)
                return True
        raise StoreUnavailable(f"what is known of {family} changes faster than it can be read.")

    def snapshot(self) -> dict[str, dict[str, Evidence]]:
        """Return what was learned; see `PerformanceTracker.snapshot`."""
        try:
            items = list(self._partition.query("family#"))
        except (StoreUnavailable, IntegrityError) as error:
            log.warning("app=<%s> | what was learned is told as last known: %s", self._app, error.message)
            return self._known
        self._known = most_known({item["family"]: _evidence(item) for item in items})
        return self._known

    def families(self) -> list[Family]:
        """Return all that was learned; see `PerformanceTracker.families`."""
        return list(map(_family, self._partition.query("family#")))

    def adopt(self, family: Family) -> bool:
        """Take over what is known of a family elsewhere; see `PerformanceTracker.adopt`."""
        return self._change(family.name, lambda known: None if known and known.updated >= family.updated else family)


class _Families:
    """Brings families to a region: there each is the one of the latest version, whatever comes twice or too late.

    Args:
        regions: Know the tables.
        name: The partition key.
    """

    def __init__(self, regions: Regions, name: str) -> None:
        self._regions = regions
        self._pk = name

    def bring(self, region: str, changed: Mapping[str, Item]) -> None:
        """See `Copied.bring`: one transaction for each, as a later version may be there."""
        for sk, item in changed.items():
            later = "attribute_not_exists(#version) OR #version < :known"
            with suppress(ConditionFailed):
                transact(self._regions, region, [put(self._pk, sk, item, condition=later, known=item["version"])])

    def sweep(self, region: str) -> None:
        """See `Copied.sweep`; what the writer's region lacks is not missed."""
        table = self._regions.table()
        for item in table.query(self._pk, begins="family#"):
            if unaltered(item):
                self.bring(region, {item["sk"]: item})
            else:
                log.error("%s", altered(item, table.site).message)


def family_key(family: str) -> str:
    """Return the sort key of a family."""
    return f"family#{family}"


def _family(item: Mapping[str, Any]) -> Family:
    return Family(item["family"], _evidence(item), item["updated"])


def _evidence(item: Mapping[str, Any]) -> dict[str, Evidence]:
    return {
        model: evidence_of([float(sums[name]) for name in ("calls", "successes", "latency_ms", "micro_usd")])
        for model, sums in sorted(item["models"].items())
    }
