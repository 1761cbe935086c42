"""Where two JSON values first differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

_SHOWN_CHARS = 60


def differences(old: Any, new: Any, place: str = "body") -> Iterator[str]:
    """Yield one line for each place where the values differ.

    Args:
        old: The recorded value.
        new: The value that came instead.
        place: What the values are; where they differ follows it, as `body.messages[0]`.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if key not in old:
                yield f"{place}.{key} is new: {_short(new[key])}"
            elif key not in new:
                yield f"{place}.{key} is gone: {_short(old[key])}"
            else:
                yield from differences(old[key], new[key], f"{place}.{key}")
    elif isinstance(old, list) and isinstance(new, list):
        for index, (before, after) in enumerate(zip(old, new, strict=False)):
            yield from differences(before, after, f"{place}[{index}]")
        if len(old) != len(new):
            yield f"{place} has {len(new)} items, not {len(old)}"
    elif isinstance(old, str) and isinstance(new, str) and old != new:
        start = _first_difference(old, new)
        yield f"{place} has {_short(new[start:])} where {_short(old[start:])} was recorded (character {start})"
    elif old != new or type(old) is not type(new):
        yield f"{place} is {_short(new)}, not {_short(old)}"


def _first_difference(old: str, new: str) -> int:
    pairs = enumerate(zip(old, new, strict=False))
    return next((index for index, (before, after) in pairs if before != after), min(len(old), len(new)))


def _short(value: Any) -> str:
    if isinstance(value, str):
        return repr(value[:_SHOWN_CHARS]) + ("…" if len(value) > _SHOWN_CHARS else "")
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, bytes) else repr(value)
    return text[:_SHOWN_CHARS] + ("…" if len(text) > _SHOWN_CHARS else "")
