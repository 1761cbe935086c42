"""The commit points: every moment at which something becomes durable, by name.

Whoever wants to know what a process leaves behind when it dies stops it just before and just after each of them
(`Database.reached`); a test does so for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

CommitPoint = Literal[
    "tables",
    "dna.commit",
    "event.append",
    "anchor.sign",
    "store.pull",
    "store.sent",
    "store.failed",
    "run.begin",
    "run.status",
    "run.resumed",
    "advice.record",
    "decision.record",
    "incident.record",
    "trials.record",
    "evaluations.record",
    "checkpoint.put",
    "checkpoint.writes",
    "approval.ask",
    "approval.answer",
    "approval.void",
    "feedback.add",
    "feedback.read",
    "outcomes.record",
    "money.caps",
    "money.reserve",
    "money.settle",
    "money.give_up",
    "routing.learn",
    "breaker.probe",
    "breaker.close",
    "breaker.count",
]
"""What is written durably, one name for each kind of write."""

Moment = Literal["before", "after"]
Reached = Callable[[CommitPoint, Moment], None]


def unwatched(point: CommitPoint, moment: Moment) -> None:  # what a watcher is given
    """Let a commit point pass."""
