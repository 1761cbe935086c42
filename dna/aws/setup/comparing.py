"""What is wanted against what was found, field by field; and what has to be written. No calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Document: TypeAlias = Mapping[str, Any]
"""Names with values: texts, numbers, flags, lists of texts, `AtLeast`, `OneOf`, or documents."""


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A number that may be higher: what is stronger already stays as it is."""

    number: int

    def __str__(self) -> str:
        return f"at least {self.number}"


@dataclass(frozen=True, slots=True)
class OneOf:
    """A value that may be any of several; the first is written where none of them is there."""

    values: tuple[str, ...]

    def __str__(self) -> str:
        return " or ".join(self.values)


@dataclass(frozen=True, slots=True)
class Difference:
    """A field as it is wanted and as it was found.

    Args:
        name: Its path.
        wanted: None for what should not be there.
        found: None for what is missing.
    """

    name: str
    wanted: Any
    found: Any

    @property
    def ok(self) -> bool:
        """Whether it is as wanted."""
        return _met(self.wanted, self.found)


def compare(wanted: Document, found: Document, *, entries: bool = False, name: str = "") -> Iterator[Difference]:
    """Yield each field that is wanted.

    Args:
        wanted: The fields; what was found beside them is left alone.
        found: What is there.
        entries: Whether each document in `wanted` is an entry that is ours as a whole, such as a rule or a statement,
            so that something more inside it is wrong too.
        name: What the paths begin with.
    """
    for part, value in wanted.items():
        path, there = f"{name}.{part}" if name else part, found.get(part)
        if not isinstance(value, Mapping):
            yield Difference(path, value, there)
            continue
        inside = there if isinstance(there, Mapping) else {}
        yield from compare(value, inside, entries=entries, name=path)
        if entries:
            yield from (Difference(f"{path}.{more}", None, inside[more]) for more in inside if more not in value)


def merged(wanted: Document, found: Document, *, entries: bool = False) -> dict[str, Any]:
    """Return what has to be written: what is wanted, and beside it what was found; what is stronger stays.

    Args:
        wanted: See `compare`.
        found: See `compare`.
        entries: See `compare`.
    """
    result: dict[str, Any] = dict(found)
    for part, value in wanted.items():
        there = found.get(part)
        if isinstance(value, Mapping):
            inside = there if isinstance(there, Mapping) else {}
            if entries:
                inside = {name: inside[name] for name in value if name in inside}
            result[part] = merged(value, inside, entries=entries)
        elif isinstance(value, AtLeast):
            result[part] = there if _met(value, there) else value.number
        elif isinstance(value, OneOf):
            result[part] = there if _met(value, there) else value.values[0]
        else:
            result[part] = value
    return result


def _met(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, AtLeast):
        return isinstance(found, int) and found >= wanted.number
    if isinstance(wanted, OneOf):
        return found in wanted.values
    return bool(wanted == found)


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    return str(value) if isinstance(value, AtLeast | OneOf) else value
