"""SQLite files: their tables, their lines, and files that are none."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from thumbs.errors import FeedbackError
from thumbs.feedback.entries import first_entry
from thumbs.feedback.sqlite import SQLITE_TABLES, is_sqlite, read_sqlite, sqlite_tables


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "chat #1?.db"  # signs that mean something in a URI
    with closing(sqlite3.connect(path)) as connection:
        connection.execute('CREATE TABLE "a; DROP TABLE b" (id TEXT, value INT)')
        connection.executemany(
            'INSERT INTO "a; DROP TABLE b" VALUES (?, ?)', [("x", 1), ("\u00e9", 0)]
        )
        connection.execute("CREATE VIEW b AS SELECT 1 AS one")
        connection.commit()
    return path


def test_tables_and_columns_are_what_the_first_entry_is(database: Path) -> None:
    tables = {"a; DROP TABLE b": ["id", "value"], "b": ["one"]}
    assert sqlite_tables(database) == tables
    assert first_entry(database) == {SQLITE_TABLES: tables}


def test_lines_come_with_their_place(database: Path) -> None:
    query = 'SELECT id, value FROM "a; DROP TABLE b" WHERE value = ?'
    assert list(read_sqlite(database, query, [0])) == [
        (f"{database}: line 1", {"id": "\u00e9", "value": 0})
    ]


def test_nothing_is_written(database: Path) -> None:
    with pytest.raises(FeedbackError, match="attempt to write a readonly database"):
        list(read_sqlite(database, 'DELETE FROM "a; DROP TABLE b"'))


def test_a_damaged_database_is_refused(database: Path) -> None:
    damaged = database.with_name("damaged.db")
    damaged.write_bytes(database.read_bytes()[:100] + b"\xff" * 5000)
    assert is_sqlite(damaged)
    with pytest.raises(FeedbackError, match="not a readable SQLite database"):
        sqlite_tables(damaged)


def test_a_database_last_written_with_a_log_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE a (id INT)")
        connection.commit()
        # While it is open its log holds the table, and is read.
        assert sqlite_tables(path) == {"a": ["id"]}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["chat.db"]
    assert sqlite_tables(path) == {"a": ["id"]}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["chat.db"]


def test_an_error_about_a_schema_of_several_lines_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE a (id INT)")
        connection.commit()
    path.write_bytes(
        path.read_bytes().replace(b"CREATE TABLE a (id INT)", b"CREATE TABLE a [\nx\ny INT)"[:23])
    )
    with pytest.raises(FeedbackError, match="malformed database schema") as caught:
        sqlite_tables(path)
    assert "\n" not in str(caught.value)
