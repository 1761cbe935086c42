"""Autonomy: what may be decided by a rule, what by the decision engine, and what only by a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

from ..dna.genes import ChoiceGene, FlagGene, Gene, GeneValue, IntegerGene, NumberGene
from ..dna.genome import SystemDNA
from ..dna.mutation import Mutation
from ..dna.store import DNAStore
from ..errors import InvalidSetting
from ..settings import Autonomy
from .calibration import undoings

Path = Literal["rule", "engine", "person", "never"]
Rule = Literal["never", "always_ask"]

_KIND_RISK = {"number": 0.3, "integer": 0.3, "flag": 0.5, "choice": 0.5, "text": 0.6, "code": 1.0}
WEIGHTS: Mapping[str, float] = {"kind": 0.3, "size": 0.25, "reach": 0.25, "history": 0.15, "doubt": 0.05}
"""What each part of a risk counts for; together 1. Doubt counts for little, since what is no credible gain is never
decided on at all."""
_CODE_FLOOR = 0.9
"""Changed code is never less risky than this, however small the change."""
_CATEGORY = "category:"
_MOST_CONFIDENCE = 0.99
"""Over-confidence asks for no more than this: nothing reaches 1, and then the engine could decide nothing."""


@dataclass(frozen=True, slots=True)
class Risk:
    """The risk of a mutation in [0, 1], with the parts it is made of."""

    value: float
    parts: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """Return the form that is recorded and shown."""
        return {"value": self.value, "parts": dict(self.parts)}


@dataclass(frozen=True, slots=True)
class Policy:
    """A rule of the application's owner that a mutation falls under, whatever its risk."""

    rule: Rule
    pattern: str
    """The pattern that hits, as it stands in the settings."""
    hits: tuple[str, ...]
    """The changed genes it hits, or the category."""

    @property
    def told(self) -> str:
        """The rule in words."""
        what = "policy asks for a person" if self.rule == "always_ask" else "policy forbids to change this"
        return f"{what}: {', '.join(self.hits)} (by {self.pattern!r})"


class AutonomyController:
    """Measures risk and chooses who decides; all of it code and configuration, nothing a model can say.

    Args:
        limits: The application's limits and policies.
    """

    def __init__(self, limits: Autonomy) -> None:
        self.limits = limits

    def risk(
        self, dna: SystemDNA, mutation: Mutation, evidence: Mapping[str, Any], *, rollbacks: Mapping[str, int]
    ) -> Risk:
        """Measure how risky it is to make a mutation live.

        Args:
            dna: The live DNA.
            mutation: A mutation of it.
            evidence: What the promotion rule recorded of it.
            rollbacks: How often a change of each gene was undone; genes without are left out.
        """
        genes = [(dna.genes[name], value) for name, value in mutation.changes.items()]
        undone = max(rollbacks.get(name, 0) for name in mutation.changes)
        parts = {
            "kind": max(_KIND_RISK[gene.kind] for gene, _ in genes),
            "size": sum(_size(gene, value) for gene, value in genes) / len(genes),
            "reach": len(genes) / len(dna.genes),
            "history": 1.0 - 0.5**undone,
            "doubt": 1.0 - float(evidence.get("confidence", 0.0)),
        }
        value = sum(WEIGHTS[name] * part for name, part in parts.items())
        if any(gene.kind == "code" for gene, _ in genes):
            value = max(value, _CODE_FLOOR)
        return Risk(round(value, 6), {name: round(part, 6) for name, part in parts.items()})

    def path(self, mutation: Mutation, risk: Risk, *, overconfidence: float) -> Path:
        """Choose who decides on a mutation.

        Args:
            mutation: The mutation.
            risk: Its risk.
            overconfidence: How much surer than right earlier decisions were, from 0 to 1 (`calibration`); it lowers
                the risk from which others are asked, and never raises it.
        """
        policy = self.policy(mutation)
        if policy is not None and policy.rule == "never":
            return "never"
        if policy is not None or risk.value >= self.limits.ask_above * (1.0 - overconfidence / 2):
            return "person"
        return "engine" if risk.value >= self.limits.engine_above * (1.0 - overconfidence) else "rule"

    def reason(self, mutation: Mutation, risk: Risk) -> str:
        """Say why neither a rule nor the engine decides on a mutation."""
        policy = self.policy(mutation)
        return policy.told if policy else f"risk {risk.value:.2f} needs a person"

    def min_confidence(self, overconfidence: float) -> float:
        """Return the confidence below which a verdict of the engine goes to a person; never below the configured.

        Args:
            overconfidence: As for `path`.
        """
        configured = self.limits.min_confidence
        return max(configured, min(_MOST_CONFIDENCE, configured + overconfidence))

    def policy(self, mutation: Mutation) -> Policy | None:
        """Return the rule a mutation falls under, one of `never` before one of `always_ask`; None for none."""
        rules: tuple[tuple[Rule, tuple[str, ...]], ...] = (
            ("never", self.limits.never),
            ("always_ask", self.limits.always_ask),
        )
        found = (
            Policy(rule, pattern, hits)
            for rule, patterns in rules
            for pattern in patterns
            if (hits := _hits(mutation, pattern))
        )
        return next(found, None)

    def forbids(self, gene: str) -> bool:
        """Whether evolution may not change a gene at all."""
        return any(_matches(gene, pattern) for pattern in self.limits.never)


def check_policies(limits: Autonomy, *, genes: Iterable[str], categories: Iterable[str]) -> None:
    """Refuse policies that can never hold for anything: a misspelt one would protect nothing.

    Args:
        limits: The application's limits and policies.
        genes: Its genes.
        categories: The categories its mutations may have.

    Raises:
        InvalidSetting: Names the pattern, and what there is.
    """
    names, kinds = list(genes), [_CATEGORY + category for category in categories]
    for rule, patterns in (("never", limits.never), ("always_ask", limits.always_ask)):
        for pattern in patterns:
            if pattern not in kinds and not any(_matches(name, pattern) for name in names):
                raise InvalidSetting(
                    f"autonomy.{rule} has {pattern!r}, which is no gene, no beginning of one and no category.",
                    hint=f"There are: {', '.join([*names, *kinds])}.",
                )


def gene_rollbacks(store: DNAStore, app: str) -> dict[str, int]:
    """Return how often a change of each gene was undone, automatically or by a person; genes without are left out."""
    undone = [{name for event in undoing.applied for name in event.data["changes"]} for undoing in undoings(store, app)]
    return dict(sorted(Counter(name for names in undone for name in names).items()))


def _hits(mutation: Mutation, pattern: str) -> tuple[str, ...]:
    if pattern == _CATEGORY + mutation.category:
        return (pattern,)
    return tuple(name for name in mutation.changes if _matches(name, pattern))


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1]))


def _size(gene: Gene, value: GeneValue) -> float:
    """How far a value moves inside its gene's range, from 0 to 1."""
    if isinstance(gene, (NumberGene, IntegerGene)):
        return min(1.0, abs(float(value) - gene.value) / (gene.high - gene.low))
    if isinstance(gene, (ChoiceGene, FlagGene)):
        return 1.0
    return 1.0 - SequenceMatcher(None, gene.value.split(), str(value).split(), autojunk=False).ratio()
