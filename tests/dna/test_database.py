"""The SQLite file: recognised before it is touched, never half-written, and clear about what is wrong with it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from bedrock_evolution.dna.database import APPLICATION_ID, SCHEMA_VERSION, Database
from bedrock_evolution.errors import StoreError, UsageError

PAGE = 4096


@pytest.fixture
def database(tmp_path: Path) -> Database:
    opened = Database(tmp_path / "evolution.db")
    with opened.tables() as tables:
        tables.table("notes").create({"number": int, "text": str}, pk="number", if_not_exists=True)
    return opened


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A closed database of ours with some hundred pages."""
    path = tmp_path / "filled.db"
    opened = Database(path)
    with opened.tables() as tables:
        notes = tables.table("notes").create({"number": int, "text": str}, pk="number")
        notes.create_index(["text"])
    with opened.transaction("tables") as connection:
        connection.executemany("INSERT INTO notes VALUES (?, ?)", [(n, f"{n} " * 100) for n in range(300)])
    opened.close()
    assert path.stat().st_size > 100 * PAGE // 4
    return path


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(path: Path) -> StoreError:
    with pytest.raises(StoreError) as error:
        Database(path)
    assert str(path) in error.value.message
    assert error.value.hint
    assert isinstance(error.value, UsageError)
    return error.value


# -- opening


@pytest.mark.parametrize(
    "url", ["", "evolution.db", "postgres://host/db", "sqlite://x.db", "sqlite:///", "sqlite:///  "]
)
def test_an_unknown_url_is_refused_with_the_forms_there_are(url: str) -> None:
    with pytest.raises(StoreError, match="unknown store URL") as error:
        Database.from_url(url)
    assert repr(url) in error.value.message
    assert "sqlite:///relative/path.db" in error.value.hint


def test_a_url_names_a_relative_or_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        closing(Database.from_url("sqlite:///folder/one.db")),
        closing(Database.from_url(f"sqlite:///{tmp_path}/two.db")),
    ):
        assert (tmp_path / "folder/one.db").is_file()
        assert (tmp_path / "two.db").is_file()


def test_a_new_file_is_marked_as_ours(database: Database) -> None:
    database.close()
    with closing(sqlite3.connect(database.path)) as plain:
        assert plain.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert plain.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert plain.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_what_was_stored_is_there_when_it_is_opened_again(filled: Path) -> None:
    with closing(Database(filled)) as again:
        assert again.row("SELECT count(*) FROM notes") == (300,)
        assert again.row("SELECT text FROM notes WHERE number = 1000") is None


# -- what cannot be opened


def test_a_path_below_a_file_is_refused_and_nothing_is_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    error = refused(tmp_path / "file" / "folder" / "evolution.db")
    assert "writable" in error.hint
    assert listing(tmp_path) == {"file": b"mine"}


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "writable" in refused(tmp_path).hint
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_writable_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert "writable" in refused(tmp_path / "evolution.db").hint
    finally:
        tmp_path.chmod(0o700)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody can write to")
def test_a_folder_that_nobody_can_write_to_is_refused() -> None:
    assert "writable" in refused(Path("/proc/evolution/evolution.db")).hint


def test_a_file_that_is_no_database_is_refused_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary, " * 100)
    before = listing(tmp_path)
    assert "not changed" in refused(path).hint
    assert listing(tmp_path) == before


def test_a_database_of_another_program_is_refused_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as theirs:
        theirs.execute("CREATE TABLE bookmarks (url TEXT)")
        theirs.execute("INSERT INTO bookmarks VALUES ('https://example.org')")
        theirs.commit()
    before = listing(tmp_path)
    assert "another program" in refused(path).message
    assert listing(tmp_path) == before


def test_a_database_another_program_marked_but_not_yet_filled_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as theirs:
        theirs.execute("PRAGMA application_id=7")
        theirs.execute("VACUUM")
    before = listing(tmp_path)
    assert "another program" in refused(path).message
    assert listing(tmp_path) == before


def test_a_file_of_a_newer_version_is_refused_and_not_changed(filled: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(filled)) as newer:
        newer.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    before = listing(tmp_path)
    error = refused(filled)
    assert f"newer version (schema {SCHEMA_VERSION + 1})" in error.message
    assert "Upgrade" in error.hint
    assert listing(tmp_path) == before


def test_a_file_of_an_older_version_is_refused_and_not_changed(filled: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(filled)) as older:
        older.execute(f"PRAGMA user_version={SCHEMA_VERSION - 1}")
    before = listing(tmp_path)
    error = refused(filled)
    assert f"older version (schema {SCHEMA_VERSION - 1})" in error.message
    assert "another store" in error.hint
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param(1),
        50,
        100,
        512,
        PAGE - 1,
        PAGE,
        PAGE + 1,
        10 * PAGE,
        -PAGE,
        -PAGE - 7,
        -1,
    ],
)
def test_a_truncated_file_is_refused_and_not_changed(filled: Path, tmp_path: Path, kept: int) -> None:
    filled.write_bytes(filled.read_bytes()[:kept])
    before = listing(tmp_path)
    assert refused(filled)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("page", [1, 2, 5, 20])
def test_a_file_with_an_overwritten_page_is_refused_and_not_changed(filled: Path, tmp_path: Path, page: int) -> None:
    content = bytearray(filled.read_bytes())
    content[page * PAGE : (page + 1) * PAGE] = b"\xa5" * PAGE
    filled.write_bytes(content)
    before = listing(tmp_path)
    assert refused(filled)
    assert listing(tmp_path) == before


def test_damage_that_appears_while_the_file_is_open_is_reported(filled: Path) -> None:
    with closing(Database(filled)) as opened:
        opened.rows("PRAGMA cache_size=0")
        content = bytearray(filled.read_bytes())
        content[2 * PAGE :] = b"\xa5" * (len(content) - 2 * PAGE)
        with filled.open("r+b") as file:
            file.write(content)
        with pytest.raises(StoreError, match="malformed") as error:
            opened.rows("SELECT sum(length(text)) FROM notes NOT INDEXED")
    assert "restore it from a copy" in error.value.hint


# -- transactions


def test_a_block_that_raises_leaves_nothing(database: Database) -> None:
    def both() -> None:
        with database.transaction("tables") as connection:
            connection.execute("INSERT INTO notes VALUES (1, 'one')")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        both()
    assert database.rows("SELECT * FROM notes") == []
    with database.transaction("tables") as connection:
        connection.execute("INSERT INTO notes VALUES (2, 'two')")
    assert database.rows("SELECT number FROM notes") == [(2,)]


def test_an_inner_block_that_raises_takes_the_outer_one_with_it(database: Database) -> None:
    def nested() -> None:
        with database.transaction("tables") as connection:
            connection.execute("INSERT INTO notes VALUES (1, 'one')")
            with database.transaction("tables") as inner:
                inner.execute("INSERT INTO notes VALUES (2, 'two')")
                raise LookupError

    with pytest.raises(LookupError):
        nested()
    assert database.rows("SELECT * FROM notes") == []


def test_a_refused_statement_is_a_store_error_and_leaves_nothing(database: Database) -> None:
    def twice() -> None:
        with database.transaction("tables") as connection:
            connection.execute("INSERT INTO notes VALUES (1, 'one')")
            connection.execute("INSERT INTO notes VALUES (1, 'again')")

    with pytest.raises(StoreError, match="UNIQUE"):
        twice()
    with pytest.raises(StoreError, match="no such table"):
        database.rows("SELECT * FROM elsewhere")
    assert database.rows("SELECT * FROM notes") == []


def test_a_transaction_is_invisible_to_others_until_it_ends(database: Database) -> None:
    with closing(Database(database.path)) as other:
        with database.transaction("tables") as connection:
            connection.execute("INSERT INTO notes VALUES (1, 'one')")
            assert other.rows("SELECT * FROM notes") == []
        assert other.rows("SELECT number FROM notes") == [(1,)]


def test_a_snapshot_does_not_see_what_others_write_meanwhile(database: Database) -> None:
    with closing(Database(database.path)) as other:
        with database.snapshot():
            assert database.rows("SELECT * FROM notes") == []
            with other.transaction("tables") as connection:
                connection.execute("INSERT INTO notes VALUES (1, 'one')")
            with database.snapshot():
                assert database.rows("SELECT * FROM notes") == []
        assert database.rows("SELECT number FROM notes") == [(1,)]


def test_work_put_off_is_done_once_what_it_waits_for_is_stored(database: Database) -> None:
    done: list[int] = []
    with closing(Database(database.path)) as other:
        with database.transaction("tables") as connection:
            with database.transaction("tables"):
                database.afterwards(lambda: done.append(len(other.rows("SELECT * FROM notes"))))
            connection.execute("INSERT INTO notes VALUES (1, 'one')")
            assert done == []
        assert done == [1]
        with database.transaction("tables"):
            pass
        assert done == [1]


def test_work_put_off_is_dropped_with_what_it_waits_for(database: Database) -> None:
    done: list[str] = []

    def interrupted() -> None:
        with database.transaction("tables"):
            database.afterwards(lambda: done.append("lost"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with database.transaction("tables"):
        database.afterwards(lambda: done.append("kept"))
    assert done == ["kept"]


def test_a_watcher_is_told_just_before_and_just_after_a_commit(database: Database) -> None:
    told: list[tuple[str, str, int]] = []
    with closing(Database(database.path)) as other:
        database.reached = lambda point, moment: told.append((point, moment, len(other.rows("SELECT * FROM notes"))))
        with database.transaction("event.append") as connection, database.transaction("dna.commit"):
            connection.execute("INSERT INTO notes VALUES (1, 'one')")
    assert told == [("event.append", "before", 0), ("event.append", "after", 1)]


def test_threads_wait_for_each_other_and_lose_nothing(database: Database) -> None:
    def count() -> None:
        for _ in range(20):
            with database.transaction("tables") as connection:
                last = connection.execute("SELECT coalesce(max(number), 0) FROM notes").fetchone()[0]
                connection.execute("INSERT INTO notes VALUES (?, 'next')", [last + 1])

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.row("SELECT count(*), max(number) FROM notes") == (80, 80)


def test_many_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    start, opened, failed = threading.Barrier(6), [], []

    def make() -> None:
        start.wait(20)
        try:
            opened.append(Database(tmp_path / "new.db"))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not failed
    assert len(opened) == 6
    for database in opened:
        database.close()


KILLED = """
import os, sys
from pathlib import Path
from bedrock_evolution.dna.database import Database
database = Database(Path(sys.argv[1]))
with database.transaction("tables") as connection:
    connection.execute("INSERT INTO notes VALUES (1001, 'kept')")
with database.transaction("tables") as connection:
    connection.execute("INSERT INTO notes VALUES (1002, 'lost')")
    os.kill(os.getpid(), 9)
"""


def test_a_killed_process_leaves_what_it_committed_and_nothing_else(filled: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(filled)], check=False)
    assert ended.returncode == -9
    with closing(Database(filled)) as again:
        assert again.rows("SELECT number FROM notes WHERE number > 1000") == [(1001,)]


def test_a_copy_taken_while_it_is_open_can_be_opened(database: Database, tmp_path: Path) -> None:
    with database.transaction("tables") as connection:
        connection.execute("INSERT INTO notes VALUES (1, 'one')")
    for path in tmp_path.glob("evolution.db*"):
        shutil.copy(path, tmp_path / path.name.replace("evolution", "copy"))
    with closing(Database(tmp_path / "copy.db")) as copy:
        assert copy.rows("SELECT number FROM notes") == [(1,)]
