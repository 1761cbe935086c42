"""A second story for the commit points of model calls: a run whose first call meets a spent quota."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bedrock_evolution import Evolution, Score, number, text
from bedrock_evolution.clock import FixedClock
from bedrock_evolution.settings import Settings
from tests.support.bedrock_endpoint import BedrockEndpoint
from tests.support.bill import micro_usd
from tests.support.books import added_up, balances
from tests.support.converse import ConverseRequest, Failure, Reply
from tests.support.model import ScriptedModel
from tests.support.stage import HAIKU, SONNET

GENERATIONS = 3
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = timedelta(minutes=10)
EVALUATION_S = 20.0
PLANTS = ("fern", "moss", "orchid", "cactus")
CASES = {"train": list(range(8)), "validation": list(range(8, 24)), "test": list(range(24, 28))}
GENES = {"words": text("plants", max_chars=200), "threshold": number(0.1, low=0.0, high=1.0)}


def service() -> BedrockEndpoint:
    """Return a service whose quota for the first model is spent when it is called first."""
    model = ScriptedModel(restless=True)

    def respond(request: ConverseRequest) -> Reply:
        return Failure("ServiceQuotaExceededException") if request.number == 0 else model(request)

    return BedrockEndpoint(respond)


def shop(folder: Path, endpoint: BedrockEndpoint | str, *, again: bool = False) -> Evolution:
    """Return the application; a process that goes on does so ten minutes later."""
    clock = FixedClock(NOON + LATER if again else NOON)

    def sell(genes: Mapping[str, Any], cases: list[int]) -> list[Score]:
        clock.sleep(EVALUATION_S)
        return [_sold(genes, PLANTS[case % len(PLANTS)]) for case in cases]

    settings = Settings(
        model="bedrock",
        endpoint_url=endpoint if isinstance(endpoint, str) else endpoint.url,
        regions=("us-east-1",),
        models=(SONNET, HAIKU),
        advisor_model=SONNET,
        decision_model=SONNET,
        candidates=2,
        store=f"sqlite:///{folder / 'shop.db'}",
    )
    return Evolution("shop", GENES, evaluate_all=sell, cases=CASES, settings=settings, workers=1, clock=clock)


def _sold(genes: Mapping[str, Any], plant: str) -> Score:
    named = plant in genes["words"]
    value = 0.5 - (genes["threshold"] - 0.7) ** 2 + 0.3 * named
    return Score(value, gene_feedback={} if named else {"words": f'should have taken: "my {plant} is dry"'})


def tend(app: Evolution) -> None:
    """Start the run, or go on with it, until it is done."""
    known = app._services.journal.runs()
    if not known:
        app.run(GENERATIONS, seed=5, progress=False)
    elif known[0].status != "done":
        app.resume(known[0].run_id, progress=False)


def told(app: Evolution, endpoint: BedrockEndpoint) -> dict[str, Any]:
    """Return what the books say, and what the service says of the same calls."""
    [run] = app._services.journal.runs()
    database = app._database
    app._services.begin()
    report = app.audit()
    return {
        "status": run.status,
        "calls": [list(row) for row in database.rows("SELECT status, cost_micro_usd FROM calls ORDER BY rowid")],
        "billed": [micro_usd(sent.model_id, answer) for sent, answer in endpoint.answered],
        "requests": len(endpoint.requests),
        "balanced": balances(database) == added_up(database),
        "spent_micro_usd": app._services.gateway.ledger.run_spend(run.run_id).micro_usd,
        "summary_usd": run.summary["cost_usd"],
        "keys": [
            row[0]
            for row in database.rows(
                "SELECT substr(key, length(run_id) + 2) FROM (SELECT key,"
                " json_extract(document, '$.run_id') AS run_id FROM events) WHERE run_id IS NOT NULL"
            )
        ],
        "generations": [row[0] for row in database.rows("SELECT DISTINCT generation FROM trials ORDER BY 1")],
        "audit": [list(report.problems), report.unsigned],
    }
