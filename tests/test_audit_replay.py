"""`Evolution.replay` does a run again from its records, and finds records that do not give what it did."""

import pytest

from tests.garden import garden


@pytest.fixture
def played(tmp_path):
    evolution = garden(tmp_path)
    result = evolution.run(4, seed=5, progress=False)
    assert result.dna_generation > 0
    return evolution, result


def alter(evolution, sql):
    with evolution._database.transaction("tables") as connection:
        assert connection.execute(sql).rowcount > 0


def test_an_untouched_run_comes_out_the_same_again(played):
    evolution, result = played
    report = evolution.replay(result.run_id)
    assert report.identical, report.difference
    assert report.dna_checksum == result.dna_checksum
    assert report.evaluations == result.evaluations


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE evaluations SET value = value * 1.1 WHERE part = 'validation' AND case_index = 0",
        "DELETE FROM evaluations WHERE part = 'validation'",
        "UPDATE dna SET checksum = 'x' WHERE generation = 1",
    ],
    ids=["the scores of one case", "no scores", "another DNA"],
)
def test_records_that_do_not_give_what_the_run_did_are_found(played, sql):
    evolution, result = played
    alter(evolution, sql)
    assert not evolution.replay(result.run_id).identical
