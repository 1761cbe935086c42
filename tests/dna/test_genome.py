"""`SystemDNA` and `Mutation`: immutable, named by their content, and applied only where they are allowed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bedrock_evolution.dna.genes import flag, integer, number, text
from bedrock_evolution.dna.genome import SystemDNA
from bedrock_evolution.dna.mutation import Mutation
from bedrock_evolution.errors import InvalidGene, InvalidMutation
from tests.dna.strategies import ANYTHING, QUICK, dnas, inside, values_for


@pytest.fixture
def dna() -> SystemDNA:
    return SystemDNA.declare(
        "router",
        {
            "threshold": number(0.35, low=0.0, high=1.0),
            "retries": integer(2, low=0, high=5),
            "safe": flag(True, locked=True),
            "prompt": text("Be kind.", min_chars=1, max_chars=40),
        },
    )


def mutation(dna: SystemDNA, **changes: Any) -> Mutation:
    return Mutation(parent=dna.checksum, changes=changes, category="intelligence upgrade")


# -- the DNA


def test_the_first_generation_has_no_parent(dna: SystemDNA) -> None:
    assert (dna.generation, dna.parent, dna.mutation, dna.fitness) == (0, None, None, None)
    assert dna.values == {"threshold": 0.35, "retries": 2, "safe": True, "prompt": "Be kind."}


def test_a_wrong_declaration_names_the_gene() -> None:
    with pytest.raises(InvalidGene, match="gene 'b'"):
        SystemDNA.declare("app", {"a": flag(True), "b": number(9.0, low=0.0, high=1.0)})


def test_fields_cannot_be_set(dna: SystemDNA) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        dna.generation = 7


def test_genes_cannot_be_replaced_in_place(dna: SystemDNA) -> None:
    with pytest.raises(TypeError):
        dna.genes["threshold"] = number(0.9, low=0.0, high=1.0)


def test_values_cannot_be_replaced_in_place(dna: SystemDNA) -> None:
    with pytest.raises(TypeError):
        dna.values["threshold"] = 0.9


ALTERATIONS: dict[str, Any] = {
    "app": "other",
    "generation": 1,
    "parent": "f" * 64,
    "mutation": "m-1",
    "fitness": 0.5,
}


@pytest.mark.parametrize("name", SystemDNA.model_fields)
def test_the_checksum_covers_every_field(dna: SystemDNA, name: str) -> None:
    altered = ALTERATIONS.get(name) or {**dna.genes, "retries": integer(3, low=0, high=5)}
    assert dna.model_copy(update={name: altered}).checksum != dna.checksum


@pytest.mark.parametrize(
    "gene",
    [
        integer(2, low=0, high=6),
        integer(2, low=-1, high=5),
        integer(2, low=0, high=5, locked=True),
        integer(2, low=0, high=5, description="more"),
        integer(2, low=1, high=5, log=True),
        number(2.0, low=0, high=5),
    ],
    ids=["high", "low", "locked", "description", "log", "kind"],
)
def test_the_checksum_covers_every_part_of_a_gene(dna: SystemDNA, gene: Any) -> None:
    other = SystemDNA.declare("router", {**dna.genes, "retries": gene})
    assert other.checksum != dna.checksum


@QUICK
@given(dnas())
def test_stored_dna_reads_back_with_the_same_checksum(dna: SystemDNA) -> None:
    again = SystemDNA.model_validate_json(dna.model_dump_json())
    assert again == dna
    assert again.checksum == dna.checksum
    assert list(again.values) == list(dna.values)


# -- mutations


def test_the_same_proposal_is_the_same_mutation(dna: SystemDNA) -> None:
    one = Mutation(parent=dna.checksum, changes={"retries": 3, "threshold": 0.5}, category="a", rationale="because")
    other = Mutation(parent=dna.checksum, changes={"threshold": 0.5, "retries": 3}, category="b", probability=0.9)
    assert one.id == other.id


def test_another_parent_or_another_value_is_another_mutation(dna: SystemDNA) -> None:
    ids = {
        mutation(dna, retries=3).id,
        mutation(dna, retries=4).id,
        mutation(dna, threshold=0.3).id,
        mutation(dna.successor({}, mutation=None), retries=3).id,
    }
    assert len(ids) == 4


def test_a_mutation_cannot_be_changed_in_place(dna: SystemDNA) -> None:
    made = mutation(dna, retries=3)
    with pytest.raises(ValidationError, match="frozen"):
        made.parent = "another"


def test_the_changes_of_a_mutation_cannot_be_replaced_in_place(dna: SystemDNA) -> None:
    with pytest.raises(TypeError):
        mutation(dna, retries=3).changes["retries"] = 4


@pytest.mark.parametrize("wrong", [{"changes": {}}, {"probability": 1.5}, {"surprise": 1}])
def test_a_mutation_that_says_nothing_or_nonsense_cannot_be_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Mutation(**{"parent": "p", "changes": {"a": 1}, "category": "a"} | wrong)


@pytest.mark.parametrize("value", [True, 1, 1.0, "1"])
def test_a_value_keeps_its_type_in_a_mutation(value: Any) -> None:
    again = Mutation.model_validate_json(mutation_of(value).model_dump_json())
    assert type(again.changes["a"]) is type(value)
    assert again.id == mutation_of(value).id


def mutation_of(value: Any) -> Mutation:
    return Mutation(parent="p", changes={"a": value}, category="c")


# -- applying


def test_applying_gives_the_next_generation_and_leaves_the_parent_alone(dna: SystemDNA) -> None:
    before = dna.checksum
    made = mutation(dna, threshold=0.5)
    after = dna.apply(made, fitness=0.8)
    assert after.values == dna.values | {"threshold": 0.5}
    assert (after.generation, after.parent, after.mutation, after.fitness) == (1, before, made.id, 0.8)
    assert SystemDNA.model_validate(dna.as_json()).checksum == before
    assert dna.apply(made, fitness=0.8) == after


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"thresold": 0.5}, ["unknown gene 'thresold'", "threshold, retries, safe, prompt"], id="unknown"),
        pytest.param({"safe": False}, ["gene 'safe' is locked"], id="locked"),
        pytest.param({"safe": True}, ["gene 'safe' is locked"], id="locked to the same value"),
        pytest.param({"threshold": 1.5}, ["gene 'threshold'", "1.5 is out of bounds", "from 0 to 1"], id="bound"),
        pytest.param({"prompt": ""}, ["gene 'prompt'", "empty", "text of 1 to 40 characters"], id="empty text"),
        pytest.param({"retries": 3, "threshold": "high"}, ["gene 'threshold'", "'high'"], id="second of two"),
    ],
)
def test_a_refused_mutation_names_the_gene_and_the_bound(
    dna: SystemDNA, changes: dict[str, Any], said: list[str]
) -> None:
    with pytest.raises(InvalidMutation) as refused:
        dna.apply(Mutation(parent=dna.checksum, changes=changes, category="c"))
    assert all(words in str(refused.value) for words in said)


def test_a_mutation_made_for_another_dna_is_refused(dna: SystemDNA) -> None:
    made = mutation(dna, retries=3)
    with pytest.raises(InvalidMutation, match="was made for DNA"):
        dna.apply(made).apply(made)


def test_a_value_out_of_bounds_cannot_enter_by_way_of_a_successor(dna: SystemDNA) -> None:
    with pytest.raises(InvalidGene, match="out of bounds"):
        dna.successor({"retries": 99}, mutation=None)


@QUICK
@given(st.data())
def test_no_change_whatever_breaks_a_bound_or_a_lock(data: st.DataObject) -> None:
    dna = data.draw(dnas())
    names = st.sampled_from([*dna.genes, "unheard of"])
    wishes = data.draw(st.dictionaries(names, ANYTHING, min_size=1, max_size=3))
    wishes |= {name: data.draw(values_for(dna.genes[name])) for name in wishes if name in dna.genes}
    allowed = all(
        name in dna.genes and not dna.genes[name].locked and inside(dna.genes[name], value)
        for name, value in wishes.items()
    )
    forced = Mutation.model_construct(parent=dna.checksum, changes=wishes, category="c")
    try:
        checked = {name: dna.checked(name, value) for name, value in wishes.items()}
        after = dna.apply(forced.model_copy(update={"changes": checked}))
    except InvalidMutation:
        assert not allowed
        return
    assert allowed
    assert after.values == dna.values | wishes
    for name, gene in after.genes.items():
        assert gene.model_copy(update={"value": dna.values[name]}) == dna.genes[name], "only the value may change"
        assert inside(gene, gene.value)
