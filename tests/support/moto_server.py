"""AWS services on this machine: a moto server in a process of its own, so that two of them share nothing.

What moto gets wrong: https://docs.getmoto.org/en/latest/docs/services/index.html
"""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

_RUNNING = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")
_PATIENCE_S = 60.0
_POLL_S = 0.02


@dataclass(frozen=True)
class MotoServer:
    """A server at work; each region of each service answers at the same URL."""

    url: str
    process: subprocess.Popen[bytes]

    def freeze(self) -> None:
        """Let it accept connections and answer none of them, as a region does that hangs."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it without a word, as a region does that is lost."""
        self.process.kill()
        self.process.wait()


@contextmanager
def moto_server() -> Iterator[MotoServer]:
    """Run a server until the block ends; point `endpoint_url` or AWS_ENDPOINT_URL_<SERVICE> at its URL."""
    with TemporaryDirectory(prefix="moto-") as folder:
        log = Path(folder, "log")
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={"PATH": "", "HOME": folder, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        try:
            yield MotoServer(_url(process, log), process)
        finally:
            process.kill()
            process.wait()


def _url(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        told = log.read_text(encoding="utf-8", errors="replace")
        if found := _RUNNING.search(told):
            return found[1]
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the moto server did not start: {told}")
        time.sleep(_POLL_S)
