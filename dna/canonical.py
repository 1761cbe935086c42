"""One spelling for every value: canonical JSON and its SHA-256."""

from __future__ import annotations

import hashlib
import json
from typing import Any

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """Write a JSON-plain value in its one canonical spelling.

    Keys are sorted, separators carry no blanks, text is not escaped beyond what JSON needs, and
    NaN or infinity is refused. Floats keep Python's shortest round-trip spelling (as in RFC 8785 for
    the values it shares with Python).

    Args:
        value: Anything made of dicts with text keys, lists, text, numbers, booleans and None.

    Returns:
        The text that checksums are taken over.

    Raises:
        ValueError: A number is NaN or infinite.
        TypeError: The value is not JSON-plain.
    """
    return _ENCODER.encode(value)


def storable(text: str) -> str:
    """Replace lone surrogates, which Python text and JSON can carry and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def checksum(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()
