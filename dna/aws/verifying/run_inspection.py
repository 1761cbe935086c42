"""What a region holds of one run, looked at item by item and object by object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any

from ....errors import IntegrityError
from ..items import Item, Key, Part, put, update
from ..mending import Mender
from ..objects import names
from ..record import Record
from ..stored import Segment, StoredSegment, last_item, owned, owner_in, owner_item, segment_sk, stored_segment
from .findings import Findings, item_name, object_name

_WINDOW = 32
"""So many segments are read at once."""
_ON_THE_WAY_S = 0.5
"""So long a replica may take to get what the writer's region has."""


class RunInspection:
    """Reads the owner, the segments and their objects of a run in one region.

    Args:
        app: The application.
        run_id: The run.
        record: The record in the region.
        mender: Finds sound copies; this region is its first.
        findings: Takes what is wrong.
        pool: Reads objects.
    """

    def __init__(
        self, app: str, run_id: str, record: Record, *, mender: Mender, findings: Findings, pool: Executor
    ) -> None:
        self.app, self.run_id = app, run_id
        self.record = record
        self.count = 0
        """Segments that are there, lost ones included."""
        self.owner: str | None = None
        self._site, self._pk = record.site, record.run_partition(app, run_id)
        self._mender = mender
        self._findings = findings
        self._pool = pool
        self._strays: list[Item] = []

    def run(self) -> None:
        """Look at everything."""
        items = list(self.record.table.query(self._pk))
        self._findings.items += len(items)
        segments: list[tuple[Item, StoredSegment]] = []
        for item in items:
            try:
                if str(item["sk"]).startswith("segment#"):
                    segments.append((item, stored_segment(item)))
                elif item["sk"] != "owner":
                    self._strays.append(item)
            except IntegrityError:
                self._strays.append(item)
        sent = next((item.get("last") for item in items if item["sk"] == "owner"), None)
        self._segments(segments, sent if isinstance(sent, int) else max((s.number for _, s in segments), default=0))
        self._judge_owner()
        self._judge_strays()

    def _segments(self, segments: Sequence[tuple[Item, StoredSegment]], last: int) -> None:
        for item, stored, body in self._bodies(segments):
            if stored.number <= self.count or last < stored.number != self.count + 1:
                self._strays.append(item)
                continue
            if stored.number > self.count + 1:
                for number in range(self.count + 1, stored.number):
                    if not self._restored(number):
                        what = self._item(segment_sk(number))
                        self._findings.add(self._site, what, "is missing, and so is every copy")
            self.count = stored.number
            self._segment(item, stored, body)

    def _bodies(
        self, segments: Sequence[tuple[Item, StoredSegment]]
    ) -> Iterator[tuple[Item, StoredSegment, bytes | None]]:
        """Yield segments with the content of their objects, some of which are read at once."""
        for start in range(0, len(segments), _WINDOW):
            window = segments[start : start + _WINDOW]
            bodies = self._pool.map(self.record.document, [stored.object or "-" for _, stored in window])
            yield from ((item, stored, body) for (item, stored), body in zip(window, bodies, strict=True))

    def _restored(self, number: int) -> bool:
        found = self._mender.lost_segment(self.app, self.run_id, number, self._names(number))
        if found is None:
            return False
        right = self.record.segment_part(self.app, found)
        mend = partial(self.record.rewrite, right)
        self._findings.add(self._site, self._item(right.key.sk), "is missing", source="its object or a copy", mend=mend)
        name = self.record.segment_object(self.app, found)
        self._body(name, self.record.document(name), found, "a copy")
        return True

    def _names(self, number: int) -> list[str]:
        folder = self.record.segment_object(self.app, Segment(self.run_id, number, b"")).rpartition("-")[0]
        return list(names(self.record.table, f"{folder}-"))

    def _segment(self, item: Item, stored: StoredSegment, body: bytes | None) -> None:
        whole = Segment(self.run_id, stored.number, body or b"")
        source = "its object"
        named = self.record.segment_object(self.app, whole)
        if body is None or (whole.digest, named) != (stored.sha256, stored.object):
            try:
                whole, copy, _ = self._mender.sound_segment(self.app, self.run_id, stored)
            except IntegrityError as error:
                self._findings.add(self._site, self._item(item["sk"]), error.message)
                return
            source = copy.where
        right = self.record.segment_part(self.app, whole)
        said = _said(item)
        if differs := sorted(n for n in said.keys() | right.item.keys() if said.get(n) != right.item.get(n)):
            mend = partial(self.record.rewrite, right)
            wrong = f"was altered: {', '.join(differs)}"
            self._findings.add(self._site, self._item(item["sk"]), wrong, source=source, mend=mend)
        name = str(right.item["object"])
        self._body(name, body if name == stored.object else self.record.document(name), whole, source)

    def _body(self, name: str, body: bytes | None, right: Segment, source: str) -> None:
        self._findings.objects += 1
        if body != right.content:
            wrong = "is missing" if body is None else "was altered: it does not match its SHA-256"
            mend = partial(self.record.put_object, name, right.content)
            self._findings.add(self._site, object_name(self._site, name), wrong, source=source, mend=mend)

    # -- the owner

    def _judge_owner(self) -> None:
        """Judge the item that says which machine works on the run, and how many segments there are.

        It is read after the segments, and what was stored since then is not missing.
        """
        item = self.record.table.get(self._pk, "owner")
        if item is None:
            if self.count:
                self._judge_missing_owner()
            return
        self.owner = owner_in(item)
        last, stored = item.get("last"), 0
        if isinstance(last, int) and last > self.count:
            for number in range(self.count + 1, min(last, self.count + 100) + 1):
                if not self._is_there(number) and not self._restored(number):
                    if item.get("last_copy") == last:
                        stored = last
                        what = self._item(segment_sk(number))
                        self._findings.add(self._site, what, "is missing, and so is every copy")
                    break
                self.count = number
        if self.owner is None:
            self._findings.add(self._site, self._item("owner"), "was altered: owner")
            return
        stored = max(stored, self.count)
        wanted: dict[str, Any] = owner_item(self.owner) | (last_item(stored) if stored else {})
        said = _said(item)
        differs = sorted(name for name in said.keys() | wanted.keys() if said.get(name) != wanted.get(name))
        if differs:
            again = update(
                self._pk,
                "owner",
                _set(wanted, remove=said.keys() - wanted.keys()),
                condition=" AND ".join(f"#{name} = :was_{name}" for name in said),
                **wanted,
                **{f"was_{name}": value for name, value in said.items()},
            )
            mend = partial(self.record.rewrite, again)
            wrong = f"was altered: {', '.join(differs)}"
            self._findings.add(self._site, self._item("owner"), wrong, source="its copies and the segments", mend=mend)

    def _is_there(self, number: int) -> bool:
        return self.record.table.get(self._pk, segment_sk(number)) is not None

    def _judge_missing_owner(self) -> None:
        """Bring back the owner, if its item lies under another sort key."""
        strays = [_said(item) for item in self._strays if owner_in(item)]
        again = put(self._pk, "owner", strays[0], condition="attribute_not_exists(pk)") if strays else None
        mend = partial(self.record.rewrite, again) if again else None
        self.owner = owner_in(strays[0]) if strays else None
        self._findings.add(self._site, self._item("owner"), "is missing", source="an item beside it", mend=mend)

    def follow(self, writer: RunInspection) -> None:
        """Compare this replica with the writer's region, and bring it what it lacks."""
        missing = [number for number in range(self.count + 1, writer.count + 1) if not self._is_there(number)]
        if missing:
            # They may be on their way.
            self.record.table.clients.clock.sleep(_ON_THE_WAY_S)
        for number in missing:
            if not self._is_there(number):
                self._restored(number)
        self.count = max(self.count, writer.count)
        if writer.owner and self.owner is None:
            wrong = "names no machine, and the writer's region names one"
            unchanged = "attribute_not_exists(pk) OR attribute_not_exists(#owner)"
            named = owned(self._pk, writer.owner, last=self.count or None, condition=unchanged)
            mend = partial(self.record.rewrite, named)
            self._findings.add(self._site, self._item("owner"), wrong, source=writer.record.site.region, mend=mend)

    def _judge_strays(self) -> None:
        for item in self._strays:
            said = _said(item)
            place = next((sk for sk in self._rightful(said)), "")
            mend = partial(self.record.rewrite, Part("Delete", Key(self._pk, item["sk"]))) if place else None
            wrong = f"belongs nowhere; the same is {place}" if place else "belongs nowhere"
            self._findings.add(self._site, self._item(item["sk"]), wrong, source=f"{place}: removed", mend=mend)

    def _rightful(self, said: Item) -> list[str]:
        """Return the sort key at which the very same is stored."""
        digits = str(said.get("object", "")).rpartition("/")[2].partition("-")[0]
        keys = [segment_sk(int(digits))] if digits.isdecimal() else ["owner"]
        found = [(sk, self.record.table.get(self._pk, sk) or {}) for sk in keys]
        return [sk for sk, item in found if _said(item) == said]

    def _item(self, sk: str) -> str:
        return item_name(self._site, Key(self._pk, sk))


def _said(item: Item) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in ("pk", "sk")}


def _set(wanted: Item, *, remove: set[str]) -> str:
    said = "SET " + ", ".join(f"#{name} = :{name}" for name in wanted)
    return said + (" REMOVE " + ", ".join(f"#{name}" for name in sorted(remove)) if remove else "")
