"""What the documentation shows, done by the letter: recorded, replayed, and failing where it says so."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedrock_evolution.testing import secrets_in
from tests.cli.command import bare_environment
from tests.support.bedrock_endpoint import BedrockEndpoint
from tests.testing.record_example import EXAMPLE, clerk
from tests.testing.user_suite import DEAD_PROXY, KEYS, ROOT, Outcome, UserSuite

GUIDE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"`([a-z_]+\.(?:py|ini))`:\n\n```\w+\n(.*?)```", re.DOTALL)
FILES = dict(BLOCK.findall(GUIDE))
TEST = "test_a_parcel_is_looked_up_before_the_answer"
CASSETTE = f"cassettes/test_parcel_desk/{TEST}.yaml"

pytestmark = pytest.mark.slow  # together: most of them run pytest on an application of LangGraph


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> UserSuite:
    suite = UserSuite(tmp_path_factory.mktemp("guide"))
    for name, text in FILES.items():
        (suite.folder / name).write_text(text, encoding="utf-8")
    return suite


@pytest.fixture(scope="module")
def recorded_once(suite: UserSuite) -> Iterator[Outcome]:
    with BedrockEndpoint(clerk) as endpoint:
        yield suite.run("--bedrock-record=missing", **KEYS, **DEAD_PROXY, AWS_ENDPOINT_URL_BEDROCK_RUNTIME=endpoint.url)
        assert len(endpoint.requests) == 2


def test_the_guide_shows_all_the_files_of_the_example() -> None:
    assert set(FILES) == {"parcel_desk.py", "test_parcel_desk.py", "pytest.ini", "report.py"}
    for name in ("parcel_desk.py", "test_parcel_desk.py", "pytest.ini"):
        assert FILES[name] == (EXAMPLE / name).read_text(encoding="utf-8")


def test_the_test_of_the_guide_records(suite: UserSuite, recorded_once: Outcome) -> None:
    assert recorded_once.became == {TEST: "passed"}, recorded_once.out
    assert list(suite.cassettes()) == [CASSETTE]
    assert secrets_in(suite.folder / CASSETTE, KEYS.values()) == []


def test_the_committed_cassette_is_the_one_that_is_recorded_today(suite: UserSuite, recorded_once: Outcome) -> None:
    assert suite.cassettes()[CASSETTE] == (EXAMPLE / CASSETTE).read_bytes()


def test_the_example_replays_without_network_or_account(tmp_path: Path) -> None:
    suite = UserSuite(tmp_path)
    shutil.copytree(EXAMPLE, suite.folder, dirs_exist_ok=True)
    before = suite.cassettes()
    outcome = suite.run(**DEAD_PROXY)
    assert outcome.became == {TEST: "passed"}, outcome.out
    assert suite.cassettes() == before


# -- the recording of the guide, replayed with the endpoint gone


@pytest.fixture
def copy(suite: UserSuite, recorded_once: Outcome, tmp_path: Path) -> UserSuite:
    copy = UserSuite(tmp_path)
    shutil.copytree(suite.folder, copy.folder, dirs_exist_ok=True)
    return copy


def change(suite: UserSuite, name: str, old: str, new: str) -> None:
    path = suite.folder / name
    source = path.read_text(encoding="utf-8")
    assert old in source
    path.write_text(source.replace(old, new), encoding="utf-8")


def test_the_test_of_the_guide_replays(copy: UserSuite) -> None:
    before = copy.cassettes()
    outcome = copy.run(**DEAD_PROXY)
    assert outcome.became == {TEST: "passed"}, outcome.out
    assert copy.cassettes() == before


def test_a_changed_prompt_fails_with_the_place_the_guide_shows(copy: UserSuite) -> None:
    change(copy, "parcel_desk.py", "in one sentence", "in two sentences")
    outcome = copy.run(**DEAD_PROXY)
    assert outcome.became == {TEST: "failure"}
    shown = GUIDE[GUIDE.index("- POST /model/") :].partition("```")[0]
    assert " ".join(shown.split()) in " ".join(outcome.told[TEST].split())


def test_a_recorded_call_that_is_not_made_fails(copy: UserSuite) -> None:
    change(copy, "parcel_desk.py", 'graph.add_edge("tools", "answer")', "")
    change(copy, "test_parcel_desk.py", "call, result, answer", "call, result")
    change(copy, "test_parcel_desk.py", 'assert "Basel" in answer.text', "")
    outcome = copy.run(**DEAD_PROXY)
    assert outcome.became == {TEST: "failure"}
    assert "1 of 2 recorded calls were not made" in outcome.told[TEST]


def test_a_missing_cassette_fails_and_says_how_to_record_it(copy: UserSuite) -> None:
    shutil.rmtree(copy.folder / "cassettes")
    outcome = copy.run(**DEAD_PROXY)
    assert outcome.became == {TEST: "error"}
    assert f"pytest test_parcel_desk.py::{TEST} --bedrock-record=missing" in outcome.told[TEST]
    assert copy.cassettes() == {}


# -- the rest of the guide


def test_the_script_of_the_guide_records_and_replays(suite: UserSuite, tmp_path: Path) -> None:
    for name in ("parcel_desk.py", "report.py"):
        shutil.copy(suite.folder / name, tmp_path)

    def run(**environment: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "report.py"],
            cwd=tmp_path,
            env=bare_environment(tmp_path, **DEAD_PROXY, **environment),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()

    said = ["Your parcel is in Basel, out for delivery.", "Your parcel is held at customs in Geneva."]
    with BedrockEndpoint(clerk) as endpoint:
        assert run(**KEYS, AWS_ENDPOINT_URL_BEDROCK_RUNTIME=endpoint.url) == [*said, "record 4"]
    assert run() == [*said, "replay 4"]


def test_the_readme_of_the_example_says_where_its_responses_come_from() -> None:
    readme = " ".join((EXAMPLE / "README.md").read_text(encoding="utf-8").split())
    assert "No response on the committed cassette comes from AWS" in readme
    assert "python -m tests.testing.record_example" in readme


def test_the_setting_for_moto_is_the_one_that_is_tested() -> None:
    setting = 'mock_aws(config={"core": {"passthrough": {"urls": [".*bedrock-runtime.*"]}}})'
    assert setting in GUIDE
    assert setting in Path(__file__).with_name("test_moto.py").read_text(encoding="utf-8")
