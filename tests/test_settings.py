"""Settings: constructor over environment over `pyproject.toml`, and a wrong value is explained."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bedrock_evolution.errors import InvalidSetting, UsageError
from bedrock_evolution.settings import Autonomy, Budget, Settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("BEDROCK_EVOLUTION_"):
            monkeypatch.delenv(name)


@pytest.fixture
def pyproject(tmp_path: Path) -> Path:
    path = tmp_path / "pyproject.toml"
    path.write_text("[tool.bedrock-evolution]\n")
    return path


def write(pyproject: Path, *lines: str) -> None:
    pyproject.write_text("\n".join(["[tool.bedrock-evolution]", *lines]))


# -- where settings come from


def test_each_source_gives_way_to_the_one_before_it(pyproject: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load(near=pyproject).candidates == 4
    write(pyproject, "candidates = 5")
    assert Settings.load(near=pyproject).candidates == 5
    monkeypatch.setenv("BEDROCK_EVOLUTION_CANDIDATES", "6")
    assert Settings.load(near=pyproject).candidates == 6
    assert Settings.load(near=pyproject, candidates=7).candidates == 7
    assert Settings.load(near=pyproject, candidates=None).candidates == 6


def test_sources_are_merged_setting_by_setting(pyproject: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        pyproject,
        "candidates = 5",
        'regions = ["eu-central-1"]',
        "[tool.bedrock-evolution.autonomy]",
        "ask_above = 0.5",
    )
    monkeypatch.setenv("BEDROCK_EVOLUTION_AUTONOMY__ENGINE_ABOVE", "0.1")
    found = Settings.load(near=pyproject, candidates=6)
    assert (found.candidates, found.regions) == (6, ("eu-central-1",))
    assert found.autonomy == Autonomy(engine_above=0.1, ask_above=0.5)


def test_the_nearest_pyproject_above_a_file_or_folder_counts(pyproject: Path, tmp_path: Path) -> None:
    write(pyproject, "candidates = 5")
    inner = tmp_path / "apps" / "router"
    inner.mkdir(parents=True)
    app = inner / "app.py"
    app.touch()
    assert Settings.load(near=app).candidates == Settings.load(near=inner).candidates == 5
    (tmp_path / "apps" / "pyproject.toml").write_text("[tool.bedrock-evolution]\ncandidates = 9\n")
    assert Settings.load(near=app).candidates == Settings.load(near=inner).candidates == 9


def test_the_working_folder_counts_when_no_place_is_named(pyproject: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(pyproject, "candidates = 5")
    monkeypatch.chdir(pyproject.parent)
    assert Settings.load().candidates == 5


def test_a_pyproject_without_our_table_changes_nothing(pyproject: Path) -> None:
    pyproject.write_text("[project]\nname = 'app'\n")
    assert Settings.load(near=pyproject).model_dump() == Settings().model_dump()


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().candidates = 9


def test_an_agent_can_be_bound_to_a_model() -> None:
    found = Settings(healer_model="another")
    assert (found.pinned_model("healer"), found.pinned_model("advisor")) == ("another", None)


def test_lists_in_the_environment_are_split_at_commas(pyproject: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEDROCK_EVOLUTION_REGIONS", "eu-west-1, eu-central-1")
    monkeypatch.setenv("BEDROCK_EVOLUTION_MODELS", "amazon.nova-pro-v1:0")
    found = Settings.load(near=pyproject, residency="eu")
    assert (found.regions, found.home_region) == (("eu-west-1", "eu-central-1"), "eu-west-1")
    assert found.models == ("amazon.nova-pro-v1:0",)


@pytest.mark.parametrize(
    ("residency", "region"), [("us", "eu-west-1"), ("eu", "us-east-1"), ("us", "us-gov-west-1"), ("jp", "ap-south-1")]
)
def test_a_region_outside_the_residency_is_refused_by_name(pyproject: Path, residency: str, region: str) -> None:
    with pytest.raises(InvalidSetting, match=f"region '{region}' lies outside the residency '{residency}'"):
        Settings.load(near=pyproject, residency=residency, regions=(region,))


def test_a_misspelt_variable_is_refused_with_the_nearest_setting(
    pyproject: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEDROCK_EVOLUTION_RESIDENCE", "eu")
    with pytest.raises(InvalidSetting, match="the environment has BEDROCK_EVOLUTION_RESIDENCE") as refused:
        Settings.load(near=pyproject)
    assert refused.value.hint == "Did you mean BEDROCK_EVOLUTION_RESIDENCY?"


def test_the_name_of_the_application_for_studio_is_no_misspelt_setting(
    pyproject: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEDROCK_EVOLUTION_APP", "app.py:evolution")
    assert Settings.load(near=pyproject).candidates == 4


def test_the_users_own_model_is_read_from_pyproject(pyproject: Path) -> None:
    write(
        pyproject,
        '[tool.bedrock-evolution.model_cards."arn:aws:bedrock:eu-west-1:123456789012:inference-profile/x"]',
        "context_tokens = 100000",
        "max_output_tokens = 4000",
        *(f"{name} = 0.5" for name in ("reasoning", "code", "creative", "data", "speed")),
        "price = {input_usd = 1.0, output_usd = 5.0}",
    )
    [(name, card)] = Settings.load(near=pyproject).model_cards.items()
    assert name.startswith("arn:aws:bedrock")
    assert card.price is not None
    assert card.price.output_usd == 5.0


# -- what is wrong


WRONG: list[tuple[str, Any, str]] = [
    ("model", "gpt", "bedrock"),
    ("residency", "Europe", "pattern"),
    ("role_arn", "admin", "pattern"),
    ("takeover_s", 0, "greater than 0"),
    ("endpoint_url", "localhost:8080", "pattern"),
    ("read_timeout_s", 0, "greater than 0"),
    ("max_tokens", 10**6, "less than or equal to 128000"),
    ("candidates", 0, "greater than or equal to 1"),
    ("candidates", 33, "less than or equal to 32"),
    ("candidates", "many", "valid integer"),
    ("alpha", 0.0, "greater than 0"),
    ("alpha", 0.5, "less than 0.5"),
    ("model_attempts", 11, "less than or equal to 10"),
    ("max_failed_trials", 0, "greater than or equal to 1"),
    ("autonomy", {"ask_above": 2}, "less than or equal to 1"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG, ids=[f"{row[0]}={row[1]}" for row in WRONG])
def test_a_wrong_value_names_the_setting_the_value_and_what_is_allowed(
    pyproject: Path, name: str, value: Any, allowed: str
) -> None:
    with pytest.raises(InvalidSetting) as error:
        Settings.load(near=pyproject, **{name: value})
    assert f"setting '{name}" in error.value.message
    assert repr(value if not isinstance(value, dict) else 2) in error.value.message
    assert allowed in error.value.message
    assert "BEDROCK_EVOLUTION_" in error.value.hint
    assert "pyproject.toml" in error.value.hint
    assert isinstance(error.value, UsageError)


def test_a_wrong_value_is_explained_wherever_it_comes_from(pyproject: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(pyproject, 'candidates = "many"')
    with pytest.raises(InvalidSetting, match="setting 'candidates' is 'many'"):
        Settings.load(near=pyproject)
    write(pyproject)
    monkeypatch.setenv("BEDROCK_EVOLUTION_ALPHA", "high")
    with pytest.raises(InvalidSetting, match="setting 'alpha' is 'high'"):
        Settings.load(near=pyproject)


def test_an_unknown_setting_is_refused_with_those_there_are(pyproject: Path) -> None:
    write(pyproject, "candidate = 5")
    with pytest.raises(InvalidSetting, match="unknown setting 'candidate'; there are: model, store") as error:
        Settings.load(near=pyproject)
    assert "candidates" in error.value.message


def test_an_unknown_inner_setting_is_named_with_its_place(pyproject: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"unknown setting 'autonomy\.ask'"):
        Settings.load(near=pyproject, autonomy={"ask": 0.5})


def test_an_unknown_inner_setting_is_refused_with_those_there_are(pyproject: Path) -> None:
    with pytest.raises(InvalidSetting, match="ask_above"):
        Settings.load(near=pyproject, autonomy={"ask": 0.5})


@pytest.mark.parametrize(
    "content",
    [b"[tool.bedrock-evolution\n", b"[tool]\nbedrock-evolution = 3\n", b"\xff\xfe"],
    ids=["no TOML", "no table", "no text"],
)
def test_a_pyproject_that_cannot_be_read_is_refused_by_name(pyproject: Path, content: bytes) -> None:
    pyproject.write_bytes(content)
    with pytest.raises(InvalidSetting, match=r"pyproject\.toml"):
        Settings.load(near=pyproject)


def test_an_environment_variable_that_should_be_json_is_refused(
    pyproject: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEDROCK_EVOLUTION_AUTONOMY", "careful")
    with pytest.raises(InvalidSetting, match="autonomy"):
        Settings.load(near=pyproject)


# -- budget and autonomy


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_evaluations": 0},
        {"max_evaluations": 2.5},
        {"daily_usd": -1},
        {"daily_usd": float("nan")},
        {"run_usd": float("inf")},
        {"weekly_usd": 5},
    ],
    ids=lambda wrong: "{}={}".format(*next(iter(wrong.items()))),
)
def test_a_budget_is_made_of_limits_that_make_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Budget(**wrong)


def test_a_budget_has_no_limits_of_its_own_and_cannot_be_changed() -> None:
    budget = Budget()
    assert (budget.max_evaluations, budget.daily_usd, budget.run_usd) == (None, None, None)
    with pytest.raises(ValidationError, match="frozen"):
        budget.daily_usd = 1e9


def test_by_default_the_riskiest_mutations_wait_for_a_person() -> None:
    policy = Autonomy()
    assert 0 < policy.engine_above < policy.ask_above < 1
    assert policy.always_ask == ()
