"""The climber, slow enough to be interrupted; says on standard error when it begins to score."""

import os
import time

import climber

from bedrock_evolution import Evolution


def score(genes, case):
    """Take a while, then score as the climber does."""
    os.write(2, b"scoring\n")
    time.sleep(0.1)
    return climber.score(genes, case)


evolution = Evolution(
    app="slow-climber", genes=climber.GENES, evaluate=score, cases=["the only one"], model="local", timeout_s=None
)
