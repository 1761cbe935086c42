"""The ledger: money is reserved before a model call and settled after it, so that no budget is overshot.

A two-phase transfer, pending then posted or voided (https://docs.tigerbeetle.com/coding/two-phase-transfers/),
under SQLite's write lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC

from ..clock import Clock, IdSource
from ..dna.database import Database
from ..errors import BudgetExhausted
from ..settings import MICRO, Budget
from .prices import Tokens


@dataclass(frozen=True, slots=True)
class Hold:
    """Money set aside for one call."""

    call_id: str
    micro_usd: int


@dataclass(frozen=True, slots=True)
class Spend:
    """What was spent, in micro-dollars and calls."""

    micro_usd: int
    calls: int
    failed_calls: int
    input_tokens: int
    output_tokens: int


class Ledger:
    """Model spend of one application.

    Args:
        database: The application's file.
        app: The application's name.
        budget: The caps.
        clock: Tells the UTC day a call belongs to.
        ids: Names calls.
    """

    def __init__(self, database: Database, *, app: str, budget: Budget, clock: Clock, ids: IdSource) -> None:
        self._database = database
        self._app = app
        self._clock = clock
        self._ids = ids
        self.budget = budget
        with database.tables() as tables:
            tables.table("calls").create(
                {
                    "call_id": str,
                    "app": str,
                    "run_id": str,
                    "agent": str,
                    "model": str,
                    "day": str,
                    "status": str,
                    "held_micro_usd": int,
                    "cost_micro_usd": int,
                    "input_tokens": int,
                    "output_tokens": int,
                    "cache_read_tokens": int,
                    "cache_write_tokens": int,
                    "error": str,
                },
                pk="call_id",
                if_not_exists=True,
            )
            tables.table("calls").create_index(["app", "day"], if_not_exists=True)
            tables.table("calls").create_index(["run_id"], if_not_exists=True)

    def reserve(self, *, run_id: str, agent: str, model: str, micro_usd: int) -> Hold:
        """Set money aside for a call at its worst case.

        Raises:
            BudgetExhausted: Spent plus held plus this would pass a cap; nothing was set aside.
        """
        day = self._today()
        with self._database.transaction() as connection:
            for cap, name, column, value in (
                (self.budget.daily_usd, "daily", "day", day),
                (self.budget.run_usd, "run", "run_id", run_id),
            ):
                if cap is None:
                    continue
                taken = connection.execute(
                    "SELECT coalesce(sum(held_micro_usd + cost_micro_usd), 0) FROM calls"  # noqa: S608  # column names are ours
                    f" WHERE app = ? AND {column} = ?",
                    [self._app, value],
                ).fetchone()[0]
                if taken + micro_usd > round(cap * MICRO):
                    raise BudgetExhausted(
                        f"the {name} budget of ${cap:.2f} does not allow this call of {agent}:"
                        f" ${taken / MICRO:.4f} are spent or held and it may cost ${micro_usd / MICRO:.4f}.",
                        hint="Raise the budget or wait for the next day, then resume the run.",
                    )
            call_id = self._ids.new("call")
            connection.execute(
                "INSERT INTO calls (call_id, app, run_id, agent, model, day, status, held_micro_usd, cost_micro_usd,"
                " input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, error)"
                " VALUES (?, ?, ?, ?, ?, ?, 'held', ?, 0, 0, 0, 0, 0, '')",
                [call_id, self._app, run_id, agent, model, day, micro_usd],
            )
        return Hold(call_id, micro_usd)

    def settle(self, hold: Hold, *, tokens: Tokens, micro_usd: int) -> None:
        """Replace a hold by what the call really used, even if that is more."""
        self._close(hold, "settled", micro_usd, tokens, "")

    def void(self, hold: Hold, *, error: str) -> None:
        """Give a hold back: the service refused the call and bills nothing."""
        self._close(hold, "void", 0, Tokens(0, 0), error)

    def keep(self, hold: Hold, *, error: str) -> None:
        """Count a hold as spent: the answer was lost, and the call may be billed."""
        self._close(hold, "lost", hold.micro_usd, Tokens(0, 0), error)

    def _close(self, hold: Hold, status: str, micro_usd: int, tokens: Tokens, error: str) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE calls SET status = ?, held_micro_usd = 0, cost_micro_usd = ?, input_tokens = ?,"
                " output_tokens = ?, cache_read_tokens = ?, cache_write_tokens = ?, error = ?"
                " WHERE call_id = ? AND status = 'held'",
                [
                    status,
                    micro_usd,
                    tokens.input,
                    tokens.output,
                    tokens.cache_read,
                    tokens.cache_write,
                    error,
                    hold.call_id,
                ],
            )

    def run_spend(self, run_id: str) -> Spend:
        """Return what a run has spent, holds included."""
        return self._spend("run_id", run_id)

    def day_spend(self) -> Spend:
        """Return what the application has spent today (UTC), holds included."""
        return self._spend("day", self._today())

    def _spend(self, column: str, value: str) -> Spend:
        row = self._database.row(
            "SELECT coalesce(sum(held_micro_usd + cost_micro_usd), 0), count(*), coalesce(sum(error != ''), 0),"  # noqa: S608  # column names are ours
            " coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0)"
            f" FROM calls WHERE app = ? AND {column} = ?",
            [self._app, value],
        )
        return Spend(*(row or (0, 0, 0, 0, 0)))

    def breakdown(self) -> list[tuple[str, str, str, Spend]]:
        """Return the spend by day, agent and model, newest day first."""
        rows = self._database.rows(
            "SELECT day, agent, model, sum(held_micro_usd + cost_micro_usd), count(*), sum(error != ''),"
            " sum(input_tokens), sum(output_tokens) FROM calls WHERE app = ?"
            " GROUP BY day, agent, model ORDER BY day DESC, 4 DESC",
            [self._app],
        )
        return [(day, agent, model, Spend(*numbers)) for day, agent, model, *numbers in rows]

    def _today(self) -> str:
        return f"{self._clock.now().astimezone(UTC):%Y-%m-%d}"
