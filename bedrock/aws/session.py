"""The AWS session: one shared Bedrock client a region, chat models built on it, retry left to one owner."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from langchain_aws import ChatBedrockConverse
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable

from ...errors import InvalidSetting
from ...settings import Settings
from ..metering import watch
from ..models.model_ids import ModelId
from .credentials import client_config, credentials_found, signing_session

__all__ = ["BedrockSession", "credentials_found"]

_UNKNOWN_PROVIDER = "unknown"


class ChatBedrock(ChatBedrockConverse):
    """langchain-aws's chat model, made to send what its settings say and nothing else."""

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: Any = None, strict: bool | None = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools; a model that cannot be made to call one is left the choice, where langchain-aws would refuse."""
        forced = tool_choice not in (None, "auto")
        if forced and not {"any", "tool"} & set(self.supports_tool_choice_values or ()):
            tool_choice = "auto" if self.supports_tool_choice_values else None
        return super().bind_tools(tools, tool_choice=tool_choice, strict=strict, **kwargs)

    def _configure_streaming_for_resolved_model(self) -> None:
        """Leave streaming off, which langchain-aws would switch on for application inference profiles."""


class BedrockSession:
    """Builds Bedrock chat models from settings; safe to use from several threads.

    Credentials come from boto3's own chain, a profile or an assumed role, and are never arguments of ours.

    Args:
        settings: Regions, profile, role, endpoint, timeouts.

    Raises:
        InvalidSetting: The profile is unknown, or there are no credentials.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._boto = signing_session(settings)
        self._lock = threading.RLock()
        self._clients: dict[str, Any] = {}
        self._models: dict[tuple[str, str, str, int], ChatBedrock] = {}

    @property
    def regions(self) -> tuple[str, ...]:
        """The regions that can be called, home first."""
        return self._settings.regions

    def client(self, region: str) -> Any:
        """Return the shared `bedrock-runtime` client of a region; making one takes 0.1 s or more, at its first use.

        Raises:
            InvalidSetting: The region is none of the settings, so it may lie outside the residency.
        """
        if region not in self._settings.regions:
            raise InvalidSetting(
                f"region {region!r} is not called: it is none of {', '.join(self._settings.regions)}.",
                hint="Add it to setting 'regions'.",
            )
        with self._lock:  # boto3 sessions cannot make two clients at once
            if region not in self._clients:
                client = self._boto.client(
                    "bedrock-runtime",
                    region_name=region,
                    endpoint_url=self._settings.endpoint_url,
                    config=client_config(self._settings, read_timeout_s=self._settings.read_timeout_s),
                )
                watch(client)
                self._clients[region] = client
            return self._clients[region]

    def chat_model(
        self, callable_id: str, *, region: str, base_model: str, max_tokens: int | None = None
    ) -> ChatBedrock:
        """Return a chat model on the shared client of a region; nothing is sent.

        Streaming is off, so that a run sends the same requests whether or not somebody watches it in Studio.

        Args:
            callable_id: What is sent to Bedrock: id of a model or inference profile, or its ARN.
            region: The region that is called.
            base_model: The model behind an ARN, which tells what it can do.
            max_tokens: Tokens it may write in one answer; those of the settings when left out.

        Raises:
            InvalidSetting: The region is none of the settings.
        """
        limit = max_tokens or self._settings.max_tokens
        key = (callable_id, region, base_model, limit)
        with self._lock:
            if key not in self._models:
                self._models[key] = _chat_model(callable_id, base_model, self.client(region), limit)
            return self._models[key]


def _chat_model(callable_id: str, base_model: str, client: Any, max_tokens: int) -> ChatBedrock:
    is_arn = callable_id.startswith("arn:")
    base = ModelId.parse(base_model if is_arn else callable_id).base
    known = "." in base
    # For an id, langchain-aws works it out by itself; for an ARN it would ask AWS.
    named = {"base_model_id": base or callable_id} if is_arn else {}
    return ChatBedrock(
        model_id=callable_id,
        provider=base.partition(".")[0] if known else _UNKNOWN_PROVIDER,
        # Of a model that nobody names, Bedrock itself says what it refuses.
        supports_tool_choice_values=None if known else ("auto", "any", "tool"),
        client=client,
        # Given, or langchain-aws makes a control-plane client of its own, from the default chain.
        bedrock_client=client,
        max_tokens=max_tokens,
        disable_streaming=True,
        **named,
    )
