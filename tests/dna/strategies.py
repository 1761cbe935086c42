"""Hypothesis strategies: declarations of every kind of gene, with values inside and outside their bounds."""

from __future__ import annotations

import ast
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from bedrock_evolution.dna.genes import (
    ChoiceGene,
    CodeGene,
    FlagGene,
    Gene,
    GeneValue,
    IntegerGene,
    NumberGene,
    TextGene,
    choice,
    code,
    flag,
    integer,
    number,
    text,
)
from bedrock_evolution.dna.genome import SystemDNA

QUICK = settings(max_examples=60, deadline=None)
"""For properties: enough examples to find what is wrong, and no clock."""

FLOATS = st.floats(-1e9, 1e9, allow_nan=False)
WORDS = st.text(max_size=12)
SOURCES = st.sampled_from(["", "x = 1", "def f():\n    return 2", "x = (", "return )", "\x00"])

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-20, 20),
    st.floats(),
    WORDS,
    SOURCES,
    st.just("lone \ud800 surrogate"),
    st.binary(max_size=3),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(WORDS, st.integers(), max_size=1),
)
"""Whatever a model, or a careless caller, may give as a value."""


@st.composite
def genes(draw: st.DrawFn, *, locked: st.SearchStrategy[bool] = st.booleans()) -> Gene:  # noqa: B008  # a strategy is a constant
    """Draw a well-formed declaration of any kind."""
    lock = draw(locked)
    match draw(st.sampled_from(["number", "integer", "choice", "flag", "text", "code"])):
        case "number":
            low, value, high = sorted(draw(st.tuples(FLOATS, FLOATS, FLOATS)))
            return number(value, low=low, high=high + 1.0, locked=lock)
        case "integer":
            low = draw(st.integers(-(10**9), 10**9))
            return integer(low, low=low, high=low + draw(st.integers(1, 20)), locked=lock)
        case "choice":
            options = draw(st.lists(WORDS, min_size=2, max_size=4, unique=True))
            return choice(options[0], options=options, locked=lock)
        case "flag":
            return flag(draw(st.booleans()), locked=lock)
        case "code":
            return code("x = 0", max_chars=draw(st.integers(5, 30)), locked=lock)
    value = draw(WORDS)
    return text(value, min_chars=draw(st.integers(0, len(value))), max_chars=len(value) + 5, locked=lock)


@st.composite
def dnas(draw: st.DrawFn) -> SystemDNA:
    """Draw the first generation of an application with one to four genes."""
    return SystemDNA.declare("app", draw(st.dictionaries(st.sampled_from("abcdef"), genes(), min_size=1, max_size=4)))


def values_for(gene: Gene) -> st.SearchStrategy[Any]:
    """Draw values of the right kind near and inside the bounds, and anything else."""
    near: st.SearchStrategy[Any]
    match gene:
        case NumberGene():
            near = st.floats(gene.low - 1.0, gene.high + 1.0) | st.sampled_from([gene.low, gene.high])
        case IntegerGene():
            near = st.integers(gene.low - 2, gene.high + 2)
            near = near | near.map(float)
        case ChoiceGene():
            near = st.sampled_from(gene.options)
        case FlagGene():
            near = st.booleans()
        case TextGene():
            near = st.text(max_size=gene.max_chars + 2)
        case _:
            near = SOURCES
    return near | ANYTHING


def accepted(gene: Gene) -> st.SearchStrategy[GeneValue]:
    """Draw values inside the bounds only."""
    match gene:
        case NumberGene():
            return st.floats(gene.low, gene.high)
        case IntegerGene():
            return st.integers(gene.low, gene.high)
        case ChoiceGene():
            return st.sampled_from(gene.options)
        case FlagGene():
            return st.booleans()
        case TextGene():
            return st.text(min_size=gene.min_chars, max_size=gene.max_chars)
        case _:
            return st.sampled_from(["", "x = 1", "x = 0"])


def inside(gene: Gene, value: Any) -> bool:
    """Say whether a value is within a gene's bounds, from the definition of each kind and nothing else."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    match gene:
        case NumberGene():
            return is_number and gene.low <= value <= gene.high
        case IntegerGene():
            return is_number and value == value // 1 and gene.low <= value <= gene.high
        case ChoiceGene():
            return value in gene.options
        case FlagGene():
            return value is True or value is False
        case TextGene():
            return isinstance(value, str) and _utf8(value) and gene.min_chars <= len(value) <= gene.max_chars
        case CodeGene():
            return isinstance(value, str) and _utf8(value) and len(value) <= gene.max_chars and _parses(value)
    raise AssertionError(gene)


def _utf8(value: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def _parses(value: str) -> bool:
    try:
        ast.parse(value)
    except (SyntaxError, ValueError):
        return False
    return True
