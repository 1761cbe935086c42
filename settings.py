"""Settings: constructor, then environment `BEDROCK_EVOLUTION_*`, then the application's `pyproject.toml`."""

from __future__ import annotations

import os
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    PyprojectTomlConfigSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from .errors import InvalidSetting

DEFAULT_GENERATIONS = 10
"""How many generations a run has at most, where nobody says otherwise."""
MICRO = 1_000_000
"""Micro-dollars in a dollar."""

_PREFIX = "BEDROCK_EVOLUTION_"

ModelMode = Literal["bedrock", "local"]

AGENTS = ("advisor", "decision", "healer", "cost_governor")

Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Region = Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]

RESIDENCIES: dict[str, tuple[str, ...]] = {
    "global": ("",),
    "us": ("us-east-", "us-west-"),
    "us-gov": ("us-gov-",),
    "eu": ("eu-",),
    "apac": ("ap-",),
    "jp": ("ap-northeast-1", "ap-northeast-3"),
    "au": ("ap-southeast-2", "ap-southeast-4"),
}
"""How the names of the regions of a data residency begin; each is also the prefix of its inference profiles.

Source: https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html
"""


class Budget(BaseModel):
    """Hard limits of a run; none of them is ever passed, whatever an agent says.

    Args:
        max_evaluations: Evaluations of one run: one case scored once.
        call_usd: Worst case of one model call.
        run_usd: Model spend of one run.
        daily_usd: Model spend of the application in a UTC day, over all runs on its store.
        monthly_usd: The same in a UTC month.
        agent_daily_usd: Model spend of single agents in a UTC day, by name (`advisor`, `decision`, `healer`,
            `cost_governor`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_evaluations: Annotated[int, Field(gt=0)] | None = None
    call_usd: Usd | None = None
    run_usd: Usd | None = None
    daily_usd: Usd | None = None
    monthly_usd: Usd | None = None
    agent_daily_usd: dict[Literal["advisor", "decision", "healer", "cost_governor"], Usd] = Field(default_factory=dict)


class Autonomy(BaseModel):
    """What may be decided without a person; configuration, never prompt text.

    Args:
        engine_above: Risk from which the decision engine is asked; below it a rule approves.
        ask_above: Risk from which a person is asked whatever the engine says.
        min_confidence: A verdict of the engine below this confidence goes to a person.
        always_ask: What always needs a person: names of genes, which may end in `*`, or `category:` and the name of a
            category of mutations.
        never: What evolution may not change at all, named in the same way.
        approval_hours: Hours after which an unanswered question to a person expires; the change is not made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine_above: float = Field(default=0.35, ge=0, le=1)
    ask_above: float = Field(default=0.85, ge=0, le=1)
    min_confidence: float = Field(default=0.6, ge=0, le=1)
    always_ask: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    approval_hours: float = Field(default=168.0, gt=0, le=87_600)

    @model_validator(mode="after")
    def _in_order(self) -> Autonomy:
        if self.engine_above > self.ask_above:
            raise ValueError(
                f"engine_above={self.engine_above} lies above ask_above={self.ask_above}; a person is asked last"
            )
        return self


class Safety(BaseModel):
    """When live genes are rolled back without a person, and when nothing changes any more.

    Args:
        alpha: Bound on the probability that genes which are no worse are ever rolled back, over all changes of an
            application.
        reference: Outcomes of the earlier genes that are needed before new ones are compared with them.
        max_rollbacks: Automatic rollbacks, without a change between them that lasted, after which safe mode begins.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    reference: int = Field(default=30, ge=10)
    max_rollbacks: int = Field(default=3, ge=1)


class ModelPrice(BaseModel):
    """What a model costs, in dollars per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_usd: Usd
    output_usd: Usd
    cache_read_usd: Usd | None = None
    """None: as input."""
    cache_write_usd: Usd | None = None
    """None: as input."""


class ModelCard(BaseModel):
    """What the router knows of a model.

    Args:
        context_tokens: Its context window.
        max_output_tokens: What it can write in one answer.
        reasoning: How good it is at this, from 0 to 1, before anything was learned from its outcomes.
        code: The same for source code.
        creative: The same for prompts and other prose.
        data: The same for much data at once.
        speed: How fast it answers, from 0 to 1.
        profiles: Data residencies for which Bedrock has an inference profile of it.
        bare: Whether it can be called by its id alone, in the regions that host it.
        caches: Whether it takes cache points.
        price: Its price; None looks it up in the price list.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    context_tokens: int = Field(gt=0)
    max_output_tokens: int = Field(gt=0)
    reasoning: Share
    code: Share
    creative: Share
    data: Share
    speed: Share
    profiles: tuple[str, ...] = ()
    bare: bool = True
    caches: bool = False
    price: ModelPrice | None = None


def _listed(value: Any) -> Any:
    """Split a text from the environment at its commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class Settings(BaseSettings):
    """Everything that can be set without touching the application's code."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
    )

    model: ModelMode | None = None
    """`bedrock`, `local` (the stand-in), or None: Bedrock where AWS credentials are found."""
    store: str = "sqlite:///.bedrock-evolution/evolution.db"
    """`sqlite:///path.db`, or `s3://BUCKET/PREFIX?table=TABLE&region=REGION` (`docs/cloud.md`)."""
    work_dir: Path = Path(".bedrock-evolution")
    """Folder in which a machine keeps its working copy of a cloud store, and what waits to be sent."""
    store_timeout_s: float = Field(default=1.0, gt=0)
    """Seconds that S3, DynamoDB and KMS may take to answer."""
    aws_endpoints: dict[Region, Annotated[str, Field(pattern=r"^https?://\S+$")]] = Field(default_factory=dict)
    """Where a region's S3, DynamoDB, KMS and CloudWatch are, if not at AWS's own addresses: an emulator, say."""
    checkpoints: str = Field(default="store", pattern=r"^(store|dynamodb://\S+)$")
    """`store` keeps a run's checkpoints with its records; `dynamodb://TABLE?region=REGION&bucket=BUCKET&prefix=PREFIX`
    in a table of their own (`docs/checkpoints.md`)."""
    metrics: Literal["off", "cloudwatch"] = "off"
    """Where fitness, trials, spend and the like are measured (`docs/metrics.md`)."""
    metrics_namespace: str = Field(default="BedrockEvolution", pattern=r"^[A-Za-z0-9_.#-][A-Za-z0-9_.#-]{0,254}$")
    regions: Annotated[tuple[Region, ...], NoDecode, BeforeValidator(_listed), Field(min_length=1)] = (
        "us-east-1",
        "us-west-2",
    )
    """Where models are called: the first is home, the others are failed over to in this order."""
    residency: str = Field(default="global", pattern=f"^({'|'.join(RESIDENCIES)})$")
    """Where prompts may be processed; every region, and every inference profile that is called, lies inside it."""
    profile: str | None = None
    role_arn: str | None = Field(default=None, pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/\S+$")
    """A role to assume for the calls; its credentials are refreshed as they expire."""
    endpoint_url: str | None = Field(default=None, pattern=r"^https?://\S+$")
    connect_timeout_s: float = Field(default=2.0, gt=0)
    read_timeout_s: float = Field(default=300.0, gt=0)
    max_tokens: int = Field(default=4096, gt=0, le=128_000)
    models: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed), Field(min_length=1)] = (
        "anthropic.claude-sonnet-4-5-20250929-v1:0",
        "anthropic.claude-haiku-4-5-20251001-v1:0",
        "amazon.nova-pro-v1:0",
        "amazon.nova-lite-v1:0",
    )
    """Models that the router chooses from: names of the catalog, ids or ARNs of inference profiles."""
    model_cards: dict[str, ModelCard] = Field(default_factory=dict)
    """Models that the catalog does not hold, by id or ARN, or holds otherwise."""
    advisor_model: str | None = None
    """The model of this agent, whatever the router would choose; the same for the other agents."""
    decision_model: str | None = None
    healer_model: str | None = None
    cost_governor_model: str | None = None
    takeover_s: float = Field(default=4.0, gt=0)
    """So long after a call's first failure attempts go on; then the stand-in answers, within five seconds in all."""
    candidates: int = Field(default=4, ge=1, le=32)
    """Candidates of a generation."""
    advise_ahead: bool = False
    """Ask for the next generation's candidates while this one's are on trial: the model's time is hidden, and the
    advisor reads of trials one generation later."""
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Bound on the probability of ever promoting a mutation that is no improvement."""
    model_attempts: int = Field(default=3, ge=1, le=10)
    """Tries a model gets at a well-formed answer before the stand-in answers."""
    max_failed_trials: int = Field(default=8, ge=1)
    """Failed trials in a row after which a run stops."""
    autonomy: Autonomy = Autonomy()
    safety: Safety = Safety()
    audit_anchor: Path | None = None
    """File that the signed heads of the record are written to; by default beside the store. On another disk, or where
    only appending is allowed, it proves more."""
    audit_key: Path | None = None
    """File with the private Ed25519 key that signs them; made when missing, by default beside the store."""
    audit_kms_key: str = ""
    """The KMS key that signs the record of a cloud store: an id, ARN or alias; by default the one that `store init`
    makes, and `none` signs nothing."""
    audit_retain_days: int = Field(default=0, ge=0, le=36_500)
    """Days for which what is sealed in a cloud store can be altered by nobody (S3 Object Lock, compliance mode); 0 for
    a bucket without."""

    @classmethod
    def load(cls, *, near: Path | None = None, **given: Any) -> Settings:
        """Read the settings.

        Args:
            near: A file or folder of the application; the nearest `pyproject.toml` above it is read.
            given: Settings that win over all other sources; None means not given.

        Raises:
            InvalidSetting: Names the setting, the value, what is allowed and how to fix it.
        """
        _check_environment()
        located = _reading(_nearest_pyproject(near or Path.cwd()))
        try:
            return located(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            raise InvalidSetting(_explained(error), hint=_HINT) from error
        except SettingsError as error:
            raise InvalidSetting(f"a setting in the environment cannot be read: {error}.", hint=_HINT) from error

    @model_validator(mode="after")
    def _inside_residency(self) -> Settings:
        allowed = RESIDENCIES[self.residency]
        outside = [region for region in self.regions if not region.startswith(allowed)]
        if outside:
            raise ValueError(
                f"region {outside[0]!r} lies outside the residency {self.residency!r},"
                f" whose regions begin with {' or '.join(allowed)}; set `regions` to regions inside it"
            )
        return self

    @property
    def home_region(self) -> str:
        """The region that is called first."""
        return self.regions[0]

    def pinned_model(self, agent: str) -> str | None:
        """Return the model an agent is bound to, if it is."""
        pinned: str | None = getattr(self, f"{agent}_model")
        return pinned


_HINT = (
    "Set it in the constructor, as BEDROCK_EVOLUTION_<NAME> in the environment,"
    " or under [tool.bedrock-evolution] in pyproject.toml."
)


def _check_environment() -> None:
    """Refuse variables that look like settings and are none: a misspelt residency must not go unnoticed."""
    known = [f"{_PREFIX}{name.upper()}" for name in (*Settings.model_fields, "app")]
    for name in os.environ:
        setting = name.upper().partition("__")[0]
        if setting.startswith(_PREFIX) and setting not in known:
            near = get_close_matches(setting, known, n=1)
            raise InvalidSetting(
                f"the environment has {name}, which is no setting.",
                hint=f"Did you mean {near[0]}?" if near else "Unset it.",
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
    if not name:
        return f"the settings contradict each other: {wrong['msg'].removeprefix('Value error, ')}."
    if wrong["type"] == "missing":
        return f"setting {name!r} is missing."
    if wrong["type"] == "extra_forbidden":
        nested: dict[str, type[BaseModel]] = {"autonomy": Autonomy, "safety": Safety}
        fields = nested.get(str(wrong["loc"][0]), Settings).model_fields
        return f"unknown setting {name!r}; there are: {', '.join(fields)}."
    return f"setting {name!r} is {wrong['input']!r}: {wrong['msg']}."
