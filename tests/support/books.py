"""The ledger's books, read behind its back: balances as they are stored, and as the calls on record add up to."""

from pathlib import Path
from typing import Any

from langchain.agents.middleware import ModelResponse
from langchain_core.messages import HumanMessage

from bedrock_evolution.bedrock.gateway import ModelTask
from bedrock_evolution.bedrock.money.sqlite_ledger import HOLD_TTL_S, SQLiteLedger
from bedrock_evolution.clock import Clock, IdSource, RandomIds
from bedrock_evolution.dna.database import Database
from bedrock_evolution.settings import Budget
from tests.support.stage import Stage

APP = "router"

Balance = tuple[int, ...]
"""Spent, held, unconfirmed, calls, failed calls, and input, output, cache-read and cache-write tokens."""

_SUMS = (
    "sum(cost_micro_usd), sum(held_micro_usd),"
    " sum(CASE WHEN status IN ('lost', 'expired') THEN cost_micro_usd ELSE 0 END), count(*),"
    " sum(status IN ('void', 'lost', 'expired')), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),"
    " sum(cache_write_tokens)"
)
_PERIODS = (("'run'", "run_id"), ("'daily ' || agent", "day"), ("'daily'", "day"), ("'monthly'", "month"))


def opened(
    path: Path,
    clock: Clock,
    *,
    app: str = APP,
    budget: Budget | None = None,
    ids: IdSource | None = None,
    hold_ttl_s: float = HOLD_TTL_S,
    **caps: Any,
) -> SQLiteLedger:
    """Open a ledger on a file, on a connection of its own."""
    return SQLiteLedger(
        Database(path),
        app=app,
        budget=budget or Budget(**caps),
        clock=clock,
        ids=ids or RandomIds(clock),
        hold_ttl_s=hold_ttl_s,
    )


def balances(database: Database) -> dict[tuple[str, str, str], Balance]:
    """Return the stored balances by application, scope and period."""
    columns = "spent, held, unconfirmed, calls, failed_calls, input_tokens, output_tokens"
    rows = database.rows(f"SELECT app, scope, period, {columns}, cache_read_tokens, cache_write_tokens FROM accounts")
    return {(app, scope, period): tuple(sums) for app, scope, period, *sums in rows}


def added_up(database: Database) -> dict[tuple[str, str, str], Balance]:
    """Return what the balances have to be: sums over the calls on record."""
    found = {}
    for scope, period in _PERIODS:
        query = f"SELECT app, {scope}, {period}, {_SUMS} FROM calls GROUP BY 1, 2, 3"
        found |= {(app, name, when): tuple(sums) for app, name, when, *sums in database.rows(query)}
    return found


def ask(stage: Stage, text: str = "hello", *, agent: str = "healer", run: str = "run-1") -> ModelResponse[Any]:
    """Make one model call through the gateway."""
    messages: list[Any] = [HumanMessage(text)]
    conversation = stage.gateway.open(ModelTask(agent, run), messages)
    return conversation.call(
        [], messages, lambda model, given, settings: ModelResponse(result=[model.invoke(given, **settings)])
    )


def reserved_by(stage: Stage) -> list[int]:
    """Return what was reserved for each call so far, in micro-dollars."""
    return [row[0] for row in stage.database.rows("SELECT reserved_micro_usd FROM calls ORDER BY rowid")]
