"""The public names: all there, each at home in one module, and free until they are used."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import bedrock_evolution

HEAVY = ("langgraph", "langchain", "langchain_core", "boto3", "optuna", "numpy", "pydantic", "rich", "sqlite_utils")


@pytest.mark.parametrize("name", bedrock_evolution.__all__)
def test_a_public_name_is_the_one_of_its_home(name):
    home = import_module(bedrock_evolution._HOMES[name], "bedrock_evolution")
    assert getattr(bedrock_evolution, name) is getattr(home, name)


def test_the_lists_of_names_agree():
    source = Path(bedrock_evolution.__file__).read_text(encoding="utf-8")
    typed = {
        alias.name: f".{node.module}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    assert typed == bedrock_evolution._HOMES
    assert sorted(bedrock_evolution.__all__) == sorted(typed)
    assert dir(bedrock_evolution) == sorted(typed)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'evolve_everything'"):
        _ = bedrock_evolution.evolve_everything


@pytest.mark.parametrize(
    "code",
    [
        "import bedrock_evolution",
        "import bedrock_evolution.cli.app as cli; cli.typer.main.get_command(cli.app)",
    ],
    ids=["the package", "the command line"],
)
def test_importing_brings_nothing_heavy(code):
    told = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sorted(m for m in sys.modules if '.' not in m))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {*told} & {*HEAVY}
