"""Answers and judgements that were paid for, kept by what they answer: JSON lines, only added to.

In: keys and entries. Out: the same, also after a kill. An entry is on the disk before `add`
returns, so nothing that was paid for is lost or paid for again.
"""

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson

from thumbs.errors import RunError
from thumbs.files import full_disk_told, require_writable_file
from thumbs.progress import console

Entry = dict[str, Any]

WITHDRAWN = "withdrawn"


@dataclass
class Journal:
    """Entries by key; `add` may be called from several threads."""

    path: Path
    file: IO[bytes]
    entries: dict[str, Entry]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: str) -> Entry | None:
        return self.entries.get(key)

    def add(self, key: str, entry: Entry) -> None:
        """Keep `entry` under `key`; a later one replaces an earlier one.

        Raises:
            OutputError: the disk is full.
        """
        with self.lock:
            self._write({"key": key, **entry})
            self.entries[key] = entry

    def withdraw(self, key: str) -> None:
        """Forget the entry of `key`, which the file goes on to tell of."""
        with self.lock:
            self._write({"key": key, WITHDRAWN: True})
            self.entries.pop(key, None)

    def _write(self, line: Entry) -> None:
        with full_disk_told(self.path):
            self.file.write(orjson.dumps(line) + b"\n")
            self.file.flush()
            os.fsync(self.file.fileno())


def content_key(*parts: Any) -> str:
    """The hash of what an entry answers, as hex."""
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """The journal at `path`, made if need be, held by this process while the block runs.

    A last line that a kill has cut is taken off.

    Raises:
        RunError: another process holds it, or a line is no entry.
        OutputError: it cannot be written.
    """
    require_writable_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"{path}: another process is adding to it. Wait until it ends, or give this "
                "comparison a folder of its own with --out."
            ) from None
        yield Journal(path, file, _read(path, file))


def _read(path: Path, file: IO[bytes]) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    file.seek(0)
    whole = 0  # bytes
    for number, line in enumerate(file, start=1):
        if not line.endswith(b"\n"):
            console.print(f"{path}: its last line was cut by a kill and is taken off", markup=False)
            file.truncate(whole)
            break
        whole += len(line)
        try:
            entry = orjson.loads(line)
            key = entry.pop("key")
            if entry.pop(WITHDRAWN, False):
                entries.pop(key, None)
            else:
                entries[key] = entry
        except (orjson.JSONDecodeError, KeyError, AttributeError, TypeError):
            raise RunError(
                f"{path}:{number}: is no line that thumbs compare wrote. Remove the line, or move "
                "the file away to begin anew."
            ) from None
    return entries
