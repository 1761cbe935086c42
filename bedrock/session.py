"""The AWS session: one shared Bedrock client, chat models built on it, retry left to one owner."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from langchain_aws import ChatBedrockConverse

from ..errors import InvalidSetting
from ..settings import Settings


def credentials_found(settings: Settings) -> bool:
    """Whether boto3 finds AWS credentials; nothing is sent."""
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        return boto3.Session(profile_name=settings.profile).get_credentials() is not None
    except BotoCoreError:
        return False


class BedrockSession:
    """Builds Bedrock chat models from settings.

    Credentials come from boto3's own chain and are never arguments of ours. The SDK makes exactly one attempt
    (`total_max_attempts=1`), since each may be billed and needs a reservation of its own.

    Args:
        settings: Region, profile, endpoint, timeouts.

    Raises:
        InvalidSetting: The profile is unknown, or there are no credentials.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        if not credentials_found(settings):
            where = f"profile {settings.profile!r}" if settings.profile else "the environment or ~/.aws"
            raise InvalidSetting(
                f"model 'bedrock' needs AWS credentials, and none are found in {where}.",
                hint="Configure them, or use model 'local', the stand-in that needs no account.",
            )

    @cached_property
    def client(self) -> Any:
        """The shared `bedrock-runtime` client; making one takes 0.1 s or more."""
        import boto3
        from botocore.config import Config

        settings = self._settings
        return boto3.Session(profile_name=settings.profile, region_name=settings.region).client(
            "bedrock-runtime",
            endpoint_url=settings.endpoint_url,
            config=Config(
                connect_timeout=settings.connect_timeout_s,
                read_timeout=settings.read_timeout_s,
                retries={"total_max_attempts": 1},
            ),
        )

    def chat_model(self, model_id: str) -> ChatBedrockConverse:
        """Return a chat model on the shared client.

        Streaming is off, so that a run sends the same requests whether or not somebody watches it in Studio.
        """
        return ChatBedrockConverse(
            model_id=model_id,
            client=self.client,
            max_tokens=self._settings.max_tokens,
            disable_streaming=True,
        )
