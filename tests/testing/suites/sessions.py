"""Tests of a user who records sessions in every way there is."""

import asyncio
import os
import unittest
from pathlib import Path

import boto3
import pytest

from bedrock_evolution.testing import Recording, recorded
from bedrock_evolution.testing.turn import CASSETTE_IN_USE


def ask(text):
    client = boto3.client("bedrock-runtime")
    answer = client.converse(modelId="some.model", messages=[{"role": "user", "content": [{"text": text}]}])
    return answer["output"]["message"]["content"][0]["text"]


@pytest.mark.bedrock_session
def test_marked():
    assert ask("marked") == "You said: marked"


def test_fixture(bedrock_session):
    assert isinstance(bedrock_session, Recording)
    assert ask("fixture") == "You said: fixture"
    assert bedrock_session.calls == 1
    assert bedrock_session.mode == os.environ["EXPECTED_MODE"]
    assert bedrock_session.path == Path(__file__).parent / "cassettes" / "test_sessions" / "test_fixture.yaml"


@pytest.mark.bedrock_session("a name")
def test_named():
    ask("named")


@pytest.mark.bedrock_session("elsewhere/own.yaml")
def test_path():
    ask("path")


class TestOfAClass:
    @pytest.mark.bedrock_session
    def test_method(self):
        ask("in a class")


@pytest.mark.bedrock_session
class TestMarkedClass(unittest.TestCase):
    def test_unittest(self):
        assert ask("unittest") == "You said: unittest"


@pytest.mark.bedrock_session
@pytest.mark.parametrize("text", ["plain", "a/b", "a:b", "é", "x" * 300])
def test_parameter(text):
    ask(text)


@pytest.mark.parametrize("text", [pytest.param("marked", marks=pytest.mark.bedrock_session), "unmarked"])
def test_parameter_with_a_mark_of_its_own(text):
    assert CASSETTE_IN_USE.locked() == (text == "marked")
    if text == "marked":
        ask(text)


@pytest.mark.bedrock_session
@pytest.mark.asyncio
async def test_async():
    await asyncio.gather(*(asyncio.to_thread(ask, f"async {number}") for number in range(3)))


@pytest.fixture(scope="module")
def in_use_in_wide_fixture():
    return CASSETTE_IN_USE.locked()


@pytest.fixture
def answer():
    return ask("from a fixture")


@pytest.fixture
def in_use_at_the_end():
    yield
    assert not CASSETTE_IN_USE.locked()


@pytest.mark.bedrock_session
def test_fixtures(in_use_in_wide_fixture, answer, in_use_at_the_end):
    assert not in_use_in_wide_fixture
    assert answer == "You said: from a fixture"


@pytest.fixture
def model(tmp_path, bedrock_session):
    return ask


def test_fixture_of_a_fixture(model):
    model("asked for by a fixture")


@pytest.fixture(scope="module")
def wide(request):
    with recorded(Path(__file__).with_name("wide.yaml"), mode=request.config.getoption("--bedrock-record")):
        return ask("for the whole module")


def test_wide(wide):
    assert wide == "You said: for the whole module"
