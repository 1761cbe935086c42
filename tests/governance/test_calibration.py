"""Calibration: what was predicted of decisions against what became of them, from the record alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.events import EventDraft
from bedrock_evolution.dna.genes import integer, number
from bedrock_evolution.dna.genome import SystemDNA
from bedrock_evolution.dna.mutation import Mutation
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from bedrock_evolution.governance.autonomy import gene_rollbacks
from bedrock_evolution.governance.calibration import WINDOW, Calibration, calibration, overconfidence

APP = "router"
NOTHING = Calibration(0, 0, None, None, 0.0, None, None)


class Story:
    """An application whose DNA is changed and rolled back, with the events that a run and a rollback leave."""

    def __init__(self, store: SQLiteDNAStore, clock: FixedClock) -> None:
        self.store = store
        self._clock = clock
        declared = SystemDNA.declare(APP, {"x": number(0.0, low=0.0, high=1000.0), "n": integer(0, low=0, high=10**6)})
        self.store.commit(None, declared, self._event("declared", dna=declared.checksum))

    @property
    def generation(self) -> int:
        return self._head().generation

    def applied(
        self, confidence: float = 0.9, *, gene: str = "n", impact: float | None = None, by: str = "rule"
    ) -> None:
        head = self._head()
        mutation = Mutation(parent=head.checksum, changes={gene: head.generation + 1}, category="c")
        dna = head.apply(mutation)
        decision = {"by": by, "confidence": confidence, "verdict": "APPROVE"}
        decision |= {"approval_id": "ap-1"} if by == "Mara" else {}
        event = self._event(
            "applied", dna=dna.checksum, changes={gene: head.generation + 1}, decision=decision, impact=impact
        )
        self.store.commit(head.checksum, dna, event)

    def restored(self, to: int, *, automatic: bool = True, before: float | None = None, now: float = 0.0) -> None:
        head = self._head()
        evidence = {} if before is None else {"mean_before": before, "mean_now": now}
        data = {"from": head.generation, "to": to, "automatic": automatic, "evidence": evidence}
        # The checksum of the new DNA is known before it is stored, since restoring is deterministic.
        values = self.store.snapshot(APP, to).values
        dna = head.successor(values, mutation=f"restore-{to}", fitness=None)
        self.store.commit(head.checksum, dna, self._event("restored", dna=dna.checksum, **data))

    def _head(self) -> SystemDNA:
        head = self.store.head(APP)
        assert head is not None
        return head

    def _event(self, kind: str, **data: Any) -> EventDraft:
        generation = self.store.head(APP)
        number_ = generation.generation + 1 if generation else 0
        return EventDraft(app=APP, kind=kind, key=f"{kind}/{number_}", at=self._clock.now(), actor="rule", data=data)


@pytest.fixture
def story(database: Database, clock: FixedClock) -> Story:
    return Story(SQLiteDNAStore(database), clock)


def found(story: Story) -> Calibration:
    return calibration(story.store, APP)


def test_without_decisions_there_is_nothing_to_tell(story: Story) -> None:
    assert found(story) == NOTHING
    assert calibration(story.store, "unheard of") == NOTHING
    assert gene_rollbacks(story.store, APP) == {}


def test_what_is_live_counts_only_once_it_is_replaced(story: Story) -> None:
    story.applied(0.8)
    assert found(story) == NOTHING
    story.applied(0.9)
    assert found(story) == Calibration(1, 1, 0.8, 1.0, 0.0, None, None)
    story.applied(1.0)
    assert (found(story).decisions, found(story).held, found(story).mean_confidence) == (2, 2, 0.85)


@pytest.mark.parametrize("automatic", [True, False])
def test_what_was_undone_did_not_hold(story: Story, automatic: bool) -> None:
    for _ in range(4):
        story.applied(0.9)
    story.restored(2, automatic=automatic)
    assert (found(story).decisions, found(story).held) == (4, 2)


def test_a_rollback_undoes_what_lies_above_its_target_only_once(story: Story) -> None:
    story.applied()  # 1
    story.applied()  # 2
    story.restored(1)  # 3
    story.applied()  # 4
    story.restored(3)  # 5
    assert (found(story).decisions, found(story).held) == (3, 1)
    story.restored(1)  # 6: generations 2 and 4 were undone before
    assert (found(story).decisions, found(story).held) == (3, 1)
    assert gene_rollbacks(story.store, APP) == {"n": 2}


def test_a_rollback_that_goes_forward_again_undoes_nothing(story: Story) -> None:
    story.applied()  # 1
    story.restored(0)  # 2
    story.restored(1)  # 3: the genes of generation 1 again
    assert gene_rollbacks(story.store, APP) == {"n": 1}
    assert (found(story).decisions, found(story).held) == (1, 0)


def test_the_genes_of_all_that_was_undone_are_counted(story: Story) -> None:
    story.applied(gene="x")
    story.applied(gene="n")
    story.applied(gene="x")
    story.restored(1)
    story.applied(gene="x")
    story.restored(4, automatic=False)
    assert gene_rollbacks(story.store, APP) == {"n": 1, "x": 2}


def test_what_a_person_approved_says_nothing_of_how_sure_others_were(story: Story) -> None:
    story.applied(1.0, by="Mara")
    story.applied(0.7)
    story.restored(0)
    assert found(story) == Calibration(1, 0, 0.7, 0.0, 0.0, None, None)
    assert gene_rollbacks(story.store, APP) == {"n": 1}


def test_overconfidence_is_the_gap_beyond_one_standard_error_and_needs_five_decisions(story: Story) -> None:
    for number_ in range(5):
        story.applied(0.95)
        story.restored(story.generation - 1)
        assert (found(story).overconfidence > 0) == (number_ == 4)
    assert found(story) == Calibration(5, 0, 0.95, 0.0, 0.95, None, None)


def test_decisions_that_all_hold_are_not_overconfident(story: Story) -> None:
    for _ in range(8):
        story.applied(0.999)
    assert found(story).overconfidence == 0.0
    assert found(story).hold_rate == 1.0


def test_two_events_of_one_generation_count_once(story: Story) -> None:
    story.applied(0.8)
    [event] = story.store.recent(APP, ["applied"], limit=1)
    twin = EventDraft(**event.model_dump(include=set(EventDraft.model_fields)) | {"key": "another run"})
    story.store.append(twin)
    story.applied(0.8)
    story.restored(1)
    assert (found(story).decisions, found(story).held) == (2, 1)
    assert gene_rollbacks(story.store, APP) == {"n": 1}


def test_predicted_impact_stands_beside_what_live_outcomes_showed(story: Story) -> None:
    story.applied(impact=0.1)
    story.applied(impact=0.2)
    story.applied(impact=0.05)
    assert (found(story).predicted_impact, found(story).actual_impact) == (None, None)
    story.restored(1, before=0.8, now=0.6)
    assert (found(story).predicted_impact, found(story).actual_impact) == (0.25, -0.2)
    story.applied(impact=0.05)
    story.restored(4, automatic=False)
    assert (found(story).predicted_impact, found(story).actual_impact) == (0.25, -0.2)
    story.applied(impact=0.35)
    story.restored(6, before=0.8, now=0.7)
    assert (found(story).predicted_impact, found(story).actual_impact) == (0.3, -0.15)


def test_only_the_newest_decisions_are_looked_back_on(story: Story) -> None:
    for _ in range(WINDOW + 20):
        story.applied(0.9)
    assert found(story).decisions == WINDOW - 1
    story.restored(story.generation - 5)
    assert (found(story).decisions, found(story).held) == (WINDOW, WINDOW - 5)


CONFIDENCES = st.lists(st.floats(0.0, 1.0), max_size=40)


@given(CONFIDENCES, st.data())
def test_overconfidence_is_a_share_and_falls_as_more_decisions_hold(
    confidences: list[float], data: st.DataObject
) -> None:
    shares = [overconfidence(confidences, held) for held in range(len(confidences) + 1)]
    assert all(0.0 <= share <= 1.0 for share in shares)
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 0.0
    if len(confidences) < 5:
        assert set(shares) == {0.0}


@given(st.lists(st.floats(0.0, 0.9), min_size=5, max_size=40), st.floats(0.0, 0.1), st.data())
def test_being_surer_of_the_same_is_more_overconfident(
    confidences: list[float], more: float, data: st.DataObject
) -> None:
    held = data.draw(st.integers(0, len(confidences)))
    surer = [sure + more for sure in confidences]
    assert overconfidence(surer, held) >= overconfidence(confidences, held)
