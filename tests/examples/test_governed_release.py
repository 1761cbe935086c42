"""The governed release, played as its README tells a reader to, and what it must say in each act."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "governed_release"
PATIENCE_S = 300


def play(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(folder / "story.py")],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )


def acts(told: str) -> dict[int, str]:
    parts = re.split(r"\n(\d+)\. [^\n]+\n-+\n", told)
    return {int(number): said for number, said in zip(parts[1::2], parts[2::2], strict=True)}


@pytest.mark.slow
def test_the_story_turns_out_as_it_is_told() -> None:
    # What a reader has in the environment plays no part.
    played = play(FOLDER, BEDROCK_EVOLUTION_STORE="sqlite:///nowhere/at/all.db", BEDROCK_EVOLUTION_ALPHA="0.3")
    assert (played.returncode, played.stderr) == (0, "")
    told = acts(played.stdout)
    assert sorted(told) == list(range(1, 10))

    assert told[1].count("genes of generation 0") == 3
    assert "(exit code 3)" in told[2]
    assert "policy asks for a person: photo_" in told[3]
    assert re.search(r"ap-\w+ approved by Maria Keller", told[3])
    assert "DNA generation 1" in told[4]
    assert "notice" not in told[4], "a locked gene does not change"
    gains = re.findall(r"(?:validation \(decides\)|sealed test) .* \+([\d.]+)$", told[4], flags=re.MULTILINE)
    assert len(gains) == 2
    assert all(float(gain) > 0.1 for gain in gains), "offline, the change is a good one"

    [rolled_back] = re.findall(r"genes of generation 1, ([\d.]+) stars  <- rolled back: generation 2", told[5])
    before = [float(stars) for stars in re.findall(r"([\d.]+) stars", told[1])]
    assert float(rolled_back) < sum(before) / len(before) - 0.5, "live, it is a bad one"
    assert "genes of generation 2" in told[5].splitlines()[-6], "the last day is served with the genes of before"

    assert "generation 2 is live" in told[6]
    assert all(by in told[6] for by in ("live outcomes", "Maria Keller", "application"))
    assert "intact: " in told[7]
    assert re.search(r"PROBLEM event \d+ was altered", told[8])
    assert re.search(r"PROBLEM event \d+ is not the one that was signed", told[9])


@pytest.mark.slow
def test_the_story_fails_when_customers_do_not_mind(tmp_path: Path) -> None:
    """The ending is not written in the script: with customers who like photos nothing is rolled back."""
    for source in FOLDER.glob("*.py"):
        text = source.read_text(encoding="utf-8")
        (tmp_path / source.name).write_text(text.replace("_ANNOYED, _SCATTER = 0.75,", "_ANNOYED, _SCATTER = -0.75,"))
    played = play(tmp_path)
    assert played.returncode == 1
    assert "The story turned out otherwise: there is not one automatic rollback." in played.stderr
    assert sorted(acts(played.stdout)) == [1, 2, 3, 4, 5]
