"""The model of every tool, as bedrock-evolution asks it: a chat model in the place of the stand-in."""

from __future__ import annotations

from typing import Any

import problem
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from tasks import Task

from bedrock_evolution.bedrock import protocol
from bedrock_evolution.bedrock.stand_in import StandIn

_ADVICE: dict[str, Any] = {"analysis": {"confidence": 0.5}, "strategy": {}}


class Mutator(StandIn):
    """Plays the advisor by its protocol, and takes its time for it; the other roles stay the stand-in's."""

    task: Task

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        problem.model_call(self.task)
        if protocol.ADVICE not in kwargs.get("tool_names", ()):
            return super()._generate(messages, stop, run_manager, **kwargs)
        answered = next((m for m in messages if isinstance(m, ToolMessage)), None)
        if answered is None:
            name, arguments = protocol.PROPOSE_MUTATIONS, {"proposals": self._proposals(messages)}
        else:
            name, arguments = protocol.ADVICE, _ADVICE
        call = {"name": name, "args": arguments, "id": f"call-{len(messages)}", "type": "tool_call"}
        message = AIMessage(content="", response_metadata={"model_name": "mutator"}, tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _proposals(self, messages: list[BaseMessage]) -> list[dict[str, Any]]:
        situation = protocol.situation_in(next(m for m in messages if isinstance(m, HumanMessage)).text)
        names = list(situation["genes"])
        live = [situation["genes"][name]["value"] for name in names]
        wanted, before = situation["candidates"], situation["generation"] - 1
        changed = [problem.mutate(live, before * wanted + place + 1, self.task.seed) for place in range(wanted)]
        return [
            {"changes": {name: new for name, new, old in zip(names, its, live, strict=True) if new != old}}
            for its in changed
        ]
