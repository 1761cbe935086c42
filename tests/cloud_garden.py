"""The garden on a cloud store, as a process: `python -m tests.cloud_garden FOLDER URL start|RUN [GENERATIONS]`.

It prints the run's id as soon as there is one, and its result as one JSON object at the end.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bedrock_evolution import Evolution, EvolutionResult, Settings
from bedrock_evolution.dna.database import Database
from tests.garden import garden, slow_grow

SEED = 5


def cloud_garden(folder: Path, url: str, **settings: object) -> Evolution:
    """Return the garden on a cloud store, with this machine's file in `folder`."""
    chosen = Settings(work_dir=folder, **settings)  # type: ignore[arg-type]
    return garden(folder, store=url, settings=chosen, evaluate=slow_grow, workers=2)


def main(folder: str, url: str, run: str, generations: int = 4) -> None:
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
