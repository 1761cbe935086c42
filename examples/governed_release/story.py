"""The whole story of a governed release, each command in a process of its own; it fails if it turns out otherwise.

`python story.py` plays it on a file, `python story.py "s3://BUCKET/PREFIX?table=TABLE&region=REGION"` in the cloud.
"""

import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
APP = "app.py:evolution"
PERSON, FORGER = "Maria Keller", "Somebody Else"
DONE, FAILED, WAITING = 0, 1, 3

# What a reader has in the environment plays no part, but for where a store in the cloud is.
OURS = "BEDROCK_EVOLUTION_"
KEPT = (f"{OURS}AWS_ENDPOINTS", f"{OURS}AUDIT_KMS_KEY")
# As the installed script does it; -P keeps this folder's modules off its path.
COMMAND = (sys.executable, "-P", "-c", "from bedrock_evolution.cli import main; main()")


class TurnedOutOtherwise(Exception):
    """An act did not end as it is told."""


class Stage:
    """Where the story plays: a store of its own, and the processes that use it.

    Args:
        folder: Where the store is, or this machine's working copy of it.
        cloud: The store's URL, if it is in the cloud.
    """

    def __init__(self, folder: Path, cloud: str = "") -> None:
        self._folder = folder
        given = {name: value for name, value in os.environ.items() if not name.startswith(OURS) or name in KEPT}
        self._environment = given | {
            f"{OURS}STORE": cloud or f"sqlite:///{folder}/evolution.db",
            f"{OURS}WORK_DIR": str(folder),
            f"{OURS}MODEL": "local",
            "COLUMNS": "110",
            "NO_COLOR": "1",
        }

    @property
    def path(self) -> Path:
        """The file, which is there once the application has been at work."""
        [file] = self._folder.glob("*.db")
        return file

    def command(self, *arguments: str, ends: int = DONE) -> str:
        """Run one command of the command line and return what it said."""
        shown = " ".join(f'"{word}"' if " " in word else word for word in arguments)
        return self._process(f"bedrock-evolution {shown}", [*COMMAND, *arguments], ends)

    def serve(self, days: int, week: str) -> str:
        """Let the application serve some days of customers."""
        return self._process(f"python live.py {days} {week}", [sys.executable, "live.py", str(days), week], DONE)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a kind, oldest first, as they are stored."""
        with closing(sqlite3.connect(self.path)) as store:
            rows = store.execute("SELECT document FROM events WHERE kind = ? ORDER BY seq", [kind]).fetchall()
        return [json.loads(document) for (document,) in rows]

    def _process(self, shown: str, arguments: list[str], ends: int) -> str:
        print(f"\n$ {shown}", flush=True)
        ended = subprocess.run(  # noqa: S603  # our own commands
            arguments,
            cwd=HERE,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            check=False,
        )
        for line in ended.stdout.strip().splitlines():
            print(f"  {line}".rstrip())
        if ends != DONE:
            print(f"  (exit code {ended.returncode})")
        check(ended.returncode == ends, f"`{shown}` ended with exit code {ended.returncode}, not {ends}")
        return ended.stdout


def check(true: bool, otherwise: str) -> None:
    """Go on only if the story is told as it is."""
    if not true:
        raise TurnedOutOtherwise(otherwise)


def act(number: int, title: str) -> None:
    """Print a heading."""
    heading = f"{number}. {title}"
    print(f"\n\n{heading}\n{'-' * len(heading)}")


def story(stage: Stage) -> None:
    """Tell it."""
    act(1, "The desk is at work, and tells how its customers liked it")
    stage.serve(3, "usual")

    act(2, "Evolution finds a change that the records like; it may not make it")
    run_id = found(r"run-\S+", stage.command("run", APP, "--generations", "2", "--seed", "1", ends=WAITING))
    check(stage.events("applied") == [], "something was applied without a person")

    act(3, "A person answers for it, in another process")
    approval = found(r"ap-\w+", stage.command("approvals"))
    stage.command("approve", approval, "--by", PERSON, "--why", "Too many false claims last year.")

    act(4, "The run goes on, and the change is live")
    stage.command("run", APP, "--resume", run_id)
    [applied] = stage.events("applied")
    check(applied["actor"] == PERSON and applied["data"]["decision"]["approval_id"] == approval, "not as approved")

    act(5, "The courier goes on strike: the new rules annoy honest customers, and are rolled back")
    stage.serve(6, "strike")
    restored = stage.events("restored")
    check(len(restored) == 1 and restored[0]["data"]["automatic"], "there is not one automatic rollback")
    stage.command("diff", "0", str(restored[0]["data"]["from"]))

    act(6, "What is live, and how it came about")
    stage.command("status")
    stage.command("history")

    act(7, "The record is whole, and the run comes out the same when it is done again")
    stage.command("audit", "verify")
    stage.command("audit", "replay", run_id)


def forgery(stage: Stage) -> None:
    """Alter a copy of the store: clumsily, then with all hashes made anew."""
    act(8, "On a copy, somebody puts another name under the approval")
    [answered] = stage.events("answered")
    with closing(sqlite3.connect(stage.path)) as store, store:
        store.execute("UPDATE events SET document = replace(document, ?, ?) WHERE kind = 'answered'", [PERSON, FORGER])
    told = stage.command("audit", "verify", ends=FAILED)
    check(f"event {answered['seq']} was altered" in told, "the altered event is not named")

    act(9, "… and chains all later events anew; but what was signed outside the store stays signed")
    with closing(sqlite3.connect(stage.path)) as store, store:
        chain_anew(store, answered["seq"])
    told = stage.command("audit", "verify", ends=FAILED)
    check(f"event {answered['seq']} is not the one that was signed" in told, "the signed event is not named")


def chain_anew(store: sqlite3.Connection, first: int) -> None:
    """Do what a forger does who knows how the record is made."""
    rows = store.execute("SELECT seq, hash, document FROM events WHERE seq >= ? ORDER BY seq", [first]).fetchall()
    signed = forged = ""
    for seq, digest, document in rows:
        altered = document.replace(signed, forged) if signed else document
        signed, forged = digest, hashlib.sha256(altered.encode()).hexdigest()
        store.execute("UPDATE events SET hash = ?, document = ? WHERE seq = ?", [forged, altered, seq])


def found(pattern: str, text: str) -> str:
    """Return the first match, as a reader would copy it from the screen."""
    match = re.search(pattern, text)
    check(match is not None, f"no {pattern} in what was said")
    return match.group() if match else ""


def main(cloud: str = "") -> None:
    """Play the story in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="governed-release-") as folder:
        store, copy = Path(folder, "store"), Path(folder, "copy")
        store.mkdir()
        try:
            story(Stage(store, cloud))
            shutil.copytree(store, copy)
            forgery(Stage(copy, cloud))
        except TurnedOutOtherwise as otherwise:
            sys.exit(f"\nThe story turned out otherwise: {otherwise}.")
    print("\nThe story turned out as told.")


if __name__ == "__main__":
    main(*sys.argv[1:])
