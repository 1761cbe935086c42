"""What the router learned in a cloud store, verified."""

from __future__ import annotations

from collections.abc import Sequence

from ...dna.aws.place import CloudPlace
from ...dna.aws.sums import unaltered
from ...dna.aws.table import Table
from ...dna.aws.verifying.findings import Findings
from ...dna.aws.verifying.summed import Look, SummedItems
from .dynamo_performance import family_key


def learned_in(place: CloudPlace) -> Look:
    """Return what verifies the evidence of a store's applications; where it has no sound copy it is learned anew."""

    def look(app: str, table: Table, others: Sequence[Table], findings: Findings) -> None:
        items = SummedItems(f"{place.partition(app)}/routing", table, others, findings, sound=unaltered)
        for sk, item in items.altered.items():
            if not items.restored(sk, family_key(str(item.get("family", "")))):
                items.remove(sk, source="what is learned anew")

    return look
