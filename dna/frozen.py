"""Mappings that cannot be altered in place, inside pydantic models."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import AfterValidator, SerializerFunctionWrapHandler, WrapSerializer


def _thawed(value: Mapping[str, Any], handler: SerializerFunctionWrapHandler) -> Any:
    return handler(dict(value))


FREEZE = AfterValidator(MappingProxyType)
"""Makes a field's mapping read-only: a frozen model alone does not protect what its fields hold."""
THAW = WrapSerializer(_thawed)
"""Writes such a field as an ordinary mapping again."""
