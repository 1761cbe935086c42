"""What was altered after a run is the first difference that its replay reports."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bedrock_evolution.dna.database import Database
from bedrock_evolution.errors import IntegrityError
from bedrock_evolution.fitness.scorer import genes_key
from bedrock_evolution.graph.checkpoints import SERIALIZER
from bedrock_evolution.graph.replay import replay
from bedrock_evolution.graph.replaying.differences import Difference, first_difference
from tests.garden import GENES
from tests.graph.recorded import answered

ONE_EVALUATION = "(genes, part, case_index, sample) = (SELECT genes, part, case_index, sample FROM evaluations LIMIT 1)"
DECLARED = genes_key({name: gene.value for name, gene in GENES.items()})


class Store:
    """A copy of a run on record, to be altered."""

    def __init__(self, path: Path, run_id: str) -> None:
        self.database = Database(path)
        self.run_id = run_id

    def alter(self, sql: str, *parameters: Any) -> None:
        with self.database.transaction("tables") as connection:
            assert connection.execute(sql, parameters).rowcount == 1

    def row(self, sql: str, *parameters: Any) -> tuple[Any, ...]:
        found = self.database.row(sql, parameters)
        assert found is not None
        return found

    def difference(self) -> Difference:
        found = replay(self.database, self.run_id).difference
        assert found is not None, "the replay noticed nothing"
        return found


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("original")
    app, result = answered(folder, "approve")
    assert replay(app._database, result.run_id).identical
    app.close()
    return folder / "g.db", result.run_id


@pytest.fixture
def store(original: tuple[Path, str], tmp_path: Path) -> Iterator[Store]:
    path = Path(shutil.copy(original[0], tmp_path / "copy.db"))
    store = Store(path, original[1])
    yield store
    store.database.close()


def flipped(document: bytes, place: int, bit: int = 0) -> bytes:
    return document[:place] + bytes([document[place] ^ (1 << bit)]) + document[place + 1 :]


# -- answers of models


def test_one_changed_byte_in_a_response_is_the_first_difference(store: Store) -> None:
    rowid, document = store.row(
        "SELECT rowid, CAST(document AS BLOB) FROM model_calls WHERE step = '2/advisor' AND number = 2"
    )
    store.alter("UPDATE model_calls SET document = ? WHERE rowid = ?", flipped(document, len(document) // 2), rowid)
    found = store.difference()
    assert found.where == "2/advisor"
    assert "answer 2" in found.field
    assert found.recorded != found.replayed


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choice=st.integers(0, 10**6), place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_changed_bit_of_any_response_is_found_where_it_is(store: Store, choice: int, place: int, bit: int) -> None:
    answers = store.database.rows("SELECT rowid, step, CAST(document AS BLOB) FROM model_calls ORDER BY rowid")
    rowid, step, document = answers[choice % len(answers)]
    kept = store.row("SELECT document FROM model_calls WHERE rowid = ?", rowid)[0]
    altered = flipped(document, place % len(document), bit)
    store.alter("UPDATE model_calls SET document = CAST(? AS TEXT) WHERE rowid = ?", altered, rowid)
    try:
        assert store.difference().where == step
    finally:
        store.alter("UPDATE model_calls SET document = ? WHERE rowid = ?", kept, rowid)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM model_calls WHERE step = '1/advisor' AND number = 2",
        "UPDATE model_calls SET step = '1/adviser' WHERE step = '1/advisor' AND number = 2",
        "UPDATE model_calls SET number = 9 WHERE step = '1/advisor' AND number = 1",
    ],
    ids=["missing", "under another step", "in another order"],
)
def test_answers_that_are_not_where_they_were_are_found(store: Store, sql: str) -> None:
    store.alter(sql)
    assert store.difference().where == "1/advisor"


# -- scores and candidates


def test_an_altered_score_is_found_in_the_step_that_used_it(store: Store) -> None:
    store.alter(
        "UPDATE evaluations SET value = value + 0.001 WHERE part = 'train' AND case_index = 0 AND genes = ?", DECLARED
    )
    found = store.difference()
    assert found.where.startswith(("step 2, generation 1, observe", "step 4, generation 1", "1/advisor"))
    assert found.recorded != found.replayed


def test_a_score_that_is_gone_is_named(store: Store) -> None:
    store.alter("DELETE FROM evaluations WHERE part = 'validation' AND case_index = 0 AND genes = ?", DECLARED)
    assert "was never scored" in store.difference().field


def test_an_altered_candidate_is_named_with_its_field(store: Store) -> None:
    store.alter("UPDATE trials SET fitness = fitness + 1 WHERE generation = 2 AND slot = 0")
    found = store.difference()
    assert (found.where, found.field) == ("generation 2, candidate 0", "fitness")
    assert found.recorded == pytest.approx(found.replayed + 1)


@pytest.mark.parametrize("name", ["rationale", "origin"])
def test_an_altered_reason_of_a_candidate_is_named(store: Store, name: str) -> None:
    path = f"$.about.{name}"
    store.alter("UPDATE trials SET document = json_set(document, ?, 'x') WHERE generation = 1 AND slot = 1", path)
    found = store.difference()
    assert (found.where, found.field, found.recorded) == ("generation 1, candidate 1", f"about.{name}", "x")


# -- the run, its steps, the DNA


def test_an_altered_request_is_named(store: Store) -> None:
    store.alter("UPDATE runs SET request = json_set(request, '$.autonomy.ask_above', 1.0)")
    found = store.difference()
    assert (found.field, found.recorded, found.replayed) == ("request.autonomy.ask_above", 1.0, 0.85)


@pytest.mark.parametrize(
    ("sql", "field"),
    [
        ("UPDATE runs SET seed = seed + 1", "seed"),
        ("UPDATE runs SET summary = json_set(summary, '$.fitness', 9.0)", "fitness"),
    ],
)
def test_an_altered_run_is_named(store: Store, sql: str, field: str) -> None:
    store.alter(sql)
    assert store.difference().field == field


def checkpoint(store: Store, node: str, generation: int) -> tuple[int, bytes]:
    """Return the checkpoint after a step."""
    for rowid, document in store.database.rows("SELECT rowid, checkpoint FROM checkpoints ORDER BY checkpoint_id"):
        values = SERIALIZER.loads_typed(("msgpack+zlib", document))["channel_values"]
        if values.get("generation") == generation and f"branch:to:{node}" in values:
            return rowid, document
    raise AssertionError("there is no such step")


def test_an_altered_state_is_the_first_difference(store: Store) -> None:
    rowid, document = checkpoint(store, "decide", 2)
    altered = SERIALIZER.loads_typed(("msgpack+zlib", document))
    altered["channel_values"]["pool"][0]["gain"] += 0.5
    store.alter("UPDATE checkpoints SET checkpoint = ? WHERE rowid = ?", SERIALIZER.dumps_typed(altered)[1], rowid)
    found = store.difference()
    assert "generation 2, trial" in found.where
    assert found.field == "pool[0].gain"
    assert found.recorded == pytest.approx(found.replayed + 0.5)


def test_a_state_that_cannot_be_read_any_more_is_the_first_difference(store: Store) -> None:
    rowid, document = checkpoint(store, "decide", 2)
    store.alter("UPDATE checkpoints SET checkpoint = ? WHERE rowid = ?", document[: len(document) // 2], rowid)
    found = store.difference()
    assert "generation 2, trial" in found.where
    assert "Error" in found.recorded or "Exception" in found.recorded


def test_random_bytes_in_a_state_never_end_a_replay_in_confusion(store: Store) -> None:
    draw = random.Random(3)
    rowid, document = checkpoint(store, "decide", 1)
    for _ in range(12):
        altered = flipped(document, draw.randrange(len(document)), draw.randrange(8))
        store.alter("UPDATE checkpoints SET checkpoint = ? WHERE rowid = ?", altered, rowid)
        found = replay(store.database, store.run_id).difference
        assert found is None or "generation 1, trial" in found.where or found.where.startswith("step")


def test_altered_dna_is_reported(store: Store) -> None:
    store.alter(
        "UPDATE dna SET document = json_set(document, '$.genes.water.value', 0.123) WHERE generation = 1",
    )
    found = store.difference()
    assert (found.where, found.field, found.recorded) == ("DNA generation 1", "genes.water.value", 0.123)


def test_an_altered_event_is_refused_by_its_number(store: Store) -> None:
    store.alter("UPDATE events SET document = replace(document, 'Ann', 'Bob') WHERE kind = 'answered' AND seq < 8")
    with pytest.raises(IntegrityError, match="event 5 was altered"):
        replay(store.database, store.run_id)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (f"UPDATE evaluations SET detail = '{{\"feedback' WHERE {ONE_EVALUATION}", "an evaluation cannot be read"),
        (f"UPDATE evaluations SET detail = '{{\"shade\": 1}}' WHERE {ONE_EVALUATION}", "an evaluation cannot be read"),
        ("UPDATE trials SET document = '{}' WHERE generation = 1 AND slot = 0", "a trial cannot be read"),
        ("UPDATE events SET document = 'x' WHERE kind = 'begun'", "event 2 cannot be read"),
        ("UPDATE dna SET checksum = 'x' WHERE generation = 0", "the DNA that was live when the run began"),
    ],
)
def test_a_record_that_cannot_be_read_is_an_error_that_names_it(store: Store, sql: str, said: str) -> None:
    store.alter(sql)
    with pytest.raises(IntegrityError, match=said):
        replay(store.database, store.run_id)


def test_an_event_that_is_gone_is_reported(store: Store) -> None:
    """Even where those after it were numbered and chained anew."""
    with sqlite3.connect(store.database.path) as connection:
        connection.execute("DELETE FROM events WHERE kind = 'ended'")
    connection.close()
    assert "ended" in store.difference().where


# -- values


def test_the_first_difference_is_named_by_its_path() -> None:
    recorded = {"a": 1, "b": {"c": [1, {"d": 2.5}]}, "e": None}
    assert first_difference("here", recorded, json.loads(json.dumps(recorded))) is None
    found = first_difference("here", recorded, {"a": 1, "b": {"c": [1, {"d": 2.6}]}, "e": 3})
    assert found == Difference("here", "b.c[1].d", 2.5, 2.6)
    assert str(found) == "here: b.c[1].d\n  recorded: 2.5\n  replayed: 2.6"


@pytest.mark.parametrize(
    ("recorded", "replayed", "field"),
    [
        ({"a": [1, 2]}, {"a": [1]}, "a (length)"),
        ({"a": 1}, {}, "a"),
        ({}, {"a": 1}, "a"),
        ({"a": {"b": 1}}, {"a": None}, "a"),
        (1, 2, ""),
    ],
)
def test_differences_of_every_kind_are_seen(recorded: Any, replayed: Any, field: str) -> None:
    found = first_difference("here", recorded, replayed)
    assert found is not None
    assert found.field == field


def test_long_values_are_cut_where_they_are_shown() -> None:
    assert len(str(Difference("here", "text", "x" * 10_000, None))) < 300
