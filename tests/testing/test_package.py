"""What `bedrock_evolution.testing` offers, what it costs, and what it needs."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from bedrock_evolution import testing

HEAVY = ("boto3", "botocore", "vcr", "yaml", "pytest", "pydantic", "langchain_core")
USE = """
from pathlib import Path
from bedrock_evolution.testing import CassetteError, CassetteMissError, Recording, recorded, secrets_in

def use(path: Path) -> list[str]:
    try:
        with recorded(path, mode="missing") as recording:
            reveal_type(recording)
    except CassetteMissError as error:
        kind: type[CassetteError] = type(error)
    with recorded(str(path), mode="sometimes"):
        pass
    return secrets_in(path, ["secret"])
"""


@pytest.mark.parametrize("name", testing.__all__)
def test_a_public_name_is_the_one_of_its_home(name: str) -> None:
    home = import_module(testing._HOMES[name], "bedrock_evolution.testing")
    assert getattr(testing, name) is getattr(home, name)


def test_the_names_are_all_there() -> None:
    assert sorted(testing._HOMES) == testing.__all__ == dir(testing)
    with pytest.raises(AttributeError, match="no attribute 'replayed'"):
        _ = testing.replayed


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_the_package_brings_nothing_heavy() -> None:
    told = run("import bedrock_evolution.testing, sys; print(*(m for m in sys.modules if '.' not in m))").split()
    assert not {*told} & {*HEAVY}


@pytest.mark.parametrize("missing", ["vcr", "yaml"])
def test_what_is_not_installed_is_named_with_the_extra_that_brings_it(missing: str) -> None:
    told = run(
        f"import sys; sys.modules[{missing!r}] = None\n"
        "try:\n    from bedrock_evolution.testing import recorded\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    assert f"need {missing}, which is not installed" in told
    assert "pip install 'bedrock-evolution[testing]'" in told


@pytest.mark.slow
def test_the_public_names_are_typed(tmp_path: Path) -> None:
    (tmp_path / "use.py").write_text(USE, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", "cache", "use.py"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout.splitlines()
    assert len(told) == 3
    assert 'Revealed type is "bedrock_evolution.testing.tape.Recording"' in told[0]
    assert 'Argument "mode" to "recorded" has incompatible type "Literal[\'sometimes\']"' in told[1]
