"""The items of a store itself: the epoch that each region was told, and the names of its applications."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial

from ....errors import StoreUnavailable
from ..items import Item, Key, Part, put
from ..objects import folders
from ..record import Record
from ..regions import CONTROL, GUARDS, Epoch, Regions
from ..table import Table
from .findings import Findings, item_name

_EPOCHS = (CONTROL, *GUARDS)


class Controls:
    """Judges the control items of the regions by one another.

    Args:
        regions: Where they are.
        findings: Takes what is wrong.
    """

    def __init__(self, regions: Regions, findings: Findings) -> None:
        self._tables = regions.tables
        self._place = regions.place
        self._findings = findings
        self._first = Epoch(1, regions.place.sites[0].region)
        self.unreachable: list[str] = []

    def judge(self) -> Epoch:
        """Return the newest epoch that a region tells of.

        Raises:
            StoreUnavailable: No region can be reached.
        """
        items: dict[str, dict[str, Item | None]] = {}
        last = StoreUnavailable("the store names no region.")
        for region, table in self._tables.items():
            try:
                items[region] = self._read(table)
            except StoreUnavailable as error:
                self.unreachable.append(region)
                last = error
        if not items:
            raise last
        told = {region: self._of_most(found.values()) for region, found in items.items()}
        newest = max(told.values())
        for region, found in items.items():
            for sk, item in found.items():
                self._findings.items += item is not None
                if self._epoch(item) != newest:
                    self._differs(self._tables[region], sk, item, told[region], newest)
        return newest

    def _read(self, table: Table) -> dict[str, Item | None]:
        """Read the items that tell a region of the epoch; twice, where it began meanwhile."""
        found: dict[str, Item] = {}
        for _ in range(2):
            found = {str(item["sk"]): item for item in table.query(self._place.prefix, begins=CONTROL)}
            if len({self._epoch(found.get(sk)) for sk in _EPOCHS}) == 1:
                break
        return {sk: found.get(sk) for sk in _EPOCHS}

    def _of_most(self, items: Iterable[Item | None]) -> Epoch:
        """Return the epoch that most items of a region tell of: they are written together."""
        epochs = Counter(epoch for item in items if (epoch := self._epoch(item)) is not None)
        return epochs.most_common(1)[0][0] if epochs else self._first

    def _epoch(self, item: Item | None) -> Epoch | None:
        """Return the epoch of an item; None where it cannot be one."""
        if item is None:
            return self._first
        number, region = item.get("epoch"), item.get("region")
        if item.keys() != {"pk", "sk", "epoch", "region"} or type(number) is not int or region not in self._tables:
            return None
        return Epoch(number, str(region))

    def _differs(self, table: Table, sk: str, item: Item | None, told: Epoch, newest: Epoch) -> None:
        """Note an item that tells of another epoch than the store is in."""
        prefix = self._place.prefix
        if told.number == newest.number and told.region != newest.region:
            # Two regions were promoted at once: none of them is known to be right.
            wrong = (
                f"names {told.region} as the writer's region of epoch {told.number}, and another one {newest.region}"
            )
            self._findings.add(table.site, item_name(table.site, Key(prefix, sk)), wrong)
            return
        if told == newest or self._epoch(item) != told:
            wrong = f"was altered: it says {_said(item)}, and the others {_said(newest._asdict())}"
        else:
            wrong = f"tells of epoch {told.number}, and epoch {newest.number} has begun: late writers are not refused"
        self._findings.add(
            table.site,
            item_name(table.site, Key(prefix, sk)),
            wrong,
            source=f"epoch {newest.number}",
            mend=partial(table.write, _told_anew(prefix, sk, item, newest)),
        )

    def judge_names(self, record: Record, apps: Sequence[str]) -> None:
        """Compare the names of applications with the records that are there.

        Args:
            record: The record in a region.
            apps: Those that have anything in any region.
        """
        prefix, site = self._place.prefix, record.site
        there = {str(item["sk"]): item for item in record.table.query(prefix) if item["sk"] not in _EPOCHS}
        self._findings.items += len(there)
        for app in apps:
            named = record.table.get(prefix, f"app#{app}") is not None if f"app#{app}" not in there else True
            if not named and record.snapshot(app, 0) is not None:
                again = partial(record.rewrite, put(prefix, f"app#{app}", {}))
                name = item_name(site, Key(prefix, f"app#{app}"))
                self._findings.add(site, name, "is missing", source="its record", mend=again)
        for sk, item in there.items():
            app = sk.removeprefix("app#")
            if sk.startswith("app#") and (app in apps or self._begun(record, app)):
                continue
            # It says nothing that is not said elsewhere.
            empty = item.keys() <= {"pk", "sk", "epoch", "region"}
            removed = Part("Delete", Key(prefix, sk))
            mend = partial(record.rewrite, removed) if empty else None
            wrong = "names an application that has no record" if sk.startswith("app#") else "belongs nowhere"
            self._findings.add(site, item_name(site, Key(prefix, sk)), wrong, source="removed", mend=mend)

    def _begun(self, record: Record, app: str) -> bool:
        """Whether something was stored of an application since its name was looked for."""
        return record.holds(app) or app in folders(record.table, f"{self._place.prefix}/events/")


def _said(item: Item | None) -> str:
    """Return what an item says, for people."""
    told = {name: value for name, value in (item or {}).items() if name not in ("pk", "sk")}
    return ", ".join(f"{name} {value!r}" for name, value in sorted(told.items())) or "nothing"


def _told_anew(prefix: str, sk: str, item: Item | None, newest: Epoch) -> Part:
    """Return the part that tells of an epoch, unless the item was written to since it was read."""
    right = {"epoch": newest.number, "region": newest.region}
    if item is None:
        return put(prefix, sk, right, condition="attribute_not_exists(pk)")
    was = {name: value for name, value in item.items() if name not in ("pk", "sk")}
    unchanged = " AND ".join(f"#{name} = :{name}" for name in was) or "attribute_exists(pk)"
    return put(prefix, sk, right, condition=unchanged, **was)
