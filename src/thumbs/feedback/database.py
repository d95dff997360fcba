"""A database server by its URL: the lines of a query as JSON lines, or whole tables as SQLite.

In: a URL of SQLAlchemy, a query. Out: a file beside which nothing of the database is needed. Reads
only, line after line; the password never stands in an error. Knows nothing of what the tables mean.
"""

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from thumbs.errors import FeedbackError
from thumbs.progress import progress_bar

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

URL = re.compile(r"[a-z][a-z0-9+_]*://", re.IGNORECASE)
READS = re.compile(r"\s*(?:select|with|values|table)\b", re.IGNORECASE)
LINES = 1_000  # fetched at a time
DRIVERS = {"postgresql": "pip install 'thumbs[postgres]'", "mysql": "pip install pymysql"}


def is_url(text: str) -> bool:
    """Whether a source is the URL of a database."""
    return bool(URL.match(text))


def save_query(url: str, query: str, path: Path) -> None:
    """Write every line that `query` gives to `path`, as JSON lines.

    Raises:
        FeedbackError: the URL, its driver, the server or the query cannot be used.
    """
    if not READS.match(query):
        raise FeedbackError(f"--query: {query!r:.80} does not read. Give one SELECT.")
    from sqlalchemy import text

    with _connected(url) as connection, path.open("wb") as file:
        found = connection.execution_options(stream_results=True, yield_per=LINES)
        result = found.execute(text(query))
        with progress_bar("query", None, "lines") as bar:
            for line in result.mappings():
                file.write(
                    orjson.dumps(dict(line), default=_as_text, option=orjson.OPT_APPEND_NEWLINE)
                )
                bar.advance()


def copy_tables(url: str, known: Mapping[str, str], path: Path) -> None:
    """Copy those of the known tables that the server has into an SQLite file.

    Args:
        known: names of tables, each with a column it must have, or "".

    Raises:
        FeedbackError: it has none of them, or the URL, its driver or the server cannot be used.
    """
    from sqlalchemy import MetaData, inspect

    with _connected(url) as connection, closing(sqlite3.connect(path)) as copy:
        server = inspect(connection)
        there = set(server.get_table_names())
        chosen = [
            name
            for name, column in known.items()
            if name in there
            and (not column or column in {str(c["name"]) for c in server.get_columns(name)})
        ]
        if not chosen:
            found = ", ".join(sorted(there)) or "none"
            advice = "Say what to read with --query 'SELECT ...' and --map"
            raise FeedbackError(
                f"{shown_url(url)}: no known tool's tables; found: {found}. {advice}."
            )
        tables = MetaData()
        tables.reflect(connection, only=chosen)
        for name in chosen:
            _copy_table(connection, tables.tables[name], copy)
        copy.commit()


def _copy_table(connection: "Connection", table: "Table", copy: sqlite3.Connection) -> None:
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    copy.execute(f'CREATE TABLE "{table.name}" ({columns})')
    marks = ", ".join("?" for _ in table.columns)
    streamed = connection.execution_options(stream_results=True, yield_per=LINES)
    with progress_bar(f"copy {table.name}", None, "lines") as bar:
        for line in streamed.execute(table.select()):
            values = [_sqlite_value(value) for value in line]
            copy.execute(f'INSERT INTO "{table.name}" VALUES ({marks})', values)
            bar.advance()


@contextmanager
def _connected(url: str) -> Iterator["Connection"]:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    try:
        engine = create_engine(url)
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        finding = f"is no URL of a database ({_one_line(error)})"
        raise FeedbackError(
            f"{shown_url(url)}: {finding}. Allowed: postgresql+psycopg://..."
        ) from None
    except ImportError as error:
        install = next((line for name, line in DRIVERS.items() if url.startswith(name)), "pip")
        raise FeedbackError(f"{shown_url(url)}: {error}. Install its driver: {install}.") from None
    file = engine.url.database if engine.dialect.name == "sqlite" else None
    if file and not file.startswith("file:") and not Path(file).is_file():
        raise FeedbackError(f"{url}: there is no such file.")  # SQLite would make it
    options = {"postgresql_readonly": True} if engine.dialect.name == "postgresql" else {}
    try:
        with engine.connect() as connection:
            yield connection.execution_options(**options)
    except SQLAlchemyError as error:
        reason = _one_line(getattr(error, "orig", None) or error)
        raise FeedbackError(f"{shown_url(url)}: {reason}. Correct the URL or the query.") from None
    finally:
        engine.dispose()


def shown_url(url: str) -> str:
    """The URL without its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


def _one_line(error: object) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300]


def _as_text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _sqlite_value(value: Any) -> Any:
    if isinstance(value, dict | list):
        return orjson.dumps(value, default=_as_text).decode()
    if value is None or isinstance(value, int | float | str):
        return value
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return _as_text(value)
