"""The gateway every model call passes: route, reserve, call, settle, and on failure the stand-in."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    SSLError,
)
from langchain.agents.middleware import ModelResponse
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from pydantic import ValidationError
from urllib3.exceptions import HTTPError

from ..errors import MalformedAnswer, UnknownPrice
from ..settings import Settings
from .ledger import Ledger
from .prices import Tokens, cost_micro_usd
from .session import BedrockSession
from .stand_in import STAND_IN, StandIn

log = logging.getLogger(__name__)

AGENTS = ("advisor", "decision", "healer", "cost_governor")
_BYTES_PER_TOKEN = 2
"""Fewer bytes of UTF-8 than tokenizers pack into a token on average, so that a hold covers the worst case."""
_TOOL_OVERHEAD_TOKENS = 1000
CALL_FAILURES = (ClientError, BotoCoreError, HTTPError, ConnectionError, TimeoutError, ValueError, LookupError)
"""What a Bedrock call raises when it fails; a body cut short is a ValueError or a KeyError of langchain-aws."""
_NEVER_SENT = (EndpointConnectionError, ConnectTimeoutError, NoCredentialsError, SSLError)


@dataclass(frozen=True, slots=True)
class ModelTask:
    """What a model call is for."""

    agent: str
    run_id: str
    local_only: bool = False
    """Use the stand-in whatever the settings say: a cost measure, or a model that gave no usable answer."""


class ModelGateway:
    """Chooses the model of each call, keeps the money straight, and always returns an answer.

    Args:
        settings: Names the model of each agent.
        ledger: Admits and settles calls.
        session: Builds Bedrock models; None when the stand-in answers everything.

    Raises:
        UnknownPrice: A configured model has no known price.
    """

    def __init__(self, settings: Settings, ledger: Ledger, session: BedrockSession | None) -> None:
        self._settings = settings
        self._session = session
        self._models: dict[str, BaseChatModel] = {}
        self.ledger = ledger
        self.stand_in: BaseChatModel = StandIn()
        if session is not None:
            for agent in AGENTS:
                cost_micro_usd(settings.model_for(agent), Tokens(1, 1))

    @property
    def local(self) -> bool:
        """Whether the stand-in answers everything."""
        return self._session is None

    def route(self, task: ModelTask) -> str:
        """Return the id of the model a call goes to, or `stand-in`."""
        return STAND_IN if self.local or task.local_only else self._settings.model_for(task.agent)

    def call(
        self,
        task: ModelTask,
        messages: Sequence[BaseMessage],
        invoke: Callable[[BaseChatModel], ModelResponse[Any]],
    ) -> ModelResponse[Any]:
        """Make one model call.

        Args:
            task: What it is for.
            messages: What will be sent; its size bounds the cost.
            invoke: Sends it to a model.

        Returns:
            The model's response, or the stand-in's where the model failed.

        Raises:
            BudgetExhausted: The call's worst case does not fit a cap; nothing was sent.
            MalformedAnswer: The model answered, but not in a form that can be read as a message.
        """
        model_id = self.route(task)
        if model_id == STAND_IN:
            return invoke(self.stand_in)
        worst = Tokens(input=_upper_bound(messages), output=self._settings.max_tokens)
        hold = self.ledger.reserve(
            run_id=task.run_id,
            agent=task.agent,
            model=model_id,
            micro_usd=cost_micro_usd(model_id, worst),
        )
        try:
            response = invoke(self._model(model_id))
        except ValidationError as error:
            self.ledger.keep(hold, error="malformed answer")
            raise MalformedAnswer(f"the input of a tool call is no JSON object: {error.errors()[0]['msg']}") from error
        except CALL_FAILURES as error:
            code = _code(error)
            # What was refused or never sent is not billed; a lost answer may be.
            unbilled = isinstance(error, (ClientError, *_NEVER_SENT))
            close = self.ledger.void if unbilled else self.ledger.keep
            close(hold, error=code)
            log.warning(
                "agent=<%s> model=<%s> error=<%s> | call failed, the stand-in answers", task.agent, model_id, code
            )
            return invoke(self.stand_in)
        except BaseException:
            self.ledger.keep(hold, error="interrupted")
            raise
        used = _usage(response)
        self.ledger.settle(hold, tokens=used, micro_usd=cost_micro_usd(model_id, used))
        return response

    def _model(self, model_id: str) -> BaseChatModel:
        if self._session is None:
            raise UnknownPrice("no Bedrock session was opened, so no Bedrock model can be called.")
        if model_id not in self._models:
            self._models[model_id] = self._session.chat_model(model_id)
        return self._models[model_id]


def model_of(messages: Sequence[BaseMessage]) -> str:
    """Return the model that wrote the newest answer of a conversation, as it names itself; empty if it does not."""
    answer = next((message for message in reversed(messages) if isinstance(message, AIMessage)), None)
    return str(answer.response_metadata.get("model_name", "")) if answer else ""


def _upper_bound(messages: Sequence[BaseMessage]) -> int:
    sent = [[message.content, getattr(message, "tool_calls", [])] for message in messages]
    size = len(json.dumps(sent, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    return size // _BYTES_PER_TOKEN + _TOOL_OVERHEAD_TOKENS


def _usage(response: ModelResponse[Any]) -> Tokens:
    tokens = [Tokens.used(m.usage_metadata) for m in response.result if isinstance(m, AIMessage)]
    return Tokens(
        input=sum(t.input for t in tokens),
        output=sum(t.output for t in tokens),
        cache_read=sum(t.cache_read for t in tokens),
        cache_write=sum(t.cache_write for t in tokens),
    )


def _code(error: Exception) -> str:
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "ClientError"))
    return type(error).__name__
