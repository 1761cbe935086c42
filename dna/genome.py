"""`SystemDNA`: the immutable, checksummed set of genes an application runs with."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict

from ..errors import InvalidGene, InvalidMutation
from .canonical import checksum
from .frozen import FREEZE, THAW
from .genes import BaseGene, Gene, GeneValue, declared
from .mutation import Mutation


class SystemDNA(BaseModel):
    """One generation of an application's genes.

    Everything but the checksum of this very object is covered by `checksum`, so two DNAs with equal
    checksums are equal in app, ancestry, genes and fitness.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    app: str
    generation: int
    genes: Annotated[Mapping[str, Gene], FREEZE, THAW]
    parent: str | None = None
    """Checksum of the DNA this one was made from; None for the first."""
    mutation: str | None = None
    """Id of the mutation that made it; None for the first."""
    fitness: float | None = None
    """Mean validation score the mutation was promoted with; None where it was not measured."""

    @classmethod
    def declare(cls, app: str, genes: Mapping[str, BaseGene]) -> SystemDNA:
        """Make generation 0 of an application.

        Raises:
            InvalidGene: A declaration is wrong; the message names the gene.
        """
        return cls(app=app, generation=0, genes={name: declared(name, gene) for name, gene in genes.items()})

    @cached_property
    def values(self) -> Mapping[str, GeneValue]:
        """Gene names and their values, in the order of declaration."""
        return MappingProxyType({name: gene.value for name, gene in self.genes.items()})

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over the canonical JSON of this DNA, as 64 hexadecimal digits."""
        return checksum(self.as_json())

    def as_json(self) -> dict[str, Any]:
        """Return the JSON-plain form that is stored and hashed."""
        return self.model_dump(mode="json")

    def successor(
        self, changes: Mapping[str, GeneValue], *, mutation: str | None, fitness: float | None = None
    ) -> SystemDNA:
        """Return generation + 1 with some values changed; they must have been checked."""
        genes = dict(self.genes)
        for name, value in changes.items():
            genes[name] = genes[name].with_value(value)
        return SystemDNA(
            app=self.app,
            generation=self.generation + 1,
            genes=genes,
            parent=self.checksum,
            mutation=mutation,
            fitness=fitness,
        )

    def checked(self, name: str, value: Any) -> GeneValue:
        """Return `value` as gene `name` would store it.

        Raises:
            InvalidMutation: The gene is unknown or locked, or the value is out of bounds.
        """
        gene = self.genes.get(name)
        if gene is None:
            raise InvalidMutation(f"unknown gene {name!r}.", hint=f"The genes are: {', '.join(self.genes)}.")
        if gene.locked:
            raise InvalidMutation(f"gene {name!r} is locked.", hint="Only its owner may change it, in the application.")
        try:
            return gene.check(value)
        except InvalidGene as error:
            raise InvalidMutation(f"gene {name!r}: {error.message}.", hint=error.hint) from None

    def reachable(self, values: Mapping[str, GeneValue]) -> bool:
        """Whether a mutation of this DNA could give it exactly these values, and would change something."""
        if values.keys() != self.genes.keys() or values == self.values:
            return False
        changes = {name: value for name, value in values.items() if value != self.values[name]}
        try:
            return all(self.checked(name, value) == value for name, value in changes.items())
        except InvalidMutation:
            return False

    def apply(self, mutation: Mutation, *, fitness: float | None = None) -> SystemDNA:
        """Return the DNA this one becomes under `mutation`; pure.

        Raises:
            InvalidMutation: It was made for another DNA, or breaks a lock or a bound: names gene, value and bound.
        """
        if mutation.parent != self.checksum:
            raise InvalidMutation(
                f"mutation {mutation.id} was made for DNA {mutation.parent[:12]}, not for {self.checksum[:12]}.",
                hint="Propose it again for the live DNA.",
            )
        changes = {name: self.checked(name, value) for name, value in mutation.changes.items()}
        return self.successor(changes, mutation=mutation.id, fitness=fitness)
