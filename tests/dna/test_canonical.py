"""Canonical JSON: one spelling for equal values, another for different ones."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedrock_evolution.dna.canonical import canonical_json, checksum

QUICK = settings(max_examples=50, deadline=None)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@QUICK
@given(PLAIN)
def test_it_is_json_and_reads_back_as_the_same_value(value: Any) -> None:
    assert json.loads(canonical_json(value)) == value


@QUICK
@given(st.dictionaries(st.text(), PLAIN, max_size=5))
def test_the_order_of_keys_does_not_matter(value: dict[str, Any]) -> None:
    assert checksum(dict(reversed(value.items()))) == checksum(value)


@QUICK
@given(PLAIN, PLAIN)
def test_values_that_read_differently_have_different_checksums(one: Any, other: Any) -> None:
    assert (checksum(one) == checksum(other)) == (canonical_json(one) == canonical_json(other))


def test_the_checksum_is_the_same_on_every_machine() -> None:
    expected = "0985a6a7d1398afab2c9bc76835695708e2751338d6c70d0e036d050a43b122c"
    assert canonical_json({"b": [1, 2.5, None, True], "a": "é\n"}) == '{"a":"é\\n","b":[1,2.5,null,true]}'
    assert checksum({"b": [1, 2.5, None, True], "a": "é\n"}) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(value)


def test_what_is_not_plain_is_refused() -> None:
    with pytest.raises(TypeError):
        canonical_json({1, 2})
