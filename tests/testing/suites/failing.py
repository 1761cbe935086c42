"""Tests that are right to fail, most of them after one good call."""

from contextlib import suppress

import boto3
import pytest
from botocore.httpsession import URLLib3Session

PROMPTS = {}


def ask(text):
    client = boto3.client("bedrock-runtime", region_name="eu-central-1")
    text = PROMPTS.get(text, text)
    answer = client.converse(modelId="some.model", messages=[{"role": "user", "content": [{"text": text}]}])
    return answer["output"]["message"]["content"][0]["text"]


@pytest.mark.bedrock_session
def test_changed():
    ask("a good question")


@pytest.mark.bedrock_session
def test_changed_and_swallowed():
    try:
        ask("a good question")
    except Exception:
        ask("a plain question")


@pytest.mark.bedrock_session
def test_changed_and_skipped():
    try:
        ask("a good question")
    except Exception:
        pytest.skip("Bedrock is not there")


@pytest.mark.bedrock_session
def test_unplayed():
    ask("first")
    if not PROMPTS:
        ask("second")


@pytest.mark.bedrock_session
def test_asserts():
    ask("first")
    assert not PROMPTS, "the assertion itself"
    ask("second")


@pytest.fixture
def swallowing():
    with suppress(Exception):
        ask("a good question")
    assert not PROMPTS


@pytest.mark.bedrock_session
def test_fixture_fails(swallowing):
    pass


@pytest.fixture
def calls_when_it_ends():
    yield
    with suppress(Exception):
        ask("late")


@pytest.mark.bedrock_session
def test_fixture_calls_after_the_session(calls_when_it_ends):
    ask("in time")


@pytest.fixture
def had_to_wait():
    """Call with botocore's method as it was in the session, as a thread does that had to wait for its turn."""
    methods = []
    yield methods
    with pytest.MonkeyPatch.context() as patch, suppress(Exception):
        patch.setattr(URLLib3Session, "send", *methods)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")  # it was let sign while the session lasted
        ask("late")


@pytest.mark.bedrock_session
def test_thread_calls_after_the_session(had_to_wait):
    ask("in time")
    had_to_wait.append(URLLib3Session.send)


@pytest.mark.bedrock_session("one", "two")
def test_marker_with_two_names():
    pass
