"""Items that carry sums, in one region: which were altered, and how each is mended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..items import Item, Key, Part, put
from ..table import Table
from .findings import Findings, item_name

Look = Callable[[str, Table, Sequence[Table], Findings], None]
"""Looks at what else a region holds of an application, given the tables of the other regions too."""


class SummedItems:
    """The items of a partition in one region.

    Args:
        pk: The partition key.
        table: The region's table.
        others: Those of the other regions, where sound copies may be.
        findings: Takes what is wrong.
        sound: Whether an item is as it was written.
    """

    def __init__(
        self, pk: str, table: Table, others: Sequence[Table], findings: Findings, *, sound: Callable[[Item], bool]
    ) -> None:
        self._pk = pk
        self._table = table
        self._others = others
        self._findings = findings
        self._is_sound = sound
        self._read = {str(item["sk"]): item for item in table.query(pk)}
        findings.items += len(self._read)
        self.sound = {sk: item for sk, item in self._read.items() if sound(item)}
        self.altered = {sk: item for sk, item in self._read.items() if sk not in self.sound}

    def get(self, sk: str) -> dict[str, Any] | None:
        """Return an item as it is now, altered or not."""
        return self._table.get(self._pk, sk)

    def restore(self, sk: str, right_sk: str | None) -> bool:
        """Mend an altered item where `restored` can, and tell that it was altered where not; whether it could."""
        restored = self.restored(sk, right_sk)
        if not restored:
            self._add(sk, "was altered")
        return restored

    def restored(self, sk: str, right_sk: str | None) -> bool:
        """Mend an altered item from what it says itself, where only its key was altered, or from another region.

        Args:
            sk: Where it is.
            right_sk: Where it says it belongs.

        Returns:
            Whether there is a sound copy.
        """
        item = self.altered[sk]
        if right_sk not in (None, sk) and self._is_sound({**item, "sk": right_sk}):
            self._move(sk, str(right_sk))
            return True
        for other in self._others:
            copy = other.get(self._pk, sk)
            if copy is not None and self._is_sound(copy):
                self.replace(sk, copy, source=other.site.region)
                self.sound[sk] = copy
                return True
        return False

    def replace(self, sk: str, right: Item, *, source: str, wrong: str = "was altered") -> None:
        """Put what is right in place of an item that is wrong."""
        condition, was = self._unchanged(sk)
        self._add(sk, wrong, source, [put(self._pk, sk, _plain(right), condition=condition, **was)])

    def remove(self, sk: str, *, source: str) -> None:
        """Remove an altered item, which belongs nowhere or is made anew when it is needed."""
        self._add(sk, "was altered", source, [self._removed(sk)])

    def fill(self, sk: str, right: Item, *, source: str, given: Sequence[Part] = ()) -> None:
        """Put an item that is missing, if further conditions hold."""
        new = put(self._pk, sk, _plain(right), condition="attribute_not_exists(pk)")
        self._add(sk, "is missing", source, [new, *given])

    def _move(self, sk: str, right_sk: str) -> None:
        known, item = right_sk in self.sound, {**self.altered[sk], "sk": right_sk}
        there = [] if known else [put(self._pk, right_sk, _plain(item), condition="attribute_not_exists(pk)")]
        self.sound[right_sk] = item
        self._add(right_sk, f"is stored as item {sk}", "what it says itself", [self._removed(sk), *there])

    def _removed(self, sk: str) -> Part:
        condition, was = self._unchanged(sk)
        return Part("Delete", Key(self._pk, sk), condition=condition, values=was)

    def _unchanged(self, sk: str) -> tuple[str, dict[str, Any]]:
        """Return the condition that nobody wrote to an item since it was read."""
        was = _plain(self._read[sk])
        return " AND ".join(f"#{name} = :{name}" for name in was) or "attribute_exists(pk)", was

    def _add(self, sk: str, wrong: str, source: str = "", parts: Sequence[Part] = ()) -> None:
        name = item_name(self._table.site, Key(self._pk, sk))
        mend = partial(self._table.transact, parts) if parts else None
        self._findings.add(self._table.site, name, wrong, source=source, mend=mend)


def _plain(item: Item) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in ("pk", "sk")}
