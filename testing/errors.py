"""What can be wrong with a recorded session.

These are no `EvolutionError`s: an application handles those, and these are for whoever runs the test.
"""

from __future__ import annotations


class CassetteError(Exception):
    """A cassette cannot be read or written, or does not belong to the calls that were made."""


class CassetteMissError(CassetteError):
    """A call was made that the cassette does not hold, or no longer."""


class ModelCallRefused(CassetteError):
    """A test called Bedrock outside a recorded session; nothing was sent."""
