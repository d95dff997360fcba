"""Zip archives as folders: their members, and the bytes of one as they are unpacked.

In: the path of an archive, or of a member written as ARCHIVE/MEMBER. Out: paths of the latter kind,
open files. Nothing is ever written to disk, so that a member's name leads nowhere. Knows nothing of
what the bytes mean.
"""

import stat
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from thumbs.errors import FeedbackError

ZIP_MAGIC = b"PK\x03\x04"
# Text packs to a tenth or so; what unpacks to far more, and to much, is made to fill a machine.
LARGEST_RATIO = 200
HARMLESS_BYTES = 64 << 20
UNSAFE_NAME = "archive member with an unsafe name"
LINK = "link to nothing, or no regular file"
OF_ONE_NAME = "archive member with the name of a later one"


def is_archive(path: Path) -> bool:
    """Whether a path is a zip archive, by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    except OSError:
        return False


def member_paths(archive: Path, skipped: Counter[str]) -> list[Path]:
    """ARCHIVE/MEMBER of every file in it, sorted by name; what cannot be one is counted.

    Raises:
        FeedbackError: it is damaged, encrypted, or unpacks to far more than its size.
    """
    paths = []
    with _opened(archive) as opened:
        for info in opened.infolist():
            name = PurePosixPath(info.filename.replace("\\", "/"))
            if info.is_dir():
                continue
            if name.is_absolute() or ".." in name.parts or not name.parts or ":" in name.parts[0]:
                skipped[UNSAFE_NAME] += 1
            elif stat.S_ISLNK(info.external_attr >> 16):
                skipped[LINK] += 1
            elif not any(part.startswith((".", "__MACOSX")) for part in name.parts):
                _require_harmless(archive, info)
                paths.append(archive / name)
    different = dict.fromkeys(paths)
    if len(different) < len(paths):
        skipped[OF_ONE_NAME] += len(paths) - len(different)
    return sorted(different, key=lambda path: path.parts)


def archive_of(path: Path) -> Path | None:
    """The archive that a path leads into, or None."""
    return next((parent for parent in path.parents if parent.is_file()), None)


@contextmanager
def open_member(path: Path, archive: Path) -> Iterator[IO[bytes]]:
    """The unpacked bytes of ARCHIVE/MEMBER.

    Raises:
        FeedbackError: there is no such member, or it is damaged; also while the block reads.
    """
    with _opened(archive) as opened:
        name = path.relative_to(archive).as_posix()
        try:
            members = reversed(opened.infolist())  # of two with one name the later one stands
            found = next(i for i in members if i.filename.replace("\\", "/") == name)
        except StopIteration:
            raise FeedbackError(f"{path}: there is no such file in {archive}.") from None
        _require_harmless(archive, found)
        with opened.open(found) as member:
            yield member


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(archive) as opened:
            yield opened
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        finding = f"the zip file is cut or damaged ({error})"
        raise FeedbackError(f"{archive}: {finding}. Copy or export it again.") from None
    except RuntimeError as error:  # zipfile's own, of a password
        raise FeedbackError(f"{archive}: {error}. Unpack it first, and name the folder.") from None


def _require_harmless(archive: Path, info: zipfile.ZipInfo) -> None:
    if info.flag_bits & 1:
        finding = f"{info.filename!r} is encrypted. Unpack it first, and name the folder."
        raise FeedbackError(f"{archive}: {finding}")
    packed = max(1, info.compress_size)
    if info.file_size > HARMLESS_BYTES and info.file_size > LARGEST_RATIO * packed:
        finding = f"{info.filename!r} unpacks to {info.file_size:,} bytes from {packed:,}"
        advice = "Unpack it yourself if that is right, and name the folder"
        raise FeedbackError(f"{archive}: {finding}. {advice}.")
