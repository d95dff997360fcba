"""Files that are whole or absent, and hashes of them."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thumbs.errors import OutputError


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A path to write to; what stands there is synced and renamed to `path` when the block ends.

    An exception in the block leaves `path` as it was and removes what was written.

    Raises:
        OutputError: the folder of `path` cannot be made or written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written, its folder cannot be made ({error.strerror}). "
            "Name a place in a folder you may write to."
        ) from None
    if not os.access(path.parent, os.W_OK):
        raise OutputError(
            f"{path}: cannot be written, its folder is read-only. Name another place."
        )
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield aside
        sync(aside)
        aside.replace(path)
        sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with written_aside(path) as aside:
        aside.write_bytes(content)


def sync(path: Path) -> None:
    """Make a file's content, or the renames inside a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_bytes(content: bytes) -> str:
    """The hash of `content` as hex."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """The hash of a file as hex, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
