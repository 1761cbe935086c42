"""Supervised evolution of running AI applications, on AWS Bedrock and LangGraph.

The public names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agents.advisor import EvolutionAdvisor
    from .agents.cost_governor import CostGovernor
    from .agents.decision import BedrockDecisionEngine
    from .agents.healer import SelfHealer
    from .bedrock.money.costs import CostTracker
    from .bedrock.routing.optimizer import CostOptimizer
    from .bedrock.routing.performance import ModelPerformanceTracker
    from .bedrock.routing.router import ModelRouter
    from .bedrock.routing.task import TaskContext
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
    from .governance.autonomy import AutonomyController
    from .graph.replaying.alternatives import Alternative
    from .graph.replaying.reports import ForkReport, ReplayReport
    from .healing.strategies import CloudHealingStrategies
    from .results import EvolutionResult, Progress
    from .settings import Autonomy, Budget, ModelCard, ModelPrice, Safety, Settings

_HOMES = {
    "EvolutionAdvisor": ".agents.advisor",
    "CostGovernor": ".agents.cost_governor",
    "BedrockDecisionEngine": ".agents.decision",
    "SelfHealer": ".agents.healer",
    "CostTracker": ".bedrock.money.costs",
    "CostOptimizer": ".bedrock.routing.optimizer",
    "ModelPerformanceTracker": ".bedrock.routing.performance",
    "ModelRouter": ".bedrock.routing.router",
    "TaskContext": ".bedrock.routing.task",
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
    "AutonomyController": ".governance.autonomy",
    "CloudHealingStrategies": ".healing.strategies",
    **dict.fromkeys(("EvolutionResult", "Progress"), ".results"),
    "Alternative": ".graph.replaying.alternatives",
    **dict.fromkeys(("ForkReport", "ReplayReport"), ".graph.replaying.reports"),
    **dict.fromkeys(("Autonomy", "Budget", "ModelCard", "ModelPrice", "Safety", "Settings"), ".settings"),
}

__all__ = [
    "Alternative",
    "Autonomy",
    "AutonomyController",
    "BedrockDecisionEngine",
    "Budget",
    "CloudHealingStrategies",
    "CostGovernor",
    "CostOptimizer",
    "CostTracker",
    "DNAStore",
    "Evolution",
    "EvolutionAdvisor",
    "EvolutionError",
    "EvolutionEvent",
    "EvolutionResult",
    "ForkReport",
    "Gene",
    "GeneValue",
    "ModelCard",
    "ModelPerformanceTracker",
    "ModelPrice",
    "ModelRouter",
    "Mutation",
    "MutationEngine",
    "Progress",
    "ReplayReport",
    "SQLiteDNAStore",
    "Safety",
    "Score",
    "SelfHealer",
    "Settings",
    "SystemDNA",
    "TaskContext",
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
