"""The models of a run as its nodes see them: their answers, what the books said, and what the router knew."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from ...bedrock.gateway import Gateway, ModelGateway
from ...bedrock.models.catalog import Catalog
from ...bedrock.money.ledger import Pressure, Spend
from ...bedrock.money.sqlite_ledger import SQLiteLedger
from ...bedrock.recorded import RecordedCall
from ...bedrock.recorded_gateway import RecordedGateway
from ...bedrock.routing.performance import Evidence, ModelPerformanceTracker
from ...clock import Clock, CountedIds
from ...dna.database import Database
from ...errors import ReplayDiverged
from ...healing.breaker import CircuitBreaker
from ...healing.strategies import CloudHealingStrategies
from ...settings import MICRO, Budget, Settings
from .recording import RunRecording

_NO_PRESSURE = Pressure(share=0.0, scope="no", calls=0)


class RecordedLedger(SQLiteLedger):
    """Says what the books said then."""

    def __init__(self, database: Database, *, app: str, clock: Clock) -> None:
        super().__init__(database, app=app, budget=Budget(), clock=clock, ids=CountedIds())
        self.known = _NO_PRESSURE
        self.summary: Mapping[str, Any] = {}
        """Of the report that is written next."""

    def pressure(self, run_id: str) -> Pressure:
        """See `Ledger.pressure`."""
        return self.known

    def run_spend(self, run_id: str) -> Spend:
        """See `Ledger.run_spend`."""
        return Spend(
            micro_usd=round(self.summary.get("cost_usd", 0.0) * MICRO),
            calls=self.summary.get("model_calls", 0),
            failed_calls=self.summary.get("failed_model_calls", 0),
            input_tokens=0,
            output_tokens=0,
        )


class RecordedTracker(ModelPerformanceTracker):
    """Says what the router had learned then."""

    def __init__(self, database: Database, *, app: str, clock: Clock) -> None:
        super().__init__(database, app=app, clock=clock)
        self.routing: dict[str, dict[str, Evidence]] = {}

    def snapshot(self) -> dict[str, dict[str, Evidence]]:
        """See `ModelPerformanceTracker.snapshot`."""
        return self.routing


class RecordedModels(RecordedGateway):
    """Answers as the models of a run did.

    Args:
        recording: The run.
        database: A scratch database.
        clock: The replay's.
    """

    def __init__(self, recording: RunRecording, database: Database, clock: Clock) -> None:
        super().__init__(self._read)
        app = recording.run.app
        self.ledger = RecordedLedger(database, app=app, clock=clock)
        self.tracker = RecordedTracker(database, app=app, clock=clock)
        self.stood_in: bool = recording.begun.data["model"] == "local"
        """Whether the stand-in advised the run."""
        self.given = 0
        """How many answers were given again."""
        self._answers = recording.answers
        self._digests = {
            event.data["step"]: event.data["calls"] for event in recording.own.values() if "calls" in event.data
        }

    @property
    def local(self) -> bool:
        """Whether the stand-in advised the run."""
        return self.stood_in

    def remember(self, state: Mapping[str, Any]) -> None:
        """Let the books and the router say what they said in a generation that ended with a state."""
        pressure = state.get("pressure")
        self.ledger.known = Pressure(**pressure) if pressure else _NO_PRESSURE
        self.tracker.routing = state.get("routing", {})

    def _read(self, run_id: str, step: str) -> Sequence[RecordedCall]:
        documents, digests = self._answers.get(step, ()), self._digests.get(step, [])
        for number in range(1, max(len(documents), len(digests)) + 1):
            digest = digests[number - 1] if number <= len(digests) else None
            found = sha256(documents[number - 1]).hexdigest() if number <= len(documents) else None
            if digest != found:
                raise ReplayDiverged(
                    f"checksum of answer {number} of the model", step=step, number=number, expected=digest, found=found
                )
        self.given += len(documents)
        return [RecordedCall.read(document.decode()) for document in documents]


def stand_in_gateway(settings: Settings, models: RecordedModels, database: Database, clock: Clock) -> Gateway:
    """Return what answers where a fork leaves the record: the stand-in, never a model.

    Args:
        settings: Of the fork.
        models: Of the run, whose books go on.
        database: A scratch database.
        clock: The fork's.
    """
    return ModelGateway(
        settings,
        models.ledger,
        clock=clock,
        healing=CloudHealingStrategies(CircuitBreaker(database, clock), random.Random(0)),  # noqa: S311  # jitter
        tracker=models.tracker,
        catalog=Catalog(settings.model_cards),
        session=None,
    )
