"""The settings that a run is bound to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...settings import Autonomy, Safety, Settings


def settings_of(request: Mapping[str, Any]) -> Settings:
    """Return the settings a run was bound to; nothing is read from the surroundings.

    Args:
        request: What the run was bound to.
    """
    return Settings.model_construct(
        alpha=request["alpha"],
        candidates=request["candidates"],
        advise_ahead=request["advise_ahead"],
        max_failed_trials=request["max_failed_trials"],
        model_attempts=request["model_attempts"],
        model=request["model"],
        autonomy=Autonomy(**request["autonomy"]),
        safety=Safety(**request["safety"]),
    )
