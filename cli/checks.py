"""What `doctor` checks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..bedrock.gateway import AGENTS
from ..bedrock.prices import Tokens, cost_micro_usd
from ..bedrock.session import credentials_found
from ..dna.database import SCHEME, Database
from ..errors import EvolutionError
from ..settings import Settings


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


def all_checks(store: str | None) -> list[Check]:
    """Look at settings, store, credentials and prices; nothing is sent and nothing is created."""
    try:
        settings = Settings.load(store=store)
    except EvolutionError as error:
        return [Check("settings", False, error.message, error.hint)]
    return [
        Check("settings", True, f"region {settings.region}, {settings.candidates} candidates a generation"),
        _store(settings),
        _credentials(settings),
        *(_price(settings, agent) for agent in AGENTS),
    ]


def _store(settings: Settings) -> Check:
    path = Path(settings.store.removeprefix(SCHEME)).expanduser()
    if settings.store.startswith(SCHEME) and not path.exists():
        return Check("store", True, f"{settings.store} does not exist yet; the first run makes it")
    try:
        Database.from_url(settings.store).close()
    except EvolutionError as error:
        return Check("store", False, error.message, error.hint)
    return Check("store", True, f"{settings.store} is ours and undamaged")


def _credentials(settings: Settings) -> Check:
    found = credentials_found(settings)
    if settings.model == "bedrock" and not found:
        return Check("credentials", False, "none found", "Configure AWS credentials, or use model local.")
    answering = "Bedrock" if found and settings.model != "local" else "the stand-in"
    return Check("credentials", True, f"{'found' if found else 'none'}; {answering} answers")


def _price(settings: Settings, agent: str) -> Check:
    model = settings.model_for(agent)
    try:
        micro_usd = cost_micro_usd(model, Tokens(1000, 1000))
    except EvolutionError as error:
        return Check(f"{agent} model", False, error.message, error.hint)
    return Check(f"{agent} model", True, f"{model}, ${micro_usd / 1e6:.4f} for 1,000 tokens in and out")
