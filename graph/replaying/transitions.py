"""The steps of a run as its checkpoints hold them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

from ...dna.database import Database
from ...errors import UsageError
from ..checkpoints import SERIALIZER

_ROUTE = "branch:to:"
_UNCOMPARED = ("transcript", "__start__")
"""What a step that was answered from its own record does not have again; every request to a model is compared."""
_NUMBERS = ("generation", "generations", "seen")
_CHECKPOINTS = (
    "SELECT type, checkpoint, CAST(metadata AS BLOB) FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = ''"
    " ORDER BY checkpoint_id"
)

Checkpointer = Callable[[], BaseCheckpointSaver[str]]
"""Opens checkpoints that are not in the store's file."""

_Row = tuple[Any, ...]
_Stored = TypeVar("_Stored")


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of the graph.

    Args:
        node: The node that ran.
        state: The state after it; empty if it cannot be read.
        damage: Why it cannot be read.
    """

    node: str
    state: Mapping[str, Any]
    damage: str = ""

    @property
    def generation(self) -> int:
        """The generation it belongs to."""
        return int(self.state.get("generation", 0))

    @property
    def looked(self) -> bool:
        """Whether it read how many events there were (`seen`)."""
        return self.node == "observe" and not self.state.get("incident") and "seen" in self.state


@dataclass(frozen=True, slots=True)
class Leg:
    """A part of a run between two commands of its user.

    Args:
        after: Steps before it.
        generations: The limit it was given.
        begins: Whether the run was begun, for the first time or again; if not, it went on where it was.
    """

    after: int
    generations: int
    begins: bool


def kept_elsewhere(database: Database, run_id: str, checkpointer: Checkpointer | None) -> list[CheckpointTuple]:
    """Return the checkpoints of a run, oldest first, if they are not in the store's file.

    Args:
        database: The file.
        run_id: The run.
        checkpointer: Opens what they are in.

    Raises:
        UsageError: Not all of them are there.
        StoreUnavailable: They cannot be reached.
        IntegrityError: One cannot be read.
    """
    if checkpointer is None or _in_file(database, run_id):
        return []
    kept = list(checkpointer().list({"configurable": {"thread_id": run_id, "checkpoint_ns": ""}}))[::-1]
    parents = [each.parent_config and each.parent_config["configurable"]["checkpoint_id"] for each in kept]
    if parents != [None, *(each.config["configurable"]["checkpoint_id"] for each in kept)][: len(kept)]:
        raise UsageError(
            f"not all checkpoints of run {run_id} are there: some have expired, or were lost.",
            hint="Only a whole run is replayed or forked.",
        )
    return kept


def read_steps(database: Database, run_id: str, kept: Sequence[CheckpointTuple] = ()) -> Iterator[Transition | None]:
    """Yield the steps of a run, oldest first, and None wherever it was begun.

    Those in the file are read as they are stored, without the writes of each step that a checkpointer would read too.
    One that cannot be read is the last one.

    Args:
        database: The store that the checkpoints are in.
        run_id: The run.
        kept: Its checkpoints, if they are not in the file.
    """
    return _steps(kept, _values_and_source) if kept else _steps(_in_file(database, run_id), _unpacked)


def _in_file(database: Database, run_id: str) -> Sequence[_Row]:
    if database.row("SELECT 1 FROM sqlite_master WHERE name = 'checkpoints'") is None:
        return []
    return database.rows(_CHECKPOINTS, [run_id])


def _unpacked(row: _Row) -> tuple[Mapping[str, Any], str]:
    kind, checkpoint, metadata = row
    return SERIALIZER.loads_typed((kind, checkpoint))["channel_values"], json.loads(metadata)["source"]


def _values_and_source(kept: CheckpointTuple) -> tuple[Mapping[str, Any], str]:
    return kept.checkpoint["channel_values"], kept.metadata["source"]


def _steps(
    checkpoints: Iterable[_Stored], read: Callable[[_Stored], tuple[Mapping[str, Any], str]]
) -> Iterator[Transition | None]:
    following = ""
    for checkpoint in checkpoints:
        try:
            values, source = read(checkpoint)
            _check_numbers(values)
            route = next((name for name in values if name.startswith(_ROUTE)), "")
        except Exception as error:  # noqa: BLE001  # whatever a decoder raises for what was altered
            yield Transition(following, {}, f"{type(error).__name__}: {error}")
            return
        if source == "input":
            yield None
        elif following:
            yield Transition(following, _compared(values))
        following = route.removeprefix(_ROUTE)


def _check_numbers(values: Mapping[str, Any]) -> None:
    """Refuse a state whose numbers are none: a replay goes by them before they are compared."""
    for name in _NUMBERS:
        if not isinstance(values.get(name, 0), int):
            raise TypeError(f"{name}={values[name]!r} is no whole number")


def _compared(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in _UNCOMPARED and not name.startswith(_ROUTE)}


def legs_of(steps: Sequence[Transition | None]) -> Iterator[Leg]:
    """Yield the legs of a run, given its steps and None wherever it was begun."""
    done, asked, begins = 0, 0, True
    for step in steps:
        if step is None:
            begins = True
            continue
        generations = step.state.get("generations", asked)
        if begins or generations != asked:
            yield Leg(done, generations, begins=begins)
        done, asked, begins = done + 1, generations, False
