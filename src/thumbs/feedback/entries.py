"""The entries of a file (JSON objects, table lines), one at a time, each with its place.

In: JSON lines, one JSON list or objects one after the other, CSV or TSV, plain or packed (gzip,
zstandard), or Parquet; told apart by the first bytes, tables of text by their names.
Out: (place, mapping) pairs, in file order, in bounded memory. Knows nothing of what they mean.
"""

import csv
import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import ijson
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.nesting import Nesting, TooDeep
from thumbs.feedback.packed import open_bytes
from thumbs.feedback.sqlite import SQLITE_TABLES, is_sqlite, require_own_file, sqlite_tables

Entry = tuple[str, dict[str, Any]]  # its place, what it holds

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
PARQUET_MAGIC = b"PAR1"
HEAD = 4096  # bytes looked at to tell what a file holds
# A list of objects, or an object: not [section], [link](...) or {{template}}.
OBJECT_START = re.compile(rb'\s*(?:\[\s*(?:\{|\]|$)|\{\s*(?:["}]|$))')
ENTRY_ENDINGS = (".json", ".jsonl", ".ndjson", ".parquet")
PACKED_ENDINGS = (".gz", ".zst")
TABLE_ENDINGS = {".csv": ",", ".tsv": "\t"}
LARGEST_CELL = 1 << 28  # characters; csv's own limit is 128 KiB, less than a long chat
LONGEST_LINE = 1 << 28  # bytes; no record of a chat is near it
PARQUET_BATCH = 1024  # table lines held at a time


def read_entries(path: Path) -> Iterator[Entry]:
    """Every entry of a .json, .jsonl, .csv, .tsv or .parquet file, or of a .gz or .zst of one.

    The values of a .csv or .tsv are text; a line with fewer cells than its header has "" there.

    Raises:
        FeedbackError: the file is missing, damaged, empty, not UTF-8, or not of these formats.
    """
    with open_bytes(path) as file:
        head = file.read(HEAD).removeprefix(BYTE_ORDER_MARK).lstrip()
    if not head:
        raise FeedbackError(f"{path}: the file is empty.")
    if head.startswith(PARQUET_MAGIC):
        yield from read_parquet(path)
    elif delimiter := _delimiter_of(path):
        yield from _read_table(path, delimiter)
    elif head.startswith(b"["):
        yield from _read_list(path, "item")
    elif head.partition(b"\n")[0].strip() == b"{":  # written over several lines
        yield from _read_list(path, "")
    else:
        yield from read_lines(path)


def read_lines(path: Path) -> Iterator[Entry]:
    """The object on every line that is not blank."""
    with open_bytes(path) as file:
        for number, line in enumerate(_lines(file, path), start=1):
            content = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            if not content.isspace():
                yield f"{path}:{number}", _parse_line(content, f"{path}:{number}")


def _lines(file: IO[bytes], path: Path) -> Iterator[bytes]:
    for number in itertools.count(1):
        line = file.readline(LONGEST_LINE + 1)
        if not line:
            return
        if len(line) > LONGEST_LINE:
            finding = f"a line of more than {LONGEST_LINE:,} bytes"
            raise FeedbackError(f"{path}:{number}: {finding}. Write one record per line.")
        yield line


def read_parquet(path: Path) -> Iterator[Entry]:
    """Every line of a Parquet table, its row groups read in pieces."""
    with open_bytes(path):
        pass  # missing files and folders are refused in one way
    require_own_file(path, "Parquet file")
    try:
        with pq.ParquetFile(path) as table:
            number = 0
            for batch in table.iter_batches(PARQUET_BATCH):
                for entry in batch.to_pylist():
                    number += 1
                    yield f"{path}: record {number}", entry
    except (pa.ArrowException, OSError) as error:
        raise FeedbackError(f"{path}: not a readable Parquet file: {_first_line(error)}.") from None


def holds_entries(path: Path) -> bool:
    """Whether a file is one to read entries from, by its ending or by what it begins with.

    A file with the ending of one counts whatever it holds: damage is for the reader to name.

    Raises:
        FeedbackError: the file cannot be read, or is packed and damaged.
    """
    name = path.name.lower()
    for ending in PACKED_ENDINGS:
        name = name.removesuffix(ending)
    if name.endswith(ENTRY_ENDINGS):
        return True
    with open_bytes(path) as file:
        head = file.read(HEAD).removeprefix(BYTE_ORDER_MARK)
    return head.startswith(PARQUET_MAGIC) or bool(head and OBJECT_START.match(head))


def first_entry(path: Path) -> dict[str, Any]:
    """What the first entry holds; of an SQLite file, {SQLITE_TABLES: {table: its columns}}."""
    if is_sqlite(path):
        return {SQLITE_TABLES: sqlite_tables(path)}
    return next((entry for _, entry in read_entries(path)), {})


def is_text_table(path: Path) -> bool:
    """Whether every value of a file is text, as in .csv and .tsv."""
    return bool(_delimiter_of(path))


def _delimiter_of(path: Path) -> str:
    name = path.name.lower()
    for ending in PACKED_ENDINGS:
        name = name.removesuffix(ending)
    return next((mark for ending, mark in TABLE_ENDINGS.items() if name.endswith(ending)), "")


def _read_table(path: Path, delimiter: str) -> Iterator[Entry]:
    csv.field_size_limit(LARGEST_CELL)
    with open_bytes(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        reader = csv.DictReader(text, delimiter=delimiter, restval="")
        number = 1
        try:
            named = [name for name in reader.fieldnames or () if name.strip()]
            if twice := next((name for name in named if named.count(name) > 1), None):
                finding = f"two columns are called {shown(twice)}"
                raise FeedbackError(f"{path}: {finding}. Rename one, or leave it out.")
            for number, entry in enumerate(reader, start=2):
                place = f"{path}: record {number - 1}"
                if None in entry:
                    finding = f"more cells than the header's {len(reader.fieldnames or ())}"
                    raise FeedbackError(f"{place}: {finding}. Export the table again.")
                yield place, dict(entry)
        except csv.Error as error:
            raise FeedbackError(f"{path}: after record {number - 1}: {error}.") from None
        except UnicodeDecodeError as error:
            place = f"{path}: after record {number - 1}"
            raise FeedbackError(f"{place}: not UTF-8: {error.reason}. Save it as UTF-8.") from None


def _read_list(path: Path, prefix: str) -> Iterator[Entry]:
    """The objects in a list (prefix "item"), or one after the other (prefix "")."""
    number = 0
    with open_bytes(path) as file:
        has_mark = file.read(3) == BYTE_ORDER_MARK
    with open_bytes(path) as file:
        file.read(3 if has_mark else 0)
        try:
            found = ijson.items(Nesting(file), prefix, use_float=True, multiple_values=not prefix)
            for number, entry in enumerate(found, start=1):
                place = f"{path}: record {number}"
                yield place, _require_object(entry, place)
        except TooDeep as error:
            place = f"{path}: after record {number}"
            raise FeedbackError(f"{place}: {error}. Leave that record out.") from None
        except (ijson.JSONError, UnicodeDecodeError) as error:
            place = f"{path}: after record {number}"
            raise FeedbackError(f"{place}: not JSON: {_first_line(error)}.") from None


def _parse_line(line: bytes, place: str) -> dict[str, Any]:
    try:
        return _require_object(orjson.loads(line), place)
    except orjson.JSONDecodeError as error:
        # orjson counts lines too, but sees one of them only.
        reason = f"not JSON: {error.msg} at column {error.colno}"
        if line.strip() == b"{":
            reason = "not JSON: an object that goes on on the next line"
    try:
        start = line.decode()[:40].rstrip()
    except UnicodeDecodeError as error:
        found = f"byte 0x{line[error.start]:02x} at column {error.start + 1}"
        raise FeedbackError(f"{place}: not UTF-8: {found}. Save the file as UTF-8.") from None
    allowed = "Allowed: one JSON object per line, or one JSON list of objects"
    raise FeedbackError(f"{place}: {reason}; the line starts {start!r}. {allowed}.")


def _require_object(entry: object, place: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise FeedbackError(f"{place}: must be a JSON object, but is {shown(entry)}.")
    return entry


def _first_line(error: Exception) -> str:
    words = error.args[0] if error.args else error
    text = words.decode(errors="replace") if isinstance(words, bytes) else str(error)
    return text.splitlines()[0].strip().rstrip(".") if text else type(error).__name__
