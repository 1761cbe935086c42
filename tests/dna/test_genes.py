"""Genes: what each kind accepts, refuses, and says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from bedrock_evolution.dna.genes import (
    CodeGene,
    Gene,
    choice,
    code,
    declared,
    flag,
    integer,
    number,
    text,
)
from bedrock_evolution.errors import InvalidGene, UsageError
from tests.dna.strategies import QUICK, genes, inside, values_for

ANY_GENE: TypeAdapter[Gene] = TypeAdapter(Gene)


@QUICK
@given(st.data())
def test_a_value_is_accepted_exactly_when_it_is_inside_the_bounds(data: st.DataObject) -> None:
    gene = declared("g", data.draw(genes()))
    value = data.draw(values_for(gene))
    try:
        kept = gene.check(value)
    except InvalidGene:
        assert not inside(gene, value)
    else:
        assert inside(gene, value)
        assert kept == value
        again = gene.check(kept)
        assert (again, type(again)) == (kept, type(kept))


@QUICK
@given(genes())
def test_a_declared_gene_survives_json(gene: Gene) -> None:
    gene = declared("g", gene)
    again = ANY_GENE.validate_json(ANY_GENE.dump_json(gene))
    assert again == gene
    assert type(again.value) is type(gene.value)


REFUSED: list[tuple[str, Gene, Any, str, str]] = [
    ("below", number(0.5, low=0.0, high=1.0), -0.001, "-0.001 is out of bounds", "a number from 0 to 1"),
    ("above", number(0.5, low=0.0, high=1.0), 1.001, "1.001 is out of bounds", "a number from 0 to 1"),
    ("nan", number(0.5, low=0.0, high=1.0), float("nan"), "nan is not a finite number", "a number"),
    ("infinity", number(0.5, low=0.0, high=1.0), float("inf"), "inf is not a finite number", "a number"),
    ("flag for number", number(0.5, low=0.0, high=1.0), True, "True is not a finite number", "a number"),
    ("text for number", number(0.5, low=0.0, high=1.0), "0.5", "'0.5' is not a finite number", "a number"),
    ("integer above", integer(3, low=1, high=9), 10, "10 is out of bounds", "a whole number from 1 to 9"),
    ("fraction", integer(3, low=1, high=9), 3.5, "3.5 is not a whole number", "a whole number from 1 to 9"),
    ("flag for integer", integer(1, low=0, high=9), True, "True is not a whole number", "a whole number"),
    ("infinity for integer", integer(1, low=0, high=9), float("inf"), "inf is not a whole number", "a whole number"),
    ("no option", choice("a", options=["a", "b"]), "c", "'c' is not an option", "one of 'a', 'b'"),
    ("unhashable option", choice("a", options=["a", "b"]), ["a"], "['a'] is not an option", "one of 'a', 'b'"),
    ("integer for flag", flag(True), 1, "1 is not a flag", "true or false"),
    ("text for flag", flag(True), "true", "'true' is not a flag", "true or false"),
    ("empty text", text("abc", min_chars=1), "", "the text is empty", "text of 1 to 4000 characters"),
    ("short text", text("abc", min_chars=3), "ab", "2 characters long", "text of 3 to 4000 characters"),
    ("long text", text("abc", max_chars=3), "abcd", "4 characters long", "text of 0 to 3 characters"),
    ("number for text", text("abc"), 3, "3 is not text", "text of 0 to 4000 characters"),
    ("surrogate", text("abc"), "a\ud800", "lone surrogates", "Remove them"),
    ("unparsable code", code("x = 1"), "x = (", "does not parse", "Python source of at most 8000 characters"),
    ("long code", code("x = 1", max_chars=5), "x = 22", "too long", "at most 5 characters"),
    ("null in code", code("x = 1"), "x = 1\x00", "does not parse", "Python source"),
    ("surrogate in code", code("x = 1"), "x = '\ud800'", "not text", "Python source"),
    ("deep code", code("x = 1"), "(" * 4000, "does not parse", "Python source"),
]


@pytest.mark.parametrize(("gene", "value", "problem", "remedy"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_a_refusal_says_what_is_wrong_and_what_is_allowed(gene: Gene, value: Any, problem: str, remedy: str) -> None:
    with pytest.raises(InvalidGene) as refused:
        gene.check(value)
    assert problem in refused.value.message
    assert remedy in refused.value.hint


@pytest.mark.parametrize(
    ("gene", "value", "kept"),
    [
        pytest.param(number(0.5, low=0, high=1), 1, 1.0, id="integer for number"),
        pytest.param(number(0.5, low=0, high=1), np.float64(0.25), 0.25, id="numpy scalar"),
        pytest.param(number(0.5, low=0, high=1), 0.0, 0.0, id="closed interval"),
        pytest.param(integer(3, low=1, high=9), 4.0, 4, id="whole float"),
        pytest.param(text("abc", max_chars=2), "éé", "éé", id="characters, not bytes"),
        pytest.param(text(""), "", "", id="empty text without a minimum"),
    ],
)
def test_a_value_is_kept_in_the_type_of_its_gene(gene: Gene, value: Any, kept: Any) -> None:
    found = gene.check(value)
    assert found == kept
    assert type(found) is type(kept)


def test_an_integer_too_large_for_a_float_is_refused_as_out_of_bounds() -> None:
    with pytest.raises(InvalidGene):
        number(0.5, low=0.0, high=1.0).check(10**400)


@pytest.mark.parametrize("high", [1234567.0, 0.1234567])
def test_the_bounds_in_words_are_values_the_gene_accepts(high: float) -> None:
    gene = number(0.0, low=0.0, high=high)
    assert gene.check(float(gene.bounds.split()[-1])) == high


ILL_DECLARED: list[tuple[str, Any, str]] = [
    ("value out of bounds", number(2.0, low=0.0, high=1.0), "2.0 is out of bounds"),
    ("bounds reversed", number(0.5, low=1.0, high=0.0), "low=1.0 is not below high=0.0"),
    ("bounds equal", integer(1, low=1, high=1), "low=1 is not below high=1"),
    ("bounds not finite", number(0.5, low=float("-inf"), high=1.0), "finite number"),
    ("bound not a number", number(0.5, low="0", high=1.0), "not well declared"),  # type: ignore[arg-type]
    ("bound nan", number(0.5, low=float("nan"), high=1.0), "low=nan is not below"),
    ("log from zero", number(0.5, low=0.0, high=1.0, log=True), "log=True with low=0.0"),
    ("log integer from zero", integer(1, low=0, high=9, log=True), "log=True with low=0"),
    ("one option", choice("a", options=["a"]), "options ('a',)"),
    ("options repeated", choice("a", options=["a", "a", "b"]), "options ('a', 'a', 'b')"),
    ("option no text", choice("a", options=["a", 3]), "not well declared"),  # type: ignore[list-item]
    ("value no option", choice("c", options=["a", "b"]), "'c' is not an option"),
    ("empty with a minimum", text("", min_chars=1), "the text is empty"),
    ("minimum above maximum", text("abc", min_chars=9, max_chars=3), "min_chars=9, max_chars=3"),
    ("minimum below zero", text("abc", min_chars=-1), "min_chars=-1"),
    ("code with an error", code("x = ("), "does not parse"),
    ("flag that is a number", flag(1), "1 is not a flag"),  # type: ignore[arg-type]
    ("lock that is text", flag(True, locked="yes"), "not well declared"),  # type: ignore[arg-type]
    ("no gene", 0.35, "is 0.35"),
]


@pytest.mark.parametrize(("gene", "problem"), [row[1:] for row in ILL_DECLARED], ids=[row[0] for row in ILL_DECLARED])
def test_a_wrong_declaration_is_refused_with_the_name_of_the_gene(gene: Any, problem: str) -> None:
    with pytest.raises(InvalidGene) as refused:
        declared("queue.billing", gene)
    assert "gene 'queue.billing'" in refused.value.message
    assert problem in refused.value.message
    assert refused.value.hint
    assert isinstance(refused.value, UsageError)


@pytest.mark.parametrize("name", ["", "x" * 201, "two\nlines", "\ud800"])
def test_a_gene_needs_a_printable_name(name: str) -> None:
    with pytest.raises(InvalidGene, match="is no name for a gene"):
        declared(name, flag(True))


@pytest.mark.parametrize(
    "gene",
    [
        pytest.param(choice("\ud800", options=["\ud800", "b"]), id="option"),
        pytest.param(flag(True, description="\ud800"), id="description"),
    ],
)
def test_a_declaration_that_utf8_cannot_hold_is_refused(gene: Gene) -> None:
    with pytest.raises(InvalidGene):
        declared("g", gene)


def test_a_logarithmic_gene_may_start_just_above_zero() -> None:
    assert declared("rate", number(1e-9, low=1e-9, high=1.0, log=True)).value == 1e-9


def test_a_gene_cannot_be_changed_in_place() -> None:
    gene = declared("g", number(0.5, low=0.0, high=1.0))
    with pytest.raises(ValidationError, match="frozen"):
        gene.value = 0.7
    assert gene.with_value(0.7).value == 0.7
    assert gene.value == 0.5


def test_another_value_is_checked_against_the_bounds() -> None:
    with pytest.raises(InvalidGene, match="out of bounds"):
        declared("g", number(0.5, low=0.0, high=1.0)).with_value(7)


def test_code_is_parsed_and_never_run(tmp_path: Any) -> None:
    mark = tmp_path / "ran"
    declared("g", code(f"open({str(mark)!r}, 'w')"))
    assert not mark.exists()


def test_code_is_not_searched_by_the_stand_in() -> None:
    assert not CodeGene.searchable
