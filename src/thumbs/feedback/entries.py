"""The entries of a file (JSON objects, table lines), one at a time, each with its place.

In: JSON lines or one JSON list, plain or gzipped, or Parquet; told apart by the first bytes.
Out: (place, mapping) pairs, in file order, in bounded memory. Knows nothing of what they mean.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import ijson
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from thumbs.errors import FeedbackError, shown

Entry = tuple[str, dict[str, Any]]  # its place, what it holds

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
PARQUET_BATCH = 1024  # table lines held at a time


def read_entries(path: Path) -> Iterator[Entry]:
    """Every entry of a .json, .jsonl or .parquet file, or of a .gz of the first two.

    Raises:
        FeedbackError: the file is missing, damaged, empty, not UTF-8, or not of these formats.
    """
    with _open_bytes(path) as file:
        head = file.read(4096).removeprefix(BYTE_ORDER_MARK).lstrip()
    if not head:
        raise FeedbackError(f"{path}: the file is empty.")
    if head.startswith(b"PAR1"):
        yield from read_parquet(path)
    elif head.startswith(b"["):
        yield from _read_list(path)
    else:
        yield from read_lines(path)


def read_lines(path: Path) -> Iterator[Entry]:
    """The object on every line that is not blank."""
    with _open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            content = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            if not content.isspace():
                yield f"{path}:{number}", _parse_line(content, f"{path}:{number}")


def read_parquet(path: Path) -> Iterator[Entry]:
    """Every line of a Parquet table, its row groups read in pieces."""
    with _open_bytes(path):
        pass  # missing files and folders are refused in one way
    try:
        with pq.ParquetFile(path) as table:
            number = 0
            for batch in table.iter_batches(PARQUET_BATCH):
                for entry in batch.to_pylist():
                    number += 1
                    yield f"{path}: record {number}", entry
    except (pa.ArrowException, OSError) as error:
        raise FeedbackError(f"{path}: not a readable Parquet file: {_first_line(error)}.") from None


def first_entry(path: Path) -> dict[str, Any]:
    """What the first entry holds; of a .csv, which is read no further, its first line."""
    if path.suffix == ".csv":
        with _open_bytes(path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
            return dict(next(csv.DictReader(text), {}))
    return next((entry for _, entry in read_entries(path)), {})


@contextmanager
def _open_bytes(path: Path) -> Iterator[IO[bytes]]:
    try:
        with path.open("rb") as raw:
            is_gzipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not is_gzipped:
                yield raw
                return
            with gzip.open(raw) as unpacked:
                yield cast(IO[bytes], unpacked)
    except FileNotFoundError:
        raise FeedbackError(f"{path}: there is no such file.") from None
    except IsADirectoryError:
        raise FeedbackError(f"{path}: is a folder. Name a file in it.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        finding = f"the gzip file is cut or damaged ({error}). Copy or export it again."
        raise FeedbackError(f"{path}: {finding}") from None
    except OSError as error:
        raise FeedbackError(f"{path}: cannot be read: {error.strerror}.") from None


def _read_list(path: Path) -> Iterator[Entry]:
    number = 0
    with _open_bytes(path) as file:
        if file.read(3) != BYTE_ORDER_MARK:
            file.seek(0)
        try:
            for number, entry in enumerate(ijson.items(file, "item", use_float=True), start=1):
                place = f"{path}: record {number}"
                yield place, _require_object(entry, place)
        except (ijson.JSONError, UnicodeDecodeError) as error:
            place = f"{path}: after record {number}"
            raise FeedbackError(f"{place}: not JSON: {_first_line(error)}.") from None


def _parse_line(line: bytes, place: str) -> dict[str, Any]:
    try:
        return _require_object(orjson.loads(line), place)
    except orjson.JSONDecodeError as error:
        reason = f"not JSON: {error}"
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
