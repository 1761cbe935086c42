"""The endpoint, driven by the real client."""

import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import add
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, EventStreamError, ReadTimeoutError
from langchain_aws import ChatBedrockConverse
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.exceptions import ContextOverflowError
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
)
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from urllib3.exceptions import ProtocolError
from urllib3.exceptions import ReadTimeoutError as Urllib3ReadTimeoutError

from tests.support.bedrock_endpoint import (
    BedrockEndpoint,
    ConverseRequest,
    Cut,
    Failure,
    Hang,
    Message,
    Reply,
    from_chat_model,
    in_order,
    stream_events,
)
from tests.support.converse import cut_events

from .conftest import MODEL_ID, ClientFactory, ModelFactory

TEXT = Message([{"text": "Paris is the capital of France — naïvely 🗼."}])
TOOL_INPUT = {"city": "Zürich", "days": 3, "units": {"temperature": ["C", "K"]}}
TOOL_USE = Message(
    [
        {"text": "Let me look."},
        {"toolUse": {"toolUseId": "tooluse_1", "name": "weather", "input": TOOL_INPUT}},
    ]
)
LONG_TEXT = Message([{"text": "word " * 40}])
BOTH_OPERATIONS = pytest.mark.parametrize("stream", [False, True], ids=["converse", "converse-stream"])
QUESTION = {"messages": [{"role": "user", "content": [{"text": "?"}]}]}


@tool
def weather(city: str, days: int = 1) -> str:
    """Forecast the weather of a city."""
    return f"{city}: sun for {days} days"


def always(reply: Reply) -> Callable[[ConverseRequest], Reply]:
    return lambda request: reply


def streamed(model: Runnable[LanguageModelInput, AIMessage], prompt: str = "hello") -> AIMessageChunk:
    total = reduce(add, model.stream(prompt))
    assert isinstance(total, AIMessageChunk)
    return total


def test_text_reply(make_model: ModelFactory) -> None:
    with BedrockEndpoint(always(TEXT)) as endpoint:
        answer = make_model(endpoint.url).invoke("What is the capital of France?")
    assert answer.content == TEXT.content[0]["text"]
    assert answer.response_metadata["stopReason"] == "end_turn"


def test_tool_use_reply(make_model: ModelFactory) -> None:
    with BedrockEndpoint(always(TOOL_USE)) as endpoint:
        answer = make_model(endpoint.url).bind_tools([weather]).invoke("Weather?")
    assert answer.tool_calls == [{"name": "weather", "args": TOOL_INPUT, "id": "tooluse_1", "type": "tool_call"}]
    assert answer.text == "Let me look."
    assert answer.response_metadata["stopReason"] == "tool_use"


def test_streaming_text_comes_in_several_pieces(make_model: ModelFactory) -> None:
    with BedrockEndpoint(always(TEXT)) as endpoint:
        pieces = [chunk.text for chunk in make_model(endpoint.url).stream("?") if chunk.text]
    assert "".join(pieces) == TEXT.content[0]["text"]
    assert len(pieces) > 3


@pytest.mark.parametrize("tool_input", [TOOL_INPUT, {}], ids=["nested", "empty"])
def test_streaming_tool_use(make_model: ModelFactory, tool_input: dict[str, Any]) -> None:
    call = {"toolUseId": "tooluse_1", "name": "weather", "input": tool_input}
    with BedrockEndpoint(always(Message([{"text": "Looking."}, {"toolUse": call}]))) as endpoint:
        answer = streamed(make_model(endpoint.url).bind_tools([weather]))
    assert answer.tool_calls == [{"name": "weather", "args": tool_input, "id": "tooluse_1", "type": "tool_call"}]
    assert answer.response_metadata["stopReason"] == "tool_use"
    assert answer.usage_metadata is not None


def test_given_stop_reason_is_kept(make_model: ModelFactory) -> None:
    reply = Message([{"text": "It was a dark and"}], stop_reason="max_tokens")
    with BedrockEndpoint(always(reply)) as endpoint:
        model = make_model(endpoint.url)
        assert model.invoke("?").response_metadata["stopReason"] == "max_tokens"
        assert streamed(model).response_metadata["stopReason"] == "max_tokens"


@BOTH_OPERATIONS
def test_usage_counts_cache_tokens_as_bedrock_does(make_model: ModelFactory, stream: bool) -> None:
    reply = Message(TEXT.content, input_tokens=100, output_tokens=20, cache_read_tokens=4000, cache_write_tokens=300)
    with BedrockEndpoint(always(reply)) as endpoint:
        model = make_model(endpoint.url)
        answer = streamed(model) if stream else model.invoke("?")
    assert answer.usage_metadata == {
        "input_tokens": 4400,
        "output_tokens": 20,
        "total_tokens": 4420,
        "input_token_details": {"cache_read": 4000, "cache_creation": 300},
    }


def test_request_holds_what_the_client_sent(make_model: ModelFactory) -> None:
    with BedrockEndpoint(always(TEXT)) as endpoint:
        model = make_model(endpoint.url)
        model.bind_tools([weather]).invoke([SystemMessage("Be brief."), HumanMessage("Weather?")])
        list(model.stream("And now?"))
        first, second = endpoint.requests
    assert (first.model_id, first.stream, first.number) == (MODEL_ID, False, 0)
    assert first.system_text == "Be brief."
    assert first.tools == ["weather"]
    assert first.messages == [{"role": "user", "content": [{"text": "Weather?"}]}]
    assert first.headers["content-type"] == "application/json"
    assert first.body["inferenceConfig"] == {"maxTokens": 100}
    assert (second.model_id, second.stream, second.number, second.tools) == (MODEL_ID, True, 1, [])


def test_model_arn_arrives_decoded(make_client: ClientFactory) -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"
    with BedrockEndpoint(always(TEXT)) as endpoint:
        make_client(endpoint.url).converse(modelId=arn, **QUESTION)
        assert endpoint.requests[0].model_id == arn


@BOTH_OPERATIONS
@pytest.mark.parametrize(
    ("code", "status", "modelled"),
    [
        ("ThrottlingException", 429, True),
        ("ModelNotReadyException", 429, True),
        ("ServiceUnavailableException", 503, True),
        ("InternalServerException", 500, True),
        ("ModelTimeoutException", 408, True),
        ("ModelErrorException", 424, True),
        ("AccessDeniedException", 403, True),
        ("ResourceNotFoundException", 404, True),
        ("ValidationException", 400, True),
        ("ServiceQuotaExceededException", 400, True),
        ("ExpiredTokenException", 403, False),
        ("UnrecognizedClientException", 403, False),
    ],
)
def test_failure_is_one_call_and_one_error(
    make_model: ModelFactory, code: str, status: int, modelled: bool, stream: bool
) -> None:
    with BedrockEndpoint(always(Failure(code, "So it is."))) as endpoint:
        model = make_model(endpoint.url)
        with pytest.raises(ClientError, match=re.escape("So it is.")) as raised:
            list(model.stream("?")) if stream else model.invoke("?")
        assert len(endpoint.requests) == 1
    assert raised.value.response["Error"]["Code"] == code
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert (type(raised.value) is not ClientError) is modelled
    assert not isinstance(raised.value, ContextOverflowError)


def test_given_status_is_kept(make_model: ModelFactory) -> None:
    misleading = Failure("ServiceUnavailableException", "A 400 that is none.", status=400)
    with BedrockEndpoint(always(misleading)) as endpoint, pytest.raises(ClientError) as raised:
        make_model(endpoint.url).invoke("?")
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert raised.value.response["Error"]["Code"] == "ServiceUnavailableException"


def test_too_long_input_is_a_context_overflow(make_model: ModelFactory) -> None:
    failure = Failure("ValidationException", "Input is too long for requested model.")
    with BedrockEndpoint(always(failure)) as endpoint, pytest.raises(ContextOverflowError) as raised:
        make_model(endpoint.url).invoke("?")
    assert isinstance(raised.value, ClientError)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("ThrottlingException", "throttlingException"),
        ("ModelStreamErrorException", "modelStreamErrorException"),
    ],
)
def test_exception_in_mid_stream_comes_after_the_partial_text(make_model: ModelFactory, code: str, name: str) -> None:
    with BedrockEndpoint(always(Failure(code, "Enough.", mid_stream_after=3, partial=LONG_TEXT))) as endpoint:
        pieces: list[str] = []
        with pytest.raises(EventStreamError, match="Enough") as raised:
            pieces.extend(chunk.text for chunk in make_model(endpoint.url).stream("?"))
        assert len(endpoint.requests) == 1
    assert raised.value.response["Error"]["Code"] == name
    assert "".join(pieces) == "word word word w"


def test_mid_stream_failure_is_a_plain_error_response_to_converse(make_model: ModelFactory) -> None:
    with (
        BedrockEndpoint(always(Failure(mid_stream_after=3))) as endpoint,
        pytest.raises(ClientError) as raised,
    ):
        make_model(endpoint.url).invoke("?")
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429


def test_cut_stream_lacks_its_message_stop(make_model: ModelFactory) -> None:
    with BedrockEndpoint(always(Cut(LONG_TEXT, after=3))) as endpoint:
        with pytest.raises(ConnectionError, match="messageStop"):
            list(make_model(endpoint.url).stream("?"))
        assert len(endpoint.requests) == 1


def test_cut_body_is_a_broken_answer_on_a_closed_connection(make_model: ModelFactory) -> None:
    with BedrockEndpoint(in_order(Cut(LONG_TEXT, after=0), TEXT)) as endpoint:
        model = make_model(endpoint.url)
        # botocore does not compare the length of a body with its header, nor object to half a JSON document.
        with pytest.raises(ValueError, match="No 'output' key"):
            model.invoke("?")
        assert len(endpoint.requests) == 1
        assert model.invoke("?").content == TEXT.content[0]["text"]


def test_cut_after_the_end_is_an_error_of_the_test() -> None:
    with pytest.raises(ValueError, match="nothing is cut"):
        cut_events(Cut(TEXT, after=len(stream_events(TEXT))))


@BOTH_OPERATIONS
def test_hang_outlasts_the_read_timeout(make_model: ModelFactory, stream: bool) -> None:
    started = time.monotonic()
    with BedrockEndpoint(always(Hang(30.0))) as endpoint:
        model = make_model(endpoint.url, read_timeout=0.1)
        with pytest.raises(ReadTimeoutError):
            list(model.stream("?")) if stream else model.invoke("?")
        assert len(endpoint.requests) == 1
    assert time.monotonic() - started < 5.0


def test_short_hang_ends_in_a_closed_connection(make_model: ModelFactory) -> None:
    with BedrockEndpoint(always(Hang(0.01))) as endpoint, pytest.raises(ConnectionClosedError):
        make_model(endpoint.url).invoke("?")


@pytest.mark.parametrize(
    ("seconds", "error"), [(30.0, Urllib3ReadTimeoutError), (0.0, ProtocolError)], ids=["timeout", "dropped"]
)
def test_silence_in_mid_stream_comes_after_the_partial_text(
    make_model: ModelFactory, seconds: float, error: type[Exception]
) -> None:
    with BedrockEndpoint(always(Hang(seconds, mid_stream_after=2, partial=LONG_TEXT))) as endpoint:
        pieces: list[str] = []
        # Once the stream is open, botocore passes on urllib3's errors as they are.
        with pytest.raises(error):
            pieces.extend(chunk.text for chunk in make_model(endpoint.url, read_timeout=0.1).stream("?"))
        assert len(endpoint.requests) == 1
    assert "".join(pieces) == "word wor"


def test_replies_in_order_let_the_clients_own_retries_be_seen(make_client: ClientFactory) -> None:
    with BedrockEndpoint(in_order(Failure(), TEXT)) as endpoint:
        client = make_client(endpoint.url)
        with pytest.raises(client.exceptions.ThrottlingException):
            client.converse(modelId=MODEL_ID, **QUESTION)
        client.converse(modelId=MODEL_ID, **QUESTION)


def test_error_of_the_responder_is_raised_at_the_end_even_if_handled(make_model: ModelFactory) -> None:
    endpoint = BedrockEndpoint(in_order(TEXT))

    def ask_once_too_often() -> None:
        with endpoint:
            model = make_model(endpoint.url)
            model.invoke("?")
            with pytest.raises(ClientError, match="only 1 replies"):
                model.invoke("?")

    with pytest.raises(LookupError, match="only 1 replies"):
        ask_once_too_often()


def test_call_does_not_wait_for_delayed_acknowledgements(make_client: ClientFactory) -> None:
    def seconds() -> float:
        started = time.perf_counter()
        client.converse(modelId=MODEL_ID, **QUESTION)
        return time.perf_counter() - started

    with BedrockEndpoint(always(TEXT)) as endpoint:
        client = make_client(endpoint.url)
        assert sorted(seconds() for _ in range(15))[5] < 0.03  # with Nagle's algorithm it takes 0.04


def test_concurrent_calls_are_answered_concurrently(make_client: ClientFactory) -> None:
    together = threading.Barrier(20, timeout=5.0)

    def respond(request: ConverseRequest) -> Reply:
        together.wait()
        return Message([{"text": request.messages[0]["content"][0]["text"]}])

    with BedrockEndpoint(respond) as endpoint, ThreadPoolExecutor(20) as pool:
        client = make_client(endpoint.url)

        def ask(text: str) -> str:
            conversation = [{"role": "user", "content": [{"text": text}]}]
            answer = client.converse(modelId=MODEL_ID, messages=conversation)
            return str(answer["output"]["message"]["content"][0]["text"])

        texts = [f"question {number}" for number in range(20)]
        assert list(pool.map(ask, texts)) == texts
        assert [request.number for request in endpoint.requests] == list(range(20))


def test_closed_endpoint_ends_idle_connections_and_threads(make_client: ClientFactory) -> None:
    before = set(threading.enumerate())
    with BedrockEndpoint(always(TEXT)) as endpoint:
        client = make_client(endpoint.url)
        client.converse(modelId=MODEL_ID, **QUESTION)
    started = {*threading.enumerate()} - before
    assert not [thread for thread in started if "serve_forever" in thread.name or "process_request" in thread.name]
    with pytest.raises(Exception, match="Could not connect"):
        client.converse(modelId=MODEL_ID, **QUESTION)


class ScriptedModel(BaseChatModel):
    """Notes what it was asked and answers from a script."""

    script: list[AIMessage]
    asked: list[list[BaseMessage]]
    bound: list[dict[str, Any]]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Note the tools and the choice."""
        self.bound.append({"tools": list(tools), "tool_choice": tool_choice})
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.asked.append(messages)
        return ChatResult(generations=[ChatGeneration(message=self.script[len(self.asked) - 1])])


def scripted(*answers: AIMessage) -> ScriptedModel:
    return ScriptedModel(script=list(answers), asked=[], bound=[])


def call(name: str, call_id: str | None, **args: Any) -> ToolCall:
    return ToolCall(name=name, args=args, id=call_id)


def test_chat_model_behind_the_wire_sees_the_conversation_and_the_tools(make_model: ModelFactory) -> None:
    brain = scripted(AIMessage("Sunny."))
    conversation = [
        SystemMessage("You are a forecaster."),
        HumanMessage("Weather in Bern and Rome?"),
        AIMessage(
            "Looking.",
            tool_calls=[call("weather", "id_1", city="Bern"), call("weather", "id_2", city="Rome")],
        ),
        ToolMessage("Bern: rain", tool_call_id="id_1"),
        ToolMessage("no such city", tool_call_id="id_2", status="error"),
        HumanMessage("And now?"),
    ]
    with BedrockEndpoint(from_chat_model(brain)) as endpoint:
        answer = make_model(endpoint.url).bind_tools([weather], tool_choice="any").invoke(conversation)
    assert answer.content == "Sunny."
    system, question, calls, first, second, last = brain.asked[0]
    assert (system.type, system.content) == ("system", "You are a forecaster.")
    assert (question.type, question.content) == ("human", "Weather in Bern and Rome?")
    assert isinstance(calls, AIMessage)
    assert calls.content == "Looking."
    assert [(made["name"], made["args"], made["id"]) for made in calls.tool_calls] == [
        ("weather", {"city": "Bern"}, "id_1"),
        ("weather", {"city": "Rome"}, "id_2"),
    ]
    assert isinstance(first, ToolMessage)
    assert isinstance(second, ToolMessage)
    assert (first.content, first.tool_call_id, first.name, first.status) == (
        "Bern: rain",
        "id_1",
        "weather",
        "success",
    )
    assert (second.content, second.tool_call_id, second.status) == ("no such city", "id_2", "error")
    assert (last.type, last.content) == ("human", "And now?")
    function = brain.bound[0]["tools"][0]["function"]
    assert (function["name"], function["description"]) == ("weather", "Forecast the weather of a city.")
    assert function["parameters"]["properties"]["days"]["type"] == "integer"
    assert brain.bound[0]["tool_choice"] == "any"


@pytest.mark.parametrize(("choice", "seen"), [("weather", "weather"), ("auto", "auto"), (None, None)])
def test_tool_choice_is_passed_on(make_model: ModelFactory, choice: str | None, seen: str | None) -> None:
    brain = scripted(AIMessage("fine"))
    with BedrockEndpoint(from_chat_model(brain)) as endpoint:
        make_model(endpoint.url).bind_tools([weather], tool_choice=choice).invoke("?")
    assert brain.bound[0]["tool_choice"] == seen


@BOTH_OPERATIONS
def test_chat_model_behind_the_wire_makes_tool_calls(make_model: ModelFactory, stream: bool) -> None:
    brain = scripted(AIMessage("Looking.", tool_calls=[call("weather", "own-id_1", city="Bern")]))
    with BedrockEndpoint(from_chat_model(brain)) as endpoint:
        model = make_model(endpoint.url).bind_tools([weather])
        answer = streamed(model) if stream else model.invoke("?")
    assert [(made["name"], made["args"], made["id"]) for made in answer.tool_calls] == [
        ("weather", {"city": "Bern"}, "own-id_1")
    ]
    assert answer.text == "Looking."


def test_unsuitable_tool_use_ids_are_replaced_by_the_same_ones_every_time(make_model: ModelFactory) -> None:
    calls = [call("weather", given, city="Bern") for given in (None, "with space", "x" * 65, "twice", "twice")]

    def ids() -> list[str]:
        with BedrockEndpoint(from_chat_model(scripted(AIMessage("", tool_calls=calls)))) as endpoint:
            answer = make_model(endpoint.url).bind_tools([weather]).invoke("?")
        return [str(made["id"]) for made in answer.tool_calls]

    first = ids()
    assert first == ids()
    assert len(set(first)) == 5
    assert first[3] == "twice"
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", made) for made in first)


def test_an_id_used_earlier_in_the_conversation_is_replaced(make_model: ModelFactory) -> None:
    same = AIMessage("", tool_calls=[call("weather", "call_1", city="Bern")])
    with BedrockEndpoint(from_chat_model(scripted(same, same))) as endpoint:
        model = make_model(endpoint.url).bind_tools([weather])
        conversation: list[BaseMessage] = [HumanMessage("?")]
        first = model.invoke(conversation)
        second = model.invoke([*conversation, first, ToolMessage("rain", tool_call_id="call_1")])
    assert first.tool_calls[0]["id"] == "call_1"
    assert second.tool_calls[0]["id"] != "call_1"


def test_usage_of_a_chat_model_is_deterministic_and_grows_with_the_prompt(make_model: ModelFactory) -> None:
    with BedrockEndpoint(from_chat_model(scripted(*[AIMessage("four")] * 3))) as endpoint:
        model = make_model(endpoint.url)
        short, again, long = (model.invoke(text).usage_metadata for text in ("?", "?", "?" * 401))
    assert short is not None
    assert long is not None
    assert short == again
    assert long["input_tokens"] - short["input_tokens"] == 100
    assert short["output_tokens"] == long["output_tokens"] > 0


def test_content_a_chat_model_cannot_get_is_an_error_of_the_test(make_client: ClientFactory) -> None:
    image = {"image": {"format": "png", "source": {"bytes": b"png"}}}
    endpoint = BedrockEndpoint(from_chat_model(scripted(AIMessage("never"))))
    with pytest.raises(ValueError, match="text and tools only"), endpoint:
        make_client(endpoint.url).converse(modelId=MODEL_ID, messages=[{"role": "user", "content": [image]}])


def test_structured_output_through_the_wire(make_model: ModelFactory) -> None:
    brain = scripted(AIMessage("", tool_calls=[call("weather", "id_1", city="Bern", days=2)]))
    with BedrockEndpoint(from_chat_model(brain)) as endpoint:
        model: ChatBedrockConverse = make_model(endpoint.url)
        schema = weather.get_input_schema()
        answer = model.with_structured_output(schema).invoke("?")
    assert isinstance(answer, schema)
    assert answer.model_dump() == {"city": "Bern", "days": 2}
