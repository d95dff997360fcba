"""Files that are whole or absent, and hashes of them."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thumbs.errors import OutputError


def require_writable(path: Path) -> None:
    """Refuse, before any work, a place where neither a file nor a folder could be made.

    Makes nothing: the nearest folder above that exists must be one that can be written to.

    Raises:
        OutputError: it is not, or the name is too long.
    """
    try:
        above = next(place for place in path.absolute().parents if place.exists())
        path.exists()
    except OSError as error:
        raise OutputError(
            f"{path!s:.200}: cannot be written ({error.strerror}). Name another place."
        ) from None
    if not above.is_dir():
        raise OutputError(f"{path}: cannot be written, {above} is a file. Name another place.")
    if not os.access(above, os.W_OK):
        raise OutputError(f"{path}: cannot be written, {above} is read-only. Name another place.")


def require_writable_file(path: Path) -> None:
    """`require_writable`, and refuse a folder where a file is to stand.

    Raises:
        OutputError: a folder stands there, or nothing could be written there.
    """
    require_writable(path)
    if path.is_dir():
        raise OutputError(f"{path}: cannot be written, it is a folder. Name a file in it.")


def existing_folder(path: Path) -> Path:
    """The nearest folder above `path` that exists; what lies there spares making folders."""
    return next(place for place in path.absolute().parents if place.is_dir())


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
