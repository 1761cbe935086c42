"""`MutationEngine`: turns wishes into valid mutations and valid mutations into new DNA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InvalidMutation
from .genome import SystemDNA
from .mutation import Mutation

BUILT_IN_CATEGORIES = (
    "communication enhancement",
    "language expansion",
    "storage optimisation",
    "intelligence upgrade",
    "protocol improvement",
)
"""The kinds of change every application knows; an application may add its own."""


class MutationEngine:
    """The one door through which changes become mutations.

    Args:
        categories: The application's own categories, beside the built-in ones.
    """

    def __init__(self, categories: Sequence[str] = ()) -> None:
        self.categories = (*BUILT_IN_CATEGORIES, *categories)

    def propose(
        self,
        dna: SystemDNA,
        changes: Mapping[str, Any],
        *,
        category: str = "intelligence upgrade",
        rationale: str = "",
        predicted_gain: float = 0.0,
        probability: float = 0.5,
        origin: str = "",
    ) -> Mutation:
        """Make a mutation of `dna`, with values as its genes store them and without changes that change nothing.

        Raises:
            InvalidMutation: Unknown or locked gene, value out of bounds, unknown category, or no change at all.
        """
        if category not in self.categories:
            raise InvalidMutation(
                f"unknown category {category!r}.", hint="Use one of: " + ", ".join(self.categories) + "."
            )
        checked = {name: dna.checked(name, value) for name, value in changes.items()}
        effective = {name: value for name, value in sorted(checked.items()) if value != dna.genes[name].value}
        if not effective:
            raise InvalidMutation("the mutation changes nothing.", hint="Give at least one gene another value.")
        return Mutation(
            parent=dna.checksum,
            changes=effective,
            category=category,
            rationale=rationale,
            predicted_gain=predicted_gain,
            probability=probability,
            origin=origin,
        )

    def apply(self, dna: SystemDNA, mutation: Mutation, *, fitness: float | None = None) -> SystemDNA:
        """Return the next generation of `dna`; nothing is stored.

        Raises:
            InvalidMutation: The mutation was made for another DNA, or breaks a lock or a bound.
        """
        return dna.apply(mutation, fitness=fitness)
