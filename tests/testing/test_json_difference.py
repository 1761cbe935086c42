"""What a miss says about the difference."""

from typing import Any

import pytest

from bedrock_evolution.testing.json_difference import differences

LONG = "The quick brown fox jumps over the lazy dog. " * 3


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ({"a": [1]}, {"a": [1]}, []),
        ({"a": 1}, {"a": 1, "b": {"c": "d"}}, ['body.b is new: {"c": "d"}']),
        ({"a": 1, "b": "text"}, {"a": 1}, ["body.b is gone: 'text'"]),
        ({"a": [1, 2]}, {"a": [1, 3, 4]}, ["body.a[1] is 3, not 2", "body.a has 3 items, not 2"]),
        ({"a": 1}, {"a": 1.0}, ["body.a is 1.0, not 1"]),
        ({"a": True}, {"a": 1}, ["body.a is 1, not true"]),
        ({"a": None}, {"a": {}}, ["body.a is {}, not null"]),
        ("one two", "one three", ["body has 'hree' where 'wo' was recorded (character 5)"]),
        ("one", "one two", ["body has ' two' where '' was recorded (character 3)"]),
        ({"a": LONG}, {"a": "x"}, [f"body.a has 'x' where {LONG[:60]!r}… was recorded (character 0)"]),
        (b"\x00", {"a": 1}, ["body is {\"a\": 1}, not b'\\x00'"]),
        ({"a": [LONG]}, {}, [f'body.a is gone: ["{LONG[:58]}…']),
    ],
)
def test_each_difference_is_named_with_its_place(old: Any, new: Any, lines: list[str]) -> None:
    assert list(differences(old, new)) == lines
