"""How the stand-in compares a candidate with its alternatives, and settles conflicts between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def compared(candidate: Mapping[str, Any], *, sound: bool) -> dict[str, Any]:
    """Return the ranking and the resolutions that a candidate's report asks for; nothing if it asks for none.

    Args:
        candidate: The report on it.
        sound: Whether its evidence is credible.
    """
    alternatives = candidate.get("alternatives", [])
    ranking = [mutation["mutation_id"] for mutation in sorted([candidate, *alternatives], key=_worth)]
    found: dict[str, Any] = {"ranking": ranking} if alternatives else {}
    if conflicts := candidate.get("conflicts"):
        found["resolutions"] = [_resolved(conflict, ranking, sound=sound) for conflict in conflicts]
    return found


def _worth(mutation: Mapping[str, Any]) -> tuple[float, float, float]:
    """Order by lower bound of the gain, then the gain, then lower risk; nothing is sure of what was only trained on."""
    evidence, risk = mutation.get("evidence", {}), mutation.get("risk", 0.0)
    gain = evidence.get("gain", mutation.get("training_gain", 0.0))
    risk = risk["value"] if isinstance(risk, Mapping) else risk
    return -(evidence.get("at_least") or 0.0), -(gain or 0.0), risk


def _resolved(conflict: Mapping[str, Any], ranking: Sequence[str], *, sound: bool) -> dict[str, str]:
    """Keep the better ranked; of remarks the newer; of a candidate and what is live the candidate if it is sound."""
    between = conflict["between"]
    ranked = [name for name in ranking if name in between]
    if conflict["kind"] == "concurrent change" and not sound:
        ranked = []
    keep = ranked[0] if ranked else between[-1]
    return {"conflict": conflict["id"], "keep": keep, "reasoning": "A rule: the better ranked, else the newer."}
