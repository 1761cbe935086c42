"""An application whose evaluator breaks in the way the environment says, on candidates or on the live genes."""

import math
import os
import sys
import time
from pathlib import Path

from bedrock_evolution import Evolution, Score, number

LIVE_X = 0.1
KIND = os.environ.get("BROKEN_KIND", "")
"""How it breaks; empty for not at all."""
SHARE = float(os.environ.get("BROKEN_SHARE", "1"))
"""Which candidates break it: those with an `x` up to here."""
LIVE_TOO = "BROKEN_LIVE" in os.environ
MENDED = Path("mended")


class Unsized:
    """Has the look of an array of several numbers."""

    def item(self):
        """Refuse, as numpy does."""
        raise ValueError("can only convert an array of size 1 to a Python scalar")


def _raise():
    raise LookupError("no such ticket: 4711")


BREAKAGES = {
    "raises": _raise,
    "exits": lambda: sys.exit(3),
    "hangs": lambda: time.sleep(30),
    "nan": lambda: math.nan,
    "infinity": lambda: math.inf,
    "string": lambda: "0.5",
    "none": lambda: None,
    "array": Unsized,
    "huge": lambda: 10**400,
    "metrics": lambda: Score(0.5, metrics={"latency": "fast"}),
    "gene feedback": lambda: Score(0.5, gene_feedback=["x is too low"]),
    "too few": lambda: [0.5],
    "no list": lambda: 0.5,
}
BATCH = KIND in ("too few", "no list")


def _breaks(genes):
    live = genes["x"] == LIVE_X
    return KIND and (LIVE_TOO if live else genes["x"] <= SHARE) and not MENDED.exists()


def score(genes, case):
    """Score a case, or break."""
    return BREAKAGES[KIND]() if _breaks(genes) else 1.0 - abs(genes["x"] - 0.7) - case / 1000


def score_all(genes, cases):
    """Score all cases, or break."""
    return BREAKAGES[KIND]() if _breaks(genes) else [score(genes, case) for case in cases]


evolution = Evolution(
    app="broken",
    genes={"x": number(LIVE_X, low=0.0, high=1.0)},
    cases=list(range(40)),
    model="local",
    timeout_s=0.2,
    **({"evaluate_all": score_all} if BATCH else {"evaluate": score}),
)
