"""No Bedrock call leaves a test that did not ask for it, and the test fails, whatever became of the error."""

from pathlib import Path

import pytest

from tests.testing.user_suite import DEAD_PROXY, Outcome, UserSuite


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return UserSuite(tmp_path_factory.mktemp("refused"), "refused.py").run(**DEAD_PROXY)


@pytest.mark.parametrize(
    "test",
    [
        "test_error_is_not_caught",
        "test_error_is_caught",
        "test_error_of_missing_credentials_is_caught",
        "test_error_is_a_reason_to_skip",
        "test_error_leads_to_another_one",
        "test_call_of_a_thread",
        "test_call_of_a_fixture",
        "test_call_of_a_fixture_that_ends",
        "test_after_live",
    ],
)
def test_a_call_fails_the_test_and_says_how_to_record_it(outcome: Outcome, test: str) -> None:
    assert outcome.became[test] in ("failure", "error")
    told = outcome.told[test]
    assert "outside a recorded session" in told
    assert "nothing was sent" in told
    assert "POST https://bedrock-runtime.us-east-1.amazonaws.com/model/some.model/converse" in told
    assert f"pytest test_refused.py::{test} --bedrock-record=missing" in told
    assert "@pytest.mark.bedrock_session" in told
    assert "@pytest.mark.bedrock_live" in told


@pytest.mark.parametrize(
    "test", ["test_this_machine_may_be_called", "test_what_a_stub_answers_is_no_call", "test_live"]
)
def test_what_is_allowed_is_done(outcome: Outcome, test: str) -> None:
    assert outcome.became[test] == "passed"


def test_a_suite_without_model_calls_imports_nothing_for_the_plugin(outcome: Outcome) -> None:
    assert outcome.became["test_nothing_is_imported_that_no_test_asked_for"] == "passed"


def test_a_thread_that_was_left_behind_is_told_of_where_it_calls(outcome: Outcome) -> None:
    assert outcome.became["test_leaves_a_thread_behind"] == "passed"
    assert "1 Bedrock call(s) outside a recorded session" in outcome.told["test_after_that_thread"]


@pytest.mark.slow
def test_a_call_on_import_fails_the_first_test(tmp_path: Path) -> None:
    suite = UserSuite(tmp_path, "refused.py")
    (suite.folder / "test_a.py").write_text(
        "from test_refused import ask_or_guess\nask_or_guess()\ndef test_a(): pass\n"
    )
    outcome = suite.run("test_a.py", **DEAD_PROXY)
    assert outcome.became == {"test_a": "error"}
    assert "before this test: on import" in outcome.told["test_a"]


@pytest.mark.slow
def test_a_call_after_the_last_test_fails_the_run(tmp_path: Path) -> None:
    suite = UserSuite(tmp_path, "refused.py")
    (suite.folder / "conftest.py").write_text(
        "import pytest\nfrom test_refused import ask_or_guess\n"
        "@pytest.hookimpl(tryfirst=True)\ndef pytest_sessionfinish(): ask_or_guess()\n"
    )
    outcome = suite.run("-k", "this_machine", **DEAD_PROXY)
    assert outcome.became == {"test_this_machine_may_be_called": "passed"}
    assert outcome.code == 1
    assert "after the last test" in outcome.out


@pytest.mark.slow
@pytest.mark.parametrize("way", ["setting", "without the plugin"])
def test_a_suite_that_calls_bedrock_can_go_on_doing_so(tmp_path: Path, way: str) -> None:
    suite = UserSuite(tmp_path, "refused.py")
    arguments = ["-k", "after_live"]
    if way == "setting":
        suite.ini("bedrock_live = true")
    else:
        arguments += ["-p", "no:bedrock_evolution"]
    outcome = suite.run(*arguments, **DEAD_PROXY)
    assert outcome.became == {"test_after_live": "failure"}
    assert "proxy" in outcome.told["test_after_live"]  # so far the call came
    assert "recorded session" not in outcome.told["test_after_live"]
