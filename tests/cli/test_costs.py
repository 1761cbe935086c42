"""`costs`: what it tells a person and a program, at a fixed moment."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bedrock_evolution.bedrock.models.prices import Tokens
from bedrock_evolution.bedrock.money.costs import WINDOW_DAYS
from bedrock_evolution.bedrock.money.ledger import Ledger
from bedrock_evolution.clock import FixedClock
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.events import EventDraft
from bedrock_evolution.dna.genes import number
from bedrock_evolution.dna.genome import SystemDNA
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from bedrock_evolution.settings import MICRO
from tests.cli.conftest import Cli
from tests.support.books import APP, opened

EVENING = datetime(2026, 3, 10, 17, 5, tzinfo=UTC)
AFTER_MIDNIGHT = datetime(2026, 3, 10, 2, 30, tzinfo=UTC)
SONNET = "global.anthropic.claude-sonnet-4-5-20250929-v1:0"
HAIKU = "anthropic.claude-haiku-4-5-20251001-v1:0"


def pay(ledger: Ledger, usd: float, tokens: Tokens, agent: str = "advisor") -> None:
    hold = ledger.reserve(run_id="run-1", agent=agent, model=SONNET, micro_usd=round(usd * MICRO), task=f"{agent}/2")
    ledger.settle(hold, tokens=tokens, micro_usd=round(usd * MICRO))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: datetime) -> list[str]:
    """A store where an application paid, lost and was refused calls until now; the option that names it."""
    path = tmp_path / "store.db"
    dna = SystemDNA.declare(APP, {"x": number(0.5, low=0, high=1)})
    draft = EventDraft(app=APP, kind="declared", key="declared", at=moment, actor="rule")
    SQLiteDNAStore(Database(path)).commit(None, dna, draft)
    clock = FixedClock(moment - timedelta(hours=5))
    ledger = opened(path, clock, daily_usd=100.0)
    for _ in range(4):
        pay(ledger, 0.25, Tokens(1000, 50, cache_read=400))
        clock.moment += timedelta(hours=1)
    pay(ledger, 0.5, Tokens(1, 1), agent="healer")
    lost = ledger.reserve(run_id="run-1", agent="advisor", model=SONNET, micro_usd=125_000)
    ledger.keep(lost, error="ReadTimeoutError")
    ledger.reserve(run_id="run-1", agent="decision", model=HAIKU, micro_usd=62_500)
    ledger.budget = ledger.budget.model_copy(update={"run_usd": 1.0})
    with pytest.raises(Exception, match="the run budget"):
        pay(ledger, 0.25, Tokens(1, 1))
    clock.moment = moment
    monkeypatch.setattr("bedrock_evolution.clock.SystemClock", lambda: clock)
    return ["--store", f"sqlite:///{path}"]


@pytest.mark.parametrize("moment", [EVENING])
def test_a_person_is_told_all_of_it(cli: Cli, store: list[str]) -> None:
    answer = cli("costs", "--by", "agent", *store)
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0].split() == ["agent", "cost", "calls", "failed", "tokens", "in", "cached", "out"]
    assert lines[1].split() == ["advisor", "$1.1250", "5", "1", "4,000", "1,600", "200"]
    assert [line.split()[0] for line in lines[2:4]] == ["healer", "decision"]
    told = answer.out
    assert f"{APP}: $1.6875 in all" in told
    assert "$0.1250 of it is unconfirmed: those answers were lost, and may or may not be billed" in " ".join(
        told.split()
    )
    assert "$0.0625 of it is held for calls under way" in told
    assert "expected by its end" in told
    assert "exhausted: the run budget of $1.00 does not allow this call of advisor" in told
    assert f"could have saved $0.1250 in {WINDOW_DAYS} days: 1 call ended without a usable answer" in told


@pytest.mark.parametrize("moment", [EVENING, AFTER_MIDNIGHT])
def test_a_program_gets_one_json_object(cli: Cli, store: list[str], moment: datetime) -> None:
    told = cli("costs", "--json", *store).json
    assert set(told) == {"app", "spend", "forecast", "alarms", "recommendations"}
    spent: Counter[str] = Counter()
    for row in told["spend"]:
        spent[row["agent"]] += row["cost_usd"]
    assert spent == {"advisor": pytest.approx(1.125), "healer": 0.5, "decision": 0.0625}
    assert {row["day"] for row in told["spend"]} == {"2026-03-10"} | (
        {"2026-03-09"} if moment == AFTER_MIDNIGHT else set()
    )
    assert set(told["spend"][0]) == {
        *("day", "agent", "model", "cost_usd", "calls", "failed_calls", "input_tokens", "output_tokens"),
        *("cache_read_tokens", "cache_write_tokens", "unconfirmed_usd", "held_usd"),
    }
    day, month = told["forecast"]
    assert (day["period"], month["period"]) == ("day", "month")
    assert day["low_usd"] <= day["expected_usd"] <= day["high_usd"]
    assert month["expected_usd"] is None
    assert {(alarm["kind"], alarm["scope"], alarm["cap_usd"]) for alarm in told["alarms"]} == {
        ("exhausted", "run", 1.0)
    }
    assert told["alarms"][0]["amount_usd"] == pytest.approx(1.6875)
    assert [(it["kind"], it["saving_usd"]) for it in told["recommendations"]] == [("lost_answers", 0.125)]
