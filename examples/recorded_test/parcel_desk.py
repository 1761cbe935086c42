"""A parcel service's desk: a graph that looks parcels up before it answers."""

from langchain_aws import ChatBedrockConverse
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode, tools_condition

MODEL = "global.anthropic.claude-haiku-4-5-20251001-v1:0"
PROMPT = "You answer customers of a parcel service in one sentence. Look a parcel up before you say where it is."
PARCELS = {"RB102": "in Basel, out for delivery", "RB207": "held at customs in Geneva"}


@tool
def track(number: str) -> str:
    """Look up where a parcel is, by its number."""
    return PARCELS.get(number, "no parcel has this number")


def build_desk() -> CompiledStateGraph:
    """Build the graph: the model answers, or has parcels looked up first."""
    model = ChatBedrockConverse(model=MODEL, max_tokens=200).bind_tools([track])

    def answer(state: MessagesState) -> dict[str, list[AIMessage]]:
        return {"messages": [model.invoke([("system", PROMPT), *state["messages"]])]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_node("tools", ToolNode([track]))
    graph.add_edge(START, "answer")
    graph.add_conditional_edges("answer", tools_condition)
    graph.add_edge("tools", "answer")
    return graph.compile()
