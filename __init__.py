"""Supervised evolution of running AI applications, on AWS Bedrock and LangGraph.

The public names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dna.engine import MutationEngine
    from .dna.events import EvolutionEvent
    from .dna.genes import Gene, GeneValue, choice, code, flag, integer, number, text
    from .dna.genome import SystemDNA
    from .dna.mutation import Mutation
    from .dna.sqlite import SQLiteDNAStore
    from .dna.store import DNAStore
    from .errors import EvolutionError, UsageError
    from .evolution import Evolution
    from .fitness.score import Score
    from .results import EvolutionResult, Progress
    from .settings import Autonomy, Budget, Settings

_HOMES = {
    "EvolutionEvent": ".dna.events",
    **dict.fromkeys(("Gene", "GeneValue", "choice", "code", "flag", "integer", "number", "text"), ".dna.genes"),
    "SystemDNA": ".dna.genome",
    "MutationEngine": ".dna.engine",
    "Mutation": ".dna.mutation",
    "SQLiteDNAStore": ".dna.sqlite",
    "DNAStore": ".dna.store",
    **dict.fromkeys(("EvolutionError", "UsageError"), ".errors"),
    "Evolution": ".evolution",
    "Score": ".fitness.score",
    **dict.fromkeys(("EvolutionResult", "Progress"), ".results"),
    **dict.fromkeys(("Autonomy", "Budget", "Settings"), ".settings"),
}

__all__ = [
    "Autonomy",
    "Budget",
    "DNAStore",
    "Evolution",
    "EvolutionError",
    "EvolutionEvent",
    "EvolutionResult",
    "Gene",
    "GeneValue",
    "Mutation",
    "MutationEngine",
    "Progress",
    "SQLiteDNAStore",
    "Score",
    "Settings",
    "SystemDNA",
    "UsageError",
    "choice",
    "code",
    "flag",
    "integer",
    "number",
    "text",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
