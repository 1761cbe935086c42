"""Copies of digests and segments in the regions that are not written to."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from itertools import takewhile

from ....errors import IntegrityError, StoreError
from ..calls import ConditionFailed
from ..items import Part
from .digests import Digests, Entry, read

log = logging.getLogger(__name__)


def copy_to_replicas(
    app: str, writers: Digests, replicas: Iterable[Digests], guard: Part, until: datetime | None
) -> None:
    """Bring the digests that other regions lack to them; a region that cannot be reached gets them next time.

    Args:
        app: The application.
        writers: The digests of the writer's region.
        replicas: Those of the others.
        guard: Demands that the writer's epoch is not over.
        until: Nobody can remove the copies before.
    """
    for replica in replicas:
        try:
            for entry in _lacking(app, writers, replica):
                _copy(app, entry, writers, replica, until)
                replica.table.transact([replica.part(app, entry), guard])
        except (StoreError, ConditionFailed, IntegrityError) as error:
            log.warning("region=<%s> | its copy of the digests is behind: %s", replica.region, error)


def _lacking(app: str, writers: Digests, replica: Digests) -> Iterable[Entry]:
    """Return the digests after the last one that a replica has, as far as it has the events that they sign.

    Were the region promoted, other events would take the numbers of those that it lacks.

    Raises:
        IntegrityError: The replica has another one of this number.
    """
    there = replica.newest(app)
    if there is not None and next(iter(writers.entries(app, after=there.number - 1)), None) != there:
        raise IntegrityError(f"digest {there.number} is another one there than in {writers.region}")
    events = replica.events(app)
    following = writers.entries(app, after=there.number if there else 0)
    return takewhile(lambda entry: entry.last <= events, following)


def _copy(app: str, entry: Entry, writers: Digests, replica: Digests, until: datetime | None) -> None:
    digest = read(writers, app, entry)
    for name in (digest.segment, entry.object):
        content = writers.content(name)
        if content is None:
            raise IntegrityError(f"{name} is missing in {writers.region}")
        replica.put(name, content, until)
