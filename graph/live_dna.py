"""The live DNA: as the store has it, or as the application declares it by now."""

from __future__ import annotations

from ..dna.events import EventDraft
from ..dna.genes import Gene
from ..dna.genome import SystemDNA
from ..errors import InvalidGene, StaleParent
from .services import Services


def live_dna(services: Services) -> SystemDNA:
    """Return the live DNA, made from the application's declaration when it is new or was declared anew.

    What evolution found is kept for every gene whose declaration still allows it.
    """
    head = services.store.head(services.app)
    wanted, why = _wanted(services.declared, head)
    if head is not None and wanted is head:
        return head
    try:
        return services.store.commit(head.checksum if head else None, wanted, _declared_event(services, wanted, why))
    except StaleParent:
        # Another process declared the application, or changed it, between the two steps.
        return live_dna(services)


def _wanted(declared: SystemDNA, head: SystemDNA | None) -> tuple[SystemDNA, str]:
    """Return the DNA that should be live, and why it is another one than the head."""
    if head is None:
        return declared, "first declaration"
    genes = {name: _carried(gene, head, name) for name, gene in declared.genes.items()}
    if list(genes.items()) == list(head.genes.items()):
        return head, ""
    generation = head.generation + 1
    redeclared = SystemDNA(
        app=head.app, generation=generation, genes=genes, parent=head.checksum, mutation=f"declare-{generation}"
    )
    return redeclared, "the application declares other genes or bounds"


def _carried(gene: Gene, head: SystemDNA, name: str) -> Gene:
    old = head.genes.get(name)
    if old is None or old.kind != gene.kind or gene.locked:
        return gene
    try:
        return gene.with_value(old.value)
    except InvalidGene:
        return gene


def _declared_event(services: Services, dna: SystemDNA, why: str) -> EventDraft:
    return EventDraft(
        app=services.app,
        kind="declared",
        key=f"declared/{dna.checksum}",
        at=services.clock.now(),
        actor="application",
        why=why,
        data={"dna": dna.checksum, "genes": dict(dna.values)},
    )
