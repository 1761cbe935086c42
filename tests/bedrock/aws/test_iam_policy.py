"""The policy in the documentation allows what the package calls with its own settings, and nothing else."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from bedrock_evolution.bedrock.models.catalog import Catalog
from bedrock_evolution.bedrock.models.model_ids import ModelId
from bedrock_evolution.cli.checks import all_checks
from bedrock_evolution.settings import Settings
from tests.support.control_plane import ControlPlane
from tests.support.stage import advisor_desk, staged, with_dummy_aws
from tests.test_floors import ROOT, modules

POLICY = ROOT / "docs" / "iam-policy.json"
ACCOUNT = "111122223333"
SERVICES = ("bedrock", "bedrock-runtime", "sts")
NEEDS_NO_PERMISSION = {"sts:GetCallerIdentity"}
OF_WHOEVER_ASSUMES_THE_ROLE = {"sts:AssumeRole"}


@pytest.fixture(scope="module")
def statements() -> list[dict[str, Any]]:
    policy = json.loads(POLICY.read_text(encoding="utf-8"))
    assert set(policy) == {"Version", "Statement"}
    assert policy["Version"] == "2012-10-17"
    return list(policy["Statement"])


def resources(statement: dict[str, Any]) -> set[str]:
    listed = statement["Resource"]
    return {listed} if isinstance(listed, str) else set(listed)


def permission(service: str, operation: str) -> str:
    """Return what allows an operation; those of the runtime are named after InvokeModel."""
    invoking = {"Converse": "InvokeModel", "ConverseStream": "InvokeModelWithResponseStream"}
    return f"{service.removesuffix('-runtime')}:{invoking.get(operation, operation)}"


def called(folder: Path) -> set[str]:
    """Return the permissions that agents and `doctor` need, from the requests they make."""
    with staged(folder) as stage:
        stage.advise(advisor_desk())
        made = {"ConverseStream" if request.stream else "Converse" for request in stage.requests}
    with pytest.MonkeyPatch.context() as patch, ControlPlane() as plane:
        with_dummy_aws(patch)
        for service in ("STS", "BEDROCK"):
            patch.setenv(f"AWS_ENDPOINT_URL_{service}", plane.url)
        patch.setenv("BEDROCK_EVOLUTION_MODEL", "bedrock")
        patch.setenv("BEDROCK_EVOLUTION_ROLE_ARN", f"arn:aws:iam::{ACCOUNT}:role/evolution")
        patch.chdir(folder)
        assert all(check.ok for check in all_checks(f"sqlite:///{folder / 'doctor.db'}"))
    sts = ("AssumeRole", "GetCallerIdentity")
    return {permission("bedrock-runtime", operation) for operation in made} | {
        permission("sts" if request.operation in sts else "bedrock", request.operation) for request in plane.requests
    }


def written() -> set[str]:
    """Return the permissions for every operation of these services that the source names as a method."""
    session = botocore.session.get_session()
    methods = {
        xform_name(operation): permission(service, operation)
        for service in SERVICES
        for operation in session.get_service_model(service).operation_names
    }
    trees = [ast.parse((ROOT / module).read_text(encoding="utf-8")) for module in modules()]
    names = {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return {methods[name] for name in names & set(methods)}


def test_its_actions_are_exactly_those_the_code_calls(statements: list[dict[str, Any]], tmp_path: Path) -> None:
    allowed = {statement["Action"] for statement in statements}
    needed = called(tmp_path)
    assert needed >= NEEDS_NO_PERMISSION | OF_WHOEVER_ASSUMES_THE_ROLE
    assert allowed == needed - NEEDS_NO_PERMISSION - OF_WHOEVER_ASSUMES_THE_ROLE
    # langchain-aws calls models and botocore assumes roles; the rest is ours, and none of it went unseen.
    assert written() == needed - {"bedrock:InvokeModel"} - OF_WHOEVER_ASSUMES_THE_ROLE


def test_no_client_of_another_service_is_made() -> None:
    source = "\n".join((ROOT / module).read_text(encoding="utf-8") for module in modules())
    assert set(re.findall(r"\.(?:client|resource|create_client)\(\s*\"([a-z0-9-]+)\"", source)) == set(SERVICES)


def test_it_names_every_model_in_every_region_of_the_settings_and_no_other(statements: list[dict[str, Any]]) -> None:
    settings = Settings()
    catalog = Catalog()
    sent = {
        (region, catalog.callable_id(model, region=region, residency=settings.residency))
        for model in settings.models
        for region in settings.regions
    }
    profiles = {f"arn:aws:bedrock:{region}:{ACCOUNT}:inference-profile/{called}" for region, called in sent}
    by_action: dict[str, set[str]] = {}
    for statement in statements:
        by_action.setdefault(statement["Action"], set()).update(resources(statement))
    invoked = by_action["bedrock:InvokeModel"]
    assert {arn for arn in invoked if ":inference-profile/" in arn} == profiles
    assert by_action["bedrock:GetInferenceProfile"] == profiles
    hosts = {f"arn:aws:bedrock:{region}::foundation-model/{ModelId.parse(called).base}" for region, called in sent}
    hosts |= {
        f"arn:aws:bedrock:::foundation-model/{ModelId.parse(called).base}" for _, called in sent if "global." in called
    }
    assert invoked - profiles >= hosts
    assert {arn.rsplit("/", 1)[-1] for arn in invoked - profiles} == {ModelId.parse(called).base for _, called in sent}


def test_models_are_called_through_their_profiles_only_and_nothing_is_wild(statements: list[dict[str, Any]]) -> None:
    names = [statement["Sid"] for statement in statements]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[A-Za-z0-9]+", name) for name in names)
    profiles = {arn for statement in statements for arn in resources(statement) if ":inference-profile/" in arn}
    for statement in statements:
        assert statement["Effect"] == "Allow"
        assert "*" not in statement["Action"]
        wild = {arn for arn in resources(statement) if "*" in arn}
        assert wild == ({"*"} if statement["Action"] == "bedrock:GetFoundationModelAvailability" else set())
        models = {arn.rsplit("/", 1)[-1] for arn in resources(statement) if ":foundation-model/" in arn}
        if models:
            through = set(statement["Condition"]["StringEquals"]["bedrock:InferenceProfileArn"])
            assert through <= profiles
            assert {arn.rsplit("/", 1)[-1].partition(".")[2] for arn in through} == models


def test_the_documentation_names_each_action_and_what_is_left_out(statements: list[dict[str, Any]]) -> None:
    text = (ROOT / "docs" / "aws.md").read_text(encoding="utf-8")
    for statement in statements:
        assert f"| `{statement['Action']}` |" in text
    for action in ("bedrock:InvokeModelWithResponseStream", *NEEDS_NO_PERMISSION, *OF_WHOEVER_ASSUMES_THE_ROLE):
        assert f"`{action}`" in text
