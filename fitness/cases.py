"""Cases: the application's own data, split into training, validation and a sealed test part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from ..dna.canonical import checksum
from ..errors import InvalidCases

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")

MIN_VALIDATION = 6
"""With fewer, even a candidate that wins every case cannot reach the first threshold of the promotion rule."""
_MIN_OTHER = 2
_TRAIN, _VALIDATION = 0.4, 0.8
_RANKED_BELOW = 40
"""So few cases are split by rank instead of by threshold, so that no part comes out empty by chance."""


@dataclass(frozen=True, slots=True)
class Cases:
    """The cases of an application and the part each belongs to.

    Args:
        train: What the advisor may learn from, with feedback.
        validation: What decides whether a candidate is promoted; its content is never shown to an advisor.
        test: Sealed: scored once, in the final report.
    """

    train: tuple[Any, ...]
    validation: tuple[Any, ...]
    test: tuple[Any, ...]
    fingerprint: str

    @property
    def single(self) -> bool:
        """Whether this is one deterministic objective and no sample of cases."""
        return len(self.train) == 1 and self.train == self.validation == self.test

    @property
    def sizes(self) -> dict[Part, int]:
        """How many cases each part has."""
        return {part: len(self.part(part)) for part in PARTS}

    def part(self, name: Part) -> tuple[Any, ...]:
        """Return the cases of one part."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


def split_cases(given: Iterable[Any] | Mapping[str, Iterable[Any]]) -> Cases:
    """Split cases 40 / 40 / 20 by a hash of their content, or take three lists as they are.

    A case's part depends on its content alone, so that adding cases later never moves a sealed one into
    training (below 40 cases the split is by rank of that hash).

    Args:
        given: A list of cases, or a mapping with `train`, `validation` and `test`. Cases are JSON-plain
            values, dataclasses or pydantic models. A single case is one deterministic objective.

    Raises:
        InvalidCases: None, too few, all equal, or not writable as JSON.
    """
    if isinstance(given, Mapping):
        return _as_given(given)
    cases = list(given)
    if not cases:
        raise InvalidCases("there are no cases.", hint="Give a list of cases that `evaluate` can score.")
    hashes = [_hash(index, case) for index, case in enumerate(cases)]
    if len(cases) == 1:
        only = (cases[0],)
        return Cases(only, only, only, fingerprint=checksum(hashes))
    if len(set(hashes)) == 1:
        raise InvalidCases(
            f"the {len(cases)} cases are all equal.",
            hint="For repetitions of one noisy objective give different cases, such as range(100).",
        )
    parts = _by_rank(hashes) if len(cases) < _RANKED_BELOW else [_by_threshold(digest) for digest in hashes]
    chosen = {part: tuple(case for case, its in zip(cases, parts, strict=True) if its == part) for part in PARTS}
    return _checked(Cases(**chosen, fingerprint=checksum(hashes)), of=len(cases))


def _as_given(given: Mapping[str, Iterable[Any]]) -> Cases:
    if set(given) != set(PARTS):
        raise InvalidCases(f"cases were given as {sorted(given)}.", hint="Give exactly train, validation and test.")
    lists = {part: list(given[part]) for part in PARTS}
    hashes = {part: [_hash(index, case) for index, case in enumerate(lists[part])] for part in PARTS}
    leaked = set(hashes["test"]) & {*hashes["train"], *hashes["validation"]}
    if leaked:
        raise InvalidCases(
            f"{len(leaked)} test cases are also in train or validation.", hint="A sealed test shares no case with them."
        )
    cases = Cases(**{part: tuple(lists[part]) for part in PARTS}, fingerprint=checksum(hashes))
    return _checked(cases, of=sum(map(len, lists.values())))


def _checked(cases: Cases, *, of: int) -> Cases:
    least = {"train": _MIN_OTHER, "validation": MIN_VALIDATION, "test": _MIN_OTHER}
    for part in PARTS:
        if len(cases.part(part)) < least[part]:
            sizes = ", ".join(f"{len(cases.part(name))} {name}" for name in PARTS)
            raise InvalidCases(
                f"{of} cases are too few to split: {sizes}; {part} needs at least {least[part]}.",
                hint="Give more cases (30 or more is a start), or the three lists train, validation and test.",
            )
    return cases


def _hash(index: int, case: Any) -> str:
    if _holds_set(case):
        raise InvalidCases(
            f"case {index} holds a set, whose order differs between processes.", hint="Give a sorted list instead."
        )
    try:
        return checksum(to_jsonable_python(case))
    except (PydanticSerializationError, ValueError, TypeError) as error:
        raise InvalidCases(
            f"case {index} cannot be written as JSON: {error}.", hint="Give dicts, dataclasses or pydantic models."
        ) from error


def _holds_set(value: Any) -> bool:
    if isinstance(value, (set, frozenset)):
        return True
    if isinstance(value, BaseModel):
        return any(_holds_set(inner) for _, inner in value)
    if is_dataclass(value) and not isinstance(value, type):
        return any(_holds_set(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, Mapping):
        return any(_holds_set(inner) for inner in value.values())
    return isinstance(value, (list, tuple)) and any(map(_holds_set, value))


def _by_threshold(digest: str) -> Part:
    share = int(digest[:12], 16) / 16**12
    return "train" if share < _TRAIN else "validation" if share < _VALIDATION else "test"


def _by_rank(hashes: Sequence[str]) -> list[Part]:
    distinct = sorted(set(hashes))
    cuts = round(len(distinct) * _TRAIN), round(len(distinct) * _VALIDATION)
    rank = {digest: place for place, digest in enumerate(distinct)}
    return [
        "train" if rank[digest] < cuts[0] else "validation" if rank[digest] < cuts[1] else "test" for digest in hashes
    ]
