"""The feedback file: records streamed out of and into JSONL, plain or packed, and Parquet.

In: records. Out: a file that appears whole or not at all, and that `datasets` and TRL read as it
is: every record has the same keys, absent text is "", `tools` and `template_kwargs` are JSON text
and stand in the file only when some record has them. Knows no tool, no model.
"""

import gzip
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from thumbs.errors import FeedbackError, OutputError
from thumbs.feedback.entries import Entry, read_lines, read_parquet
from thumbs.feedback.record import (
    ABSENT_JSON,
    JSON_KEYS,
    KEYS,
    Feedback,
    parse_record,
    with_defaults,
)
from thumbs.files import existing_folder, require_writable_file, written_aside

ROW_GROUP = 4096  # records of a Parquet row group, the most held in memory at a time

Line = dict[str, Any]


@dataclass(frozen=True)
class FileFormat:
    """How the files of one ending are read and written."""

    read: Callable[[Path], Iterator[Entry]]
    write: Callable[[Path, Iterator[Line]], None]


def read_feedback(path: Path, notes: Counter[str] | None = None) -> Iterator[Feedback]:
    """Every record of a feedback file, checked strictly, one at a time.

    Args:
        path: a .jsonl, .jsonl.gz, .jsonl.zst or .parquet file.
        notes: counts what was left out or assumed (keys that are not used), by name.

    Raises:
        FeedbackError: the file cannot be read, holds no record, a record that is not one (an empty
            answer is an error here, not something to skip), or prompts of both kinds.
    """
    advice = f"Import the file first: thumbs import {path} --out feedback.jsonl"
    read = _format_of(path, advice).read
    first: Feedback | None = None
    for place, entry in read(path):
        record = parse_record(entry, place, advice=advice, notes=notes)
        first = first or record
        _require_same_kind(record, first, place)
        yield record
    if first is None:
        raise FeedbackError(f"{path}: the file holds no records; at least 1 is needed.")


def read_feedback_entries(path: Path) -> Iterator[Entry]:
    """The mappings of a feedback file as they stand there, unchecked, with their places."""
    return _format_of(path).read(path)


def require_feedback_name(path: Path) -> None:
    """Refuse a name whose ending is no format of ours.

    Raises:
        FeedbackError: it is not.
    """
    _format_of(path)


def write_feedback(path: Path, records: Iterable[Feedback]) -> int:
    """Write the records, ids and conversations filled in, and return how many there were.

    The lines are spooled first: whether `tools` stands in the file is known only at the end.

    Raises:
        FeedbackError: there are no records, they are of both kinds, or do not fit the format.
    """
    file_format = _format_of(path)
    require_writable_file(path)
    with _spool_beside(path) as spool:
        num_records, used_keys = _spool(records, spool, path)
        if not num_records:
            raise FeedbackError(f"{path}: there are no records to write.")
        spool.seek(0)
        with written_aside(path) as aside:
            file_format.write(
                aside, ({key: line[key] for key in used_keys} for line in _load(spool))
            )
    return num_records


def _spool_beside(path: Path) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(dir=existing_folder(path))
    except FileNotFoundError as error:  # a folder of the system's that takes no files, like /proc
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}). Name another place."
        ) from None


def _require_same_kind(record: Feedback, first: Feedback, place: str) -> None:
    if isinstance(record.prompt, str) != isinstance(first.prompt, str):
        found = "text" if isinstance(record.prompt, str) else "a list of messages"
        finding = f'"prompt" is {found}, but was not in the first record.'
        raise FeedbackError(f"{place}: {finding} One file holds one kind: make two files.")


def _spool(records: Iterable[Feedback], spool: IO[bytes], path: Path) -> tuple[int, list[str]]:
    first: Feedback | None = None
    used_keys = set(KEYS) - set(JSON_KEYS)
    num_records = 0
    for num_records, record in enumerate(map(with_defaults, records), start=1):
        first = first or record
        place = f"{path}: record {num_records} ({record.source or 'no source'}, id {record.id})"
        _require_same_kind(record, first, place)
        if path.suffix == ".parquet":
            _require_plain_messages(record, place)
        used_keys.update(key for key in JSON_KEYS if getattr(record, key) != ABSENT_JSON)
        spool.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
    return num_records, [key for key in KEYS if key in used_keys]


def _require_plain_messages(record: Feedback, place: str) -> None:
    messages = [*record.prompt, *record.completion]
    extra = {key for message in messages if isinstance(message, dict) for key in message}
    extra -= {"role", "content"}
    if extra:
        finding = (
            f"messages with {', '.join(sorted(map(repr, extra)))} do not fit a Parquet column."
        )
        raise FeedbackError(f"{place}: {finding} Write a .jsonl file instead.")


def _load(spool: IO[bytes]) -> Iterator[Line]:
    return (orjson.loads(line) for line in spool)


def _write_lines(path: Path, lines: Iterator[Line]) -> None:
    with path.open("wb") as file:
        for line in lines:
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def _write_gzipped(path: Path, lines: Iterator[Line]) -> None:
    with (
        path.open("wb") as raw,
        # No name and no time inside: the same records give the same bytes.
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as file,
    ):
        for line in lines:
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def _write_zstd(path: Path, lines: Iterator[Line]) -> None:
    packer = zstandard.ZstdCompressor(write_checksum=True)  # damage is noticed, as in a .gz
    with path.open("wb") as raw, packer.stream_writer(raw, closefd=False) as file:
        for line in lines:
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def _write_parquet(path: Path, lines: Iterator[Line]) -> None:
    chunk = list(islice(lines, ROW_GROUP))
    schema = _parquet_schema(chunk[0])
    with pq.ParquetWriter(path, schema) as writer:
        while chunk:
            writer.write_table(pa.Table.from_pylist(chunk, schema))
            chunk = list(islice(lines, ROW_GROUP))


def _parquet_schema(line: Line) -> pa.Schema:
    messages = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    types = {"label": pa.bool_(), "weight": pa.float64()}
    if not isinstance(line["prompt"], str):
        types |= {"prompt": messages, "completion": messages}
    return pa.schema([(key, types.get(key, pa.string())) for key in line])


FORMATS = {
    ".jsonl": FileFormat(read_lines, _write_lines),
    ".jsonl.gz": FileFormat(read_lines, _write_gzipped),
    ".jsonl.zst": FileFormat(read_lines, _write_zstd),
    ".parquet": FileFormat(read_parquet, _write_parquet),
}


def _format_of(path: Path, advice: str = "") -> FileFormat:
    for ending, file_format in FORMATS.items():
        if path.name.endswith(ending):
            return file_format
    finding = f"the name of a feedback file must end in one of {', '.join(FORMATS)}."
    raise FeedbackError(f"{path}: {finding} {advice}".rstrip())
