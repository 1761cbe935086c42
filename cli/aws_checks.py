"""What `doctor` asks AWS: who we are, and whether each model may be called; it costs nothing and ends in seconds."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import boto3

from ..bedrock.aws.credential_failures import explaining
from ..bedrock.aws.credentials import bearer_token_set, client_config
from ..bedrock.failures import Target
from ..bedrock.models.model_ids import ModelId
from ..settings import RESIDENCIES, Settings
from .check import Check, Job, answers

_READ_S = 3.0
_PROFILE_ARNS = (":inference-profile/", ":application-inference-profile/")


def aws_checks(settings: Settings, session: boto3.Session, targets: Mapping[Target, str]) -> list[Check]:
    """Ask AWS who we are and what we may call.

    Args:
        settings: Regions, residency, endpoint.
        session: Signs the questions as it would sign calls.
        targets: What is sent to Bedrock for each model in each region.
    """
    if settings.endpoint_url:
        return answers([("endpoint", partial(_endpoint, settings.endpoint_url))])
    config = client_config(settings, read_timeout_s=_READ_S)
    clients = {region: session.client("bedrock", region_name=region, config=config) for region in settings.regions}
    jobs: list[Job[Check]] = [("identity", partial(_identity, settings, session))]
    for target, callable_id in targets.items():
        name = f"access to {target.model} in {target.region}"
        jobs.append((name, partial(_access, name, callable_id, clients[target.region], settings.residency)))
    who, *access = answers(jobs)
    return [who, *_summed_up(settings.regions, dict(zip(targets, access, strict=True)))]


def _endpoint(url: str) -> Check:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((host, port), timeout=_READ_S).close()
    except OSError as error:
        remedy = "Start it, or correct setting 'endpoint_url'."
        return Check("endpoint", False, f"{host}:{port} cannot be reached: {error.strerror or error}", remedy)
    return Check("endpoint", True, f"{host}:{port} answers; who may call which model there, it decides itself")


def _identity(settings: Settings, session: boto3.Session) -> Check:
    """Ask who we are, which needs no permission.

    Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
    """
    if bearer_token_set(settings):
        return Check("identity", True, "a Bedrock API key does not tell whose it is")
    config = client_config(settings, read_timeout_s=_READ_S)
    with explaining(settings):
        caller = session.client("sts", region_name=settings.home_region, config=config).get_caller_identity()
    return Check("identity", True, f"account {caller['Account']}, {caller['Arn']}")


def _access(name: str, callable_id: str, bedrock: Any, residency: str) -> Check:
    """Ask whether a model may be called, and where an inference profile spreads the calls.

    Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_GetFoundationModelAvailability.html
    """
    parsed = ModelId.parse(callable_id)
    by_profile = bool(parsed.profile) or any(kind in callable_id for kind in _PROFILE_ARNS)
    base = parsed.base
    if by_profile:
        profile = bedrock.get_inference_profile(inferenceProfileIdentifier=callable_id)
        arns = [model["modelArn"] for model in profile["models"]]
        base = arns[0].rsplit("/", 1)[-1]
        if outside := _outside(residency, arns):
            found = f"{callable_id} spreads calls over {', '.join(outside)}, outside the residency {residency!r}"
            return Check(name, False, found, "Choose another profile, or a residency that holds them.")
    if not base:
        return Check(name, True, "not checked: it is neither a foundation model nor an inference profile")
    problem = _problem(bedrock.get_foundation_model_availability(modelId=base), by_profile=by_profile)
    return Check(name, False, *problem) if problem else Check(name, True, f"granted, as {callable_id}")


def _outside(residency: str, arns: Sequence[str]) -> list[str]:
    """Return the regions of models that lie outside a residency; the global profiles name none for some."""
    regions = {arn.split(":")[3] for arn in arns}
    return sorted(region for region in regions if not region.startswith(RESIDENCIES[residency]))


def _problem(answer: Mapping[str, Any], *, by_profile: bool) -> tuple[str, str] | None:
    """Say what keeps a model from being called, and what to do.

    Source: https://docs.aws.amazon.com/bedrock/latest/userguide/model-access.html
    """
    agreement = answer["agreementAvailability"]["status"]
    # A profile may be called from a region that does not host the model.
    if answer["regionAvailability"] != "AVAILABLE" and not by_profile:
        return "the region does not offer it", "Take another region or another model."
    if answer["authorizationStatus"] != "AUTHORIZED":
        remedy = (
            "See whether a policy of the account or its organisation denies it; Anthropic asks for a use case once."
        )
        return "the account is not authorized for it", remedy
    if agreement == "PENDING":
        return "its agreement is being made", "Wait some minutes, and run doctor again."
    if agreement != "AVAILABLE":
        remedy = "Call it once in the Bedrock console, with a role that is allowed aws-marketplace:Subscribe."
        return f"its agreement is not accepted ({agreement})", remedy
    if answer["entitlementAvailability"] != "AVAILABLE":
        return "the account has no access to it", "Request access in the Bedrock console, in the model catalog."
    return None


def _summed_up(regions: Sequence[str], access: Mapping[Target, Check]) -> list[Check]:
    """Tell what is wrong with a whole region once."""
    told: list[Check] = []
    for region in regions:
        checks = [check for target, check in access.items() if target.region == region]
        alike = {(check.ok, check.found) for check in checks}
        if len(checks) > 1 and len(alike) == 1 and not checks[0].ok:
            told.append(Check(f"access to all models in {region}", False, checks[0].found, checks[0].remedy))
        else:
            told += checks
    return told
