"""One room, one heat pump, one day: the simulation behind the thermostat."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STEPS_PER_HOUR = 4
WISHED_C = 21.0
MIDNIGHT_C = 20.0
SENSOR_NOISE_K = 0.4
MOOD_K = 0.5
METER_ERROR = 0.05

_HOURS_A_STEP = 1 / STEPS_PER_HOUR
_LOSS_KW_K = 0.10
_CAPACITY_KWH_K = 0.45
_RADIATOR_KW_K = 0.22
_CARNOT_SHARE = 0.42
_SUN_KW = 0.9
_PEOPLE_KW = 0.2


@dataclass(frozen=True, slots=True)
class DayReport:
    """What a day came to.

    Args:
        comfort: 1 if the room felt just right whenever somebody was awake at home, towards 0 the further off.
        energy_share: Electricity used, as a share of what holding the wished temperature with water of 45 °C takes.
        starts: How often the heat pump started.
        cold_k: Mean of how far the room felt from the wish while somebody was awake at home; below 0 is cold.
    """

    comfort: float
    energy_share: float
    starts: int
    cold_k: float

    @property
    def score(self) -> float:
        """Weigh comfort, energy and wear into one number from 0 to 1."""
        return 0.6 * self.comfort + 0.3 / (1 + self.energy_share) + 0.1 / (1 + self.starts / 8)


def make_days(count: int, seed: int) -> list[dict[str, Any]]:
    """Invent winter days: hourly outside temperatures, sunshine, and who is awake at home when."""
    rng = random.Random(seed)
    return [_make_day(number, rng) for number in range(count)]


def _make_day(number: int, rng: random.Random) -> dict[str, Any]:
    mean_c, swing_k, cloud = rng.gauss(4.0, 5.0), rng.uniform(1.0, 5.0), rng.random()
    weekend = number % 7 in {5, 6}
    up, down = (rng.choice((8, 9)) if weekend else rng.choice((6, 7))), rng.choice((22, 23))
    leaves, returns = (24, 24) if weekend else (rng.choice((8, 9)), rng.choice((16, 17, 18)))
    return {
        "day": number,
        "outside_c": [round(mean_c - swing_k * math.cos((hour - 4) * math.pi / 12), 1) for hour in range(24)],
        "sun": [round(max(0.0, math.sin((hour - 7) * math.pi / 10)) * (1 - cloud), 2) for hour in range(24)],
        "awake_at_home": [up <= hour < down and not leaves <= hour < returns for hour in range(24)],
    }


def simulate(genes: Mapping[str, Any], day: Mapping[str, Any], seed: int) -> DayReport:
    """Run the thermostat through one day.

    Args:
        genes: Its settings, as declared in `app.py`.
        day: One of `make_days`.
        seed: Decides the sensor's noise, the mood of the people and the error of the meter.
    """
    rng = random.Random(seed)
    noise, mood_k, meter = rng.gauss, rng.gauss(0.0, MOOD_K), 1 + rng.gauss(0.0, METER_ERROR)
    targets = _targets(genes, day["awake_at_home"])
    half, memory = genes["hysteresis_k"] / 2, 1 / genes["readings"]
    compensated, curve, flow_c = genes["weather_compensation"], genes["curve"], genes["flow_c"]
    room_c = measured_c = MIDNIGHT_C
    heating, starts, used_kwh, comfort, felt_k, counted = False, 0, 0.0, 0.0, 0.0, 0
    for hour in range(24):
        outside_c, target_c, awake = day["outside_c"][hour], targets[hour], day["awake_at_home"][hour]
        gains_kw = _SUN_KW * day["sun"][hour] + (_PEOPLE_KW if awake else 0.0)
        if compensated:
            flow_c = min(70.0, 21.0 + curve * max(0.0, 21.0 - outside_c))
        # Every kelvin between outside and flow makes the heat pump less efficient (Carnot).
        efficiency = min(7.0, _CARNOT_SHARE * (flow_c + 273.15) / max(5.0, flow_c - outside_c))
        for _ in range(STEPS_PER_HOUR):
            measured_c += (room_c + noise(0.0, SENSOR_NOISE_K) - measured_c) * memory
            if heating:
                heating = measured_c < target_c + half
            elif measured_c < target_c - half:
                heating, starts = True, starts + 1
            heat_kw = max(0.0, _RADIATOR_KW_K * (flow_c - room_c)) if heating else 0.0
            used_kwh += heat_kw / efficiency * _HOURS_A_STEP
            room_c += (heat_kw + gains_kw - _LOSS_KW_K * (room_c - outside_c)) * _HOURS_A_STEP / _CAPACITY_KWH_K
            if awake:
                off_k = room_c + mood_k - WISHED_C
                comfort += math.exp(-0.5 * off_k * off_k)
                felt_k += off_k
                counted += 1
    # Heat borrowed from the walls is heat that tomorrow pays for.
    used_kwh += _CAPACITY_KWH_K * (MIDNIGHT_C - room_c) / efficiency
    return DayReport(comfort / counted, used_kwh * meter / plain_kwh(day), starts, felt_k / counted)


def _targets(genes: Mapping[str, Any], awake_at_home: list[bool]) -> list[float]:
    """Return the temperature to hold in each hour."""
    night_from, night_until = genes["setback_from"], genes["setback_until"]
    return [
        genes["comfort_c"] - genes["setback_k"]
        if hour >= night_from or hour < night_until or (genes["away_setback"] and not awake)
        else genes["comfort_c"]
        for hour, awake in enumerate(awake_at_home)
    ]


def plain_kwh(day: Mapping[str, Any]) -> float:
    """What it takes to hold the wished temperature all day with water of 45 °C: the yardstick for energy."""
    return sum(
        max(0.2, _LOSS_KW_K * (WISHED_C - outside_c) - _SUN_KW * sun)
        / (_CARNOT_SHARE * (45.0 + 273.15) / (45.0 - outside_c))
        for outside_c, sun in zip(day["outside_c"], day["sun"], strict=True)
    )
