"""The pytest plugin: `@pytest.mark.bedrock_session`, `--bedrock-record`, and no Bedrock call outside a session.

pytest loads it wherever this package is installed (entry point `bedrock_evolution`; `-p no:bedrock_evolution` keeps it
out), so it imports nothing that a test has not asked for.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING

import pytest

from .errors import ModelCallRefused
from .guard import ModelCallGuard
from .session import MARKER, OpenSession, fail, record_command

if TYPE_CHECKING:
    from .recording import Recording

LIVE = "bedrock_live"
BEFORE = "before this test: on import, or in a thread that an earlier test left behind"
AFTER = "after the last test: in a thread that it left behind"

_GUARD = pytest.StashKey[ModelCallGuard]()
_OPEN = pytest.StashKey[OpenSession]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that lets tests record, and the setting that lets all of them call Bedrock."""
    parser.getgroup("bedrock-evolution", "recorded Bedrock sessions").addoption(
        "--bedrock-record",
        choices=["none", "missing", "all"],
        default="none",
        help="Bedrock calls of tests marked bedrock_session: 'none' replays them (default), 'missing' records those "
        "of tests without a cassette, 'all' records them again. Recording calls Bedrock and costs money.",
    )
    parser.addini(LIVE, "let every test call Bedrock outside a recorded session", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers, and refuse Bedrock calls from now on."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(name=None): record the Bedrock calls of the test, or replay them, on a cassette: a name, or the "
        "path of a .yaml file from the test's folder; cassettes/<test module>/<test name>.yaml unless given",
    )
    config.addinivalue_line("markers", f"{LIVE}: let the test call Bedrock outside a recorded session")
    guard = config.stash[_GUARD] = ModelCallGuard()
    if not config.getini(LIVE):
        guard.install()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Refuse no more Bedrock calls."""
    guard = config.stash.get(_GUARD, None)  # none, if another plugin could not be configured
    if guard is not None:
        guard.remove()


@pytest.fixture
def bedrock_session(request: pytest.FixtureRequest) -> Iterator[Recording]:
    """Record the Bedrock calls of the test, or replay them; gives the `Recording`.

    The session ends with the test function, before any fixture is torn down.
    """
    session = request.node.stash[_OPEN] = OpenSession(request.node, request.config.getoption("--bedrock-record"))
    yield session.recording
    session.settle()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give a marked test the fixture: after those of wider scope, before those that may need a session."""
    if not isinstance(item, pytest.Function) or item.get_closest_marker(MARKER) is None:
        return
    names = [name for name in item.fixturenames if name != MARKER]
    known = item._fixtureinfo.name2fixturedefs  # noqa: SLF001  # pytest tells a fixture's scope nowhere else
    own = (index for index, name in enumerate(names) if name in known and known[name][-1].scope == "function")
    names.insert(next(own, len(names)), MARKER)
    item.fixturenames = names  # not changed in place: the list may belong to unmarked parameters, too


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test if a call was refused while its fixtures were set up, or before."""
    __tracebackhide__ = True
    guard = item.config.stash[_GUARD]
    if refused := guard.taken():
        fail(_told(refused, BEFORE))
    guard.live = item.get_closest_marker(LIVE) is not None
    guard.advice = partial(_advice, item)
    return (yield from _watched(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test if a call of it was refused, or missed the cassette, or one on the cassette was not made."""
    __tracebackhide__ = True
    try:
        result = yield from _watched(item)
    except BaseException as error:
        _end_session(item, error)
        raise
    kept = getattr(item, "_excinfo", None)  # where pytest keeps the errors of a unittest.TestCase
    _end_session(item, kept[0].value if kept else None)
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test if a call was refused while its fixtures were torn down."""
    __tracebackhide__ = True
    guard = item.config.stash[_GUARD]
    try:
        return (yield from _watched(item))
    finally:
        guard.live = False
        guard.advice = str


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run if a call was refused that no test was failed for."""
    if refused := session.config.stash[_GUARD].taken():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:  # a worker of pytest-xdist has none
            reporter.write_line(f"\n{_told(refused, AFTER)}", red=True)


def _watched(item: pytest.Item) -> Generator[None, object, object]:
    __tracebackhide__ = True
    guard = item.config.stash[_GUARD]
    try:
        result = yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # pytest.skip() would hide a refused call as well as any handler
        refused = guard.taken()
        if refused and not isinstance(error, ModelCallRefused):
            raise ModelCallRefused(_told(refused, guard.advice())) from error
        raise
    if refused := guard.taken():
        fail(_told(refused, guard.advice()))
    return result


def _end_session(item: pytest.Item, error: BaseException | None) -> None:
    __tracebackhide__ = True
    session = item.stash.get(_OPEN, None)
    if session is not None:
        del item.stash[_OPEN]
        session.end(error)


def _told(refused: list[str], rest: str) -> str:
    shown = "\n- ".join(refused)
    return (
        f"{len(refused)} Bedrock call(s) outside a recorded session were refused; nothing was sent. {rest}\n- {shown}"
    )


def _advice(item: pytest.Item) -> str:
    if item.get_closest_marker(MARKER) is None:
        return (
            f"Mark the test with @pytest.mark.{MARKER} and record it: {record_command(item, 'missing')}. "
            f"If it is to call Bedrock whenever it runs, mark it with @pytest.mark.{LIVE}."
        )
    return (
        "The session of this test was not open: it lasts from its own fixtures to the end of the test function. "
        "A fixture of wider scope needs one of its own: bedrock_evolution.testing.recorded."
    )
