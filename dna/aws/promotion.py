"""`store promote`: another region of a store becomes the one that is written to, on record."""

from __future__ import annotations

from dataclasses import dataclass

from ...clock import Clock
from ...errors import StoreError, UsageError
from ..cloud import CloudDNAStore
from ..events import EventDraft
from .regions import CONTROL, Promotion, Regions


@dataclass(frozen=True, slots=True)
class Promoted:
    """What was done.

    Args:
        promotion: The new epoch, and which regions know of it.
        recorded: Applications whose record tells of it.
    """

    promotion: Promotion
    recorded: tuple[str, ...]


def promote(store: CloudDNAStore, region: str, *, by: str, why: str, confirm_lost: bool, clock: Clock) -> Promoted:
    """Promote a region, and put that on record for every application.

    Args:
        store: The store.
        region: The region to write to from now on.
        by: Who answers for it.
        why: The reason.
        confirm_lost: Go on though another region cannot be told of it.
        clock: Tells when.

    Raises:
        UsageError: Nobody is named, the region is none of the store's or is written to already, or another region
            cannot be told.
        StoreUnavailable: The region cannot be reached.
    """
    if not by.strip():
        raise UsageError("a promotion needs somebody who answers for it.", hint="Name them with --by.")
    lost = _unreachable(store.regions, region)
    if lost and not confirm_lost:
        raise UsageError(
            f"{', '.join(lost)} cannot be reached, and so cannot be told that {region} is written to from now on;"
            " nothing was changed. Writers that still reach it are refused only once it is told, or when they ask"
            f" {region}; what they write there until then is not in the record.",
            hint="Wait until it can be reached, or give --confirm-lost.",
        )
    promotion = store.regions.promote(region)
    recorded = []
    for app in store.apps():
        store.append(_event(app, promotion, by=by, why=why, clock=clock))
        recorded.append(app)
    store.ready()
    return Promoted(promotion, tuple(recorded))


def _unreachable(regions: Regions, promoted: str) -> list[str]:
    lost = []
    for region, table in regions.tables.items():
        try:
            table.get(regions.place.prefix, CONTROL)
        except StoreError:
            if region == promoted:
                raise
            lost.append(region)
    return lost


def _event(app: str, promotion: Promotion, *, by: str, why: str, clock: Clock) -> EventDraft:
    epoch = promotion.epoch
    return EventDraft(
        app=app,
        kind="promoted",
        key=f"promoted/{epoch.number}",
        at=clock.now(),
        actor=by,
        why=why,
        data={
            "epoch": epoch.number,
            "region": epoch.region,
            "fenced": list(promotion.fenced),
            "unreachable": list(promotion.unreachable),
        },
    )
