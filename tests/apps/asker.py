"""The climber, whose owner wants to be asked about every change."""

from climber import GENES, score

from bedrock_evolution import Autonomy, Evolution

evolution = Evolution(
    app="asker",
    genes=GENES,
    evaluate=score,
    cases=["the only one"],
    model="local",
    autonomy=Autonomy(always_ask=("*",)),
)
