"""The graph's state: JSON-plain and bounded; long records live in the store and are referred to by id."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from langgraph.channels import EphemeralValue
from typing_extensions import TypedDict

RunStatus = Literal["running", "done", "failed", "budget"]

Ending = Literal["", "generations", "candidates", "budget"]

POOL_SIZE = 8
TREND_LENGTH = 8


class Head(TypedDict):
    """The live DNA."""

    checksum: str
    generation: int


class Start(TypedDict):
    """The DNA a run started from."""

    generation: int
    fitness: float


class PoolEntry(TypedDict):
    """A candidate worth breeding from, by its place in the journal."""

    generation: int
    slot: int
    gain: float
    z: float
    cases: int
    gated: bool


class Candidate(TypedDict):
    """A candidate of this generation, in short."""

    slot: int
    mutation_id: str
    genes: list[str]
    origin: str
    rationale: str


class Release(TypedDict):
    """A candidate that passed the promotion rule and waits for a decision."""

    generation: int
    slot: int
    mutation_id: str
    evidence: dict[str, Any]


def _newest(_: int, new: int) -> int:
    """Let the newest limit win: a run that waits may be given several before it goes on."""
    return new


class EvolutionInput(TypedDict, total=False):
    """What a caller gives; all of it may be left out."""

    run_id: str
    generations: Annotated[int, _newest]
    seed: int


class EvolutionOutput(TypedDict, total=False):
    """What a caller gets."""

    run_id: str
    status: RunStatus
    message: str
    summary: dict[str, Any]


class EvolutionState(EvolutionInput, EvolutionOutput, total=False):
    """Everything the nodes hand to each other."""

    visit: int
    """How often the run was begun: once, and once more for each time it went on after its end."""
    generation: int
    head: Head
    seen: int
    """How many events were on record when this generation began."""
    degraded: int
    """Number of the automatic rollback whose cause is to be looked into, or 0."""
    start: Start
    fitness: float
    trend: list[float]
    """Live fitness of the newest generations, oldest first."""
    measures: list[str]
    routing: dict[str, Any]
    """What the model router had learned when this generation began: what it was routed by, and a replay is."""
    pressure: dict[str, Any] | None
    """What the books said then of the budget closest to its limit; None without a model that costs."""
    pool: list[PoolEntry]
    tests: int
    """How many candidates were put to the promotion rule; each makes the next one stricter."""
    failed_trials: int
    """Failed trials in a row."""
    ending: Ending
    """Why this generation is the last one; empty while it is not."""
    gate: dict[str, Any] | None
    """What the promotion rule found of the candidate that was put to it, credible or not."""
    release: Release | None
    preferred: list[int] | None
    """Generation and slot of the candidate that the decision engine wants put to the promotion rule next."""
    decision: dict[str, Any] | None
    incident: dict[str, Any] | None
    candidates: Annotated[list[Candidate], EphemeralValue]
    strategy: Annotated[dict[str, Any], EphemeralValue]
    transcript: Annotated[list[dict[str, Any]], EphemeralValue]
    """What the agent of the last step said and called. Like candidates and strategy it is kept in the checkpoint of
    that step only: in later ones it would be paid for again at every step."""
