"""The refund desk: what it answers, what is on record of earlier requests, and how customers take it."""

import itertools
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_WORD = re.compile(r"[a-z]{4,}")
_HONEST = (
    "The grinder arrived broken, the lid is cracked.",
    "I ordered the wrong size and would like to return it.",
    "The beans taste stale, please refund the bag.",
    "It is leaking from the bottom since yesterday.",
    "I changed my mind, the machine is still sealed.",
    "You charged me twice for the same order.",
)
_DISHONEST = (
    "The parcel never arrived, I want my money now.",
    "The box was empty when my neighbour opened it.",
    "Courier left nothing, refund immediately or I complain.",
    "It arrived broken but I threw everything away already.",
)
_STRIKE = (
    "My parcel never arrived, the courier is on strike.",
    "The courier left the box open and it was empty.",
    "Nothing arrived, and my neighbour has no parcel either.",
)
"""What honest customers write while the courier is on strike: the words of last year's dishonest ones."""
_TRIED = 0.3
"""Share of the recorded requests that turned out to be attempts to get money for nothing."""

_GREETINGS = {"formal": "Dear customer,", "warm": "Hello, and sorry for the trouble!", "brief": "Hi."}
_HANDLING = {"formal": 0.04, "warm": 0.05, "brief": 0.0}
"""What an answer costs in handling, as a share of a request's worth; asking for a photo costs more."""
_PHOTO = 0.1

_MOOD = {"formal": 0.0, "warm": 0.15, "brief": -0.25}
_ANNOYED, _SCATTER = 0.75, 0.8
"""What being asked for a photo costs in stars, and how much moods differ."""


@dataclass(frozen=True)
class Reply:
    """What the desk writes, and whether it asks for a photo before it pays."""

    text: str
    asks_for_photo: bool


def reply(genes: Mapping[str, Any], request: Mapping[str, Any]) -> Reply:
    """Answer a request for a refund."""
    suspicious = set(_WORD.findall(str(genes["photo_words"]).casefold()))
    asks = request["amount"] >= genes["photo_above"] or bool(
        suspicious & set(_WORD.findall(request["message"].casefold()))
    )
    next_step = "Please send us a photo of the item first." if asks else "Your money is on its way."
    return Reply(f"{_GREETINGS[str(genes['tone'])]} {next_step} {genes['notice']}", asks)


def make_requests(count: int, *, seed: int) -> list[dict[str, Any]]:
    """Invent requests as they are on record: the amount in euros, the message, and what came out later."""
    rng = random.Random(seed)
    honest = [rng.random() >= _TRIED for _ in range(count)]
    return [
        _request(rng, number, rng.choice(_HONEST if paid else _DISHONEST), honest=paid)
        for number, paid in enumerate(honest)
    ]


def profit(genes: Mapping[str, Any], request: Mapping[str, Any]) -> float:
    """Say how well a reply would have served the shop, from 0 to 1; nobody recorded what the customer felt."""
    answer = reply(genes, request)
    if not request["honest"] and not answer.asks_for_photo:
        return 0.0  # paid for nothing
    return 1.0 - _HANDLING[str(genes["tone"])] - (_PHOTO if answer.asks_for_photo else 0.0)


def customers(week: str) -> Iterator[tuple[dict[str, Any], random.Random]]:
    """Yield the honest customers of a `usual` week, or of one with a `strike` that hits most of them, with moods."""
    messages = (*_STRIKE, *_STRIKE, *_HONEST) if week == "strike" else _HONEST
    for number in itertools.count():
        rng = random.Random(f"{week}/{number}")
        yield _request(rng, number, rng.choice(messages), honest=True), rng


def stars(genes: Mapping[str, Any], request: Mapping[str, Any], mood: random.Random) -> int:
    """Return the one to five stars that a customer gives: being asked for a photo is no pleasure."""
    answer = reply(genes, request)
    felt = mood.gauss(4.0, _SCATTER) + _MOOD[str(genes["tone"])] - (_ANNOYED if answer.asks_for_photo else 0.0)
    return max(1, min(5, round(felt)))


def _request(rng: random.Random, number: int, message: str, *, honest: bool) -> dict[str, Any]:
    return {
        "number": number,
        "amount": round(min(300.0, rng.lognormvariate(3.6, 0.7)), 2),
        "message": message,
        "honest": honest,
    }
