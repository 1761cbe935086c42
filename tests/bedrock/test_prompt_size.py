"""Shrinking a prompt: the brief and the newest turn stay, and what is left can still be sent."""

from hypothesis import given
from hypothesis import strategies as st
from langchain_aws.chat_models.bedrock_converse import _messages_to_bedrock
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage

from bedrock_evolution.bedrock.prompt_size import most_tokens, shrunk
from tests.support.model import wire_faults

BRIEF = HumanMessage("Propose changes. " * 40)


def turn(number: int, result: str) -> list[AnyMessage]:
    call = {"name": "read_evidence", "args": {"trials": number}, "id": f"call_{number}"}
    return [AIMessage("", tool_calls=[call]), ToolMessage(result, tool_call_id=f"call_{number}", name="read_evidence")]


def talk(results: list[str]) -> list[AnyMessage]:
    return [BRIEF, *(message for number, result in enumerate(results) for message in turn(number, result))]


def test_the_oldest_turns_go_first_and_whole() -> None:
    messages = talk(["a" * 4000, "b" * 4000, "c" * 4000])
    kept = shrunk(messages, most=most_tokens(messages) - 1500)
    assert kept == [BRIEF, *messages[3:]]


def test_a_newest_turn_that_is_too_long_by_itself_is_split_and_says_so() -> None:
    messages = talk(["first " * 10, "the newest evidence " * 5000])
    kept = shrunk(messages, most=most_tokens(messages) // 4)
    assert kept[0] == BRIEF
    assert len(kept) == 3
    assert kept[-1].text.startswith("the newest evidence")
    assert kept[-1].text.count("was left out") == 1
    assert most_tokens(kept) <= most_tokens(messages) // 4


def test_a_short_prompt_stays_as_it_is() -> None:
    messages = talk(["a", "b"])
    assert shrunk(messages, most=most_tokens(messages)) == messages
    assert shrunk([HumanMessage("hello")], most=1) == [HumanMessage("hello")]


@given(
    results=st.lists(st.text(max_size=3000), max_size=6),
    share=st.floats(0, 1.5),
    corrected=st.booleans(),
)
def test_what_is_left_is_smaller_keeps_the_newest_turn_and_can_be_sent(
    results: list[str], share: float, corrected: bool
) -> None:
    messages = talk(results)
    if corrected and results:
        messages.append(HumanMessage("That answer cannot be used. Mend it."))
    kept = shrunk(messages, most=int(share * most_tokens(messages)))
    assert most_tokens(kept) <= most_tokens(messages)
    assert kept[0].type == "human"
    assert kept[-1].type == messages[-1].type
    if results:
        assert kept[-1].text[:50] == messages[-1].text[:50] or len(messages[-1].text) > 400
    bedrock, _ = _messages_to_bedrock(kept)
    # An empty result of a tool is the caller's matter, shrunk or not.
    assert [fault for fault in wire_faults({"messages": bedrock}) if "blank" not in fault] == []
