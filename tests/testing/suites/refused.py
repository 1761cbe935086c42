"""Tests of a user who forgot about the model calls in them."""

import sys
import threading

import pytest


def ask(**options):
    import boto3  # late, so that the plugin has to notice

    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    client = boto3.client("bedrock-runtime", region_name="us-east-1", **{**keys, **options})
    return client.converse(modelId="some.model", messages=[{"role": "user", "content": [{"text": "hello"}]}])


def ask_or_guess(**options):
    try:
        return ask(**options)
    except Exception:
        return "a guess"


def test_nothing_is_imported_that_no_test_asked_for():
    heavy = {"boto3", "botocore", "vcr", "yaml", "langchain_core", "langgraph", "pydantic", "requests"}
    assert not heavy & set(sys.modules)


def test_error_is_not_caught():
    ask()


def test_error_is_caught():
    assert ask_or_guess() == "a guess"


def test_error_of_missing_credentials_is_caught():
    assert ask_or_guess(aws_access_key_id=None, aws_secret_access_key=None) == "a guess"


def test_error_is_a_reason_to_skip():
    try:
        ask()
    except Exception:
        pytest.skip("Bedrock is not there")


def test_error_leads_to_another_one():
    assert ask_or_guess() == "what the model would say"


def test_call_of_a_thread():
    thread = threading.Thread(target=ask_or_guess)
    thread.start()
    thread.join()


@pytest.fixture
def calls_before():
    ask_or_guess()


@pytest.fixture
def calls_after():
    yield
    ask_or_guess()


def test_call_of_a_fixture(calls_before):
    pass


def test_call_of_a_fixture_that_ends(calls_after):
    pass


def test_this_machine_may_be_called():
    assert "Could not connect" in str(error_of(endpoint_url="http://127.0.0.1:9"))


def test_what_a_stub_answers_is_no_call():
    import boto3
    from botocore.stub import Stubber

    client = boto3.client("bedrock-runtime", region_name="us-east-1")
    with Stubber(client) as stub:
        stub.add_response("count_tokens", {"inputTokens": 7})
        assert client.count_tokens(modelId="some.model", input={"converse": {}})["inputTokens"] == 7


@pytest.mark.bedrock_live
def test_live():
    assert "proxy" in str(error_of())
    assert "credentials" in str(error_of(aws_access_key_id=None, aws_secret_access_key=None))


def test_after_live():
    assert "proxy" not in str(error_of())


def error_of(**options):
    try:
        ask(**options)
    except Exception as error:
        return error


let_go = threading.Event()


def test_leaves_a_thread_behind():
    def later():
        let_go.wait(60)
        ask_or_guess()
        gone.set()

    gone = let_go.gone = threading.Event()
    threading.Thread(target=later, daemon=True).start()


@pytest.fixture(scope="module")
def wide():
    yield
    let_go.set()  # in the teardown of the last test
    assert let_go.gone.wait(60)


def test_after_that_thread(wide):
    pass
