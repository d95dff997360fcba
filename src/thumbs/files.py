"""Files and folders that are whole or absent, and hashes of them.

What is being written lies beside its place as `.NAME.partial` (a file: `.NAME.PID.partial`), which
nothing reads. A kill can leave such a file or folder behind; `remove_partials` clears them.
"""

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from thumbs.errors import OutputError

IN_THE_WAY = {errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY}
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


def cache_folder() -> Path:
    """Where scores and tokens are kept: $THUMBS_CACHE, else $XDG_CACHE_HOME or ~/.cache /thumbs."""
    if named := os.environ.get("THUMBS_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thumbs"


def require_writable(path: Path) -> None:
    """Refuse, before any work, a place where neither a file nor a folder could be made.

    Makes nothing: the nearest folder above that exists must be one that can be written to.

    Raises:
        OutputError: it is not, or the name is too long.
    """
    try:
        above = next((place for place in path.absolute().parents if place.exists()), Path("/"))
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
        OutputError: the folder of `path` cannot be made or written to, or its disk is full.
    """
    _make_parent(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with full_disk_told(path):
            yield aside
            sync(aside)
            aside.replace(path)
            sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def folder_written_aside(path: Path) -> Iterator[Path]:
    """An empty folder to fill; it is synced and takes the place of `path` when the block ends.

    An exception in the block leaves `path` as it was; a kill leaves `path` as it was, or absent.
    Only one process may write the same folder at a time.

    Raises:
        OutputError: the folder of `path` cannot be made or written to, or its disk is full.
    """
    _make_parent(path)
    aside = path.with_name(f".{path.name}.partial")
    replaced = path.with_name(f".{path.name}.replaced.partial")
    for left_by_a_kill in (aside, replaced):
        shutil.rmtree(left_by_a_kill, ignore_errors=True)
    try:
        with full_disk_told(path):
            aside.mkdir()
            yield aside
            for written in (*aside.rglob("*"), aside):
                sync(written)
            if path.exists():
                path.rename(replaced)
            aside.rename(path)
            sync(path.parent)
    finally:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        for folder in (aside, replaced):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def full_disk_told(path: Path) -> Iterator[None]:
    """Turn a write that failed for want of room or place into an OutputError that names `path`."""
    try:
        yield
    except OutputError:
        raise
    except Exception as error:  # safetensors and tokenizers raise errors of their own, see _errno
        number = _errno(error)
        if number in IN_THE_WAY:
            raise OutputError(
                f"{path}: cannot be written, something else stands in its place "
                f"({os.strerror(number)}). Move that away."
            ) from None
        if number not in NO_ROOM:
            raise
        free = shutil.disk_usage(existing_folder(path)).free / 1e6
        raise OutputError(
            f"{path}: could not be written: {os.strerror(number)} ({free:,.1f} MB free there). "
            "Nothing that was whole is lost. Free some space."
        ) from None


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with written_aside(path) as aside:
        aside.write_bytes(content)


def remove_folder(path: Path) -> None:
    """Delete a folder such that a kill midway leaves nothing under its name."""
    aside = path.with_name(f".{path.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    shutil.rmtree(aside)


def remove_partials(folder: Path, *, older_than: float = float("inf")) -> None:
    """Delete what killed processes left in `folder`: `.*.partial` last changed before `older_than`.

    older_than: seconds since the epoch. Where others may be writing, leave out what is recent.
    """
    for path in folder.glob(".*.partial"):
        try:
            recent = path.lstat().st_mtime >= older_than
        except FileNotFoundError:  # its process was not dead but has just finished
            continue
        if recent:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):  # somebody else's, in a folder that is shared
                path.unlink()


def sync(path: Path) -> None:
    """Make a file's content, or the renames inside a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_bytes(content: bytes | memoryview) -> str:
    """The hash of `content` as hex."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """The hash of a file as hex, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make_parent(path: Path) -> None:
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


def _errno(error: Exception) -> int:
    """The system's number of a failed write; libraries written in Rust tell it in the text only."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else 0
