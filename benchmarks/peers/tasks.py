"""What a tool is asked to do and what it answers, as JSON; standard library only, so that every environment has it."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Measure = Literal["overhead", "utilisation", "null", "budget", "kill"]

_MAXRSS_IN_A_MB = 2**20 if sys.platform == "darwin" else 2**10


@dataclass(frozen=True, slots=True)
class Task:
    """What a tool is asked to do.

    Args:
        measure: What is measured; with `null` every candidate is equally good.
        setting: The tool's own setting, by name.
        folder: An existing folder for everything that the tool writes.
        seed: Equal seeds give equal work.
        proposals: Candidates in all, besides the one it begins with.
        cases: Cases that the application has; what knows no cases scores all of them in one evaluation of its own.
        workers: Evaluations at once.
        evaluator_s: Seconds that scoring one case takes.
        model_s: Seconds that every model call takes.
        evaluations: Cases that may be scored in all, where the tool has such a limit.
        sigma: Standard deviation of the noise of a score.
        log: File in which every scored case leaves a line when it begins and one when it has ended; empty for none.
    """

    measure: Measure
    setting: str
    folder: str
    seed: int = 1
    proposals: int = 1000
    cases: int = 8
    workers: int = 1
    evaluator_s: float = 0.0
    model_s: float = 0.0
    evaluations: int | None = None
    sigma: float = 0.0
    log: str = ""

    def as_json(self) -> str:
        """Return the task as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Task:
        """Read a task."""
        return cls(**json.loads(text))


@dataclass(slots=True)
class Answer:
    """What a tool made of it.

    Args:
        tool: Its name.
        version: Its version.
        setting: Everything that was set, by name.
        ms_by_proposal: Milliseconds of wall time by proposal, in order (overhead).
        cpu_ms_by_proposal: The same in CPU time of the process.
        wall_s: Seconds from the first call of the tool to its end, imports excluded.
        evaluations: Scored cases, as the tool counts them.
        promotions: How often another candidate became the best, as the tool sees it.
        reported: The tool's own figure for its best candidate, from the scores it chose it by.
        sealed: The same from cases that it chose nothing by; None where the tool has none.
        true: What that candidate is worth without noise.
        best: The best candidate.
        peak_memory_mb: Largest resident set of the process, or of one of its children.
        disk_mb: What is left in the folder.
        notes: What a reader of the figures has to know.
    """

    tool: str
    version: str
    setting: dict[str, Any]
    ms_by_proposal: list[float] = field(default_factory=list)
    cpu_ms_by_proposal: list[float] = field(default_factory=list)
    wall_s: float = 0.0
    evaluations: int = 0
    promotions: int | None = None
    reported: float | None = None
    sealed: float | None = None
    true: float | None = None
    best: list[float] | None = None
    peak_memory_mb: float = 0.0
    disk_mb: float = 0.0
    notes: str = ""

    def as_json(self) -> str:
        """Return the answer as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Answer:
        """Read an answer."""
        return cls(**json.loads(text))


def answer(work: Callable[[Task], Answer]) -> None:
    """Do the task in the file that the command line names, and print the answer as the only line on stdout.

    Whatever the tool prints goes to stderr. Wall time is filled in unless `work` measured it; memory and disk are
    measured here, the same way for every tool.

    Args:
        work: Does a task with one tool.
    """
    task = Task.from_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    stdout = os.dup(1)
    os.dup2(2, 1)
    began = time.perf_counter()
    found = work(task)
    found.wall_s = found.wall_s or time.perf_counter() - began
    found.peak_memory_mb = peak_memory_mb()
    found.disk_mb = disk_mb(Path(task.folder))
    with os.fdopen(stdout, "w", encoding="utf-8") as out:
        print(found.as_json(), file=out)


def peak_memory_mb() -> float:
    """Return the largest resident set so far, of this process or of one child that has ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) / _MAXRSS_IN_A_MB


def disk_mb(folder: Path) -> float:
    """Return the size of all files in a folder, in megabytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
