"""The models the catalog knows out of the box.

Context windows, output limits and inference profiles are those of models.dev, as langchain-aws ships them, and of
Bedrock's model cards (https://docs.aws.amazon.com/bedrock/latest/userguide/model-cards.html); where two sources differ,
the smaller figure is used, and a profile that only one of them has seen is left out. Nothing was asked of AWS.

The five capabilities are priors: our judgement of a model beside the others in this table, not a measurement. They
order the models until the router has outcomes of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...settings import ModelCard

Skills = tuple[float, float, float, float, float]
"""Reasoning, code, creative, data, speed."""

_EVERYWHERE = ("global", "us", "eu", "jp", "au")
_NOVA = ("us", "eu", "apac")


def _claude(context: int, output: int, profiles: tuple[str, ...], skills: Skills) -> ModelCard:
    """Claude from 4.5 on: takes cache points, and is called through profiles only."""
    return _card(context, output, profiles, skills, bare=False, caches=True)


def _card(
    context: int, output: int, profiles: tuple[str, ...], skills: Skills, *, bare: bool, caches: bool
) -> ModelCard:
    reasoning, code, creative, data, speed = skills
    return ModelCard(
        context_tokens=context,
        max_output_tokens=output,
        reasoning=reasoning,
        code=code,
        creative=creative,
        data=data,
        speed=speed,
        profiles=profiles,
        bare=bare,
        caches=caches,
    )


MODELS: Mapping[str, ModelCard] = {
    "anthropic.claude-opus-5-5": _claude(1_000_000, 128_000, _EVERYWHERE, (0.98, 0.98, 0.95, 0.95, 0.45)),
    "anthropic.claude-opus-5": _claude(1_000_000, 128_000, _EVERYWHERE, (0.97, 0.97, 0.95, 0.94, 0.40)),
    "anthropic.claude-opus-4-8": _claude(1_000_000, 128_000, _EVERYWHERE, (0.95, 0.95, 0.93, 0.92, 0.40)),
    "anthropic.claude-opus-4-7": _claude(1_000_000, 128_000, _EVERYWHERE, (0.94, 0.94, 0.92, 0.91, 0.40)),
    "anthropic.claude-opus-4-6-v1": _claude(
        1_000_000, 128_000, ("global", "us", "eu", "au"), (0.92, 0.92, 0.92, 0.90, 0.40)
    ),
    "anthropic.claude-opus-4-5-20251101-v1:0": _claude(
        200_000, 64_000, ("global", "us", "eu"), (0.90, 0.91, 0.92, 0.80, 0.40)
    ),
    "anthropic.claude-sonnet-5-5": _claude(1_000_000, 128_000, ("global", "us", "eu"), (0.94, 0.94, 0.90, 0.92, 0.65)),
    "anthropic.claude-sonnet-5": _claude(1_000_000, 128_000, _EVERYWHERE, (0.92, 0.92, 0.89, 0.91, 0.60)),
    "anthropic.claude-sonnet-4-6": _claude(1_000_000, 64_000, _EVERYWHERE, (0.88, 0.89, 0.87, 0.89, 0.60)),
    "anthropic.claude-sonnet-4-5-20250929-v1:0": _claude(
        200_000, 64_000, (*_EVERYWHERE, "us-gov"), (0.85, 0.87, 0.86, 0.78, 0.60)
    ),
    "anthropic.claude-haiku-5-5": _claude(1_000_000, 128_000, _EVERYWHERE, (0.80, 0.80, 0.76, 0.85, 0.90)),
    "anthropic.claude-haiku-4-5-20251001-v1:0": _claude(200_000, 64_000, _EVERYWHERE, (0.72, 0.75, 0.72, 0.68, 0.85)),
    # At the end of its life: Bedrock refuses some accounts. Its cache points were a closed preview.
    "anthropic.claude-3-5-sonnet-20241022-v2:0": _card(
        200_000, 8_192, ("us", "apac"), (0.70, 0.74, 0.76, 0.62, 0.55), bare=True, caches=False
    ),
    "amazon.nova-premier-v1:0": _card(
        1_000_000, 10_000, ("us",), (0.72, 0.68, 0.66, 0.82, 0.45), bare=False, caches=True
    ),
    "amazon.nova-2-lite-v1:0": _card(
        1_000_000, 64_000, ("global", "us", "eu", "jp"), (0.66, 0.62, 0.60, 0.80, 0.85), bare=False, caches=True
    ),
    "amazon.nova-pro-v1:0": _card(300_000, 5_000, _NOVA, (0.62, 0.58, 0.60, 0.68, 0.70), bare=True, caches=True),
    "amazon.nova-lite-v1:0": _card(300_000, 5_000, _NOVA, (0.48, 0.42, 0.48, 0.62, 0.88), bare=True, caches=True),
    "amazon.nova-micro-v1:0": _card(128_000, 5_000, _NOVA, (0.38, 0.34, 0.40, 0.35, 0.97), bare=True, caches=True),
    "meta.llama4-maverick-17b-instruct-v1:0": _card(
        1_000_000, 8_192, ("us",), (0.64, 0.60, 0.60, 0.75, 0.75), bare=False, caches=False
    ),
    "meta.llama4-scout-17b-instruct-v1:0": _card(
        3_500_000, 8_192, ("us",), (0.54, 0.48, 0.52, 0.78, 0.82), bare=False, caches=False
    ),
    "meta.llama3-3-70b-instruct-v1:0": _card(
        128_000, 4_096, ("us",), (0.60, 0.55, 0.58, 0.50, 0.65), bare=False, caches=False
    ),
}
"""Cards by bare model id."""
