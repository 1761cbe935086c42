"""One deterministic objective over numbers, a switch and a text: every real gain is promoted at once."""

from bedrock_evolution import Evolution, flag, number, text

GENES = {
    "x": number(0.1, low=0.0, high=1.0),
    "y": number(0.9, low=0.0, high=1.0),
    "polite": flag(False),
    "greeting": text("Hello.", max_chars=80),
}


def score(genes, _case):
    """Best at x = 0.7, y = 0.2, polite."""
    return 3.0 - abs(genes["x"] - 0.7) - abs(genes["y"] - 0.2) + 0.1 * genes["polite"]


evolution = Evolution(app="climber", genes=GENES, evaluate=score, cases=["the only one"], model="local")
