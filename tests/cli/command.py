"""The real command in a process of its own, with nothing in its environment but what a test gives."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

# As the installed script does it; -P keeps the working directory off the path, as scripts do.
COMMAND = (sys.executable, "-P", "-c", "from bedrock_evolution.cli import main; main()")
PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on standard output; anything beside it is an error."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


def bare_environment(home: Path, **extra: str) -> dict[str, str]:
    """Return an environment without AWS, proxies, tracing or settings of ours."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT") if name in os.environ}
    return kept | {"HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true", "LANGSMITH_TRACING": "false"} | extra


class Running:
    """A command at work in a folder, in a process group of its own."""

    def __init__(self, folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self._out = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # closed by `end`
        self._err = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # as above
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=folder,
            env=bare_environment(folder, **(env or {})),
            stdout=self._out,
            stderr=self._err,
            start_new_session=True,
        )

    def wait_for(self, text: str) -> None:
        """Wait until the command says something on standard error."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in (told := _read(self._err)):
            assert self.process.poll() is None, f"it ended early: {told}"
            assert time.monotonic() < deadline, f"it did not say {text!r}: {told}"
            time.sleep(0.01)

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        """Send a signal, by default that of Ctrl-C."""
        self.process.send_signal(number)

    def end(self) -> Answer:
        """Wait for the end, and kill a command that does not come to it."""
        with self._out, self._err, self.process:
            try:
                code = self.process.wait(PATIENCE_S)
            except BaseException:
                self.process.kill()
                raise
            return Answer(code, _read(self._out), _read(self._err))


def execute(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Answer:
    """Run the command in a folder to its end."""
    return Running(folder, *arguments, env=env).end()


def _read(file: IO[str]) -> str:
    file.seek(0)
    return file.read()
