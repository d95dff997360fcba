"""Answers and judgements that were paid for, kept by what they answer: JSON lines, only added to.

In: keys and entries. Out: the same, also after a kill. An entry is on the disk before `add`
returns, so nothing that was paid for is lost or paid for again. Several processes may add to one
journal: a line is written under a lock, and who claims a key sees what others have kept under it.
"""

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

import orjson

from thumbs.errors import Interrupted, RunError
from thumbs.files import full_disk_told, require_writable_file
from thumbs.progress import console

Entry = dict[str, Any]

WITHDRAWN = "withdrawn"
LOOK_SECONDS = 0.05  # between two looks whether another process has let go of a key
# Bytes that are locked; the file never reaches them. A kill lets go of them. POSIX, so per process:
# threads of one process do not shut each other out.
_WRITING = 2**62
_CLAIM_DIGITS = 15  # of the hash of a key: places below 2^60


@dataclass
class Journal:
    """Entries by key; `add` may be called from several threads, and from other processes.

    num_read: bytes of the file that `entries` holds. num_lines: as many lines.
    """

    path: Path
    file: FileIO
    entries: dict[str, Entry] = field(default_factory=dict)
    num_read: int = 0
    num_lines: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: str) -> Entry | None:
        return self.entries.get(key)

    def add(self, key: str, entry: Entry) -> None:
        """Keep `entry` under `key`; a later one replaces an earlier one.

        Raises:
            OutputError: the disk is full.
        """
        self._write({"key": key, **entry})

    def withdraw(self, key: str) -> None:
        """Forget the entry of `key`, which the file goes on to tell of."""
        self._write({"key": key, WITHDRAWN: True})

    def refresh(self) -> None:
        """Read what other processes have added.

        Raises:
            RunError: a line is no entry.
        """
        with self.lock:
            self._read_on()

    @contextmanager
    def claimed(self, key: str, given_up: Callable[[], bool]) -> Iterator[None]:
        """Hold `key` while the block runs; what other processes kept under it is then known.

        Args:
            given_up: whether to wait no longer for a process that holds it.

        Raises:
            Interrupted: given_up, before the key was free.
        """
        place = int(content_key(key)[:_CLAIM_DIGITS], 16)
        while not _locked(self.file, place):
            if given_up():
                raise Interrupted("stopped")
            time.sleep(LOOK_SECONDS)
        try:
            self.refresh()
            yield
        finally:
            fcntl.lockf(self.file, fcntl.LOCK_UN, 1, place)

    def _write(self, line: Entry) -> None:
        with self.lock, full_disk_told(self.path), _alone(self.file):
            self._read_on()
            self.cut()
            left = orjson.dumps(line) + b"\n"
            while left:
                left = left[self.file.write(left) :]
            os.fsync(self.file.fileno())
            self._read_on()

    def cut(self) -> bool:
        """Take off a last line that a kill has cut, while no process writes; whether one was."""
        if os.fstat(self.file.fileno()).st_size == self.num_read:
            return False
        self.file.truncate(self.num_read)
        return True

    def _read_on(self) -> None:
        """Take in the whole lines after those that are known."""
        self.file.seek(self.num_read)
        new = self.file.readall()
        for line in new[: new.rfind(b"\n") + 1].splitlines(keepends=True):
            try:
                entry = orjson.loads(line)
                key = entry.pop("key")
                withdrawn = entry.pop(WITHDRAWN, False)
            except (orjson.JSONDecodeError, KeyError, AttributeError, TypeError):
                raise RunError(
                    f"{self.path}:{self.num_lines + 1}: is no line that thumbs compare wrote. "
                    "Remove the line, or move the file away to begin anew."
                ) from None
            if withdrawn:
                self.entries.pop(key, None)
            else:
                self.entries[key] = entry
            self.num_read += len(line)
            self.num_lines += 1


def content_key(*parts: Any) -> str:
    """The hash of what an entry answers, as hex."""
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """The journal at `path`, made if need be, open while the block runs.

    A last line that a kill has cut is taken off.

    Raises:
        RunError: a line is no entry.
        OutputError: it cannot be written.
    """
    require_writable_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        journal = Journal(path, file)
        with _alone(file):
            journal.refresh()
            if journal.cut():
                console.print(
                    f"{path}: its last line was cut by a kill and is taken off", markup=False
                )
        yield journal


@contextmanager
def _alone(file: FileIO) -> Iterator[None]:
    """While the block runs no other process writes."""
    fcntl.lockf(file, fcntl.LOCK_EX, 1, _WRITING)
    try:
        yield
    finally:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, _WRITING)


def _locked(file: FileIO, place: int) -> bool:
    """Whether this process could lock the byte."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except (BlockingIOError, PermissionError):  # POSIX allows either
        return False
    return True
