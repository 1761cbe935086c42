"""What a run tells while it works."""

from pathlib import Path

import pytest

from tests.garden import garden


def test_where_nobody_watches_a_line_is_written_for_each_generation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evolution = garden(tmp_path)
    evolution.run(4, seed=5)
    evolution.close()
    said = [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert [line for line in said if line.startswith("generation")] == [f"generation {n}/4" for n in (1, 2, 3, 4)]
