"""The garden on a cloud store, as a process: `python -m tests.cloud_garden FOLDER URL start|RUN [GENERATIONS]`.

It prints the run's id as soon as there is one, and its result as one JSON object at the end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bedrock_evolution import Evolution, EvolutionResult, Settings
from bedrock_evolution.dna.database import Database
from tests.garden import garden, slow_grow
from tests.support.cloud import Cloud

SEED, GENERATIONS = 5, 4
CHECKOUT = Path(__file__).parents[1]
PATIENCE_S = 240


def cloud_garden(folder: Path, url: str, **settings: object) -> Evolution:
    """Return the garden on a cloud store, with this machine's file in `folder`."""
    chosen = Settings(work_dir=folder, **settings)  # type: ignore[arg-type]
    return garden(folder, store=url, settings=chosen, evaluate=slow_grow, workers=2)


def started(there: Cloud, folder: Path, run: str = "start") -> subprocess.Popen[str]:
    """Start the garden in a process of its own, or let it go on with a run."""
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.cloud_garden", str(folder), there.url, run, str(GENERATIONS)],
        cwd=CHECKOUT,
        env=os.environ | there.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait until it has ended well, and return what it said last."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def main(folder: str, url: str, run: str, generations: int = GENERATIONS) -> None:
    evolution = cloud_garden(Path(folder), url)
    stream = evolution.stream(generations, seed=SEED) if run == "start" else evolution.stream_resumed(run)
    told, item = False, None
    for item in stream:
        if not told:
            print(item.run_id, flush=True)
            told = True
    assert isinstance(item, EvolutionResult)
    evolution.close()
    print(json.dumps({"status": item.status, "dna": item.dna_checksum, "waiting": waiting(Path(folder))}))


def waiting(folder: Path) -> int:
    """Return how many events wait in this machine's outbox."""
    [file] = folder.glob("*.db")
    return int(Database(file).rows("SELECT count(*) FROM outbox")[0][0])


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
