"""Audit: is the record of an application complete and unaltered, and do its decisions follow from it?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..dna.events import GENESIS, EvolutionEvent
from ..dna.genome import SystemDNA
from ..dna.sqlite import SQLiteDNAStore
from ..errors import IntegrityError
from ..fitness.journal import Journal, RunRecord
from ..fitness.panels import plan_panels
from ..fitness.promotion import PromotionRule
from ..fitness.racing import evidence_json, mean, weigh
from ..fitness.scorer import genes_key


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit looked at and what it found wrong; `problems` is empty when all is well."""

    checked: int
    problems: tuple[str, ...]

    @property
    def intact(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.problems


def verify(store: SQLiteDNAStore, app: str) -> AuditReport:
    """Check the hash chain of an application's events and the ancestry of its DNA.

    It finds every event that was altered, removed from the middle, inserted, reordered or duplicated, and names the
    first. A cut tail, or a history that was chained anew as a whole, cannot be seen without a copy of the last hash
    kept elsewhere.
    """
    problems: list[str] = []
    count, previous = 0, GENESIS
    try:
        for row, event in store.event_rows(app):
            count += 1
            if event.seq != count:
                problems.append(f"event {count} is missing: the record goes on with event {event.seq}")
            elif event.previous != previous:
                problems.append(f"event {event.seq} does not follow from the event before it")
            elif not event.intact():
                problems.append(f"event {event.seq} was altered: its content does not match its hash")
            elif (event.app, event.seq, event.key, event.hash) != row:
                problems.append(f"event {event.seq} was altered: its content does not match its row")
            if problems:
                break
            previous = event.hash
    except IntegrityError as error:
        problems.append(error.message)
    return AuditReport(count, (*problems, *_ancestry(store, app)))


def _ancestry(store: SQLiteDNAStore, app: str) -> Iterator[str]:
    parent: str | None = None
    try:
        for expected, dna in enumerate(store.lineage(app)):
            if dna.generation != expected or dna.parent != parent:
                yield f"generation {dna.generation} does not descend from the one before it"
                return
            parent = dna.checksum
    except IntegrityError as error:
        yield error.message


def replay(store: SQLiteDNAStore, journal: Journal, run_id: str) -> AuditReport:
    """Decide a recorded run again from its recorded evaluations, and compare.

    For every candidate that was put to the promotion rule the evidence is computed anew from the recorded scores;
    for every mutation that was applied the DNA is built anew from its parent. Nothing is scored or stored.

    Raises:
        UnknownRun: There is no such run.
    """
    run = journal.run(run_id)
    problems: list[str] = []
    checked = 0
    lineage = {dna.checksum: dna for dna in store.lineage(run.app)}
    for event in store.events(run.app):
        if event.run_id != run_id or "evidence" not in event.data:
            continue
        checked += 1
        recorded = event.data["evidence"]
        if recorded["test"] != checked:
            problems.append(f"event {event.seq}: it is test {checked} of the run, not {recorded['test']}")
        again = _evidence_again(journal, run, recorded)
        problems += [
            f"event {event.seq}: {name} was {recorded.get(name)!r}, and is {value!r} when replayed"
            for name, value in again.items()
            if value != recorded.get(name)
        ]
        if event.kind == "applied":
            problems += _reapplied(lineage, event, recorded["genes"])
    return AuditReport(checked, tuple(problems))


def _evidence_again(journal: Journal, run: RunRecord, recorded: Mapping[str, Any]) -> dict[str, Any]:
    request = run.request
    score_range = request["score_range"]
    rule = PromotionRule(alpha=request["alpha"], score_range=tuple(score_range) if score_range else None)
    single = set(request["sizes"].values()) == {1}
    part, sample = "train" if single else "validation", 0 if request["deterministic"] else 1
    candidate = _scores(journal, run.run_id, recorded["genes"], part, 0)
    live = _scores(journal, run.run_id, recorded["live"], part, sample)
    if single:
        evidence = rule.strict(mean(candidate) - mean(live), test=recorded["test"])
    else:
        panels = plan_panels(request["sizes"], max_evaluations=request["max_evaluations"], seed=run.seed)
        evidence = weigh(rule, candidate, live, panels.validation, test=recorded["test"])
    return evidence_json(evidence, recorded["genes"], recorded["live"])


def _scores(journal: Journal, run_id: str, genes: str, part: str, sample: int) -> dict[int, float]:
    outcomes = journal.outcomes(run_id, genes, part, sample)
    return {index: outcome.value for index, outcome in outcomes.items() if outcome.value is not None}


def _reapplied(lineage: Mapping[str, SystemDNA], event: EvolutionEvent, tested: str) -> Iterator[str]:
    live = lineage.get(event.data["dna"])
    parent = lineage.get(live.parent) if live and live.parent else None
    if live is None or parent is None:
        yield f"the DNA {event.data['dna'][:12]} that mutation {event.mutation_id} led to is not in the store"
        return
    again = genes_key({**parent.values, **event.data["changes"]})
    if not again == genes_key(live.values) == tested:
        yield f"mutation {event.mutation_id} of generation {parent.generation} does not give what was tested"
