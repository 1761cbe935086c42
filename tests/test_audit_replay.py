"""`audit replay` decides a run again from its records, and finds records that do not give those decisions."""

import pytest

from bedrock_evolution.governance.audit import replay
from tests.garden import garden


@pytest.fixture
def played(tmp_path):
    evolution = garden(tmp_path)
    result = evolution.run(4, seed=5, progress=False)
    assert result.dna_generation > 0
    return evolution, result.run_id


def replayed(played):
    evolution, run_id = played
    return replay(evolution.store, evolution._services.journal, run_id)


def alter(played, sql):
    with played[0]._database.transaction() as connection:
        assert connection.execute(sql).rowcount > 0


def test_an_untouched_run_is_decided_the_same_again(played):
    report = replayed(played)
    assert report.intact
    assert report.checked >= played[0].dna.generation


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE evaluations SET value = value * 1.1 WHERE part = 'validation' AND case_index = 0",
        "DELETE FROM evaluations WHERE part = 'validation'",
        "UPDATE runs SET request = json_set(request, '$.alpha', 0.4)",
    ],
    ids=["the scores of one case", "no scores", "another alpha"],
)
def test_records_that_do_not_give_the_decisions_are_found(played, sql):
    alter(played, sql)
    assert replayed(played).problems
