"""What a model call is for, as the router sees it: the kind of work, how complex it is, and what matters in it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["reasoning", "code", "creative", "data"]

BANDS = 10
"""Complexity bands of a role; each is a task family of its own."""
MUCH_DATA_TOKENS = 50_000
"""A task with more input than this is about much data, whatever its role."""
_BAND_NAMES = frozenset(map(str, range(BANDS)))
_READ_CHARS = 100_000
"""A text is read up to here; every feature has reached its top long before."""

_WORD = re.compile(r"[^\W\d_]+")
_CLAUSE = re.compile(
    r"[,;:?]|\b(?:if|when|while|that|which|who|whose|where|but|after|before|because|than|then|unless|until|although"
    r"|how|why|what)\b",
    re.IGNORECASE,
)
_STRUCTURE = re.compile(r"\n|[{}\[\]]|[.!?](?:\s|$)")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*|[-+*/=<>^%$\u2200-\u22ff]")
_CODE = re.compile(
    r"\b(?:def|class|function)\s+\w+\s*[(:{]|\b(?:import|from|return|const|let|lambda|elif)\s+\w"
    r"|[=!]=|=>|->|\b\w+\(\)|\bSELECT\b"
)
_CODE_MARKS = 4
"""So many marks of source code, and a task is about code."""


def complexity_of(text: str) -> float:
    """Estimate how complex a task is from its text alone, from 0 to 1.

    No model is asked. Six counts are taken, each on a logarithmic scale from none (0) to its top (1), and averaged by
    weight:

    | feature | what is counted | top | weight |
    |---|---|---|---|
    | length | words | 4,000 | 0.40 |
    | vocabulary | distinct words, whatever their case | 1,500 | 0.10 |
    | clauses | commas, colons, question marks, and words that open a clause or a question | 1,000 | 0.25 |
    | structure | sentences, lines, brackets of JSON and lists | 1,000 | 0.15 |
    | numbers | numbers, operators, units of money and per cent | 1,000 | 0.05 |
    | code | definitions, imports, comparisons, calls | 200 | 0.05 |

    Args:
        text: The task, without the instructions that are the same in every task of its role.

    Returns:
        0 for an empty text, about 0.2 for a short question, 0.35 for a word problem, 0.8 for a brief of 200 lines.
    """
    text = text[:_READ_CHARS]
    words = [word.lower() for word in _WORD.findall(text)]
    return round(
        0.40 * _share(len(words), 4000)
        + 0.10 * _share(len(set(words)), 1500)
        + 0.25 * _share(_count(_CLAUSE, text), 1000)
        + 0.15 * _share(_count(_STRUCTURE, text), 1000)
        + 0.05 * _share(_count(_NUMBER, text), 1000)
        + 0.05 * _share(_count(_CODE, text), 200),
        6,
    )


def _count(pattern: re.Pattern[str], text: str) -> int:
    return sum(1 for _ in pattern.finditer(text))


def _share(count: int, top: int) -> float:
    return min(1.0, math.log1p(count) / math.log1p(top))


def band_of(complexity: float) -> int:
    """Return the band, from 0 to `BANDS` - 1, that a complexity lies in."""
    return min(BANDS - 1, int(complexity * BANDS))


def family_name(role: str, band: int) -> str:
    """Return the name of the family of a role's tasks in a complexity band."""
    return f"{role}/{band}"


def role_of(family: str) -> str:
    """Return the role that a family belongs to."""
    return family.partition("/")[0]


def complexity_in(family: str) -> float:
    """Return the middle of the complexity band that a family's name tells; 0.5 if it tells none."""
    band = family.partition("/")[2]
    return (int(band) + 0.5) / BANDS if band in _BAND_NAMES else 0.5


def nearest_families(context: TaskContext) -> list[tuple[str, float]]:
    """Return the families whose evidence counts for a task, with their weights, which add up to 1.

    They are the two bands between whose middles its complexity lies, so that what is expected changes smoothly with
    complexity. A family that is not named by a band stands for itself.
    """
    if context.family.partition("/")[2] not in _BAND_NAMES:
        return [(context.family, 1.0)]
    place = min(max(context.complexity * BANDS - 0.5, 0.0), BANDS - 1.0)
    low = min(int(place), BANDS - 2)
    share = place - low
    return [(family_name(context.role, low), 1 - share), (family_name(context.role, low + 1), share)]


@dataclass(frozen=True, slots=True)
class _Role:
    kind: Kind
    accuracy: float
    cost_sensitivity: float
    latency_limit_s: float | None = None


_ROLES = {
    "advisor": _Role("creative", accuracy=0.8, cost_sensitivity=0.5),
    "decision": _Role("reasoning", accuracy=1.0, cost_sensitivity=0.3),
    # Work stands still until the healer has answered.
    "healer": _Role("reasoning", accuracy=0.6, cost_sensitivity=0.6, latency_limit_s=30.0),
    "cost_governor": _Role("reasoning", accuracy=0.6, cost_sensitivity=0.8),
}
_OTHER_ROLE = _Role("reasoning", accuracy=0.8, cost_sensitivity=0.5)


@dataclass(frozen=True, slots=True)
class TaskContext:
    """A model call to come.

    Args:
        family: The role and its complexity band, such as `advisor/7`: what outcomes are learned by.
        kind: The kind of work: which capability of a model counts.
        complexity: How complex the task is, from 0 to 1.
        input_tokens: What is sent.
        output_tokens: What is expected back.
        latency_limit_s: Seconds within which the answer is needed; None: whenever it comes.
        accuracy: How much a usable answer matters, from 0 to 1.
        cost_sensitivity: How much money matters, from 0 to 1.
    """

    family: str
    kind: Kind
    complexity: float
    input_tokens: int
    output_tokens: int
    latency_limit_s: float | None = None
    accuracy: float = 0.8
    cost_sensitivity: float = 0.5

    @classmethod
    def of(cls, role: str, text: str, *, input_tokens: int, output_tokens: int) -> TaskContext:
        """Describe a call of an agent.

        Args:
            role: The agent.
            text: What its messages say, without the system prompt. The brief alone keeps all calls of a conversation
                in one family.
            input_tokens: What is sent.
            output_tokens: What is expected back.
        """
        wants = _ROLES.get(role, _OTHER_ROLE)
        complexity = complexity_of(text)
        return cls(
            family=family_name(role, band_of(complexity)),
            kind=_kind(wants, text, input_tokens),
            complexity=complexity,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            latency_limit_s=wants.latency_limit_s,
            accuracy=wants.accuracy,
            cost_sensitivity=wants.cost_sensitivity,
        )

    @property
    def role(self) -> str:
        """The role that the family belongs to."""
        return role_of(self.family)


def _kind(role: _Role, text: str, input_tokens: int) -> Kind:
    if input_tokens > MUCH_DATA_TOKENS:
        return "data"
    return "code" if _count(_CODE, text[:_READ_CHARS]) >= _CODE_MARKS else role.kind
