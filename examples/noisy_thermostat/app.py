"""A thermostat whose settings evolve against simulated days, judged by a noisy meter and moody people."""

from collections.abc import Mapping
from typing import Any

from room import make_days, simulate

from bedrock_evolution import Budget, Evolution, Score, flag, integer, number

# As an installer leaves it: everything plain, nothing tuned to the house or to the people in it.
GENES = {
    "comfort_c": number(21.5, low=16.0, high=25.0, description="Temperature to hold while people are up."),
    "setback_k": number(0.0, low=0.0, high=8.0, description="How much cooler it may get at night and when away."),
    "setback_from": integer(23, low=18, high=24, description="Hour the night begins."),
    "setback_until": integer(6, low=0, high=10, description="Hour the night ends."),
    "away_setback": flag(False, description="Whether it may get cooler while nobody is up and at home."),
    "hysteresis_k": number(0.5, low=0.1, high=4.0, description="Gap between switching on and off."),
    "readings": integer(1, low=1, high=12, description="Sensor readings that are averaged."),
    "weather_compensation": flag(False, description="Whether the water is warmer the colder it is outside."),
    "curve": number(1.5, low=0.3, high=2.5, log=True, description="Kelvin of water per kelvin outside."),
    "flow_c": number(55.0, low=28.0, high=70.0, description="Water temperature without compensation."),
}
DAYS = make_days(400, seed=7)


def evaluate(genes: Mapping[str, Any], case: Mapping[str, Any], *, seed: int) -> Score:
    """Score one day from 0 to 1; another seed is another day with the same weather."""
    report = simulate(genes, case, seed)
    return Score(
        report.score,
        metrics={"comfort": report.comfort, "energy_share": report.energy_share, "starts": float(report.starts)},
    )


evolution = Evolution(
    app="noisy-thermostat",
    genes=GENES,
    evaluate=evaluate,
    cases=DAYS,
    score_range=(0.0, 1.0),
    deterministic=False,
    budget=Budget(max_evaluations=40_000),
)
