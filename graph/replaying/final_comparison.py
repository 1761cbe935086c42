"""The end of a replay: what is not compared step by step, because it changes later or lies beside the steps."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from ...fitness.journal import TrialRecord
from .differences import Difference, first_difference
from .recording import RunRecording
from .scratch import Scratch

_LASTING = ("mutation", "genes", "parent_generation", "changes", "about")
"""What a trial keeps from the moment it is proposed."""


def compared_at_the_end(recording: RunRecording, scratch: Scratch) -> Difference | None:
    """Compare what a run left behind: its events, its candidates, the DNA, its request and its summary.

    Args:
        recording: The run.
        scratch: Where it was done again.
    """
    return (
        _events(recording, scratch)
        or _trials(recording, scratch)
        or _dna(recording, scratch)
        or _request(recording)
        or _summary(recording)
    )


def _events(recording: RunRecording, scratch: Scratch) -> Difference | None:
    for event in recording.own.values():
        if scratch.store.event(event.app, event.key) is None:
            return Difference(f"event {event.key}", "kind", event.kind, None)
    return None


def _trials(recording: RunRecording, scratch: Scratch) -> Difference | None:
    again = scratch.trials()
    # A step that is not on record may have noted what became of some.
    whole = _at_rest(recording)
    for place in dict.fromkeys([*recording.trials, *again]):
        recorded, replayed = recording.trials.get(place), again.get(place)
        where = f"generation {place[0]}, candidate {place[1]}"
        difference = first_difference(where, _told(recorded, whole=whole), _told(replayed, whole=whole))
        if difference is not None:
            return difference
    return None


def _told(trial: TrialRecord | None, *, whole: bool) -> dict[str, Any] | None:
    if trial is None:
        return None
    fields = asdict(trial)
    return fields if whole else {name: fields[name] for name in _LASTING}


def _dna(recording: RunRecording, scratch: Scratch) -> Difference | None:
    for generation, checksum, document in scratch.dna():
        row = recording.dna.get(checksum)
        where = f"DNA generation {generation}"
        if row is None:
            return Difference(where, "checksum", None, checksum)
        if row[-1] != document:
            return first_difference(where, _parsed(row[-1]), _parsed(document))
    return None


def _request(recording: RunRecording) -> Difference | None:
    """Compare what the run is bound to with the event that bound it."""
    bound = [event for event in recording.own.values() if event.kind in ("begun", "resumed")][-1]
    told = {name: value for name, value in bound.data.items() if name != "seed"}
    run, seed = recording.run, recording.begun.data["seed"]
    return first_difference(
        f"run {run.run_id}", {"seed": run.seed, "request": run.request}, {"seed": seed, "request": told}
    )


def _summary(recording: RunRecording) -> Difference | None:
    ended, run = recording.ended, recording.run
    if ended is None or not _at_rest(recording) or run.status != ended.data["summary"]["status"]:
        return None
    return first_difference(f"run {run.run_id}, summary", run.summary, ended.data["summary"])


def _at_rest(recording: RunRecording) -> bool:
    return bool(recording.transitions) and recording.transitions[-1].node == "report"


def _parsed(document: str) -> Any:
    try:
        return json.loads(document)
    except ValueError:
        return document
