"""The recorded sessions, replayed with the endpoint gone, and what their cassettes may and may not hold."""

import inspect
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.testing import recorded, secrets_in
from bedrock_evolution.testing.calls import CANONICAL_HOST
from bedrock_evolution.testing.cassette_file import read_cassette
from tests.record_sessions import (
    CASSETTES,
    LOCAL_ENDPOINT,
    ROOT,
    RUN,
    STREAM,
    dummy_environment,
    record,
    run_streams,
    run_support_router,
)
from tests.sessions import SESSIONS, run_session
from tests.support.converse import ConverseRequest
from tests.support.model import wire_faults
from tests.support.stage import CANARIES, heard, staged

DEAD_URL = "http://127.0.0.1:9"  # the discard port: nobody listens
SONNET_MICRO_USD = {
    "inputTokens": Fraction(3),
    "outputTokens": Fraction(15),
    "cacheReadInputTokens": Fraction(3, 10),
    "cacheWriteInputTokens": Fraction(15, 4),
}
"""Per token."""
SMALL = 2_000_000  # bytes
# Code paths of NumPy and OpenBLAS that not every processor has; names a build does not know are ignored.
_OTHER_PROCESSOR = {
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR AVX512F AVX512_SKX",
    "OPENBLAS_CORETYPE": "Prescott",
}
_WEIGH = """
import json
import numpy as np
from bedrock_evolution.fitness.promotion import PromotionRule
from bedrock_evolution.fitness.racing import evidence_json
draws = np.random.default_rng(1)
rule = PromotionRule(alpha=0.05, score_range=(0.0, 1.0))
for size in range(20, 400, 20):
    differences = [float(d) for d in draws.choice([-1.0, 0.0, 1.0], size, p=[0.1, 0.6, 0.3])]
    print(json.dumps(evidence_json(rule.assess(differences, test=1), "genes", "live")))
"""


@pytest.fixture(autouse=True)
def dummies() -> Iterator[None]:
    with dummy_environment():
        yield


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record the sessions anew, with canaries for credentials."""
    folder = tmp_path_factory.mktemp("fresh")
    record(folder)
    return folder


def noted(name: str) -> dict[str, Any]:
    return dict(json.loads((CASSETTES / f"{name}.json").read_text(encoding="utf-8")))


def interactions(name: str = RUN) -> list[tuple[dict[str, Any], int, bytes]]:
    """Return the request body, the status and the response body of every call on a cassette."""
    return [
        (json.loads(item["request"]["body"]), item["response"]["status"]["code"], item["response"]["body"]["string"])
        for item in read_cassette(CASSETTES / f"{name}.yaml")
    ]


def only_local() -> None:
    if noted(RUN)["source"] != LOCAL_ENDPOINT:
        pytest.skip("the cassette was recorded against AWS, whose models make mistakes of their own")


# -- replay


@pytest.mark.parametrize("endpoint_url", [DEAD_URL, None], ids=["endpoint gone", "no endpoint"])
def test_the_run_is_replayed_to_the_same_dna_cost_and_calls(endpoint_url: str | None) -> None:
    with recorded(CASSETTES / f"{RUN}.yaml") as tape:
        figures = run_support_router(endpoint_url)
    assert figures == noted(RUN)["figures"]
    assert tape.calls == figures["model_calls"] == len(interactions())


@pytest.mark.parametrize("endpoint_url", [DEAD_URL, None], ids=["endpoint gone", "no endpoint"])
def test_the_streams_are_replayed_with_their_tool_call_and_their_error(endpoint_url: str | None) -> None:
    with recorded(CASSETTES / f"{STREAM}.yaml") as tape:
        arrived = run_streams(endpoint_url)
    assert arrived == noted(STREAM)["figures"]
    assert tape.calls == 3
    assert len(arrived["prose"]) > 1
    assert arrived["tool_calls"][0]["args"] == {"city": "Zürich", "days": 3}
    assert arrived["error"] == "throttlingException"
    assert "Once upon a time there was a queue.".startswith(arrived["broken_off"])
    assert arrived["broken_off"]


@pytest.mark.parametrize("name", SESSIONS)
def test_an_agents_session_is_replayed_to_the_same_answer_attempts_and_cost(name: str, tmp_path: Path) -> None:
    session = SESSIONS[name]
    with staged(tmp_path, endpoint_url=DEAD_URL, **session.settings) as stage, recorded(CASSETTES / f"{name}.yaml"):
        assert run_session(session, stage) == noted(name)["figures"]
        assert stage.requests == []


# -- what is on the recording


def test_what_read_one_call_is_cached_for_the_next() -> None:
    used = [json.loads(body)["usage"] for _, status, body in interactions() if status == 200]
    cached = sum(usage["cacheReadInputTokens"] for usage in used)
    assert cached > 0.5 * sum(usage["totalTokens"] for usage in used)
    assert all("cachePoint" in json.dumps(body["messages"][-1]) for body, _, _ in interactions())


@pytest.mark.parametrize(
    ("name", "statuses"),
    [
        ("throttled_then_answered", [429, 200, 200]),
        ("overflow_then_shrunk", [200, 400, 200, 200]),
        ("region_down", [503, 503, 200, 200]),
        ("malformed_tool_call", [200, 200, 200]),
    ],
)
def test_a_failure_on_a_cassette_is_healed_by_a_model(name: str, statuses: list[int]) -> None:
    assert [status for _, status, _ in interactions(name)] == statuses
    assert noted(name)["figures"]["model"].startswith("global.anthropic.")


def test_a_prompt_that_was_too_long_was_sent_again_with_its_newest_turn_cut() -> None:
    whole, half = (body["messages"] for body, _, _ in interactions("overflow_then_shrunk")[1:3])
    assert "was left out" in json.dumps(half)
    assert len(json.dumps(half)) < 0.75 * len(json.dumps(whole))
    assert interactions("overflow_then_shrunk")[1][0]["system"] == interactions("overflow_then_shrunk")[2][0]["system"]


def test_a_region_that_was_down_was_left_for_another() -> None:
    attempts = noted("region_down")["figures"]["attempts"]
    assert [attempt["region"] for attempt in attempts[:3]] == ["us-east-1", "us-east-1", "us-west-2"]


def test_the_recorded_run_improved_the_application() -> None:
    figures = noted(RUN)["figures"]
    assert figures["status"] == "done"
    assert figures["fitness"] >= figures["baseline_fitness"] + 0.1
    assert figures["test_fitness"] >= figures["baseline_test_fitness"] + 0.05


def test_the_cost_of_the_run_is_the_recorded_usage_times_the_price() -> None:
    used = [json.loads(body)["usage"] for _, status, body in interactions() if status == 200]
    cost = sum(ceil(sum(usage[name] * price for name, price in SONNET_MICRO_USD.items())) for usage in used)
    assert noted(RUN)["figures"]["cost_micro_usd"] == cost > 0


def test_one_call_was_throttled_and_the_same_request_was_answered_after_a_backoff() -> None:
    only_local()
    statuses = [status for _, status, _ in interactions()]
    throttled = statuses.index(429)
    assert statuses.count(429) == 1
    assert noted(RUN)["figures"]["failed_model_calls"] == 1
    assert interactions()[throttled + 1][0] == interactions()[throttled][0]
    assert statuses[throttled + 1] == 200


@pytest.mark.parametrize(
    "reason",
    [
        "That answer cannot be used: the tool Advice was not called",
        "unknown gene 'queue.sales'",
        "7 is out of bounds. Give a number from 0 to 0.6",
        "Input should be a valid list",
        "proposals that were not accepted: ['p7', 'the second one']",
        "no proposal was accepted, so there is nothing to trial",
        "Input should be 'APPROVE', 'REJECT' or 'DEFER'",
    ],
)
def test_every_bad_answer_was_recorded_with_the_reason_it_was_refused_for(reason: str) -> None:
    only_local()
    requests = [ConverseRequest("", stream=False, body=body, headers={}) for body, _, _ in interactions()]
    assert any(reason in heard(request) for request in requests)


def test_every_recorded_request_is_one_that_bedrock_takes() -> None:
    for body, _, _ in interactions():
        assert wire_faults(body) == []
        assert body["inferenceConfig"]["maxTokens"] > 0


# -- requests depend on nothing but the run


@pytest.mark.slow
def test_recording_again_in_another_process_gives_the_same_files(fresh: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "42", "TZ": "Asia/Kathmandu", "LC_ALL": "C"}
    command = [sys.executable, "-m", "tests.record_sessions", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=120)
    names = sorted(path.name for path in fresh.iterdir())
    assert names == sorted(path.name for path in tmp_path.iterdir())
    for name in names:
        assert (tmp_path / name).read_bytes() == (fresh / name).read_bytes()


def test_evidence_is_the_same_on_another_processor() -> None:
    here, elsewhere = (
        subprocess.run(
            [sys.executable, "-c", _WEIGH],
            env={**os.environ, **environment},
            cwd=ROOT / "tests",
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        for environment in ({}, _OTHER_PROCESSOR)
    )
    assert here == elsewhere


def test_tools_are_described_alike_by_every_python() -> None:
    for body, _, _ in interactions():
        for spec in ConverseRequest("", stream=False, body=body, headers={}).tool_specs:
            description = spec["description"]
            assert description == inspect.cleandoc(description)


# -- what a cassette may not hold


CASSETTE_FILES = sorted(path for path in CASSETTES.iterdir() if path.suffix in (".yaml", ".json"))
_PRIVATE = {
    "an access key": r"\b(AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b",
    "a signature": r"(?i)aws4-hmac|x-amz-security-token|authorization:|\bbearer [a-z0-9]",
    "a host of this machine": r"(?i)\b127\.0\.0\.1\b|\[?::1\]?:\d|\blocalhost\b|host\.docker",
    "an address with a port": r"(?i)https?://[^/\s\"]+:\d{2,5}\b",
    "a folder of a person": r"/home/|/Users/|/root/|/tmp/",
}


def test_the_repository_holds_both_cassettes_and_they_are_small() -> None:
    assert {path.stem for path in CASSETTE_FILES} == {RUN, STREAM, *SESSIONS}
    assert sum(path.stat().st_size for path in CASSETTE_FILES) < SMALL


@pytest.mark.parametrize("path", CASSETTE_FILES, ids=lambda path: path.name)
def test_a_cassette_holds_no_secret_and_no_trace_of_where_it_was_recorded(path: Path) -> None:
    host = socket.gethostname()
    assert secrets_in(path, [*CANARIES, *([host] if len(host) > 4 else [])]) == []
    text = path.read_text(encoding="utf-8")
    assert [name for name, pattern in _PRIVATE.items() if re.search(pattern, text)] == []


def test_a_cassette_names_bedrock_as_its_host_and_keeps_no_private_header() -> None:
    for name in (RUN, STREAM, *SESSIONS):
        for item in read_cassette(CASSETTES / f"{name}.yaml"):
            assert item["request"]["uri"].startswith(f"{CANONICAL_HOST}/model/")
            assert set(item["request"]["headers"]) <= {"accept", "content-type"}


def test_credentials_of_a_recording_do_not_reach_its_cassettes(fresh: Path) -> None:
    for path in fresh.iterdir():
        assert secrets_in(path, CANARIES) == []


def test_the_readme_of_the_cassettes_says_where_the_responses_come_from() -> None:
    readme = " ".join((CASSETTES / "README.md").read_text(encoding="utf-8").split())
    assert "no response in these files comes from AWS" in readme
    assert "make cassettes" in readme
    assert "--aws" in readme
