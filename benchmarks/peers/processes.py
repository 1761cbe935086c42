"""Runs a tool on a task in a process of its own, kills it where that is the point, and counts from outside."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.progress import Progress
from tasks import Answer, Task

HERE = Path(__file__).resolve().parent
OURS, GEPA, OPENEVOLVE = "bedrock-evolution", "gepa", "openevolve"
TOOLS = {OURS: "with_ours.py", GEPA: "with_gepa.py", OPENEVOLVE: "with_openevolve.py"}
_TOLD_LINES = 15
_POLL_S = 0.002
GRACE_S = 0.02
"""So long before a kill a score counts as still in flight: it has to reach the disk."""

Evaluation = tuple[str, str]
"""A candidate, by its hash, and a case."""


@dataclass(frozen=True, slots=True)
class Done:
    """A task that a tool did.

    Args:
        tool: Who did it.
        task: The task.
        answer: What the tool says.
        wall_s: Seconds from the start of the process to its exit; of a killed run, those of the second process.
        begun: Evaluations that were begun, from the log.
        lost: Of a killed run: evaluations that had ended `GRACE_S` before the kill, or earlier, and were made again.
    """

    tool: str
    task: Task
    answer: Answer
    wall_s: float
    begun: Counter[Evaluation]
    lost: int = 0

    @property
    def evaluations(self) -> int:
        """Evaluations that were begun, each time counted."""
        return self.begun.total()


def check_installed() -> dict[str, str]:
    """Return the versions of all tools, or end with what to do about one that is missing."""
    found: dict[str, str] = {}
    for tool in TOOLS:
        try:
            found[tool] = version(tool)
        except PackageNotFoundError:
            sys.exit(
                f"{tool} is not installed in {sys.prefix}, so there is nothing to compare with.\n"
                "Run `make bench-peers`, which makes an environment of its own, or install"
                " benchmarks/peers/requirements.txt."
            )
    return found


class Bench:
    """Does tasks one after another, never two at once, and shows how far it is.

    Args:
        bars: Where the progress is shown.
        row: What is measured.
        record: Receives everything that was done.
    """

    def __init__(self, bars: Progress, row: str, record: list[Done]) -> None:
        self._bars = bars
        self._row = row
        self._record = record
        self._bar = bars.add_task(row, total=None)

    def expect(self, processes: int) -> None:
        """Tell how many tasks there will be."""
        self._bars.update(self._bar, total=processes)

    def finish(self) -> None:
        """Show that nothing is left to do, where others did it before."""
        self._bars.update(self._bar, total=1, completed=1)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Show what is being done, and that it is done."""
        self._bars.update(self._bar, description=f"{self._row} · {what}")
        yield
        self._bars.update(self._bar, advance=1, description=self._row)

    @contextmanager
    def out_of_the_way(self) -> Iterator[None]:
        """Stop drawing, while a process draws its own progress."""
        self._bars.stop()
        yield
        self._bars.start()

    def run(self, tool: str, **given: Any) -> Done:
        """Let a tool do a task from beginning to end."""
        with self.step(f"{tool}, {given['setting']}"), _task(given) as task:
            began = time.perf_counter()
            answer = _finished(_start(tool, task), tool, task)
            done = Done(tool, task, answer, time.perf_counter() - began, _begun(_lines(task)))
        self._record.append(done)
        return done

    def run_killed(self, tool: str, whole: Done, *, seed: int, **given: Any) -> Done:
        """Kill a tool at a random point of its work, and let it go on from what it left.

        Args:
            tool: The tool.
            whole: The same task, done without interruption.
            seed: Of the random point.
            given: The task.
        """
        with self.step(f"{tool}, kill {seed}"), _task(given) as task:
            drawn = random.Random(seed)
            killed = _start(tool, task)
            _await_lines(killed, task, drawn.randrange(1, 2 * whole.evaluations))
            time.sleep(drawn.uniform(0, task.evaluator_s))
            landed = _begun(_lines(task), moment="end")
            time.sleep(GRACE_S)
            _kill(killed)
            before = _begun(_lines(task))
            began = time.perf_counter()
            answer = _finished(_start(tool, task), tool, task)
            wall_s = time.perf_counter() - began
            every = _begun(_lines(task))
            done = Done(tool, task, answer, wall_s, every, _lost(landed, before, every, whole.begun))
        self._record.append(done)
        return done


def _lost(
    landed: Counter[Evaluation], before: Counter[Evaluation], every: Counter[Evaluation], whole: Counter[Evaluation]
) -> int:
    """Count what was made again though it had landed; what an uninterrupted run makes twice is no loss."""
    after = every - before
    return sum(min(after[key], max(0, every[key] - max(1, whole[key]))) for key in landed)


@contextmanager
def _task(given: dict[str, Any]) -> Iterator[Task]:
    with tempfile.TemporaryDirectory(prefix="peers-") as scratch:
        folder = Path(scratch) / "work"
        folder.mkdir()
        task = Task(**given, folder=str(folder), log=str(Path(scratch) / "evaluations.log"))
        (Path(scratch) / "task.json").write_text(task.as_json(), encoding="utf-8")
        yield task


def _start(tool: str, task: Task) -> subprocess.Popen[str]:
    scratch = Path(task.folder).parent
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BEDROCK_EVOLUTION_")}
    with (scratch / "stderr.txt").open("a", encoding="utf-8") as errors:
        return subprocess.Popen(
            [sys.executable, str(HERE / TOOLS[tool]), str(scratch / "task.json")],
            cwd=scratch,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # so that a kill reaches its workers, too
        )


def _finished(process: subprocess.Popen[str], tool: str, task: Task) -> Answer:
    try:
        out, _ = process.communicate()
    except BaseException:
        _kill(process)
        raise
    if process.returncode:
        told = (Path(task.folder).parent / "stderr.txt").read_text(encoding="utf-8").splitlines()[-_TOLD_LINES:]
        sys.exit(f"{tool} failed on {replace(task, folder='', log='').as_json()}:\n" + "\n".join(told))
    return Answer.from_json(out.splitlines()[-1])


def _await_lines(process: subprocess.Popen[str], task: Task, wanted: int) -> None:
    """Wait until the log has so many lines, or the process has ended before."""
    while process.poll() is None and len(_lines(task)) < wanted:
        time.sleep(_POLL_S)


def _kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _lines(task: Task) -> list[str]:
    log = Path(task.log)
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def _begun(lines: list[str], *, moment: str = "begin") -> Counter[Evaluation]:
    parts = (line.split() for line in lines)
    return Counter((hashed, case) for when, hashed, case in parts if when == moment)
