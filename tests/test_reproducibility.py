"""Equal seeds give equal runs, whatever evaluates them and in whatever order."""

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from tests.garden import async_grow, garden, grow_all

GENERATIONS = 5
EVALUATIONS = "SELECT genes, part, case_index, sample, value FROM evaluations ORDER BY 1, 2, 3, 4"


def checksum_and_records(folder, *, seed=3, **options):
    folder.mkdir(exist_ok=True)
    evolution = garden(folder, **options)
    result = evolution.run(GENERATIONS, seed=seed, progress=False)
    assert result.status == "done"
    assert result.dna_generation > 0, "a run that changes nothing would prove nothing"
    rows = evolution._database.rows(
        "SELECT genes, part, case_index, sample, value FROM evaluations ORDER BY 1, 2, 3, 4"
    )
    return result.dna_checksum, rows


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return checksum_and_records(tmp_path_factory.mktemp("reference"))


def test_same_seed_twice_gives_the_same_dna_and_the_same_evaluations(tmp_path, reference):
    assert checksum_and_records(tmp_path) == reference


def test_another_seed_gives_another_run(tmp_path, reference):
    assert checksum_and_records(tmp_path, seed=4)[1] != reference[1]


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_number_of_workers_does_not_matter(tmp_path, reference, workers):
    assert checksum_and_records(tmp_path, workers=workers) == reference


def test_thread_pool_of_the_caller_does_not_matter(tmp_path, reference):
    with ThreadPoolExecutor(3) as executor:
        assert checksum_and_records(tmp_path, executor=executor) == reference


def test_processes_do_not_matter(tmp_path, reference):
    with ProcessPoolExecutor(2) as executor:
        assert checksum_and_records(tmp_path, executor=executor) == reference


def test_async_evaluator_does_not_matter(tmp_path, reference):
    assert checksum_and_records(tmp_path, evaluate=async_grow) == reference


def test_batches_do_not_matter(tmp_path, reference):
    assert checksum_and_records(tmp_path, evaluate_all=grow_all) == reference
