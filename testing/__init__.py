"""Recorded sessions: Bedrock calls of a test, recorded once and replayed without a network or an account.

The names are imported when they are first used, so that the pytest plugin beside them costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cassette_file import secrets_in
    from .errors import CassetteError, CassetteMissError
    from .recording import Recording, recorded

_HOMES = {
    "CassetteError": ".errors",
    "CassetteMissError": ".errors",
    "Recording": ".recording",
    "recorded": ".recording",
    "secrets_in": ".cassette_file",
}
_EXTRA = ("vcr", "yaml")

__all__ = ["CassetteError", "CassetteMissError", "Recording", "recorded", "secrets_in"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        home = import_module(_HOMES[name], __name__)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        raise ModuleNotFoundError(
            f"recorded sessions need {error.name}, which is not installed: pip install 'bedrock-evolution[testing]'",
            name=error.name,
        ) from error
    value = getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
