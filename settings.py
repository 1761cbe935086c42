"""Settings: constructor, then environment `BEDROCK_EVOLUTION_*`, then the application's `pyproject.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    PyprojectTomlConfigSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from .errors import InvalidSetting

MICRO = 1_000_000
"""Micro-dollars in a dollar."""

ModelMode = Literal["bedrock", "local"]


class Budget(BaseModel):
    """Hard limits of a run; none of them is ever passed, whatever an agent says.

    Args:
        max_evaluations: Evaluations of one run: one case scored once.
        daily_usd: Model spend of the application in a UTC day, over all runs on its store.
        run_usd: Model spend of one run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_evaluations: Annotated[int, Field(gt=0)] | None = None
    daily_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    run_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class Autonomy(BaseModel):
    """What may be decided without a person; configuration, never prompt text.

    Args:
        engine_above: Risk from which the decision engine is asked; below it a rule approves.
        ask_above: Risk from which a person is asked whatever the engine says.
        min_confidence: A verdict of the engine below this confidence goes to a person.
        always_ask: Genes whose change always needs a person; a name may end in `*`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine_above: float = Field(default=0.35, ge=0, le=1)
    ask_above: float = Field(default=0.85, ge=0, le=1)
    min_confidence: float = Field(default=0.6, ge=0, le=1)
    always_ask: tuple[str, ...] = ()


class Settings(BaseSettings):
    """Everything that can be set without touching the application's code."""

    model_config = SettingsConfigDict(
        env_prefix="BEDROCK_EVOLUTION_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
    )

    model: ModelMode | None = None
    """`bedrock`, `local` (the stand-in), or None: Bedrock where AWS credentials are found."""
    store: str = "sqlite:///.bedrock-evolution/evolution.db"
    region: str = Field(default="us-east-1", pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    profile: str | None = None
    endpoint_url: str | None = Field(default=None, pattern=r"^https?://\S+$")
    connect_timeout_s: float = Field(default=10.0, gt=0)
    read_timeout_s: float = Field(default=300.0, gt=0)
    max_tokens: int = Field(default=4096, gt=0, le=128_000)
    advisor_model: str = "global.anthropic.claude-sonnet-4-5-20250929-v1:0"
    decision_model: str = "global.anthropic.claude-sonnet-4-5-20250929-v1:0"
    healer_model: str = "global.anthropic.claude-haiku-4-5-20251001-v1:0"
    cost_governor_model: str = "global.anthropic.claude-haiku-4-5-20251001-v1:0"
    candidates: int = Field(default=4, ge=1, le=32)
    """Candidates of a generation."""
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Bound on the probability of ever promoting a mutation that is no improvement."""
    model_attempts: int = Field(default=3, ge=1, le=10)
    """Tries a model gets at a well-formed answer before the stand-in answers."""
    max_failed_trials: int = Field(default=8, ge=1)
    """Failed trials in a row after which a run stops."""
    autonomy: Autonomy = Autonomy()

    @classmethod
    def load(cls, *, near: Path | None = None, **given: Any) -> Settings:
        """Read the settings.

        Args:
            near: A file or folder of the application; the nearest `pyproject.toml` above it is read.
            given: Settings that win over all other sources; None means not given.

        Raises:
            InvalidSetting: Names the setting, the value, what is allowed and how to fix it.
        """
        located = _reading(_nearest_pyproject(near or Path.cwd()))
        try:
            return located(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            raise InvalidSetting(_explained(error), hint=_HINT) from error
        except SettingsError as error:
            raise InvalidSetting(f"a setting in the environment cannot be read: {error}.", hint=_HINT) from error

    def model_for(self, agent: str) -> str:
        """Return the Bedrock model id an agent calls."""
        return str(getattr(self, f"{agent}_model"))


_HINT = (
    "Set it in the constructor, as BEDROCK_EVOLUTION_<NAME> in the environment,"
    " or under [tool.bedrock-evolution] in pyproject.toml."
)


def _reading(pyproject: Path | None) -> type[Settings]:
    """Return the settings class with its sources in order: constructor, environment, this file."""
    if pyproject is None or not _has_table(pyproject):
        return Settings

    class Located(Settings):
        model_config = SettingsConfigDict(pyproject_toml_table_header=("tool", "bedrock-evolution"))

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, PyprojectTomlConfigSettingsSource(settings_cls, pyproject)

    return Located


def _has_table(pyproject: Path) -> bool:
    try:
        table = tomllib.loads(pyproject.read_text(encoding="utf-8")).get("tool", {}).get("bedrock-evolution")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidSetting(f"{pyproject} cannot be read: {error}.", hint="Mend the file.") from error
    if table is not None and not isinstance(table, dict):
        raise InvalidSetting(f"[tool.bedrock-evolution] in {pyproject} is no table.", hint="Write name = value lines.")
    return table is not None


def _nearest_pyproject(near: Path) -> Path | None:
    folders = [near, *near.resolve().parents] if near.is_dir() else near.resolve().parents
    return next((folder / "pyproject.toml" for folder in folders if (folder / "pyproject.toml").is_file()), None)


def _explained(error: ValidationError) -> str:
    wrong = error.errors()[0]
    name = ".".join(map(str, wrong["loc"]))
    if wrong["type"] == "extra_forbidden":
        fields = Autonomy.model_fields if wrong["loc"][0] == "autonomy" else Settings.model_fields
        return f"unknown setting {name!r}; there are: {', '.join(fields)}."
    return f"setting {name!r} is {wrong['input']!r}: {wrong['msg']}."
