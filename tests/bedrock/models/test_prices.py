"""Prices: whole micro-dollars, rounded up, and no call without a known price."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from genai_prices import Usage, calc_price
from hypothesis import given, settings
from hypothesis import strategies as st

from bedrock_evolution.bedrock.models.catalog import Catalog
from bedrock_evolution.bedrock.models.model_table import MODELS
from bedrock_evolution.bedrock.models.prices import OVERRIDES, Tokens, cost_at, cost_micro_usd
from bedrock_evolution.errors import ExitCode, InvalidSetting, UnknownPrice
from bedrock_evolution.settings import MICRO, RESIDENCIES, ModelPrice, Settings

HAIKU = "global.anthropic.claude-haiku-4-5-20251001-v1:0"
SONNET = "global.anthropic.claude-sonnet-4-5-20250929-v1:0"
TIERED = "global.anthropic.claude-haiku-5-5"
TIER_TOKENS = 100_000
REGIONS = ("us-east-1", "us-gov-west-1", "eu-central-1", "ap-northeast-1", "ap-southeast-2", "ap-south-1", "sa-east-1")


def callable_forms() -> list[str]:
    """Every id under which a model of the catalog can be called from somewhere."""
    catalog, forms = Catalog(), set()
    for model in catalog.names:
        for residency in RESIDENCIES:
            for region in REGIONS:
                try:
                    forms.add(catalog.callable_id(model, region=region, residency=residency))
                except InvalidSetting:
                    continue
    return sorted(forms)


FORMS = callable_forms()


# -- what the list says


@pytest.mark.parametrize(
    ("model", "tokens", "usd"),
    [
        pytest.param(HAIKU, Tokens(MICRO, 0), 1.0, id="haiku input"),
        pytest.param(HAIKU, Tokens(0, MICRO), 5.0, id="haiku output"),
        pytest.param(HAIKU, Tokens(MICRO, 0, cache_read=MICRO), 0.1, id="haiku cache read"),
        pytest.param(HAIKU, Tokens(MICRO, 0, cache_write=MICRO), 1.25, id="haiku cache write"),
        pytest.param(HAIKU, Tokens(0, 0, cache_write=MICRO), 1.25, id="cache writes count as input, reported or not"),
        pytest.param(HAIKU.replace("global.", "us."), Tokens(MICRO, 0), 1.1, id="haiku inside the US"),
        pytest.param(SONNET, Tokens(100_000, 1000), 0.315, id="sonnet"),
        pytest.param(SONNET, Tokens(0, 0), 0.0, id="nothing"),
        pytest.param("us.amazon.nova-pro-v1:0", Tokens(MICRO, MICRO), 4.0, id="nova pro in the US"),
        pytest.param("eu.amazon.nova-pro-v1:0", Tokens(MICRO, MICRO), 5.25, id="nova pro in Europe"),
        pytest.param("us.amazon.nova-2-lite-v1:0", Tokens(MICRO, MICRO), 3.08, id="nova 2 lite in the US"),
        pytest.param("jp.amazon.nova-2-lite-v1:0", Tokens(MICRO, MICRO), 3.707, id="nova 2 lite in Japan"),
        pytest.param("us.amazon.nova-pro-v1:0", Tokens(MICRO, 0, cache_read=MICRO), 0.2, id="nova cache read"),
        pytest.param("us.meta.llama3-3-70b-instruct-v1:0", Tokens(MICRO, MICRO), 1.44, id="llama"),
    ],
)
def test_a_call_costs_what_the_list_says(model: str, tokens: Tokens, usd: float) -> None:
    assert cost_micro_usd(model, tokens) == round(usd * MICRO)


@pytest.mark.parametrize(
    ("arn", "same"),
    [
        (f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/{HAIKU}", HAIKU),
        ("arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0"),
        (
            "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.amazon.nova-lite-v1:0",
            "eu.amazon.nova-lite-v1:0",
        ),
    ],
)
def test_an_arn_that_tells_its_model_costs_the_same_as_the_model(arn: str, same: str) -> None:
    tokens = Tokens(MICRO, 1000, cache_read=10, cache_write=20)
    assert cost_micro_usd(arn, tokens) == cost_micro_usd(same, tokens)


@pytest.mark.parametrize(("input_tokens", "times"), [(TIER_TOKENS - 1, 1), (TIER_TOKENS + 1, 5), (TIER_TOKENS * 3, 5)])
def test_a_prompt_beyond_the_tier_makes_the_whole_call_dearer(input_tokens: int, times: int) -> None:
    base = ModelPrice(input_usd=0.10, output_usd=0.50, cache_read_usd=0.01, cache_write_usd=0.125)
    written = Tokens(input_tokens, 1000, cache_read=400, cache_write=input_tokens - 400)
    exact = (400 * Decimal("0.01") + (input_tokens - 400) * Decimal("0.125") + 1000 * Decimal("0.50")) * times
    assert 0 <= cost_micro_usd(TIERED, written) - exact < 1
    assert cost_micro_usd(TIERED, written) >= cost_at(base, written)


@pytest.mark.parametrize(
    "model",
    [
        "",
        "local",
        "nobody.no-such-model-v1:0",
        "gpt-4o",
        "amazon.titan-embed-text-v2:0",  # listed, but without a price of output
        "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3",
        "arn:aws:bedrock:us-east-1:123456789012:custom-model/amazon.nova-lite-v1:0:300k/a1b2c3",
    ],
)
def test_an_unknown_price_refuses_the_call_by_name(model: str) -> None:
    with pytest.raises(UnknownPrice, match="no price is known") as error:
        cost_micro_usd(model, Tokens(1, 1))
    assert repr(model) in error.value.message
    assert "genai-prices" in error.value.hint
    assert f'model_cards."{model}".price]' in error.value.hint
    assert error.value.exit_code == ExitCode.USAGE


def test_every_model_of_the_default_settings_has_a_price() -> None:
    chosen = Settings()
    for model in chosen.models:
        for region in chosen.regions:
            called = Catalog().callable_id(model, region=region, residency=chosen.residency)
            assert cost_micro_usd(called, Tokens(1000, 1000)) > 0


# -- the table in front of it


def test_every_model_has_a_price_in_every_form_it_can_be_called_in() -> None:
    assert {form.split("amazon.")[-1].split("anthropic.")[-1].split("meta.")[-1] for form in FORMS} == {
        name.split(".", 1)[1] for name in MODELS
    }
    for form in [*FORMS, *MODELS]:
        for tokens in (Tokens(MICRO, 0), Tokens(0, MICRO), Tokens(MICRO, 0, cache_read=MICRO)):
            assert cost_micro_usd(form, tokens) > 0, form


@pytest.mark.parametrize("model", OVERRIDES)
def test_an_override_is_dated_and_never_cheaper_than_the_list(model: str) -> None:
    override = OVERRIDES[model]
    assert override.read >= date(2026, 11, 1)
    assert override.source
    for usage, tokens in [
        (Usage(input_tokens=MICRO), Tokens(MICRO, 0)),
        (Usage(output_tokens=MICRO), Tokens(0, MICRO)),
        (Usage(input_tokens=MICRO, cache_read_tokens=MICRO), Tokens(MICRO, 0, cache_read=MICRO)),
        (Usage(input_tokens=MICRO, cache_write_tokens=MICRO), Tokens(MICRO, 0, cache_write=MICRO)),
    ]:
        try:
            listed = calc_price(usage, model_ref=model, provider_id="aws").total_price
        except LookupError:
            continue
        assert cost_micro_usd(model, tokens) >= listed * MICRO


def test_the_bare_id_is_priced_as_the_dearest_region_that_hosts_it() -> None:
    tokens = Tokens(MICRO, MICRO, cache_read=1000, cache_write=1000)
    for model, card in MODELS.items():
        if card.bare:
            forms = [form for form in FORMS if form.endswith(model) and not form.startswith("eu.")]
            assert cost_micro_usd(model, tokens) == max(cost_micro_usd(form, tokens) for form in forms)


# -- what holds for every price

counts = st.integers(0, 300_000)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FORMS), counts, counts, counts, counts, st.integers(1, 200_000))
def test_more_tokens_of_any_kind_never_cost_less(
    model: str, plain: int, read: int, written: int, output: int, more: int
) -> None:
    def cost(plain: int, read: int, written: int, output: int) -> int:
        return cost_micro_usd(model, Tokens(plain + read + written, output, cache_read=read, cache_write=written))

    base = cost(plain, read, written, output)
    assert isinstance(base, int)
    assert base >= 0
    assert cost(plain + more, read, written, output) >= base
    assert cost(plain, read + more, written, output) >= base
    assert cost(plain, read, written + more, output) >= base
    assert cost(plain, read, written, output + more) >= base
    assert cost(0, 0, 0, more) > 0


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FORMS), st.lists(st.tuples(*[st.integers(0, 8_000)] * 4), min_size=2, max_size=4))
def test_calls_below_a_tier_cost_as_much_together_as_apart_but_for_the_rounding(
    model: str, calls: list[tuple[int, int, int, int]]
) -> None:
    apart = [
        Tokens(plain + read + written, output, cache_read=read, cache_write=written)
        for plain, read, written, output in calls
    ]
    together = Tokens(
        sum(t.input for t in apart),
        sum(t.output for t in apart),
        cache_read=sum(t.cache_read for t in apart),
        cache_write=sum(t.cache_write for t in apart),
    )
    assert together.input <= TIER_TOKENS
    surplus = sum(cost_micro_usd(model, t) for t in apart) - cost_micro_usd(model, together)
    assert 0 <= surplus < len(apart)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FORMS), st.integers(0, 300_000), counts, st.floats(0, 1), st.floats(0, 1))
def test_a_prompt_that_is_all_written_to_the_cache_is_the_worst_case_of_its_length(
    model: str, length: int, output: int, read_share: float, write_share: float
) -> None:
    read = int(length * read_share)
    written = int((length - read) * write_share)
    worst = cost_micro_usd(model, Tokens(length, output, cache_write=length))
    assert worst >= cost_micro_usd(model, Tokens(length, output, cache_read=read, cache_write=written))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10**9), st.integers(0, 10**9))
def test_a_price_of_our_own_is_exact_and_a_part_of_a_micro_dollar_counts_whole(given_tokens: int, written: int) -> None:
    price = ModelPrice(input_usd=0.1, output_usd=0.7)
    exact = (given_tokens * 1 + written * 7, 10)
    assert cost_at(price, Tokens(given_tokens, written)) == -(-exact[0] // exact[1])
    assert cost_at(price, Tokens(given_tokens, written, cache_read=given_tokens)) == -(-exact[0] // exact[1])


# -- what a response reports


def test_the_usage_a_response_reports_is_read_whole() -> None:
    details = {"cache_read": 30, "cache_creation": 20}
    usage = {"input_tokens": 100, "output_tokens": 7, "total_tokens": 107, "input_token_details": details}
    assert Tokens.used(usage) == Tokens(100, 7, cache_read=30, cache_write=20)  # type: ignore[arg-type]


def test_a_response_without_usage_or_without_details_counts_as_zero_there() -> None:
    assert Tokens.used(None) == Tokens(0, 0)
    assert Tokens.used({"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}) == Tokens(5, 2)
