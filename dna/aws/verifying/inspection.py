"""The record of one application in one region, looked at item by item and object by object."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from itertools import groupby, islice
from typing import Any

from ....errors import IntegrityError
from ...events import GENESIS
from ..items import Item, Key, Part, put
from ..mending import Mender, event_of, wrong_with
from ..objects import names
from ..place import CloudPlace
from ..record import Record
from ..stored import (
    Head,
    Snapshot,
    StoredEvent,
    day_of,
    dna_sk,
    event_sk,
    key_sk,
    numbered,
    sound,
    stored_event,
    stored_snapshot,
)
from .findings import Findings, Told, item_name, object_name

_WINDOW = 100
"""So many bodies are read at once."""


class Inspection:
    """Reads everything that a region's partition of an application holds, and every object that its items name.

    Args:
        app: The application.
        record: The record in the region.
        place: Names the keys.
        mender: Finds sound copies; this region is its first.
        findings: Takes what is wrong.
        pool: Reads objects.
        told: Told of the progress.
    """

    def __init__(
        self,
        app: str,
        record: Record,
        place: CloudPlace,
        *,
        mender: Mender,
        findings: Findings,
        pool: Executor,
        told: Told,
    ) -> None:
        self.app = app
        self.record = record
        self.hashes: list[str] = []
        """Of the events, in order; empty for one that is lost."""
        self.checksums: list[str] = []
        """Of the generations, in order; empty for one that is lost."""
        self.runs: set[str] = set()
        """Runs that the events speak of."""
        self._site, self._table = record.site, record.table
        self._place, self._pk = place, place.partition(app)
        self._mender = mender
        self._findings = findings
        self._pool = pool
        self._told = told
        self._ends = Head()
        """What the head says; what lies beyond it is not part of the record."""
        self._day = ""
        """Of the last event that was found."""
        self._keys: dict[str, int] = {}
        self._found_keys: dict[str, Item] = {}
        self._strays: list[Item] = []
        self._listed: dict[int, list[str]] | None = None

    @property
    def end(self) -> Head:
        """Where the record ends, as its events and its DNA say."""
        number, generation = len(self.hashes), len(self.checksums) - 1
        return Head(
            number, self.hashes[-1] if number else GENESIS, generation, self.checksums[-1] if self.checksums else ""
        )

    def run(self) -> None:
        """Look at everything."""
        head = self._table.get(self._pk, "head")
        self._ends = _as_head(head)
        for kind, group in groupby(self._table.query(self._pk), key=lambda item: str(item["sk"]).partition("#")[0]):
            self._class(kind, group)
        self._judge_head(self._read_on())
        self._judge_keys()
        self._judge_strays()

    def _class(self, kind: str, items: Iterable[Item]) -> None:
        match kind:
            case "dna":
                self._snapshots(items)
            case "event":
                self._events(items)
            case "key":
                for item in items:
                    self._found_keys[item["sk"]] = _said(item)
            case _:
                self._strays += [item for item in items if item["sk"] != "head"]

    def _read_on(self) -> Item | None:
        """Read what was stored since the first items were read, and what is missing at the end; return the head."""
        while True:
            before = self.end
            head: Item | None = self._table.get(self._pk, "head")
            self._ends = _as_head(head)
            if self._ends.generation > before.generation:
                self._snapshots(self._table.query(self._pk, begins="dna#", above=dna_sk(before.generation)))
            if self._ends.number > before.number:
                self._events(self._table.query(self._pk, begins="event#", above=event_sk(before.number)))
            if self.end == before:
                break
        if self._ends.generation > self.end.generation:
            self._fill_snapshots(self._ends.generation, self._ends.checksum)
        if self._ends.number > self.end.number and self._ends.hash != self.end.hash:
            self._fill_events(self._ends.number, self._ends.hash, self._day)
        return head

    # -- events

    def _events(self, items: Iterable[Item]) -> None:
        for window in _windows(items):
            read = [(item, stored_event(item)) for item in window if self._has_number(item)]
            bodies = self._pool.map(self.record.document, [event.object or "-" for _, event in read])
            for (item, event), body in zip(read, bodies, strict=True):
                if event.number <= len(self.hashes):
                    self._strays.append(item)
                    continue
                if event.number > len(self.hashes) + 1:
                    if event.number > self._ends.number:
                        self._strays.append(item)
                        continue
                    self._fill_events(event.number - 1, _previous(event, body), event.day)
                    self.hashes += [""] * (event.number - 1 - len(self.hashes))
                self._event(item, event, body)
            self._told(f"{self.app} in {self._site.region}", len(self.hashes), self._ends.number)

    def _event(self, item: Item, event: StoredEvent, body: bytes | None) -> None:
        try:
            found, source = self._sound(event, body)
        except IntegrityError as error:
            self._findings.add(self._site, self._item(item["sk"]), error.message)
            self.hashes.append("")
            return
        self._accept(found)
        self._compare(item, self.record.event_part(self.app, found), source)
        name = self.record.event_object(self.app, found)
        self._body(name, event.object, body, found.document.encode(), source)

    def _sound(self, event: StoredEvent, body: bytes | None) -> tuple[StoredEvent, str]:
        """Return an event as it has to be, and where that is written."""
        previous = self._expected(event, body)
        if event.document and not event.odd and not sound(self.app, event, previous):
            return replace(event, day=day_of(event.document)), "its item"
        whole = event_of(body, event, {event.hash}) if body and not event.document else None
        if whole is not None and not sound(self.app, whole, previous):
            return whole, "its object"
        found, copy, _ = self._mender.sound_event(self.app, event, previous)
        return found, copy.where

    def _expected(self, event: StoredEvent, body: bytes | None) -> str:
        """Return the hash that an event has to follow; its own word where the event before it is lost."""
        before = self.hashes[-1] if self.hashes else GENESIS
        return before or _previous(event, body)

    def _accept(self, event: StoredEvent) -> None:
        self.hashes.append(event.hash)
        self._day = event.day
        self._keys[key_sk(event.key)] = event.number
        run_id = json.loads(event.document)["run_id"]
        if run_id:
            self.runs.add(str(run_id))

    def _fill_events(self, upto: int, digest: str, day: str) -> None:
        """Look for events whose items are missing, from the last one back: each names the hash of the one before it.

        Their objects may be listed. One that was deleted is not, but its name is known from its number, its hash, and
        a day that is near.
        """
        found: list[StoredEvent] = []
        while digest and upto - len(found) > len(self.hashes):
            number = upto - len(found)
            named = [self._object_of(number, digest, each) for each in {day, self._day} if each]
            event = self._mender.lost_event(self.app, number, digest, [*self._names().get(number, ()), *named])
            if event is None:
                break
            found.append(event)
            day = event.day
            digest = str(json.loads(event.document)["previous"])
        first, last = len(self.hashes) + 1, upto - len(found)
        if first <= last:
            which = event_sk(first) if first == last else f"{event_sk(first)} to {event_sk(last)}"
            self._findings.add(self._site, self._item(which), "is missing, and so is every copy")
            if not found:
                return
            self.hashes += [""] * (last - first + 1)
        for event in reversed(found):
            self._accept(event)
            self._missing(self.record.event_part(self.app, event), event.document)

    def _object_of(self, number: int, digest: str, day: str) -> str:
        return self.record.event_object(self.app, StoredEvent(number, "", "", digest, "", day))

    def _names(self) -> dict[int, list[str]]:
        """Return the names of the objects that are there, by the number of the event."""
        if self._listed is None:
            self._listed = {}
            for name in names(self._table, self._place.folder("events", self.app) + "/"):
                digits = name.rpartition("/")[2].partition("-")[0]
                if digits.isdecimal():
                    self._listed.setdefault(int(digits), []).append(name)
        return self._listed

    # -- DNA

    def _snapshots(self, items: Iterable[Item]) -> None:
        for window in _windows(items):
            read = [(item, stored_snapshot(item)) for item in window if self._has_number(item)]
            bodies = self._pool.map(self.record.document, [dna.object or "-" for _, dna in read])
            for (item, dna), body in zip(read, bodies, strict=True):
                if dna.generation < len(self.checksums):
                    self._strays.append(item)
                    continue
                if dna.generation > len(self.checksums):
                    if dna.generation > self._ends.generation:
                        self._strays.append(item)
                        continue
                    self._fill_snapshots(dna.generation - 1, dna.parent or "")
                    self.checksums += [""] * (dna.generation - len(self.checksums))
                self._snapshot(item, dna, body)

    def _snapshot(self, item: Item, dna: Snapshot, body: bytes | None) -> None:
        try:
            found, source = self._sound_snapshot(dna)
        except IntegrityError as error:
            self._findings.add(self._site, self._item(item["sk"]), error.message)
            self.checksums.append("")
            return
        parent = self.checksums[-1] if self.checksums else None
        if parent not in ("", found.parent):
            self._findings.add(self._site, self._item(item["sk"]), "does not descend from the generation before it")
        self.checksums.append(found.checksum)
        self._compare(item, self.record.snapshot_part(self.app, found), source)
        name = self.record.snapshot_object(self.app, found)
        self._body(name, dna.object, body, found.document.encode(), source)

    def _sound_snapshot(self, dna: Snapshot) -> tuple[Snapshot, str]:
        if dna.document and not dna.odd and not wrong_with(self.app, dna):
            return dna, "its item"
        found, copy, _ = self._mender.sound_snapshot(self.app, dna)
        return found, copy.where

    def _fill_snapshots(self, upto: int, checksum: str) -> None:
        """Look for generations whose items are missing, from the last one back: each names its parent."""
        found: list[Snapshot] = []
        while checksum and upto - len(found) >= len(self.checksums):
            generation = upto - len(found)
            folder = f"{self._place.folder('dna', self.app)}/{generation:012d}-"
            named = self.record.snapshot_object(self.app, Snapshot(generation, checksum, None, None, ""))
            listed = [*names(self._table, folder), named]
            dna = self._mender.lost_snapshot(self.app, generation, checksum, listed)
            if dna is None:
                break
            found.append(dna)
            checksum = dna.parent or ""
        first, last = len(self.checksums), upto - len(found)
        if first <= last:
            which = dna_sk(first) if first == last else f"{dna_sk(first)} to {dna_sk(last)}"
            self._findings.add(self._site, self._item(which), "is missing, and so is every copy")
            if not found:
                return
            self.checksums += [""] * (last - first + 1)
        for dna in reversed(found):
            self.checksums.append(dna.checksum)
            self._missing(self.record.snapshot_part(self.app, dna), dna.document)

    # -- the head and the keys

    def _judge_head(self, item: Item | None) -> None:
        self._findings.items += 1
        end = self.end
        if item is None and end == Head():
            return
        if item is not None and _said(item) == end._asdict():
            return
        wrong = f"says {_told_of(item)}; the record ends with {_told_of(end._asdict())}" if item else "is missing"
        # Where it names more than is there, that is lost, unless only the number was altered.
        complete = (self._ends.number <= end.number or self._ends.hash == end.hash) and (
            self._ends.generation <= end.generation or self._ends.checksum == end.checksum
        )
        known = bool(end.hash and (end.checksum or end.generation < 0))
        mend = partial(self.record.rewrite, _in_place(self._pk, item, end)) if complete and known else None
        source = "the last event and the last generation"
        self._findings.add(self._site, self._item("head"), wrong, source=source, mend=mend)

    def _judge_keys(self) -> None:
        self._findings.items += len(self._found_keys)
        fresh = {sk for sk, number in self._keys.items() if sk not in self._found_keys and self._is_there(sk, number)}
        for sk, number in self._keys.items():
            said = self._found_keys.pop(sk, None)
            if sk in fresh or said == {"number": number}:
                continue
            wrong = "is missing" if said is None else f"names {said}, and event {number} has this key"
            mend = partial(self.record.rewrite, put(self._pk, sk, {"number": number}))
            self._findings.add(self._site, self._item(sk), wrong, source=f"event {number}", mend=mend)
        ends = _as_head(self._table.get(self._pk, "head")).number if self._found_keys else 0
        for sk, said in self._found_keys.items():
            named: Any = said.get("number")
            new = isinstance(named, int) and len(self.hashes) < named <= ends
            if not new and not self._is_of_lost(named):
                self._strays.append({"pk": self._pk, "sk": sk, **said})

    def _is_there(self, sk: str, number: int) -> bool:
        """Whether a key was stored since its class of items was read."""
        item = self._table.get(self._pk, sk)
        return item is not None and _said(item) == {"number": number}

    def _is_of_lost(self, number: Any) -> bool:
        return isinstance(number, int) and 0 < number <= len(self.hashes) and not self.hashes[number - 1]

    # -- what belongs nowhere

    def _has_number(self, item: Item) -> bool:
        self._findings.items += 1
        try:
            numbered(item["sk"])
        except IntegrityError:
            self._strays.append(item)
            return False
        return True

    def _judge_strays(self) -> None:
        known = max(self._ends.number, len(self.hashes))
        if self._strays and _as_head(self._table.get(self._pk, "head")).number > known:
            return  # they may be new
        for item in self._strays:
            place = self._rightful(item)
            if place == item["sk"] and self._is_accepted(item):
                continue  # it was seen before what comes before it
            right = self._table.get(self._pk, place) if place and place != item["sk"] else None
            double = right is not None and _said(right) == _said(item)
            mend = partial(self.record.rewrite, Part("Delete", Key(self._pk, item["sk"]))) if double else None
            wrong = f"belongs nowhere; the same is {place}" if double else "belongs nowhere"
            self._findings.add(self._site, self._item(item["sk"]), wrong, source=f"{place}: removed", mend=mend)

    def _is_accepted(self, item: Item) -> bool:
        """Whether an event or a generation was found to be part of the record meanwhile."""
        number, generation = item.get("number"), item.get("generation")
        if isinstance(number, int) and "hash" in item:
            return self.hashes[number - 1 : number] == [item["hash"]]
        return isinstance(generation, int) and self.checksums[generation : generation + 1] == [item.get("checksum")]

    def _rightful(self, item: Item) -> str:
        """Return the sort key that an item has to have, as far as it tells."""
        number, generation = item.get("number"), item.get("generation")
        if item.keys() >= {"number", "hash", "generation", "checksum"}:
            return "head"
        if isinstance(number, int) and "key" in item:
            return event_sk(number)
        if isinstance(generation, int) and "parent" in item:
            return dna_sk(generation)
        if _said(item).keys() == {"number"}:
            return next((sk for sk, known in self._keys.items() if known == number), "")
        return ""

    # -- comparing

    def _item(self, sk: str) -> str:
        return item_name(self._site, Key(self._pk, sk))

    def _compare(self, item: Item, right: Part, source: str) -> None:
        """Compare an item with what it has to be."""
        said, wanted = _said(item), dict(right.item)
        differs = sorted(name for name in said.keys() | wanted.keys() if _of(said, name) != _of(wanted, name))
        if differs:
            wrong = f"was altered: {', '.join(differs)}"
            mend = partial(self.record.rewrite, right)
            self._findings.add(self._site, self._item(right.key.sk), wrong, source=source, mend=mend)

    def _body(self, name: str, read: str, body: bytes | None, content: bytes, source: str) -> None:
        """Compare an object with what it has to be."""
        self._findings.objects += 1
        if name != read:
            body = self.record.document(name)
        if body != content:
            wrong = "is missing" if body is None else "was altered: it does not match its hash"
            mend = partial(self.record.put_object, name, content)
            # Nothing else is sound: then the body is the only copy, and was found to be right.
            self._findings.add(self._site, object_name(self._site, name), wrong, source=source, mend=mend)

    def _missing(self, right: Part, document: str) -> None:
        """Bring back an item that is missing, and its object with it."""
        mend = partial(self.record.rewrite, right)
        self._findings.add(self._site, self._item(right.key.sk), "is missing", source="its object or a copy", mend=mend)
        name = str(right.item["object"])
        self._body(name, "", None, document.encode(), "a copy")


def _said(item: Item) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in ("pk", "sk")}


def _of(item: Item, name: str) -> tuple[bool, type, Any]:
    return name in item, type(item.get(name)), item.get(name)


def _as_head(item: Item | None) -> Head:
    """Return a head as its item says, as far as it can be read."""
    blank = Head()
    values: list[Any] = []
    for name, default in blank._asdict().items():
        value = (item or {}).get(name)
        values.append(value if type(value) is type(default) else default)
    return Head(*values)


def _told_of(head: Item) -> str:
    return ", ".join(f"{name} {str(head.get(name))[:12]!r}" for name in Head._fields)


def _in_place(pk: str, item: Item | None, head: Head) -> Part:
    """Return the part that puts a head in place of what was read, unless that was written to since."""
    if item is None:
        return put(pk, "head", head._asdict(), condition="attribute_not_exists(pk)")
    said = _said(item)
    condition = " AND ".join(f"#{name} = :{name}" for name in said) or "attribute_exists(pk)"
    return put(pk, "head", head._asdict(), condition=condition, **said)


def _previous(event: StoredEvent, body: bytes | None) -> str:
    """Return the hash that an event names as that of the one before it, if a copy of it is whole by itself."""
    for content in (event.document.encode(), body or b""):
        found = event_of(content, event, {event.hash, event.object.rpartition("-")[2].partition(".")[0]})
        if found is not None:
            return str(json.loads(found.document)["previous"])
    return ""


def _windows(items: Iterable[Item]) -> Iterator[list[Item]]:
    rest = iter(items)
    while window := list(islice(rest, _WINDOW)):
        yield window
