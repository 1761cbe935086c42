"""The wheel holds the package, all of it and nothing else, and works alone."""

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.apps import APPS
from tests.cli.command import bare_environment
from tests.test_floors import ROOT, modules

PACKAGE = "bedrock_evolution"


def tracked() -> list[str]:
    """Return the files of the checkout as a clone would have them, newest edits included."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel from a copy, without a network."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in tracked():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    [path] = out.glob("*.whl")
    return path


def test_the_wheel_holds_every_module_prompt_and_marker_and_nothing_else(wheel):
    with ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    metadata = {name for name in names if ".dist-info/" in name}
    prompts = {path.relative_to(ROOT) for path in (ROOT / "prompts").rglob("*.md")}
    assert prompts
    wanted = {Path("py.typed"), *modules(), *prompts} & {Path(name) for name in tracked()}
    assert set(names) - metadata == {f"{PACKAGE}/{path.as_posix()}" for path in wanted}


def test_the_wheel_names_its_command_and_its_licence(wheel):
    with ZipFile(wheel) as archive:
        [points] = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "bedrock-evolution = bedrock_evolution.cli:main" in archive.read(points).decode()
        assert any("LICENSE" in name for name in archive.namelist())


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Install the wheel alone into a fresh environment, which borrows the dependencies of this one."""
    home = tmp_path_factory.mktemp("fresh")
    venv.create(home, symlinks=True, with_pip=False)
    python = home / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)],
        capture_output=True,
        text=True,
        check=True,
    )
    [site] = home.glob("lib/python*/site-packages")
    # A bare path: what this environment installed in development mode stays behind, as its own .pth are not read.
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (site / "borrowed.pth").write_text("\n".join(borrowed))
    return home


@pytest.mark.slow
def test_installed_alone_the_wheel_evolves_an_application_outside_the_repository(installed, tmp_path):
    shutil.copy(APPS / "climber.py", tmp_path / "climber.py")

    def run(*command: str) -> str:
        done = subprocess.run(
            [str(installed / "bin" / command[0]), *command[1:]],
            cwd=tmp_path,
            env=bare_environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    home = run("python", "-P", "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)").strip()
    assert Path(home).is_relative_to(installed)

    result = json.loads(
        run(
            "bedrock-evolution",
            "run",
            "climber.py:evolution",
            "--generations",
            "4",
            "--seed",
            "1",
            "--json",
            "--store",
            "sqlite:///store.db",
        )
    )
    assert result["status"] == "done"
    assert result["fitness"] > result["baseline_fitness"]
    verified = json.loads(run("bedrock-evolution", "audit", "verify", "--json", "--store", "sqlite:///store.db"))
    assert verified["intact"]
