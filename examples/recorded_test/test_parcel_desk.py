"""A recorded test of the parcel desk."""

import pytest
from parcel_desk import build_desk


@pytest.mark.bedrock_session
def test_a_parcel_is_looked_up_before_the_answer() -> None:
    """Ask where a parcel is, and see that the tool was called and its result was used."""
    state = build_desk().invoke({"messages": [("user", "Where is my parcel RB102?")]})
    *_, call, result, answer = state["messages"]
    assert [(asked["name"], asked["args"]) for asked in call.tool_calls] == [("track", {"number": "RB102"})]
    assert result.content == "in Basel, out for delivery"
    assert "Basel" in answer.text
