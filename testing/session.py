"""The recorded session of one test: where its cassette lies, how it is opened, and how it ends."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from .errors import CassetteError

if TYPE_CHECKING:
    from .recording import RecordMode

MARKER = "bedrock_session"

_LONGEST_NAME = 120  # characters; file systems take 255 bytes
_UNSAFE = re.compile(r"[^A-Za-z0-9_.\[\]=+-]")


class OpenSession:
    """A cassette in use by a test.

    Args:
        item: The test.
        mode: What `--bedrock-record` says.

    Raises:
        CassetteError: The cassette is corrupt, or another one is in use.
    """

    def __init__(self, item: pytest.Item, mode: RecordMode) -> None:
        from . import recorded

        self._item = item
        path = cassette_path(item)
        if mode == "none" and not path.exists():
            fail(
                f"{path}: this test has no cassette. Record it, which calls Bedrock with your credentials and costs "
                f"money: {record_command(item, 'missing')}"
            )
        self._context = recorded(path, mode=mode)
        self.recording = self._context.__enter__()
        self._open = True
        self._told = 0

    def end(self, error: BaseException | None) -> None:
        """End the session with the test; `error` is what the test ended with.

        Raises:
            CassetteError: A call missed the cassette, or one that is on it was not made, and the test ended with an
                error; without one, pytest is told that the test failed.
        """
        __tracebackhide__ = True
        self._open = False
        try:
            self._context.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
        except CassetteError as problem:
            again = f"To record it again: {record_command(self._item, 'all')}"
            if error is None:
                fail(f"{problem}\n{again}")
            problem.add_note(again)
            raise problem.with_traceback(None) from error  # where it was raised is of no interest to a user
        finally:
            self._told = len(self.recording.misses)

    def settle(self) -> None:
        """End a session whose test never began, and fail a test that left a thread behind which went on calling."""
        if self._open:
            self.end(_NeverBegan())
        if late := self.recording.misses[self._told :]:
            fail(f"{self.recording.path}: {'; '.join(late)}; wait for all calls in the test")


class _NeverBegan(Exception):
    """Ends a session without looking for calls that were not made, and without writing."""


def cassette_path(item: pytest.Item) -> Path:
    """Return where the cassette of a test lies.

    Raises:
        TypeError: The marker's arguments are not one name or path.
    """
    marker = item.get_closest_marker(MARKER)
    named = _named(*marker.args, **marker.kwargs) if marker else None
    folder = item.path.parent
    if named and named.endswith((".yaml", ".yml")):
        return folder / named
    return folder / "cassettes" / item.path.stem / f"{_file_name(named or _test_name(item))}.yaml"


def fail(message: str) -> NoReturn:
    """Fail the test with a message that needs no traceback."""
    pytest.fail(message, pytrace=False)


def record_command(item: pytest.Item, mode: RecordMode) -> str:
    """Return the command that records a test, for the folder that pytest was called in."""
    _, colons, test = item.nodeid.partition("::")
    file = os.path.relpath(item.path, item.config.invocation_params.dir)
    return f"pytest {shlex.quote(file + colons + test)} --bedrock-record={mode}"


def _named(name: str | None = None) -> str | None:
    return None if name is None else str(name)


def _test_name(item: pytest.Item) -> str:
    # Not the node id: pytest-xdist may add a group to it.
    return ".".join(node.name for node in item.listchain() if isinstance(node, pytest.Class | pytest.Item))


def _file_name(name: str) -> str:
    safe = _UNSAFE.sub("-", name)[:_LONGEST_NAME]
    # What another name could become, too, is told apart by a hash.
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
