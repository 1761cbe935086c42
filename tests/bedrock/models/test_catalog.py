"""The catalog: a card for every way to name a model, and an id that stays inside the residency."""

from __future__ import annotations

from pathlib import Path

import pytest
from langchain_aws.data._profiles import _PROFILES

from bedrock_evolution.bedrock.models.catalog import _GEOGRAPHIES, Catalog
from bedrock_evolution.bedrock.models.model_table import MODELS
from bedrock_evolution.bedrock.models.prices import Tokens
from bedrock_evolution.errors import ExitCode, InvalidSetting, UnknownModel, UnknownPrice
from bedrock_evolution.settings import MICRO, RESIDENCIES, ModelCard, ModelPrice, Settings

DOCUMENT = Path(__file__).parents[3] / "docs" / "models.md"
ACCOUNT = "123456789012"
SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"
OPUS = "anthropic.claude-opus-4-5-20251101-v1:0"
SONNET_3_5 = "anthropic.claude-3-5-sonnet-20241022-v2:0"
NOVA = "amazon.nova-pro-v1:0"
NOVA_2 = "amazon.nova-2-lite-v1:0"
LLAMA = "meta.llama4-scout-17b-instruct-v1:0"
OWN_PROFILE = f"arn:aws:bedrock:eu-central-1:{ACCOUNT}:application-inference-profile/a1b2c3d4"
OWN = ModelCard(
    context_tokens=1000,
    max_output_tokens=100,
    reasoning=0.5,
    code=0.5,
    creative=0.5,
    data=0.5,
    speed=0.5,
    price=ModelPrice(input_usd=1, output_usd=2),
)


def profile_arn(name: str, region: str = "us-east-1") -> str:
    return f"arn:aws:bedrock:{region}:{ACCOUNT}:inference-profile/{name}"


@pytest.fixture
def catalog() -> Catalog:
    return Catalog()


# -- the table


@pytest.mark.parametrize("name", [name for name in MODELS if name != SONNET_3_5])  # which it no longer lists
def test_no_card_promises_more_than_langchain_aws_knows(name: str) -> None:
    card = MODELS[name]
    listed = _PROFILES.get(name) or _PROFILES[f"us.{name}"]
    assert card.context_tokens <= listed["max_input_tokens"]
    assert card.max_output_tokens <= listed["max_output_tokens"]
    assert listed["tool_calling"]
    unlisted = {profile for profile in card.profiles if f"{profile}.{name}" not in _PROFILES}
    assert unlisted == ({"us-gov"} if name == SONNET else set())
    assert {profile for profile in RESIDENCIES if f"{profile}.{name}" in _PROFILES} <= set(card.profiles)


def test_what_a_card_says_can_be_used() -> None:
    assert set(_GEOGRAPHIES) | {"global"} == set(RESIDENCIES)
    for card in MODELS.values():
        assert set(card.profiles) <= set(RESIDENCIES)
        assert card.max_output_tokens < card.context_tokens
        assert card.price is None
        assert card.bare or card.profiles


@pytest.mark.parametrize("skill", ["reasoning", "code", "creative", "data", "speed"])
def test_priors_tell_the_models_apart(skill: str) -> None:
    values = [getattr(card, skill) for card in MODELS.values()]
    assert all(0 < value < 1 for value in values)
    assert max(values) - min(values) > 0.4


# -- names


@pytest.mark.parametrize(
    "name",
    [
        SONNET,
        f"us.{SONNET}",
        f"us-gov.{SONNET}",
        f"global.{SONNET}",
        f"apac.{SONNET}",
        profile_arn(f"us.{SONNET}"),
        f"arn:aws-us-gov:bedrock:us-gov-west-1:{ACCOUNT}:inference-profile/us-gov.{SONNET}",
        f"arn:aws:bedrock:us-east-1::foundation-model/{SONNET}",
    ],
)
def test_a_model_is_found_by_id_by_profile_and_by_arn(catalog: Catalog, name: str) -> None:
    assert catalog.card(name) is MODELS[SONNET]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("claude-sonnet-4-5", SONNET),
        ("us.anthropic.claude-sonnet-4-5-20250929-v2:0", SONNET),
        ("amazon.nova-pro", NOVA),
        ("meta.llama4-scout", LLAMA),
    ],
)
def test_an_unknown_model_is_refused_with_the_names_near_it_and_the_way_out(
    catalog: Catalog, name: str, near: str
) -> None:
    with pytest.raises(UnknownModel, match="is not in the catalog") as error:
        catalog.card(name)
    assert isinstance(error.value, InvalidSetting)
    assert repr(name) in error.value.message
    assert near in error.value.message
    assert f'[tool.bedrock-evolution.model_cards."{name}"]' in error.value.hint
    assert error.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("name", [OWN_PROFILE, f"arn:aws:bedrock:us-east-1:{ACCOUNT}:imported-model/x1"])
def test_an_arn_that_does_not_tell_its_model_needs_a_card(catalog: Catalog, name: str) -> None:
    with pytest.raises(UnknownModel, match="This kind of ARN does not tell its model") as error:
        catalog.card(name)
    assert "Near it" not in error.value.message


@pytest.mark.parametrize("name", ["", "zzzz", "us."])
def test_a_name_like_no_other_gets_no_suggestion(catalog: Catalog, name: str) -> None:
    with pytest.raises(UnknownModel) as error:
        catalog.card(name)
    assert "Near it" not in error.value.message


# -- the user's own cards


def test_own_cards_win_over_the_table_in_every_spelling() -> None:
    catalog = Catalog({SONNET: OWN})
    for name in (SONNET, f"eu.{SONNET}", profile_arn(f"us.{SONNET}")):
        assert catalog.card(name) is OWN
        assert catalog.cost_micro_usd(name, Tokens(10, 10)) == 30
    assert catalog.card(OPUS) is MODELS[OPUS]


def test_a_card_of_one_profile_leaves_the_others_alone() -> None:
    catalog = Catalog({f"eu.{SONNET}": OWN})
    assert catalog.card(f"eu.{SONNET}") is OWN
    assert catalog.card(f"us.{SONNET}") is MODELS[SONNET]
    assert catalog.card(SONNET) is MODELS[SONNET]


def test_names_lists_each_card_once_the_users_first() -> None:
    assert Catalog({OWN_PROFILE: OWN, NOVA: OWN}).names[:2] == (OWN_PROFILE, NOVA)
    assert len(Catalog({OWN_PROFILE: OWN, NOVA: OWN}).names) == len(MODELS) + 1
    assert Catalog().names == tuple(MODELS)


def test_an_own_card_of_pyproject_describes_an_application_inference_profile(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        f'[tool.bedrock-evolution]\nmodels = ["{OWN_PROFILE}"]\n'
        f'[tool.bedrock-evolution.model_cards."{OWN_PROFILE}"]\n'
        "context_tokens = 200000\nmax_output_tokens = 64000\n"
        "reasoning = 0.8\ncode = 0.8\ncreative = 0.8\ndata = 0.7\nspeed = 0.6\ncaches = true\n"
        f'[tool.bedrock-evolution.model_cards."{OWN_PROFILE}".price]\n'
        "input_usd = 3.3\noutput_usd = 16.5\ncache_read_usd = 0.33\ncache_write_usd = 4.125\n",
        encoding="utf-8",
    )
    catalog = Catalog(Settings.load(near=tmp_path).model_cards)
    assert catalog.card(OWN_PROFILE).context_tokens == 200_000
    assert catalog.callable_id(OWN_PROFILE, region="eu-central-1", residency="eu") == OWN_PROFILE
    tokens = Tokens(3 * MICRO, MICRO, cache_read=MICRO, cache_write=MICRO)
    assert catalog.cost_micro_usd(OWN_PROFILE, tokens) == round((3.3 + 0.33 + 4.125 + 16.5) * MICRO)


def test_a_card_without_a_price_is_looked_up_and_refused_if_nobody_knows_it() -> None:
    catalog = Catalog(
        {NOVA: OWN.model_copy(update={"price": None}), "acme.grand-v1": OWN.model_copy(update={"price": None})}
    )
    assert catalog.cost_micro_usd(f"us.{NOVA}", Tokens(MICRO, 0)) == 800_000
    with pytest.raises(UnknownPrice, match=r"'acme\.grand-v1'"):
        catalog.cost_micro_usd("acme.grand-v1", Tokens(1, 1))


def test_a_card_with_a_profile_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"'acme\.grand-v1' names the profile 'mars'") as error:
        Catalog({"acme.grand-v1": OWN.model_copy(update={"profiles": ("us", "mars")})})
    assert "us-gov" in error.value.hint


# -- the id that is sent


@pytest.mark.parametrize(
    ("name", "region", "residency", "sent"),
    [
        pytest.param(SONNET, "us-east-1", "global", f"global.{SONNET}", id="global where there is one"),
        pytest.param(SONNET, "sa-east-1", "global", f"global.{SONNET}", id="global from anywhere"),
        pytest.param(SONNET, "us-gov-west-1", "global", f"us-gov.{SONNET}", id="but not from GovCloud"),
        pytest.param(NOVA, "us-west-2", "global", f"us.{NOVA}", id="the geography of the region: us"),
        pytest.param(NOVA, "eu-west-3", "global", f"eu.{NOVA}", id="the geography of the region: eu"),
        pytest.param(NOVA, "ap-northeast-1", "global", f"apac.{NOVA}", id="the geography of the region: apac"),
        pytest.param(NOVA, "us-gov-west-1", "global", NOVA, id="bare in GovCloud"),
        pytest.param(NOVA, "sa-east-1", "global", NOVA, id="bare where no geography is known"),
        pytest.param(SONNET, "us-east-1", "us", f"us.{SONNET}", id="us"),
        pytest.param(SONNET, "us-gov-east-1", "us-gov", f"us-gov.{SONNET}", id="us-gov"),
        pytest.param(SONNET, "eu-central-1", "eu", f"eu.{SONNET}", id="eu"),
        pytest.param(SONNET, "ap-northeast-3", "jp", f"jp.{SONNET}", id="jp"),
        pytest.param(SONNET, "ap-southeast-4", "au", f"au.{SONNET}", id="au"),
        pytest.param(SONNET, "ap-northeast-1", "apac", f"jp.{SONNET}", id="Japan lies in Asia"),
        pytest.param(NOVA, "ap-northeast-1", "apac", f"apac.{NOVA}", id="apac"),
        pytest.param(NOVA, "ap-northeast-1", "jp", NOVA, id="apac spreads beyond Japan, so bare"),
        pytest.param(NOVA_2, "ap-northeast-1", "apac", f"jp.{NOVA_2}", id="jp for a model without apac"),
        pytest.param(SONNET_3_5, "eu-central-1", "eu", SONNET_3_5, id="bare for want of a profile"),
        pytest.param(f"us.{SONNET}", "us-east-2", "us", f"us.{SONNET}", id="a profile stays"),
        pytest.param(f"us.{SONNET}", "us-east-2", "global", f"us.{SONNET}", id="a profile stays in global too"),
        pytest.param(f"us.{NOVA}", "ca-central-1", "global", f"us.{NOVA}", id="Canada may call the US profile"),
        pytest.param(f"jp.{SONNET}", "ap-northeast-1", "apac", f"jp.{SONNET}", id="a narrower profile stays"),
        pytest.param(f"global.{SONNET}", "eu-west-1", "global", f"global.{SONNET}", id="global stays in global"),
        pytest.param(
            profile_arn(f"us.{SONNET}"), "us-east-1", "us", profile_arn(f"us.{SONNET}"), id="an ARN stays as it is"
        ),
        pytest.param(
            f"arn:aws:bedrock:eu-west-1::foundation-model/{NOVA}",
            "eu-west-1",
            "eu",
            f"arn:aws:bedrock:eu-west-1::foundation-model/{NOVA}",
            id="a model's ARN stays as it is",
        ),
    ],
)
def test_what_is_sent_fits_the_region_and_the_residency(
    catalog: Catalog, name: str, region: str, residency: str, sent: str
) -> None:
    assert catalog.callable_id(name, region=region, residency=residency) == sent


@pytest.mark.parametrize(
    ("name", "region", "residency", "because"),
    [
        pytest.param(SONNET, "us-east-1", "eu", "that region lies outside", id="region outside"),
        pytest.param(f"us.{SONNET}", "eu-west-1", "eu", "`us.` spreads calls over regions outside", id="us in eu"),
        pytest.param(f"global.{SONNET}", "us-east-1", "us", "`global.` spreads calls", id="global in us"),
        pytest.param(f"apac.{NOVA}", "ap-northeast-1", "jp", "`apac.` spreads calls", id="apac in jp"),
        pytest.param(f"us.{SONNET}", "us-gov-west-1", "us-gov", "`us.` spreads calls", id="us in GovCloud"),
        pytest.param(f"us.{SONNET}", "eu-west-1", "global", "`us.` is not offered there", id="us called from Europe"),
        pytest.param(f"jp.{SONNET}", "ap-south-1", "apac", "`jp.` is not offered there", id="jp called from India"),
        pytest.param(f"global.{SONNET}", "us-gov-west-1", "global", "is not offered there", id="global from GovCloud"),
        pytest.param(
            profile_arn(f"us.{SONNET}"), "eu-west-1", "eu", "lies in us-east-1, which is outside", id="ARN outside"
        ),
        pytest.param(
            profile_arn(f"global.{SONNET}", "eu-west-1"), "eu-west-1", "eu", "`global.` spreads", id="global by ARN"
        ),
        pytest.param(profile_arn(f"us.{SONNET}"), "us-west-2", "us", "belongs to us-east-1", id="ARN of elsewhere"),
        pytest.param(SONNET, "ap-south-1", "apac", "profiles for global, us, eu, jp, au, us-gov only", id="no profile"),
        pytest.param(LLAMA, "eu-west-1", "global", "profiles for us only", id="llama in Europe"),
        pytest.param(OPUS, "ap-northeast-1", "jp", "is not called without", id="opus in Japan"),
    ],
)
def test_what_would_leave_the_residency_or_be_refused_is_an_error_that_says_so(
    catalog: Catalog, name: str, region: str, residency: str, because: str
) -> None:
    with pytest.raises(InvalidSetting) as error:
        catalog.callable_id(name, region=region, residency=residency)
    assert because in error.value.message
    assert repr(name) in error.value.message
    assert region in error.value.message
    assert repr(residency) in error.value.message
    assert error.value.hint


def test_an_own_arn_of_another_region_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="lies in eu-central-1, which is outside"):
        Catalog({OWN_PROFILE: OWN}).callable_id(OWN_PROFILE, region="us-east-1", residency="us")


def test_an_unknown_model_has_no_id_to_be_called_by(catalog: Catalog) -> None:
    with pytest.raises(UnknownModel):
        catalog.callable_id("acme.grand-v1", region="us-east-1", residency="global")


def test_a_card_under_a_whole_profile_id_is_called_by_it() -> None:
    name = "in.anthropic.claude-opus-5"
    assert Catalog({name: OWN}).callable_id(name, region="ap-south-1", residency="apac") == name


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_no_form_ever_leaves_the_residency(catalog: Catalog, residency: str) -> None:
    regions = ("us-east-1", "us-gov-west-1", "eu-north-1", "ap-northeast-1", "ap-southeast-2", "ap-south-1")
    inside = [region for region in regions if region.startswith(RESIDENCIES[residency])]
    sent = []
    for name in catalog.names:
        for region in inside:
            try:
                sent.append((region, name, catalog.callable_id(name, region=region, residency=residency)))
            except InvalidSetting:
                continue
    assert sent
    for region, name, form in sent:
        profile = form.removesuffix(name).removesuffix(".")
        assert profile in {"", *catalog.card(name).profiles}
        assert residency == "global" or profile != "global"
        assert all(begin.startswith(RESIDENCIES[residency]) for begin in RESIDENCIES.get(profile, (region,)))


# -- the document


def test_the_document_shows_the_table_as_it_is() -> None:
    rows = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in DOCUMENT.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `") and "." in line.split("`")[1]
    ]
    assert rows == [
        [
            name,
            f"{card.context_tokens:,}",
            f"{card.max_output_tokens:,}",
            "yes" if card.caches else "no",
            ", ".join(card.profiles),
            "yes" if card.bare else "no",
            *(f"{value:.2f}" for value in (card.reasoning, card.code, card.creative, card.data, card.speed)),
        ]
        for name, card in MODELS.items()
    ]


def test_the_documents_example_of_an_own_card_can_be_used(tmp_path: Path) -> None:
    example = DOCUMENT.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    (tmp_path / "pyproject.toml").write_text(example, encoding="utf-8")
    found = Settings.load(near=tmp_path)
    catalog = Catalog(found.model_cards)
    (name,) = found.models
    assert catalog.callable_id(name, region=found.home_region, residency=found.residency) == name
    assert catalog.cost_micro_usd(name, Tokens(MICRO, 0)) == 3_300_000
