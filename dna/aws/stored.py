"""What a store in the cloud holds, and how its items tell of it: events, DNA, rows of runs and their owners."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

from ...errors import IntegrityError
from ..events import GENESIS, EventRow, EvolutionEvent, linked
from .items import Item, Part, update

VERIFY = "`bedrock-evolution store verify` tells more, and mends what it can with --repair."
_LONGEST_KEY = 900
_SUM_DIGITS = 16
_NONE = type(None)
HEAD_FORM = {"number": (int,), "hash": (str,), "generation": (int,), "checksum": (str,)}
_EVENT = {
    "number": (int,), "kind": (str,), "key": (str,), "hash": (str,), "day": (str,), "object": (str,),
    "document": (str, _NONE),
}  # fmt: skip
_DNA = {
    "generation": (int,), "checksum": (str,), "parent": (str, _NONE), "mutation": (str, _NONE), "object": (str,),
    "document": (str, _NONE),
}  # fmt: skip
_SEGMENT = {"object": (str,), "sha256": (str,)}


class Head(NamedTuple):
    """Where the record of an application ends."""

    number: int = 0
    """Of the last event."""
    hash: str = GENESIS
    generation: int = -1
    """Of the live DNA; -1 before there is any."""
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it is stored."""

    number: int
    kind: str
    key: str
    hash: str
    document: str
    """What the hash is taken over; empty where it is in the object only and was not read."""
    day: str
    """Day of the event, as YYYY/MM/DD."""
    object: str = ""
    """Name of the object that its item gives; empty for an event that is not stored yet."""
    odd: str = ""
    """What of its item is not as an event's item is; empty for one that is well-formed."""

    @classmethod
    def of(cls, event: EvolutionEvent, document: str) -> StoredEvent:
        """Return an event with its document."""
        return cls(event.seq, event.kind, event.key, event.hash, document, f"{event.at:%Y/%m/%d}")

    @property
    def row(self) -> EventRow:
        """The event as a row of the record, unread."""
        return self.number, self.kind.encode(), self.key.encode(), self.hash.encode(), self.document.encode()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The DNA of one generation as it is stored."""

    generation: int
    checksum: str
    parent: str | None
    mutation: str | None
    document: str
    """Its JSON; empty where it is in the object only and was not read."""
    object: str = ""
    """Name of the object that its item gives; empty for DNA that is not stored yet."""
    odd: str = ""
    """What of its item is not as such an item is; empty for one that is well-formed."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows of one run that changed, packed; each run numbers its own from 1."""

    run_id: str
    number: int
    content: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return sha256(self.content).hexdigest()


class StoredSegment(NamedTuple):
    """A segment of a run as its item says."""

    number: int
    object: str
    sha256: str
    odd: str = ""
    """What of its item is not as such an item is; empty for one that is well-formed."""


class Batch(NamedTuple):
    """What becomes part of an application's record together."""

    app: str
    before: Head
    after: Head
    events: tuple[StoredEvent, ...] = ()
    snapshot: Snapshot | None = None
    segments: tuple[Segment, ...] = ()
    runs: tuple[str, ...] = ()
    """Runs whose work it is: it is refused unless they are this machine's."""
    machine: str = ""


def event_sk(number: int) -> str:
    """Return the sort key of an event."""
    return f"event#{number:012d}"


def dna_sk(generation: int) -> str:
    """Return the sort key of a generation; its neighbours sort beside it, from -1 on."""
    return f"dna#{generation + 1:012d}"


def key_sk(key: str) -> str:
    """Return the sort key under which an event's key is taken."""
    short = len(key.encode()) <= _LONGEST_KEY
    return f"key#{key}" if short else f"key##{sha256(key.encode()).hexdigest()}"


def segment_sk(number: int) -> str:
    """Return the sort key of a segment."""
    return f"segment#{number:08d}"


def sound(app: str, event: StoredEvent, previous: str) -> str:
    """Return what is wrong with a stored event, or an empty text if it follows the one before it."""
    try:
        linked(event.row, app, event.number, previous)
    except IntegrityError as error:
        return error.message
    return ""


def day_of(document: str) -> str:
    """Return the day of an event's document, as its object is filed under."""
    return str(json.loads(document)["at"])[:10].replace("-", "/")


def stored_event(item: Item) -> StoredEvent:
    """Return an event as its item says.

    Raises:
        IntegrityError: Its sort key holds no number.
    """
    number = numbered(item["sk"])
    wrong = odd(item, _EVENT) or ("" if item["number"] == number else f"its number is {item['number']}")
    return StoredEvent(
        number=number,
        kind=_text(item, "kind"),
        key=_text(item, "key"),
        hash=_text(item, "hash"),
        document=_text(item, "document"),
        day=_text(item, "day"),
        object=_text(item, "object"),
        odd=wrong,
    )


def stored_snapshot(item: Item) -> Snapshot:
    """Return DNA as its item says.

    Raises:
        IntegrityError: Its sort key holds no number.
    """
    generation = numbered(item["sk"]) - 1
    named = item.get("generation")
    return Snapshot(
        generation=generation,
        checksum=_text(item, "checksum"),
        parent=item.get("parent"),
        mutation=item.get("mutation"),
        document=_text(item, "document"),
        object=_text(item, "object"),
        odd=odd(item, _DNA) or ("" if named == generation else f"its generation is {named}"),
    )


def stored_segment(item: Item) -> StoredSegment:
    """Return a segment as its item says.

    Raises:
        IntegrityError: Its sort key holds no number.
    """
    wrong = odd(item, _SEGMENT)
    return StoredSegment(numbered(item["sk"]), _text(item, "object"), _text(item, "sha256"), wrong)


def numbered(sk: str) -> int:
    """Return the number in a sort key.

    Raises:
        IntegrityError: It holds none.
    """
    digits = sk.partition("#")[2]
    if not digits.isdecimal():
        raise IntegrityError(f"the sort key {sk!r} was altered: it has no number.", hint=VERIFY)
    return int(digits)


def odd(item: Item, form: Mapping[str, tuple[type, ...]]) -> str:
    """Return what of an item is not as its form says, or an empty text; a form that names None may be left out."""
    for name, types in form.items():
        if type(item.get(name)) not in types:
            return f"its {name} is missing" if name not in item else f"its {name} is {item[name]!r}"
    others = sorted(item.keys() - form.keys() - {"pk", "sk"})
    return f"it has an attribute {others[0]!r}" if others else ""


def owner_in(item: Item) -> str | None:
    """Return the owner that an item names, if one of its copies or its sum was altered at most."""
    names = [name for name in (item.get("owner"), item.get("again")) if isinstance(name, str)]
    confirmed = [name for name in names if owner_item(name)["sum"] == item.get("sum")]
    if confirmed:
        return confirmed[0]
    return names[0] if len(names) > 1 and names[0] == names[1] else None


def owner_item(name: str) -> dict[str, str]:
    """Return what an item says of the machine that works on a run: twice, and with a sum."""
    return {"owner": name, "again": name, "sum": sha256(name.encode()).hexdigest()[:_SUM_DIGITS]}


def last_item(number: int) -> dict[str, int]:
    """Return what says which segment of a run is the last: twice, to tell an altered number from a lost segment."""
    return {"last": number, "last_copy": number}


def owned(pk: str, owner: str, *, condition: str = "", last: int | None = None) -> Part:
    """Return the part that says which machine works on a run, and which segment is its last."""
    said: dict[str, Any] = owner_item(owner) | ({} if last is None else last_item(last))
    return update(pk, "owner", "SET " + ", ".join(f"#{name} = :{name}" for name in said), condition=condition, **said)


def _text(item: Item, name: str) -> str:
    value = item.get(name)
    return value if isinstance(value, str) else ""
