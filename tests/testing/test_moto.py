"""moto for the other services and a cassette for Bedrock, in one test."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from bedrock_evolution.testing import recorded
from tests.support.bedrock_endpoint import BedrockEndpoint, Message, in_order
from tests.support_tests.conftest import MODEL_ID

moto = pytest.importorskip("moto", reason="moto is no dependency of this package")


@contextmanager
def other_services() -> Iterator[None]:
    # As in docs/testing.md.
    with moto.mock_aws(config={"core": {"passthrough": {"urls": [".*bedrock-runtime.*"]}}}):
        yield


def summarise(bedrock: Any) -> str:
    """Ask a model about an object in S3, and keep its answer there."""
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="notes")
    s3.put_object(Bucket="notes", Key="model/a/invoke", Body=b"a long note")
    note = s3.get_object(Bucket="notes", Key="model/a/invoke")["Body"].read().decode()
    answer = bedrock.converse(modelId=MODEL_ID, messages=[{"role": "user", "content": [{"text": note}]}])
    s3.put_object(Bucket="notes", Key="summary", Body=answer["output"]["message"]["content"][0]["text"].encode())
    return str(s3.get_object(Bucket="notes", Key="summary")["Body"].read().decode())


@pytest.fixture
def cassette(tmp_path: Path) -> Path:
    path = tmp_path / "calls.yaml"
    replies = in_order(Message([{"text": "short"}]))
    with BedrockEndpoint(replies) as endpoint, other_services(), recorded(path, mode="all"):
        assert summarise(boto3.client("bedrock-runtime", endpoint_url=endpoint.url)) == "short"
    return path


def test_moto_outside(cassette: Path) -> None:
    with other_services(), recorded(cassette) as recording:
        assert summarise(boto3.client("bedrock-runtime")) == "short"
    assert recording.calls == 1


def test_moto_inside(cassette: Path) -> None:
    with recorded(cassette) as recording, other_services():
        assert summarise(boto3.client("bedrock-runtime")) == "short"
    assert recording.calls == 1


def test_without_the_passthrough_moto_takes_the_calls(cassette: Path) -> None:
    def hijacked() -> None:
        with recorded(cassette), moto.mock_aws():
            summarise(boto3.client("bedrock-runtime"))

    with pytest.raises(NotImplementedError, match="converse action"):
        hijacked()
