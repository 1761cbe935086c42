"""The catalog: what is known of each model, what it costs, and by which id it is called from a region."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from ...errors import InvalidSetting, UnknownModel
from ...settings import RESIDENCIES, ModelCard
from .model_ids import ModelId
from .model_table import MODELS
from .prices import Tokens, cost_at, cost_micro_usd

_GEOGRAPHIES = ("us", "us-gov", "eu", "jp", "au", "apac")
"""Profiles by preference: the narrower first, so that Tokyo is served from Japan where it can be."""
_SUGGESTIONS = 3
_LIKENESS = 0.4


class Catalog:
    """Knows models by bare id, by profile id and by ARN.

    Args:
        own: The user's own cards, by id or ARN; they win over the table.

    Raises:
        InvalidSetting: A card names an inference profile that does not exist.
    """

    def __init__(self, own: Mapping[str, ModelCard] | None = None) -> None:
        self._own = dict(own or {})
        for name, card in self._own.items():
            if unknown := [profile for profile in card.profiles if profile not in RESIDENCIES]:
                raise InvalidSetting(
                    f"the card of model {name!r} names the profile {unknown[0]!r}.",
                    hint=f"There are: {', '.join(RESIDENCIES)}. A card for another profile has its whole id as name.",
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all cards, the user's own first."""
        return tuple(dict.fromkeys([*self._own, *MODELS]))

    def card(self, model_id: str) -> ModelCard:
        """Return the card of a model.

        Args:
            model_id: A bare id, a profile id, the ARN of either, or the name of one of the user's own cards.

        Raises:
            UnknownModel: There is no card of it.
        """
        card = self._found(self._own, model_id) or self._found(MODELS, model_id)
        if card is None:
            raise self._unknown(model_id)
        return card

    def cost_micro_usd(self, model_id: str, tokens: Tokens) -> int:
        """Return what a call costs in micro-dollars, rounded up: at its card's own price, or as the price list says.

        Args:
            model_id: As it is called.
            tokens: What it used, or at most can use.

        Raises:
            UnknownPrice: Neither knows a price.
        """
        card = self._found(self._own, model_id)
        if card is not None and card.price is not None:
            return cost_at(card.price, tokens)
        return cost_micro_usd(model_id, tokens)

    def callable_id(self, model_id: str, *, region: str, residency: str) -> str:
        """Return what is sent to Bedrock to call a model.

        Args:
            model_id: A bare id becomes that of a profile where there is one; a profile or an ARN stays as it is.
            region: Where the call is sent.
            residency: Where prompts may be processed.

        Raises:
            UnknownModel: There is no card of it.
            InvalidSetting: It cannot be called from that region inside that residency.
        """
        card, parsed = self.card(model_id), ModelId.parse(model_id)
        problem = _problem(parsed, region, residency)
        if problem:
            raise InvalidSetting(
                f"model {model_id!r} cannot be called from {region} in the residency {residency!r}: {problem}.",
                hint="Name the model by its bare id, or change `regions` or `residency`.",
            )
        if parsed.profile or parsed.region:
            return model_id
        if profile := _profile(card, region, residency):
            return f"{profile}.{model_id}"
        if card.bare:
            return model_id
        raise InvalidSetting(
            f"model {model_id!r} cannot be called from {region} in the residency {residency!r}:"
            f" it has inference profiles for {', '.join(card.profiles) or 'nowhere'} only, and is not called without.",
            hint="Take another model out of docs/models.md, or change `regions` or `residency`.",
        )

    @staticmethod
    def _found(cards: Mapping[str, ModelCard], model_id: str) -> ModelCard | None:
        parsed = ModelId.parse(model_id)
        spellings = (model_id, parsed.name, parsed.base)
        return next((cards[spelling] for spelling in spellings if spelling in cards), None)

    def _near(self, name: str) -> list[str]:
        holding = [known for known in self.names if name and name in known]
        alike = get_close_matches(name, self.names, _SUGGESTIONS, _LIKENESS)
        return list(dict.fromkeys([*holding, *alike]))[:_SUGGESTIONS]

    def _unknown(self, model_id: str) -> UnknownModel:
        parsed = ModelId.parse(model_id)
        if parsed.region and not parsed.name:
            meant = " This kind of ARN does not tell its model."
        elif near := self._near(parsed.base):
            meant = f" Near it: {', '.join(near)}."
        else:
            meant = ""
        return UnknownModel(
            f"model {model_id!r} is not in the catalog.{meant}",
            hint=f'Correct the name, or describe the model in pyproject.toml: [tool.bedrock-evolution.model_cards."'
            f'{model_id}"] with context_tokens, max_output_tokens, reasoning, code, creative, data and speed.',
        )


def _problem(model: ModelId, region: str, residency: str) -> str:
    """Why a call would leave the residency or be refused by Bedrock; empty if nothing speaks against it."""
    allowed = RESIDENCIES[residency]
    if not region.startswith(allowed):
        return "that region lies outside"
    if model.region and not model.region.startswith(allowed):
        return f"its ARN lies in {model.region}, which is outside"
    if model.region and model.region != region:
        return f"its ARN belongs to {model.region}"
    if model.profile and not _inside(model.profile, residency):
        return f"its profile `{model.profile}.` spreads calls over regions outside"
    if model.profile and _served_otherwise(model.profile, region):
        return f"its profile `{model.profile}.` is not offered there"
    return ""


def _profile(card: ModelCard, region: str, residency: str) -> str | None:
    """Choose the inference profile for a region: the residency's own, or else the narrowest one inside it."""
    wanted = (residency, *_GEOGRAPHIES)
    return next(
        (name for name in wanted if name in card.profiles and _inside(name, residency) and _serves(name, region)), None
    )


def _inside(profile: str, residency: str) -> bool:
    return all(begin.startswith(RESIDENCIES[residency]) for begin in RESIDENCIES[profile])


def _serves(profile: str, region: str) -> bool:
    # The global profiles spread calls over the commercial regions.
    apart = profile == "global" and region.startswith(RESIDENCIES["us-gov"])
    return region.startswith(RESIDENCIES[profile]) and not apart


def _served_otherwise(profile: str, region: str) -> bool:
    """Whether a region has profiles, but not this one; of regions such as ca-central-1 we do not know."""
    return not _serves(profile, region) and any(_serves(name, region) for name in _GEOGRAPHIES)
