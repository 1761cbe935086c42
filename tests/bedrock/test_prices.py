"""Prices: whole micro-dollars, rounded up, and no call without a known price."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedrock_evolution.bedrock.prices import Tokens, cost_micro_usd
from bedrock_evolution.errors import ExitCode, UnknownPrice
from bedrock_evolution.settings import MICRO, Settings

HAIKU = "global.anthropic.claude-haiku-4-5-20251001-v1:0"
SONNET = "global.anthropic.claude-sonnet-4-5-20250929-v1:0"


@pytest.mark.parametrize(
    ("model", "tokens", "usd"),
    [
        pytest.param(HAIKU, Tokens(MICRO, 0), 1.0, id="haiku input"),
        pytest.param(HAIKU, Tokens(0, MICRO), 5.0, id="haiku output"),
        pytest.param(HAIKU, Tokens(MICRO, 0, cache_read=MICRO), 0.1, id="haiku cache read"),
        pytest.param(HAIKU, Tokens(MICRO, 0, cache_write=MICRO), 1.25, id="haiku cache write"),
        pytest.param(SONNET, Tokens(100_000, 1000), 0.315, id="sonnet"),
        pytest.param(SONNET, Tokens(0, 0), 0.0, id="nothing"),
    ],
)
def test_a_call_costs_what_the_list_says(model: str, tokens: Tokens, usd: float) -> None:
    assert cost_micro_usd(model, tokens) == round(usd * MICRO)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**4))
def test_more_tokens_never_cost_less_and_a_part_of_a_micro_dollar_counts_whole(
    given_tokens: int, written: int, more: int
) -> None:
    cost = cost_micro_usd(HAIKU, Tokens(given_tokens, written))
    assert isinstance(cost, int)
    assert cost_micro_usd(HAIKU, Tokens(given_tokens + more, written)) >= cost
    assert cost_micro_usd(HAIKU, Tokens(given_tokens, written + more)) >= cost
    assert cost_micro_usd(HAIKU, Tokens(1, 0, cache_read=1)) == 1


@pytest.mark.parametrize("model", ["", "local", "nobody.no-such-model-v1:0", "gpt-4o"])
def test_an_unknown_price_refuses_the_call_by_name(model: str) -> None:
    with pytest.raises(UnknownPrice, match="no price is known") as error:
        cost_micro_usd(model, Tokens(1, 1))
    assert repr(model) in error.value.message
    assert "genai-prices" in error.value.hint
    assert error.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("agent", ["advisor", "decision", "healer", "cost_governor"])
def test_every_model_of_the_default_settings_has_a_price(agent: str) -> None:
    assert cost_micro_usd(Settings().model_for(agent), Tokens(1000, 1000)) > 0


def test_the_usage_a_response_reports_is_read_whole() -> None:
    details = {"cache_read": 30, "cache_creation": 20}
    usage = {"input_tokens": 100, "output_tokens": 7, "total_tokens": 107, "input_token_details": details}
    assert Tokens.used(usage) == Tokens(100, 7, cache_read=30, cache_write=20)  # type: ignore[arg-type]


def test_a_response_without_usage_or_without_details_counts_as_zero_there() -> None:
    assert Tokens.used(None) == Tokens(0, 0)
    assert Tokens.used({"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}) == Tokens(5, 2)
