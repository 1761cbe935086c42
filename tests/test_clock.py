"""Time, ids and randomness: injected, repeatable, and never equal where they must differ."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from bedrock_evolution.clock import CountedIds, FixedClock, RandomIds, SystemClock, derive_seed

MOMENT = datetime(2026, 1, 31, 10, 15, 2, tzinfo=UTC)
QUICK = settings(max_examples=60, deadline=None)
PURPOSES = st.lists(st.integers() | st.text("abc/", max_size=4), max_size=3)


def test_the_system_clock_is_the_present_in_utc() -> None:
    now = SystemClock().now()
    assert now.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - now) < timedelta(seconds=5)


def test_a_fixed_clock_stands_until_it_is_set() -> None:
    clock = FixedClock(MOMENT)
    assert clock.now() == clock.now() == MOMENT
    clock.moment += timedelta(hours=1)
    assert clock.now() == MOMENT + timedelta(hours=1)


def test_random_ids_carry_their_prefix_and_time_and_differ() -> None:
    ids = RandomIds(FixedClock(MOMENT))
    made = [ids.new("run") for _ in range(500)]
    assert len(set(made)) == 500
    assert all(re.fullmatch(r"run-20260131-101502-[0-9a-f]{10}", one) for one in made)


def test_random_ids_sort_by_time() -> None:
    clock = FixedClock(MOMENT)
    ids = RandomIds(clock)
    made = []
    for _ in range(10):
        made.append(ids.new("run"))
        clock.moment += timedelta(seconds=97)
    assert made == sorted(made)


def test_counted_ids_count_over_all_prefixes() -> None:
    ids = CountedIds()
    assert [ids.new("run"), ids.new("call"), ids.new("run")] == ["run-1", "call-2", "run-3"]


def test_a_seed_is_the_same_on_every_machine() -> None:
    assert derive_seed(1, "propose", 3) == 5335727675198310999
    program = "from bedrock_evolution.clock import derive_seed; print(derive_seed(1, 'propose', 3))"
    ran = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) == derive_seed(1, "propose", 3)


@QUICK
@given(st.integers(), PURPOSES)
def test_a_seed_is_a_number_every_generator_takes(seed: int, purpose: list[str | int]) -> None:
    made = derive_seed(seed, *purpose)
    assert 0 <= made < 2**63
    assert made == derive_seed(seed, *purpose)


@QUICK
@given(st.integers(), PURPOSES, PURPOSES)
def test_another_purpose_or_seed_is_another_number(seed: int, one: list[str | int], other: list[str | int]) -> None:
    same = [str(part) for part in one] == [str(part) for part in other]
    assert (derive_seed(seed, *one) == derive_seed(seed, *other)) == same
    assert derive_seed(seed, *one) != derive_seed(seed + 1, *one)
