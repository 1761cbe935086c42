"""Whatever comes back as a model's response, each agent ends with a usable answer, and no hold is left open."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.converse import ConverseRequest, Message, Raw, Reply, Respond
from tests.support.model import tool_use
from tests.support.roles import ROLES, Role
from tests.support.stage import HAIKU, SONNET, Stage, staged

STOP_REASONS = (
    "end_turn",
    "tool_use",
    "max_tokens",
    "stop_sequence",
    "guardrail_intervened",
    "content_filtered",
    "malformed_model_output",
    "malformed_tool_use",
    "model_context_window_exceeded",
)
BLOCKS = (
    "text",
    "image",
    "document",
    "video",
    "audio",
    "toolUse",
    "toolResult",
    "guardContent",
    "cachePoint",
    "reasoningContent",
    "citationsContent",
    "searchResult",
    "SDK_UNKNOWN_MEMBER",
)
USAGE = ("inputTokens", "outputTokens", "totalTokens", "cacheReadInputTokens", "cacheWriteInputTokens", "cacheDetails")
TOOLS = sorted({"retry_step", "roll_back", "stop_run"} | {name for role in ROLES.values() for name, _ in role.script})

USAGE_SENT = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}


def body(content: Any, *, stop: Any = "tool_use", **usage: Any) -> Raw:
    """Return a response with this content, as JSON that no client has checked."""
    return as_json(
        {
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": stop,
            "usage": USAGE_SENT | usage,
            "metrics": {"latencyMs": 1},
        }
    )


def as_json(value: Any, status: int = 200) -> Raw:
    return Raw(json.dumps(value).encode(), status)


def use(**changed: Any) -> dict[str, Any]:
    call = {"toolUseId": "call_1", "name": "read_incident", "input": {}} | changed
    return {"toolUse": {name: value for name, value in call.items() if value is not None}}


def then(garbage: Sequence[Reply], role: Role) -> Respond:
    """Return a responder that sends garbage first and is a model that does everything right afterwards."""

    def respond(request: ConverseRequest) -> Reply:
        if request.number < len(garbage):
            return garbage[request.number]
        name, arguments = role.script[(request.number - len(garbage)) % len(role.script)]
        return Message([tool_use(f"call_{request.number}", name, arguments)])

    return respond


@pytest.fixture(scope="module")
def two_regions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("any")
    with staged(folder, regions=("us-east-1", "us-west-2")) as stage:
        yield stage


def check(stage: Stage, role: Role, garbage: Sequence[Reply]) -> None:
    """Let an agent work on a stage that sends garbage first."""
    for target in stage.gateway.targets([SONNET, HAIKU]):
        stage.gateway.healing.succeeded(target)  # what rests since the last time
    stage.answer(then(garbage, role))

    assert role.valid(role.ask(stage))

    assert stage.calls()
    assert {held for _, _, held, _ in stage.calls()} == {0}


ODD = {
    "no content": body([]),
    "an empty text": body([{"text": ""}]),
    "a tool nobody has": body([use(name="apply")]),
    "no name": body([use(name=None)]),
    "no input": body([use(input=None)]),
    "the same call twice": body([use(), use()]),
    "arguments of a list": body([use(input=[1, 2])]),
    "a block of no known kind": body([{"SDK_UNKNOWN_MEMBER": {"name": "hologram"}}]),
    "no usage": as_json({"output": {"message": {"role": "assistant", "content": [use()]}}, "stopReason": "tool_use"}),
    "usage below zero": body([use()], inputTokens=-1),
    "usage that is null": body([use()], outputTokens=None),
    "no output": as_json({"stopReason": "end_turn", "usage": USAGE_SENT}),
    "an empty object": as_json({}),
    "an empty body": Raw(b""),
    "a page of HTML": Raw(b"<html>Bad gateway</html>", 502),
    "a page of HTML and 200": Raw(b"<html>Welcome to our hotel</html>"),
    "half of a body": Raw(b'{"output": {"message": {"role": "assis'),
    **{f"stop reason {reason}": body([], stop=reason) for reason in STOP_REASONS},
    "null": as_json(None),
    "a list": as_json([]),
    "null and 400": as_json(None, 400),
    "content that is a flag": body(False),
    "a block that is a flag": body([False]),
    "a block that is null": body([None]),
    "a block that is a list": body([[]]),
    "usage that is a list": body([use()], inputTokens=[]),
    "cache details that are a number": body([use()], cacheDetails=5),
    "a block of nothing": body([{}]),
    "a text that is null": body([{"text": None}]),
    "no message": as_json({"output": {}, "stopReason": "end_turn", "usage": USAGE_SENT}),
    "no id": body([use(toolUseId=None)]),
    "an id that no request may carry": body([use(toolUseId="call 1")]),
    "usage beyond 64 bits": body([use()], inputTokens=2**63),
    "usage beyond all bounds": body([use()], outputTokens=10**30),
}


@pytest.mark.parametrize("reply", ODD.values(), ids=ODD)
def test_a_response_out_of_the_ordinary_leads_to_a_usable_answer(two_regions: Stage, reply: Reply) -> None:
    check(two_regions, ROLES["healer"], [reply])


@pytest.mark.parametrize(
    "reply", [body([use(name="")]), body([use(type=[])])], ids=["a call without a name", "a call whose type is a list"]
)
def test_an_answer_that_no_request_can_carry_is_neither_sent_back_nor_blamed_on_the_models(
    two_regions: Stage, reply: Reply
) -> None:
    check(two_regions, ROLES["healer"], [reply])
    assert [status for status, *_ in two_regions.calls()] == ["settled"] * len(two_regions.calls())
    assert [message["role"] for message in two_regions.requests[1].messages] == ["user"]
    assert all(two_regions.gateway.healing.admits(target) for target in two_regions.gateway.targets([SONNET, HAIKU]))


# -- at random

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
TEXT_BLOCKS = st.builds(lambda text: {"text": text}, st.text())
CALLS = st.builds(
    lambda place, name, arguments: use(toolUseId=f"call_{place}", name=name, input=arguments),
    st.integers(0, 3),
    st.sampled_from([*TOOLS, "apply"]) | st.text(min_size=1, max_size=70),
    JSON.filter(lambda value: value is not None)
    | st.fixed_dictionaries(
        {}, optional={"verdict": JSON, "ranking": JSON, "suspects": JSON, "proposals": JSON, "analysis": JSON}
    ),
)
ANY_FORMED: st.SearchStrategy[Reply] = st.builds(
    lambda content, stop, usage: body(content, stop=stop, **usage),
    st.lists(TEXT_BLOCKS | CALLS, max_size=3),
    st.sampled_from(STOP_REASONS) | st.text(max_size=9),
    st.just({}) | st.dictionaries(st.sampled_from(USAGE[:5]), st.sampled_from([0, -1, 10**7, None]), max_size=2),
) | st.builds(Raw, st.binary(max_size=40), st.sampled_from([200, 400, 403, 404, 413, 429, 500, 502, 503, 529]))

TOOL_USES = st.fixed_dictionaries(
    {},
    optional={
        "toolUseId": st.sampled_from(["call_1", "", "local-1-0"]) | JSON,
        "name": st.sampled_from([*TOOLS, "apply"]) | JSON,
        "input": JSON | st.just({"proposals": [{"changes": {"words": "new"}}]}),
        "type": JSON,
    },
)
BLOCK = (
    st.builds(lambda text: {"text": text}, st.text())
    | st.builds(lambda use: {"toolUse": use}, TOOL_USES)
    | st.dictionaries(st.sampled_from(BLOCKS), JSON, min_size=1, max_size=2)
    | JSON
)
COUNT = st.sampled_from([0, 1, -1, 10**7, 2**63, 10**30, 1.5, True, "12", None]) | JSON
BODY: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "output": st.builds(
            lambda content: {"message": {"role": "assistant", "content": content}}, st.lists(BLOCK, max_size=3) | JSON
        )
        | st.builds(lambda message: {"message": message}, JSON)
        | JSON,
        "stopReason": st.sampled_from(STOP_REASONS) | JSON,
        "usage": st.dictionaries(st.sampled_from(USAGE), COUNT) | JSON,
        "metrics": st.just({"latencyMs": 1}) | JSON,
        "additionalModelResponseFields": JSON,
    },
)
ANY: st.SearchStrategy[Reply] = (
    st.builds(
        lambda content, usage: body(content, **usage),
        st.lists(BLOCK, max_size=3),
        st.dictionaries(st.sampled_from(USAGE), COUNT, max_size=1),
    )
    | st.builds(as_json, BODY)
    | st.builds(as_json, JSON, st.sampled_from([200, 201, 299, 400, 418, 500, 599]))
)


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES.values(), ids=ROLES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage=st.lists(ANY_FORMED | ANY, min_size=1, max_size=4))
def test_any_response_at_all_leads_to_a_usable_answer(two_regions: Stage, role: Role, garbage: list[Reply]) -> None:
    check(two_regions, role, garbage)
