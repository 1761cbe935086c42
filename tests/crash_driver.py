"""Kills a process at each of its commit points, lets another go on, and tells what came of it.

A process of its own, because it forks: it imports once, stays single-threaded, and every run is a child.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution import Evolution
from bedrock_evolution.dna.commit_points import CommitPoint, Moment
from tests import crash_bill, crash_story
from tests.support.forked import in_child
from tests.support.stage import with_dummy_aws

Step = tuple[str, str, int]
"""A commit point, before or after, and for which time, from 1. The place in the whole sequence would not do: LangGraph
stores what a step wrote and the checkpoint before it in two threads at once."""
Result = dict[str, Any]

AT_ONCE = 2
AGAIN_AFTER = (20, 26, 40, 90)
"""Commit points after which a process that goes on is killed too: the first twenty are those of its start."""
SECOND_STORY = ("money.reserve", "money.settle", "routing.learn", "breaker.probe", "breaker.close", "breaker.count")


# -- points


def watched(app: Evolution) -> list[tuple[str, str]]:
    """Write down the commit points as they are reached."""
    reached: list[tuple[str, str]] = []
    app._database.reached = lambda point, moment: reached.append((point, moment))
    return reached


def numbered(reached: Iterable[tuple[str, str]]) -> list[Step]:
    """Number each commit point by how often it was reached."""
    counted: Counter[tuple[str, str]] = Counter()
    steps = []
    for point, moment in reached:
        counted[point, moment] += 1
        steps.append((point, moment, counted[point, moment]))
    return steps


def fatal(app: Evolution, step: Step) -> None:
    """Kill this process at a commit point."""
    count = itertools.count(1)

    def reached(point: CommitPoint, moment: Moment) -> None:
        if (point, moment) == step[:2] and next(count) == step[2]:
            os.kill(os.getpid(), signal.SIGKILL)

    app._database.reached = reached


def fatal_after(app: Evolution, points: int) -> None:
    """Kill this process when it has reached so many commit points, whichever they are."""
    count = itertools.count(1)

    def reached(point: CommitPoint, moment: Moment) -> None:
        if next(count) == points:
            os.kill(os.getpid(), signal.SIGKILL)

    app._database.reached = reached


def was_killed(status: int) -> bool:
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


# -- the garden


def whole_garden(folder: Path) -> Result:
    folder.mkdir()
    app = crash_story.garden(folder)
    reached = watched(app)
    crash_story.tend(app)
    steps, unsigned = numbered(reached), app.audit().unsigned
    return {"steps": steps, "unsigned": unsigned, "told": crash_story.told(app)}


def killed_garden(folder: Path, step: Step, whole: crash_story.Told, *, again_after: int = 0) -> Result:
    """Kill the story at one commit point, go on, and return how what is left differs from the whole story.

    Args:
        folder: Where it happens.
        step: The commit point.
        whole: What the whole story leaves behind.
        again_after: Kill the process that goes on too, when it has reached so many commit points; 0 for not at all.
    """
    folder.mkdir()

    def doomed(arm: Callable[[Evolution], None]) -> None:
        app = crash_story.garden(folder)
        arm(app)
        crash_story.tend(app)

    _, status = os.waitpid(in_child(lambda: doomed(lambda app: fatal(app, step))), 0)
    if again_after:
        os.waitpid(in_child(lambda: doomed(lambda app: fatal_after(app, again_after))), 0)
    app = crash_story.garden(folder)
    crash_story.tend(app)
    unsigned = app.audit().unsigned
    differences = crash_story.differences(whole, crash_story.told(app))
    return {"killed": was_killed(status), "unsigned": unsigned, "differences": differences}


# -- the story with model calls


def whole_bill(folder: Path) -> Result:
    folder.mkdir()
    with crash_bill.service() as endpoint:
        app = crash_bill.shop(folder, endpoint)
        reached = watched(app)
        crash_bill.tend(app)
        return {"steps": numbered(reached), **crash_bill.told(app, endpoint)}


def killed_bill(folder: Path, step: Step) -> Result:
    """Kill the story at one commit point, go on against the same service, and return the books."""
    folder.mkdir()
    reading, writing = os.pipe()

    def doomed() -> None:
        app = crash_bill.shop(folder, os.read(reading, 200).decode())
        fatal(app, step)
        crash_bill.tend(app)

    child = in_child(doomed)  # before the service has threads
    with crash_bill.service() as endpoint:
        os.write(writing, endpoint.url.encode())
        _, status = os.waitpid(child, 0)
        app = crash_bill.shop(folder, endpoint, again=True)
        crash_bill.tend(app)
        return {"killed": was_killed(status), **crash_bill.told(app, endpoint)}


# -- children


def begun(root: Path, name: str, work: Callable[[], Result]) -> int:
    return in_child(lambda: (root / f"{name}.json").write_text(json.dumps(work())))


def ended(root: Path, name: str, status: int) -> Result:
    return json.loads((root / f"{name}.json").read_text()) if status == 0 else {"failed": status}


def alone(root: Path, work: Callable[[], Result]) -> Result:
    """Do this in a child, and import what it imported: once for all children, instead of once in each."""
    known = set(sys.modules)

    def noted() -> Result:
        done = work()
        new = [name for name in sys.modules if name not in known]
        return done | {"modules": [name for name in new if getattr(sys.modules[name], "__file__", None)]}

    _, status = os.waitpid(begun(root, "whole", noted), 0)
    done = ended(root, "whole", status)
    for name in done.pop("modules"):
        importlib.import_module(name)
    return done


def several(root: Path, steps: Sequence[Step], work: Callable[[Path, Step], Result]) -> list[Result]:
    """Try all steps in children, a few at once."""
    waiting, running, results = list(steps), {}, []
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            step = waiting.pop(0)
            name = "-".join(map(str, step))
            running[begun(root, name, lambda folder=root / name, step=step: work(folder, step))] = name, step
        child, status = os.wait()
        name, step = running.pop(child)
        results.append({"step": step, **ended(root, name, status)})
        if len(results) % 25 == 0:
            print(f"{len(results)} of {len(steps)}", file=sys.stderr, flush=True)
    return results


def main() -> None:
    root, story = Path(sys.argv[1]), sys.argv[2]
    with pytest.MonkeyPatch.context() as patch:
        with_dummy_aws(patch)
        whole = alone(root, lambda: (whole_garden if story == "garden" else whole_bill)(root / "story"))
        steps: list[Step] = [(point, moment, number) for point, moment, number in whole["steps"]]
        if story == "garden":
            cases = several(root, steps, lambda folder, step: killed_garden(folder, step, whole["told"]))
            for points in AGAIN_AFTER:
                again = root / f"again-{points}"
                again.mkdir()
                firsts = [step for step in steps if step[2] == 1]
                cases += several(
                    again,
                    firsts,
                    lambda folder, step, points=points: killed_garden(folder, step, whole["told"], again_after=points),
                )
        else:
            cases = several(root, [step for step in steps if step[0] in SECOND_STORY], killed_bill)
    print(json.dumps({**whole, "cases": cases}))


if __name__ == "__main__":
    main()
