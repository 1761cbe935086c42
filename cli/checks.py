"""What `doctor` checks: settings, store, credentials, models, and what AWS says of them."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import boto3

from ..bedrock.aws.credentials import bearer_token_set, credentials_found, signing_session, store_session
from ..bedrock.failures import Target
from ..bedrock.models.catalog import Catalog
from ..bedrock.models.prices import Tokens
from ..clock import SystemClock
from ..dna.aws.calls import Clients
from ..dna.aws.place import SCHEME as CLOUD
from ..dna.aws.place import CloudPlace
from ..dna.aws.record import Record
from ..dna.aws.regions import Regions
from ..dna.database import SCHEME, Database
from ..errors import EvolutionError, InvalidSetting
from ..graph.cloud_checkpoints import STORE, CheckpointPlace
from ..settings import AGENTS, MICRO, Settings
from .aws_checks import aws_checks
from .check import Check, answers


def all_checks(store: str | None) -> list[Check]:
    """Look at everything; no model is called, nothing is created, and AWS is asked where Bedrock is to answer."""
    try:
        settings = Settings.load(store=store)
        catalog = Catalog(settings.model_cards)
    except EvolutionError as error:
        return [Check.failed("settings", error)]
    credentials, session = _credentials(settings)
    return [
        Check("settings", True, f"{settings.candidates} candidates a generation, alpha {settings.alpha:g}"),
        _regions(settings),
        _store(settings),
        *_endpoints(settings),
        *(_model(catalog, settings, model) for model in _models(settings)),
        credentials,
        *(aws_checks(settings, session, _targets(catalog, settings)) if session else []),
    ]


def _regions(settings: Settings) -> Check:
    home, *others = settings.regions
    then = f", then {', '.join(others)}" if others else ""
    return Check("regions", True, f"{home} is home{then}; all lie inside the residency {settings.residency!r}")


def _store(settings: Settings) -> Check:
    if settings.store.startswith(CLOUD):
        [found] = answers([("store", partial(_cloud_store, settings))])
        return found if isinstance(found, Check) else Check("store", True, found)
    path = Path(settings.store.removeprefix(SCHEME)).expanduser()
    if settings.store.startswith(SCHEME) and not path.exists():
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
            return Check("store", True, f"{settings.store} does not exist yet; the first run makes it")
        return Check("store", False, f"{settings.store} cannot be made in {folder}", "Choose a writable path.")
    try:
        Database.from_url(settings.store).close()  # switches it to WAL mode, which a store that is read-only refuses
    except EvolutionError as error:
        return Check.failed("store", error)
    return Check("store", True, f"{settings.store} is ours, undamaged and writable")


def _endpoints(settings: Settings) -> list[Check]:
    """Check that each endpoint is of a region that is called: a region that is misspelt would be called at AWS."""
    try:
        called = _called(settings)
    except EvolutionError:
        return []  # where the regions cannot be read, the run or the check of the store says so
    unknown = sorted(set(settings.aws_endpoints) - called) if called else []
    if not unknown:
        return []
    said = f"aws_endpoints names {', '.join(unknown)}, where nothing is kept"
    return [Check("endpoints", False, said, f"Name one of {', '.join(sorted(called))}.")]


def _called(settings: Settings) -> set[str]:
    """Return the regions of the store, the checkpoints and the metrics."""
    regions = {settings.home_region} if settings.metrics == "cloudwatch" else set()
    if settings.checkpoints != STORE:
        regions.add(CheckpointPlace.parse(settings.checkpoints).region)
    if settings.store.startswith(CLOUD):
        regions.update(site.region for site in CloudPlace.parse(settings.store).sites)
    return regions


def _cloud_store(settings: Settings) -> str:
    """Return what a store in the cloud says of itself; nothing is made, also no working copy."""
    clients, place = Clients(partial(store_session, settings), settings.aws_endpoints), CloudPlace.parse(settings.store)
    regions = Regions(clients, place, SystemClock())
    number, region = regions.epoch()
    apps = ", ".join(Record(regions.table(), place).apps()) or "nothing yet"
    then = "`bedrock-evolution store doctor` compares how it is set up"
    return f"{settings.store} is written to in {region}, in epoch {number}, and holds {apps}; {then}"


def _credentials(settings: Settings) -> tuple[Check, boto3.Session | None]:
    """Look for credentials, and return a session on them where Bedrock is to answer."""
    if settings.model == "local":
        return Check("credentials", True, "not needed: the stand-in answers, as setting 'model' says"), None
    [found] = answers([("credentials", partial(_session, settings))])
    if isinstance(found, Check):
        return found, None
    if found is None:
        said = "none found, so the stand-in answers; with AWS credentials, Bedrock does"
        return Check("credentials", True, said), None
    credentials = found.get_credentials()
    signed = not bearer_token_set(settings)
    kind = f"found ({credentials.method})" if signed and credentials else "a Bedrock API key"
    return Check("credentials", True, f"{kind}; Bedrock answers"), found


def _session(settings: Settings) -> boto3.Session | None:
    if settings.model is None and not credentials_found(settings):
        return None
    return signing_session(settings)


def _models(settings: Settings) -> list[str]:
    pinned = [settings.pinned_model(agent) for agent in AGENTS]
    return list(dict.fromkeys([*settings.models, *filter(None, pinned)]))


def _model(catalog: Catalog, settings: Settings, model: str) -> Check:
    """Check that a model can be called from some region, and what it costs there."""
    name = f"model {model}"
    try:
        targets = _targets_of(catalog, settings, model)
        if not targets:
            catalog.callable_id(
                model, region=settings.home_region, residency=settings.residency
            )  # raises, and says why
        prices = {
            callable_id: catalog.cost_micro_usd(callable_id, Tokens(1000, 1000)) for callable_id in targets.values()
        }
    except EvolutionError as error:
        return Check.failed(name, error)
    told = (
        f"called as {called}, ${micro_usd / MICRO:.4f} for 1,000 tokens in and out"
        for called, micro_usd in prices.items()
    )
    missing = [region for region in settings.regions if Target(model, region) not in targets]
    return Check(name, True, "; ".join(told) + (f"; not called from {', '.join(missing)}" if missing else ""))


def _targets(catalog: Catalog, settings: Settings) -> dict[Target, str]:
    """Return what is sent to Bedrock for each model in each region it can be called from."""
    found: dict[Target, str] = {}
    for model in _models(settings):
        found |= _targets_of(catalog, settings, model)
    return found


def _targets_of(catalog: Catalog, settings: Settings, model: str) -> dict[Target, str]:
    found: dict[Target, str] = {}
    for region in settings.regions:
        try:
            found[Target(model, region)] = catalog.callable_id(model, region=region, residency=settings.residency)
        except InvalidSetting:
            continue  # the check of the model tells it
    return found
