"""The first difference between what is on record and what was done again, field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import ReplayDiverged

_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that differs.

    Args:
        where: The step or the event.
        field: The path of the field in it, such as `decision.risk.value`.
        recorded: What is on record; None if nothing is.
        replayed: What the replay came to; None if to nothing.
    """

    where: str
    field: str
    recorded: Any
    replayed: Any

    @classmethod
    def of(cls, error: ReplayDiverged) -> Difference:
        """Return what an error tells."""
        return cls(error.step, error.message, error.expected, error.found)

    def as_error(self) -> ReplayDiverged:
        """Return it as an error to raise."""
        return ReplayDiverged(self.field, step=self.where, expected=self.recorded, found=self.replayed)

    def __str__(self) -> str:
        return f"{self.where}: {self.field}\n  recorded: {_shown(self.recorded)}\n  replayed: {_shown(self.replayed)}"


def first_difference(where: str, recorded: Any, replayed: Any) -> Difference | None:
    """Compare two JSON-plain values.

    Args:
        where: What they are of.
        recorded: The one on record.
        replayed: The other one.
    """
    return next(_differences(where, "", recorded, replayed), None)


def _differences(where: str, path: str, recorded: Any, replayed: Any) -> Iterator[Difference]:
    if isinstance(recorded, Mapping) and isinstance(replayed, Mapping):
        for name in dict.fromkeys([*recorded, *replayed]):
            inner = f"{path}.{name}" if path else str(name)
            yield from _differences(where, inner, recorded.get(name), replayed.get(name))
    elif isinstance(recorded, (list, tuple)) and isinstance(replayed, (list, tuple)):
        if len(recorded) != len(replayed):
            yield Difference(where, f"{path} (length)", len(recorded), len(replayed))
        for place, (one, other) in enumerate(zip(recorded, replayed, strict=False)):
            yield from _differences(where, f"{path}[{place}]", one, other)
    elif recorded != replayed:
        yield Difference(where, path, recorded, replayed)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
