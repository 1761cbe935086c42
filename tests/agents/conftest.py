"""A stage for the agents, opened once for a module, since making a client takes longer than a test."""

from collections.abc import Iterator

import pytest

from tests.support.stage import Stage, answering, staged


@pytest.fixture(scope="module")
def open_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest.fixture
def stage(open_stage: Stage) -> Stage:
    """Return the stage with a well-behaved model and no calls in its books."""
    open_stage.answer(answering())
    return open_stage
