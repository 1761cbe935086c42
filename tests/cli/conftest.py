"""The command line in this process, where start-up time matters more than the process."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bedrock_evolution.cli.app import run_command_line
from tests.cli.command import Answer, bare_environment

Cli = Callable[..., Answer]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Return the command line as a function; it runs in `tmp_path`, an application's project without settings."""
    for name in os.environ:
        if name.startswith(("AWS_", "BEDROCK_", "LANG")):
            monkeypatch.delenv(name)
    for name, value in bare_environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "pyproject.toml").touch()

    def run(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["bedrock-evolution", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exited:
            run_command_line()
        told = capsys.readouterr()
        return Answer(int(exited.value.code or 0), told.out, told.err)

    return run
