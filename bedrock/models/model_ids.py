"""How Bedrock names a model: bare id, inference profile, or the ARN of either."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...settings import RESIDENCIES

_ARN = re.compile(r"arn:aws[a-z-]*:[a-z]+:(?P<region>[a-z0-9-]+):\d*:(?P<kind>[a-z-]+)/(?P<name>.+)")
_TELLING = ("foundation-model", "inference-profile")
"""Kinds of ARN that end in the id of the model they stand for."""


@dataclass(frozen=True, slots=True)
class ModelId:
    """A model id taken apart.

    Source: https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-use.html

    Args:
        name: The id without its ARN; empty for an ARN that does not tell its model, such as that of an
            application inference profile.
        profile: The inference profile's prefix, without the dot; empty for a bare id.
        base: The bare id.
        region: The region of an ARN; empty for an id.
    """

    name: str
    profile: str
    base: str
    region: str

    @classmethod
    def parse(cls, model_id: str) -> ModelId:
        """Take an id or ARN apart; what is neither counts as a bare id."""
        name, region = model_id, ""
        if arn := _ARN.fullmatch(model_id):
            name, region = arn["name"] if arn["kind"] in _TELLING else "", arn["region"]
        profile, _, base = name.partition(".")
        return cls(name, profile, base, region) if profile in RESIDENCIES else cls(name, "", name, region)
