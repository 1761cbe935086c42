"""The climber with twenty evaluations to spend, over data that is split."""

from bedrock_evolution import Budget, Evolution, number

evolution = Evolution(
    app="frugal",
    genes={"x": number(0.1, low=0.0, high=1.0)},
    evaluate=lambda genes, case: 1.0 - abs(genes["x"] - 0.7) - case / 1000,
    cases=list(range(60)),
    model="local",
    budget=Budget(max_evaluations=70),
)
