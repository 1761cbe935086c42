"""Records Bedrock calls on a cassette and replays them, without a doubt about what was replayed.

vcrpy does the recording; `tape` closes the gaps it leaves for boto3 (https://vcrpy.readthedocs.io).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from .errors import CassetteError
from .player import Player
from .recorder import Recorder
from .tape import Recording, Tape
from .turn import CASSETTE_IN_USE

RecordMode = Literal["none", "missing", "all"]

__all__ = ["RecordMode", "Recording", "recorded"]


@contextmanager
def recorded(path: str | os.PathLike[str], *, mode: RecordMode = "none") -> Iterator[Recording]:
    """Replay the Bedrock calls of the `with` block from the cassette at `path`, or record them on it.

    Calls of all threads count, through any client of boto3, any endpoint and any region: a call is the same if its
    method, path and JSON body are the same. Equal calls are replayed in the order of the recording.

    Replaying sends nothing and needs neither credentials nor a region: both are provided where the environment has
    none, no profile is read and no Bedrock request is signed. Calls of boto3 to other services must go to this
    machine then; while recording, they are left alone.

    Recording replaces the file in one step when the block ends without an error.

    Args:
        path: The cassette, a YAML file.
        mode: `none` replays, `missing` records if there is no such file and replays if there is, `all` records.

    Returns:
        A context manager that gives the `Recording`: what has happened so far.

    Raises:
        CassetteError: On entering, the cassette is missing or corrupt (such a file is never overwritten), or another
            one is in use in this process. At the end, a recorded call was not made; or, recording, no call was made,
            or one never got a response (a timeout, a broken connection), which cannot be replayed.
        CassetteMissError: A call is not on the cassette: from the call itself, and again at the end of the block
            whatever caught it.
        ValueError: The mode is unknown.
    """
    if mode not in get_args(RecordMode):
        raise ValueError(f"mode is 'none', 'missing' or 'all', not {mode!r}")
    path = Path(path)
    if not CASSETTE_IN_USE.acquire(blocking=False):
        raise CassetteError(f"{path}: another cassette is active in this process; use one at a time")
    try:
        tape = _tape(path, mode)
        try:
            with tape.running():
                yield tape.recording
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # pytest.skip() would hide a miss as well as any handler
            tape.check_misses(error)
            raise
        tape.check_misses(None)
        tape.finish()
    finally:
        CASSETTE_IN_USE.release()


def _tape(path: Path, mode: RecordMode) -> Tape:
    if mode == "all" or (mode == "missing" and not path.exists()):
        return Recorder(path)
    return Player(path)
