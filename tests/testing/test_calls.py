"""Which requests are Bedrock calls, and the form a cassette holds them in."""

import re

import pytest
from botocore.loaders import Loader

from bedrock_evolution.testing.calls import canonical_uri, is_bedrock, is_this_machine, without_account

AWS = "https://bedrock-runtime.eu-west-1.amazonaws.com"
ELSEWHERE = "http://127.0.0.1:4000"


@pytest.mark.parametrize("host", [AWS, ELSEWHERE])
def test_every_operation_of_the_runtime_is_a_bedrock_call(api_models: Loader, host: str) -> None:
    operations = api_models.load_service_model("bedrock-runtime", "service-2")["operations"]
    assert operations.keys() >= {"Converse", "ConverseStream", "InvokeModel", "ApplyGuardrail", "CountTokens"}
    paths = [re.sub(r"\{[^}]*\}", "arn%3Aaws%3Ax%2Fy", item["http"]["requestUri"]) for item in operations.values()]
    assert [path for path in paths if not is_bedrock(host + path)] == []


@pytest.mark.parametrize(
    "host",
    [
        "bedrock-runtime.us-east-1.amazonaws.com",
        "bedrock-runtime-fips.us-east-1.amazonaws.com",
        "bedrock-runtime.cn-north-1.amazonaws.com.cn",
        "bedrock-runtime.us-east-1.api.aws",
        "vpce-0a1b-2c3d.bedrock-runtime.us-east-1.vpce.amazonaws.com",
        "bedrock.example.com",
        "proxy.example.com:8443",
    ],
)
def test_a_bedrock_call_is_one_on_every_host_that_takes_it(host: str) -> None:
    assert is_bedrock(f"https://{host}/model/anthropic.claude/converse")
    assert canonical_uri(f"https://{host}/model/anthropic.claude/converse") == (
        "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude/converse"
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://models.s3.eu-west-1.amazonaws.com/model/v1/invoke",
        "https://s3.eu-west-1.amazonaws.com/model/v1/converse",
        "https://bedrock.eu-west-1.amazonaws.com/inference-profiles/x",
        "https://dynamodb.eu-west-1.amazonaws.com/",
        "http://127.0.0.1:9000/model/v1/weights.bin",
        "http://127.0.0.1:9000/bucket/model/v1/invoke",
    ],
)
def test_other_requests_are_none(url: str) -> None:
    assert not is_bedrock(url)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53:80", "localhost:4566", "[::1]:4566", "aws.localhost"])
def test_this_machine_is_known_by_its_names(host: str) -> None:
    assert is_this_machine(f"http://{host}/model/x/converse")


@pytest.mark.parametrize("host", ["10.0.0.1", "localhost.example.com", "bedrock-runtime.us-east-1.amazonaws.com"])
def test_another_machine_is_not_this_one(host: str) -> None:
    assert not is_this_machine(f"https://{host}/model/x/converse")


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:bedrock:us-east-1:{}:application-inference-profile/abc",
        "arn%3Aaws%3Abedrock%3Aus-east-1%3A{}%3Aprovisioned-model%2Fabc",
        "arn%3aaws-us-gov%3abedrock%3aus-gov-west-1%3a{}%3acustom-model-deployment%2fabc",
        "arn:aws-cn:sagemaker:cn-north-1:{}:endpoint/abc",
    ],
)
def test_account_numbers_are_taken_out_of_arns(arn: str) -> None:
    assert without_account(f"/model/{arn.format(314159265358)}/converse") == f"/model/{arn.format('0' * 12)}/converse"


@pytest.mark.parametrize(
    "text", ["/model/arn:aws:bedrock:us-east-1::foundation-model/a", "/model/m-314159265358/invoke", "314159265358"]
)
def test_other_numbers_stay(text: str) -> None:
    assert without_account(text) == text
