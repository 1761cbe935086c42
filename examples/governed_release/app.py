"""A refund desk whose rules evolve on the shop's records, and are answered for by people and by live customers."""

from collections.abc import Mapping
from typing import Any

from desk import make_requests, profit, reply

from bedrock_evolution import Autonomy, Budget, Evolution, Score, choice, number, text

GENES = {
    "photo_above": number(120.0, low=0.0, high=300.0, description="Euros from which a photo is asked for."),
    "photo_words": text("leaking", max_chars=200, description="Words in a message that call for a photo."),
    "tone": choice("formal", options=["formal", "warm", "brief"]),
    "notice": text("You may withdraw within 14 days.", locked=True, description="Required by law."),
}


def evaluate(genes: Mapping[str, Any], request: Mapping[str, Any]) -> Score:
    """Score the reply to a recorded request by what the shop kept of its money."""
    value, answer = profit(genes, request), reply(genes, request)
    if value == 0.0:
        missed = {"photo_words": f'should have taken: "{request["message"]}"'}
        return Score(value, feedback="Paid for nothing.", gene_feedback=missed)
    return Score(value, metrics={"photos": float(answer.asks_for_photo)})


evolution = Evolution(
    app="refund-desk",
    genes=GENES,
    evaluate=evaluate,
    cases=make_requests(300, seed=11),
    score_range=(0.0, 1.0),
    budget=Budget(max_evaluations=20_000),
    # Whom the desk distrusts is never decided without a person.
    autonomy=Autonomy(always_ask=("photo_*",)),
)
