"""What starting costs: which libraries are imported by when, each time in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = "import bedrock_evolution as b\nfor name in b.__all__: getattr(b, name)\n"
GARDEN = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from tests.garden import garden
evolution = garden(Path("."))
"""
SERVICES = NAMES + GARDEN + "evolution._services\n"
RUN = NAMES + GARDEN + "assert evolution.run(2, seed=1, progress=False).status == 'done'\n"
REPLAY = (
    RUN
    + "run = evolution.store.recent('garden', ['begun'], limit=1)[0].run_id\nassert evolution.replay(run).identical\n"
)

AGENTS = {"langchain", "langchain_aws", "boto3", "botocore", "genai_prices", "optuna", "sklearn", "scipy"}
"""What a run with the stand-in never needs."""
GRAPH = AGENTS | {"langgraph", "langchain_core", "langsmith", "rich", "typer", "requests", "httpx", "urllib3"}
"""What is not needed until the graph is compiled."""
STORE = GRAPH | {"sqlite_utils", "numpy", "cryptography"}
"""What is not needed until a store is opened."""


@pytest.mark.parametrize(
    ("code", "unneeded"),
    [(NAMES, STORE), (SERVICES, GRAPH), (RUN, AGENTS), (REPLAY, AGENTS)],
    ids=["the public names", "an application and its services", "a run with the stand-in", "its replay"],
)
def test_nothing_is_imported_before_it_is_needed(code: str, unneeded: set[str], tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sorted(name for name in sys.modules if '.' not in name))"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {*told} & unneeded


def test_everything_that_is_looked_for_can_be_imported_here() -> None:
    """A misspelt name would never be found in `sys.modules` either."""
    code = "from importlib.util import find_spec; import sys; print(*(n for n in sys.argv[1:] if not find_spec(n)))"
    missing = subprocess.run(
        [sys.executable, "-c", code, *sorted(STORE)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert missing == []
