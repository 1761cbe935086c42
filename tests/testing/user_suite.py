"""A user's own tests: a folder of their own, and pytest in a process of its own that finds the plugin as installed."""

import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.cli.command import bare_environment

ROOT = Path(__file__).parents[2]
SUITES = Path(__file__).with_name("suites")
PATIENCE_S = 120
WITHOUT = ("-p", "no:cacheprovider", "-p", "no:langsmith_plugin")  # the latter imports half of LangChain's stack
KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIACANARYCANARY0003",
    "AWS_SECRET_ACCESS_KEY": "canary-secret-key/of+a+suite=",
    "AWS_DEFAULT_REGION": "eu-central-1",
}
DEAD_PROXY = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
"""Whatever is meant for AWS ends here: the discard port, where nobody listens."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run of pytest ended: what became of each test, and what was told about it."""

    code: int
    out: str
    became: dict[str, str]
    told: dict[str, str]

    @property
    def counts(self) -> dict[str, int]:
        """How many tests passed, failed and so on."""
        every = list(self.became.values())
        return {end: every.count(end) for end in sorted(set(every))}


class UserSuite:
    """A folder with a user's tests.

    Args:
        folder: An empty folder.
        suites: Files of `suites/` to begin with; `calls.py` becomes `test_calls.py`.
    """

    def __init__(self, folder: Path, *suites: str) -> None:
        self.folder = folder / "suite"
        self._site, self._home = folder / "site", folder / "home"
        for path in (self.folder, self._home):
            path.mkdir()
        self.ini("")
        for name in suites:
            shutil.copyfile(SUITES / name, self.folder / f"test_{name}")
        _install_plugin(self._site)

    def ini(self, *settings: str) -> None:
        """Set what the suite's `pytest.ini` says."""
        (self.folder / "pytest.ini").write_text("\n".join(["[pytest]", *settings]), encoding="utf-8")

    def cassettes(self) -> dict[str, bytes]:
        """Return what the cassettes hold, by path."""
        paths = sorted((self.folder).rglob("*.yaml"))
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in paths}

    def run(self, *arguments: str, cwd: Path | None = None, **environment: str) -> Outcome:
        """Run pytest in the folder or another one, with nothing in the environment but what is given."""
        report = self._home / "report.xml"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *WITHOUT, f"--junitxml={report}", *arguments],
            cwd=cwd or self.folder,
            env=bare_environment(self._home, PYTHONPATH=str(self._site), **environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        became, told = {}, {}
        for case in ET.parse(report).getroot().iter("testcase"):
            ends = [child for child in case if child.tag in ("failure", "error", "skipped")]
            became[case.attrib["name"]] = ends[0].tag if ends else "passed"
            told[case.attrib["name"]] = "\n".join(f"{end.attrib.get('message', '')}\n{end.text}" for end in ends)
        return Outcome(done.returncode, done.stdout + done.stderr, became, told)


def _install_plugin(site: Path) -> None:
    """Write the metadata by which pytest finds the plugin; the development environment may have none."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]["pytest11"]
    metadata = site / "bedrock_evolution-0.0.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: bedrock-evolution\nVersion: 0.0.0\n")
    lines = ["[pytest11]", *(f"{name} = {module}" for name, module in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
