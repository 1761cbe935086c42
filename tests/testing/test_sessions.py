"""Sessions of pytest tests: recorded, replayed without a network or an account, and recorded again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bedrock_endpoint import BedrockEndpoint, ConverseRequest, Message, Reply
from tests.testing.user_suite import DEAD_PROXY, KEYS, Outcome, UserSuite

BADLY = """
import unittest
import pytest
from test_failing import ask

@pytest.mark.bedrock_session
def test_badly():
    ask("hello")
    assert not "what was hoped for"

@pytest.mark.bedrock_session
class TestCase(unittest.TestCase):
    def test_of_unittest(self):
        ask("hello")
        assert not "what was hoped for"
"""


def echo(request: ConverseRequest) -> Reply:
    return Message([{"text": f"You said: {request.messages[-1]['content'][0]['text']}"}])


@pytest.fixture(scope="module")
def endpoint() -> Iterator[BedrockEndpoint]:
    with BedrockEndpoint(echo) as endpoint:
        yield endpoint


def at(endpoint: BedrockEndpoint) -> dict[str, str]:
    return {**KEYS, **DEAD_PROXY, "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": endpoint.url}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> UserSuite:
    return UserSuite(tmp_path_factory.mktemp("sessions"), "sessions.py")


@pytest.fixture(scope="module")
def first(suite: UserSuite, endpoint: BedrockEndpoint) -> Outcome:
    return suite.run("--bedrock-record=missing", **at(endpoint), EXPECTED_MODE="record")


def test_every_way_of_asking_for_a_session_records_one(suite: UserSuite, first: Outcome) -> None:
    assert first.counts == {"passed": 17}, first.out
    names = set(suite.cassettes())
    assert len(names) == 16
    assert names > {
        "cassettes/test_sessions/test_marked.yaml",
        "cassettes/test_sessions/test_fixture.yaml",
        "cassettes/test_sessions/a-name-36e96c62.yaml",
        "elsewhere/own.yaml",
        "wide.yaml",
        "cassettes/test_sessions/TestOfAClass.test_method.yaml",
        "cassettes/test_sessions/TestMarkedClass.test_unittest.yaml",
        "cassettes/test_sessions/test_parameter[plain].yaml",
        "cassettes/test_sessions/test_async.yaml",
    }
    assert all(len(Path(name).name) < 140 for name in names)


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize(
    "parallel",
    [pytest.param((), id="one process"), pytest.param(("-n", "2"), id="two processes", marks=pytest.mark.slow)],
)
def test_replay_needs_no_endpoint_no_network_and_no_account_and_writes_nothing(
    suite: UserSuite, parallel: tuple[str, ...]
) -> None:
    before = suite.cassettes()
    outcome = suite.run("--strict-markers", *parallel, **DEAD_PROXY, EXPECTED_MODE="replay")
    assert outcome.counts == {"passed": 17}, outcome.out
    assert suite.cassettes() == before


@pytest.mark.slow
@pytest.mark.usefixtures("first")
def test_only_what_is_missing_is_recorded(suite: UserSuite, endpoint: BedrockEndpoint) -> None:
    before = suite.cassettes()
    (suite.folder / "cassettes" / "test_sessions" / "test_marked.yaml").unlink()
    calls = len(endpoint.requests)
    outcome = suite.run("--bedrock-record=missing", **at(endpoint), EXPECTED_MODE="replay")
    assert outcome.counts == {"passed": 17}, outcome.out
    assert len(endpoint.requests) == calls + 1
    assert suite.cassettes().keys() == before.keys()


@pytest.mark.slow
@pytest.mark.usefixtures("first")
def test_all_is_recorded_again_when_asked_for(suite: UserSuite, endpoint: BedrockEndpoint) -> None:
    calls = len(endpoint.requests)
    outcome = suite.run("--bedrock-record=all", **at(endpoint), EXPECTED_MODE="record")
    assert outcome.counts == {"passed": 17}, outcome.out
    assert len(endpoint.requests) == calls + 18


# -- what fails


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> UserSuite:
    return UserSuite(tmp_path_factory.mktemp("failing"), "failing.py")


@pytest.fixture(scope="module")
def recorded_badly(failing: UserSuite, endpoint: BedrockEndpoint) -> Outcome:
    return failing.run("--bedrock-record=missing", **at(endpoint))


@pytest.fixture(scope="module")
def failed(failing: UserSuite, recorded_badly: Outcome) -> Outcome:
    path = failing.folder / "test_failing.py"
    source = path.read_text(encoding="utf-8")
    path.write_text(source.replace("PROMPTS = {}", 'PROMPTS = {"a good question": "a better question"}'))
    return failing.run(**DEAD_PROXY)


@pytest.mark.parametrize("test", ["test_changed", "test_changed_and_swallowed", "test_changed_and_skipped"])
def test_a_changed_prompt_fails_the_test_whatever_became_of_the_error(failed: Outcome, test: str) -> None:
    assert failed.became[test] == "failure"
    told = failed.told[test]
    place = "body.messages[0].content[0].text has 'better question' where 'good question' was recorded"
    assert place in told
    assert f"pytest test_failing.py::{test} --bedrock-record=all" in told


def test_a_call_that_is_not_made_fails_the_test(failed: Outcome) -> None:
    assert failed.became["test_unplayed"] == "failure"
    assert (
        "1 of 2 recorded calls were not made, such as interaction 1 (/model/some.model/" in failed.told["test_unplayed"]
    )
    assert "pytest test_failing.py::test_unplayed --bedrock-record=all" in failed.told["test_unplayed"]


def test_the_errors_of_a_test_come_first(failed: Outcome) -> None:
    assert failed.became["test_asserts"] == "failure"
    assert "the assertion itself" in failed.told["test_asserts"]
    assert "not made" not in failed.told["test_asserts"]


def test_a_miss_in_a_fixture_that_failed_is_told_too(failed: Outcome) -> None:
    assert failed.became["test_fixture_fails"] == "error"
    assert "better question" in failed.told["test_fixture_fails"]


def test_a_fixture_that_calls_after_the_session_is_told_so(failed: Outcome) -> None:
    assert failed.became["test_fixture_calls_after_the_session"] == "error"
    assert "The session of this test was not open" in failed.told["test_fixture_calls_after_the_session"]


def test_a_thread_that_had_to_wait_until_the_session_was_over_fails_the_test(failed: Outcome) -> None:
    assert failed.became["test_thread_calls_after_the_session"] == "error"
    assert "wait for all calls in the test" in failed.told["test_thread_calls_after_the_session"]


def test_a_marker_that_cannot_be_read_fails_the_test(failed: Outcome) -> None:
    assert failed.became["test_marker_with_two_names"] == "error"
    assert "bedrock_session" in failed.told["test_marker_with_two_names"]


def test_a_test_that_fails_leaves_no_cassette(failing: UserSuite, endpoint: BedrockEndpoint) -> None:
    (failing.folder / "test_badly.py").write_text(BADLY, encoding="utf-8")
    calls = len(endpoint.requests)
    outcome = failing.run("--bedrock-record=missing", "test_badly.py", **at(endpoint))
    assert outcome.became == {"test_badly": "failure", "test_of_unittest": "failure"}
    assert all("what was hoped for" in told for told in outcome.told.values())
    assert len(endpoint.requests) == calls + 2
    assert not [name for name in failing.cassettes() if "badly" in name]


def test_a_missing_cassette_fails_the_test_and_says_how_to_record_it(failing: UserSuite, failed: Outcome) -> None:
    (failing.folder / "cassettes" / "test_failing" / "test_unplayed.yaml").unlink()
    before = failing.cassettes()
    outcome = failing.run(f"{failing.folder}/test_failing.py::test_unplayed", cwd=failing.folder.parent, **DEAD_PROXY)
    assert outcome.became == {"test_unplayed": "error"}
    assert "this test has no cassette" in outcome.told["test_unplayed"]
    assert "pytest suite/test_failing.py::test_unplayed --bedrock-record=missing" in outcome.told["test_unplayed"]
    assert failing.cassettes() == before
