"""Folders are floors: a module imports only from the floors below its own."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "bedrock_evolution"
FLOORS = {
    **dict.fromkeys(("settings", "errors", "clock"), 1),
    "dna": 2,
    **dict.fromkeys(("bedrock", "fitness"), 3),
    **dict.fromkeys(("governance", "healing"), 4),
    **dict.fromkeys(("tools", "prompts"), 5),
    "agents": 6,
    **dict.fromkeys(("graph", "monitoring"), 7),
    **dict.fromkeys(("__init__", "evolution", "progress", "results", "running", "stop"), 8),
    **dict.fromkeys(("cli", "cloud", "testing"), 9),
}
OUTSIDE = {"tests", "cassettes", "examples", "benchmarks", "docs", "infra", "build", "dist"}
"""Top-level folders that are no part of the package."""
SINGLE_MODULES = {1, 8}
"""Floors of modules that lie side by side in the root, and may know each other."""


def modules() -> list[Path]:
    """Return the package's modules, relative to the root."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
    return sorted(path for path in found if path.parts[0] not in OUTSIDE and not path.parts[0].startswith("."))


def imported(source: str, module: Path) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name, without the package's own, of every import of the package, wherever it stands."""
    package = list(module.parts[:-1])
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = package[: len(package) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((node.lineno, ".".join([*above, name])) for name in names)
        elif isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            whole = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (
                (node.lineno, name.removeprefix(f"{PACKAGE}.") if name != PACKAGE else "__init__")
                for name in whole
                if name.partition(".")[0] == PACKAGE
            )


def climbs(source: str, module: Path) -> list[str]:
    """Return the imports of a module that do not lead to a lower floor."""
    own = module.with_suffix("").parts[0]
    wrong: list[str] = []
    for line, name in imported(source, module):
        other = name.partition(".")[0]
        below = FLOORS.get(other, 99) < FLOORS[own]
        beside = FLOORS.get(other) == FLOORS[own] and FLOORS[own] in SINGLE_MODULES
        if not (other == own or below or beside):
            wrong.append(f"{module}:{line} imports {name}")
    return wrong


def test_every_module_has_a_floor():
    assert {path.with_suffix("").parts[0] for path in modules()} <= set(FLOORS)


def test_no_import_runs_up():
    assert [wrong for path in modules() for wrong in climbs((ROOT / path).read_text(encoding="utf-8"), path)] == []


@pytest.mark.parametrize(
    "source",
    [
        "from ..graph.state import EvolutionState",
        "from ..graph import state",
        "from .. import evolution",
        "import bedrock_evolution.graph.state",
        "import bedrock_evolution",
        "from bedrock_evolution import graph",
        "from bedrock_evolution.graph import state",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..agents.advisor import EvolutionAdvisor",
        "def late():\n    from ..cli import main",
        "from ..healing.incident import bounded",
        "from ..unheard_of import thing",
    ],
)
def test_an_import_that_runs_up_is_found_wherever_it_stands(source):
    assert len(climbs(source, Path("governance/rollback.py"))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "from .audit import verify",
        "from . import audit",
        "from ..dna.genes import Gene",
        "from ..errors import UsageError",
    ],
)
def test_an_import_that_stays_or_runs_down_is_allowed(source):
    assert climbs(source, Path("governance/rollback.py")) == []


def test_every_folder_of_the_package_is_listed_for_packaging():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    folders = {path.parent for path in modules() if path.name == "__init__.py"}
    assert sorted(listed) == sorted(".".join([PACKAGE, *folder.parts]) for folder in folders)


def test_no_module_lies_in_a_folder_that_is_no_package():
    packages = {path.parent for path in modules() if path.name == "__init__.py"}
    assert [path for path in modules() if path.parent not in packages] == []
