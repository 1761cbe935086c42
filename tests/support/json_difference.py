"""Where two JSON values first differ."""

from collections.abc import Iterator
from typing import Any

_SHOWN_CHARS = 60


def differences(old: Any, new: Any, place: str = "body") -> Iterator[str]:
    """Yield one line for each place where the values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if key not in old:
                yield f"{place}.{key} is new"
            elif key not in new:
                yield f"{place}.{key} is gone"
            else:
                yield from differences(old[key], new[key], f"{place}.{key}")
    elif isinstance(old, list) and isinstance(new, list):
        for index, (before, after) in enumerate(zip(old, new, strict=False)):
            yield from differences(before, after, f"{place}[{index}]")
        if len(old) != len(new):
            yield f"{place} has {len(new)} items, not {len(old)}"
    elif isinstance(old, str) and isinstance(new, str) and old != new:
        start = _first_difference(old, new)
        yield f"{place} has {_shown(new, start)} where {_shown(old, start)} was recorded (character {start})"
    elif old != new or type(old) is not type(new):
        yield f"{place} is {new!r}, not {old!r}"


def _first_difference(old: str, new: str) -> int:
    pairs = enumerate(zip(old, new, strict=False))
    return next((index for index, (before, after) in pairs if before != after), min(len(old), len(new)))


def _shown(text: str, start: int) -> str:
    excerpt = text[start : start + _SHOWN_CHARS]
    return repr(excerpt) + ("…" if len(text) > start + _SHOWN_CHARS else "")
