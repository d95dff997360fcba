"""Values by key that wait on disk: for joins whose texts do not fit in memory.

In: keys and JSON values. Out: the value of a key. The file is temporary and has no name.
"""

import sqlite3
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson


class Spool:
    """A mapping on disk, gone when its block ends; a key put twice holds the later value."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="thumbs-")
        path = Path(self._folder.name) / "spool.db"
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=OFF")
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.execute(
            "CREATE TABLE held (name BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID"
        )
        self._connection.execute("BEGIN")

    def put(self, key: object, value: object) -> None:
        """Keep `value`, anything JSON can hold."""
        row = (orjson.dumps(key), orjson.dumps(value))
        self._connection.execute("INSERT OR REPLACE INTO held VALUES (?, ?)", row)

    def get(self, key: object) -> Any | None:
        """The value of `key`, or None."""
        query = "SELECT value FROM held WHERE name = ?"
        row = self._connection.execute(query, (orjson.dumps(key),)).fetchone()
        return None if row is None else orjson.loads(row[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()
        self._folder.cleanup()
