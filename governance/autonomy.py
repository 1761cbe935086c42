"""Autonomy: what may be decided by a rule, what by the decision engine, and what only by a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

from ..dna.genes import ChoiceGene, FlagGene, Gene, GeneValue, IntegerGene, NumberGene
from ..dna.genome import SystemDNA
from ..dna.mutation import Mutation
from ..settings import Autonomy

Path = Literal["rule", "engine", "person"]

_KIND_RISK = {"number": 0.3, "integer": 0.3, "flag": 0.5, "choice": 0.5, "text": 0.6, "code": 1.0}
_WEIGHTS = {"kind": 0.3, "size": 0.25, "reach": 0.25, "doubt": 0.2}
_CODE_FLOOR = 0.9
"""Changed code is never less risky than this, however small the change."""


@dataclass(frozen=True, slots=True)
class Risk:
    """The risk of a mutation in [0, 1], with the parts it is made of."""

    value: float
    parts: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """Return the form that is recorded and shown."""
        return {"value": self.value, "parts": dict(self.parts)}


class AutonomyController:
    """Measures risk and chooses who decides; all of it code and configuration, nothing a model can say.

    Args:
        policy: The application's limits.
    """

    def __init__(self, policy: Autonomy) -> None:
        self.policy = policy

    def risk(self, dna: SystemDNA, mutation: Mutation, evidence: Mapping[str, Any]) -> Risk:
        """Measure how risky it is to make a mutation live.

        Args:
            dna: The live DNA.
            mutation: A mutation of it.
            evidence: What the promotion rule recorded of it.
        """
        genes = [(dna.genes[name], value) for name, value in mutation.changes.items()]
        parts = {
            "kind": max(_KIND_RISK[gene.kind] for gene, _ in genes),
            "size": sum(_size(gene, value) for gene, value in genes) / len(genes),
            "reach": len(genes) / len(dna.genes),
            "doubt": 1.0 - float(evidence.get("confidence", 0.0)),
        }
        value = sum(_WEIGHTS[name] * part for name, part in parts.items())
        if any(gene.kind == "code" for gene, _ in genes):
            value = max(value, _CODE_FLOOR)
        return Risk(round(value, 6), {name: round(part, 6) for name, part in parts.items()})

    def path(self, mutation: Mutation, risk: Risk) -> Path:
        """Choose who decides on a mutation."""
        if risk.value >= self.policy.ask_above or self.named(mutation):
            return "person"
        return "engine" if risk.value >= self.policy.engine_above else "rule"

    def named(self, mutation: Mutation) -> list[str]:
        """Return the changed genes whose change always needs a person."""
        return [name for name in mutation.changes if any(_matches(name, pattern) for pattern in self.policy.always_ask)]


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1]))


def _size(gene: Gene, value: GeneValue) -> float:
    """How far a value moves inside its gene's range, from 0 to 1."""
    if isinstance(gene, (NumberGene, IntegerGene)):
        return min(1.0, abs(float(value) - gene.value) / (gene.high - gene.low))
    if isinstance(gene, (ChoiceGene, FlagGene)):
        return 1.0
    return 1.0 - SequenceMatcher(None, gene.value.split(), str(value).split(), autojunk=False).ratio()
