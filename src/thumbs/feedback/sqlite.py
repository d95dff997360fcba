"""The tables of an SQLite file: which there are, and their lines one at a time.

In: a path. Out: names and columns, or (place, mapping) pairs. Opened for reading only, so that the
database of a running server is left as it is. Knows nothing of what the tables mean.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from thumbs.errors import FeedbackError
from thumbs.feedback.archive import archive_of
from thumbs.feedback.packed import open_bytes

SQLITE_MAGIC = b"SQLite format 3\x00"
SQLITE_TABLES = "tables of an SQLite file"  # the key under which first_entry gives them


def is_sqlite(path: Path) -> bool:
    """Whether a file is an SQLite database, by its first bytes."""
    with open_bytes(path) as file:
        return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC


def sqlite_tables(path: Path) -> dict[str, list[str]]:
    """The columns of every table and view, by its name.

    Raises:
        FeedbackError: the file cannot be read as a database.
    """
    with _connected(path) as connection:
        kinds = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name"
        names = [row[0] for row in connection.execute(kinds)]
        columns = "SELECT name FROM pragma_table_info(?)"
        return {name: [row[0] for row in connection.execute(columns, (name,))] for name in names}


def read_sqlite(
    path: Path, query: str, values: Sequence[object] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every line a query gives, with its place.

    Args:
        query: one SELECT; `values` for its question marks, never written into it.

    Raises:
        FeedbackError: the file is no database, is damaged, or the query does not run.
    """
    with _connected(path) as connection:
        cursor = connection.execute(query, tuple(values))
        names = [column[0] for column in cursor.description or ()]
        for number, line in enumerate(cursor, start=1):
            yield f"{path}: line {number}", dict(zip(names, line, strict=True))


def require_own_file(path: Path, kind: str) -> None:
    """Refuse what lies inside of an archive: it is read here and there, not from start to end.

    Raises:
        FeedbackError: it does.
    """
    if archive_of(path) is not None:
        raise FeedbackError(f"{path}: a {kind} in an archive. Unpack it first, and name the file.")


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    require_own_file(path, "database")
    # A database that nobody writes to is opened as one that cannot change: SQLite would make files
    # beside it otherwise, for one that was last written with a log.
    log = path.with_name(f"{path.name}-wal")
    uri = f"{path.resolve().as_uri()}?mode=ro" + ("" if log.exists() else "&immutable=1")
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            # Text of another encoding than UTF-8 is shown as such, never a traceback.
            connection.text_factory = lambda raw: raw.decode("utf-8", errors="replace")
            yield connection
    except sqlite3.Error as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise FeedbackError(f"{path}: not a readable SQLite database: {reason}.") from None
