"""The SQLite file that holds an application's records: opened, recognised, and never half-written."""

from __future__ import annotations

import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import StoreError, UsageError
from .commit_points import CommitPoint, Reached, unwatched

if TYPE_CHECKING:
    from sqlite_utils import Database as Tables

APPLICATION_ID = 0x42_45_56_4F
"""Marks our files (SQLite's `application_id` header field): "BEVO"."""
SCHEMA_VERSION = 3
SCHEME = "sqlite:///"
_BUSY_SECONDS = 30.0
_PAUSE_SECONDS = 0.01
_HEADER_BYTES = 100


class Database:
    """One SQLite file in WAL mode, shared by the threads of a process and by other processes.

    `synchronous=FULL` makes a committed transaction survive the loss of power
    (https://www.sqlite.org/pragma.html#pragma_synchronous).

    Args:
        path: The file; it and its folder are created when missing.

    Raises:
        StoreError: Not writable, not a database, not ours, from another version, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._prepare(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"cannot open the store {path}: {error}.", hint="Choose a writable path.") from error
        # Whoever forgets to close it leaves no open connection behind.
        weakref.finalize(self, self._connection.close)
        try:
            self._recognise()
        except StoreError:
            self.close()
            raise

    def _prepare(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._depth = 0
        self._afterwards: list[Callable[[], None]] = []
        self.reached: Reached = unwatched
        """Told just before and just after each durable write."""

    @classmethod
    def in_memory(cls) -> Database:
        """Return an empty database that is gone with this object: for what must leave no trace, such as a replay."""
        database = cls.__new__(cls)
        database._prepare(Path(":memory:"))  # noqa: SLF001  # of the same class
        database._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)  # noqa: SLF001  # of the same class
        weakref.finalize(database, database._connection.close)  # noqa: SLF001
        return database

    @classmethod
    def from_url(cls, url: str) -> Database:
        """Open the file a store URL names.

        Raises:
            StoreError: The URL is of no kind we know, or the file cannot be used.
        """
        if not url.startswith(SCHEME) or not url.removeprefix(SCHEME).strip():
            raise StoreError(
                f"unknown store URL {url!r}.",
                hint="Use sqlite:///relative/path.db, sqlite:////absolute/path.db or"
                " s3://BUCKET/PREFIX?table=TABLE&region=REGION.",
            )
        if ":memory:" in url:
            raise StoreError("a store in memory would be lost with the process.", hint="Name a file.")
        return cls(Path(url.removeprefix(SCHEME)).expanduser())

    def _recognise(self) -> None:
        try:
            run = self._connection.execute
            self._refuse_fragment()
            # In one snapshot: another process may be making the file ours at this very moment.
            run("BEGIN")
            application_id = run("PRAGMA application_id").fetchone()[0]
            empty = run("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            version = run("PRAGMA user_version").fetchone()[0]
            damage = [row[0] for row in run("PRAGMA quick_check(1)")]
            run("COMMIT")
            foreign = application_id not in (0, APPLICATION_ID) or (application_id == 0 and not empty)
            if foreign:
                raise StoreError(
                    f"{self.path} is a database of another program.", hint="Choose another path; it was not touched."
                )
            if version > SCHEMA_VERSION:
                raise StoreError(
                    f"{self.path} was written by a newer version (schema {version}).", hint="Upgrade bedrock-evolution."
                )
            if version < SCHEMA_VERSION and not empty:
                raise StoreError(
                    f"{self.path} was written by an older version (schema {version}).",
                    hint="Name another store, or go on with the version that wrote it; it was not changed.",
                )
            if damage != ["ok"]:
                told = " ".join(" ".join(damage).split())
                raise StoreError(
                    f"the store {self.path} is damaged: {told}.", hint="Restore it from a copy; it was not changed."
                )
            self._switch_to_wal()
            run("PRAGMA synchronous=FULL")
            if empty:
                run("BEGIN IMMEDIATE")
                run(f"PRAGMA application_id={APPLICATION_ID}")
                run(f"PRAGMA user_version={SCHEMA_VERSION}")
                run("COMMIT")
        except sqlite3.Error as error:
            raise self._wrapped(error) from error

    def _refuse_fragment(self) -> None:
        """Refuse what SQLite would take for an empty file, or would not notice to be cut short."""
        # Its size first: another process may be filling a new file at this very moment.
        if not (size := self.path.stat().st_size):
            return
        with self.path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
        page = int.from_bytes(header[16:18], "big")
        page_bytes = 65536 if page == 1 else page
        if len(header) < _HEADER_BYTES or (header[:6] == b"SQLite" and page_bytes and size % page_bytes):
            raise StoreError(
                f"{self.path} is not a database, or was cut short: {size} bytes.",
                hint="Choose another path, or restore the file from a copy; it was not changed.",
            )

    def _switch_to_wal(self) -> None:
        """Switch to WAL mode; SQLite does not wait by itself while another process does the same."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while (problem := self._wal_refused()) is not None:
            if "locked" not in str(problem) or time.monotonic() > deadline:
                raise problem
            time.sleep(_PAUSE_SECONDS)

    def _wal_refused(self) -> sqlite3.OperationalError | None:
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            return error
        return None

    def _wrapped(self, error: sqlite3.Error) -> StoreError:
        message = str(error)
        if "not a database" in message:
            hint = "Choose another path, or restore the file from a copy; it was not changed."
        elif "malformed" in message:
            hint = "The file is damaged: restore it from a copy."
        elif "readonly" in message or "unable to open" in message:
            hint = "Make the file and its folder writable, or choose another path."
        elif "locked" in message:
            hint = f"Another process held it for over {_BUSY_SECONDS:.0f} s: end it and run again."
        elif "full" in message:
            hint = "Free some disk space and run again; nothing was half-written."
        else:
            hint = "Nothing was half-written; run `bedrock-evolution doctor`."
        return StoreError(f"the store {self.path} cannot be used: {message.rstrip('.')}.", hint=hint)

    @contextmanager
    def transaction(self, point: CommitPoint, *, waits: bool = True) -> Iterator[sqlite3.Connection]:
        """Hold the write lock for a block: all of it is stored, or nothing. Nested blocks join the outer one.

        Args:
            point: Names the write, for whoever watches (`reached`).
            waits: For the disk. What would only be done again may be lost with the power: it is stored, but later.

        Raises:
            StoreError: SQLite refused; nothing was written.
        """
        waiting: list[Callable[[], None]] = []
        with self._lock:
            outer = self._depth == 0
            self._depth += 1
            try:
                if outer:
                    if not waits:
                        self._connection.execute("PRAGMA synchronous=NORMAL")
                    self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                if outer:
                    self.reached(point, "before")
                    self._connection.execute("COMMIT")
                    self.reached(point, "after")
            except sqlite3.Error as error:
                self._rollback(outer)
                raise self._wrapped(error) from error
            except UnicodeEncodeError as error:
                self._rollback(outer)
                raise StoreError(f"text cannot be stored as UTF-8: {error}.", hint="Remove lone surrogates.") from error
            except BaseException:
                self._rollback(outer)
                raise
            finally:
                self._depth -= 1
                if outer and not waits:
                    self._connection.execute("PRAGMA synchronous=FULL")
            if outer:
                waiting, self._afterwards = self._afterwards, []
        for work in waiting:
            work()

    @property
    def inside(self) -> bool:
        """Whether this thread is inside a transaction or a snapshot."""
        if not self._lock.acquire(blocking=False):
            return False  # another thread is
        try:
            return self._connection.in_transaction
        finally:
            self._lock.release()

    def alone(self) -> AbstractContextManager[Any]:
        """Keep the other threads of this process from the file during a block; it may be entered again."""
        return self._lock

    def afterwards(self, work: Callable[[], None]) -> None:
        """Do something once the transaction under way is stored; forget it if that is not."""
        self._afterwards.append(work)

    def _rollback(self, outer: bool) -> None:
        if outer:
            self._afterwards = []
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query.

        Raises:
            StoreError: SQLite refused.
        """
        with self._lock:
            try:
                return self._connection.execute(sql, parameters).fetchall()
            except sqlite3.Error as error:
                raise self._wrapped(error) from error

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Return the first row of a query, or None."""
        found = self.rows(sql, parameters)
        return found[0] if found else None

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read several things as of one moment; what others write meanwhile is not seen."""
        with self._lock:
            outer = not self._connection.in_transaction
            if outer:
                self._connection.execute("BEGIN")
            try:
                yield
            finally:
                if outer and self._connection.in_transaction:
                    self._connection.execute("COMMIT")

    @contextmanager
    def tables(self) -> Iterator[Tables]:
        """Create tables and indexes inside a transaction, with sqlite-utils."""
        from sqlite_utils import Database as Tables

        with self.transaction("tables") as connection:
            yield Tables(connection, execute_plugins=False)

    @contextmanager
    def lease(self, name: str) -> Iterator[None]:
        """Hold a piece of work for this block: nobody else does it meanwhile, in this process or another.

        It is a lock on a file beside the store, which the system releases when the process dies.

        Raises:
            UsageError: Somebody else holds it.
        """
        path = self._lock_file(name)
        with closing(self._locked(path, name)):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def leased(self, name: str) -> bool:
        """Whether somebody holds a piece of work at present; asking keeps nobody from it."""
        path = self._lock_file(name)
        if not path.exists():
            return False
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0)) as lock:
                lock.execute("SELECT 1 FROM sqlite_master")
        except sqlite3.OperationalError as error:
            return "locked" in str(error)
        return False

    def _lock_file(self, name: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{name}.lock")

    def _locked(self, path: Path, name: str) -> sqlite3.Connection:
        try:
            lock = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._wrapped(error) from error
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            lock.close()
            if "locked" not in str(error):
                raise self._wrapped(error) from error
            raise UsageError(f"{name} is being worked on already.", hint="Wait for it, or stop it.") from error
        return lock

    def close(self) -> None:
        """Close the connection; the object is of no use afterwards."""
        self._connection.close()
