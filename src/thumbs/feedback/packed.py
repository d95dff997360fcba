"""The bytes of a file, unpacked as they are read if it is packed with gzip or zstandard.

In: a path, be it of a member of a zip archive. Out: an open file, told apart by its first bytes,
whatever its name. Memory does not grow with the file. Knows nothing of what the bytes mean.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, cast

import zstandard

from thumbs.errors import FeedbackError
from thumbs.feedback.archive import archive_of, is_archive, open_member

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ZSTD_SKIPPABLE = tuple(bytes([number]) + b"\x2a\x4d\x18" for number in range(0x50, 0x60))
# Packed bytes unpacked at a time: 4 of them can become 128 KiB, but in text they become about 40.
PIECE = 1 << 13
LARGEST_WINDOW = 1 << 31  # bytes; what zstd --ultra --long=31 needs to be unpacked


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """The unpacked bytes of a file, from its start on.

    Raises:
        FeedbackError: the file cannot be read, or is cut or damaged; also while the block reads.
    """
    head = b""
    try:
        with _raw(path) as raw:
            head = raw.read(4)
            raw.seek(0)
            if head.startswith(GZIP_MAGIC):
                with gzip.open(raw) as unpacked:
                    yield cast(IO[bytes], unpacked)
            elif head.startswith((ZSTD_MAGIC, *ZSTD_SKIPPABLE)):
                with io.BufferedReader(_ZstdReader(raw)) as buffered:
                    yield buffered
            else:
                yield raw
    except FileNotFoundError:
        raise FeedbackError(f"{path}: there is no such file.") from None
    except IsADirectoryError:
        raise FeedbackError(f"{path}: is a folder. Name a file in it.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        kind = "gzip" if head.startswith(GZIP_MAGIC) else "zstandard"
        finding = f"the {kind} file is cut or damaged ({error}). Copy or export it again."
        raise FeedbackError(f"{path}: {finding}") from None
    except OSError as error:
        raise FeedbackError(f"{path}: cannot be read: {error.strerror}.") from None


def _raw(path: Path) -> AbstractContextManager[IO[bytes]]:
    """The bytes of a file, or of ARCHIVE/MEMBER."""
    try:
        return path.open("rb")
    except NotADirectoryError:
        archive = archive_of(path)
        if archive is None or not is_archive(archive):
            raise FileNotFoundError from None
        return open_member(path, archive)


class _ZstdReader(io.RawIOBase):
    """Unpacks frame after frame; unlike zstandard's own reader it notices a file that is cut."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._frame = _new_frame()
        self._is_inside = False  # of a frame that has not ended
        self._packed = b""
        self._unpacked = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._unpacked:
            self._packed = self._packed or self._raw.read(PIECE)
            if not self._packed:
                if self._is_inside:
                    raise EOFError("it ends before its last frame does")
                return 0
            self._unpack_piece()
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._unpacked))
        view[:count] = self._unpacked[:count]
        self._unpacked = self._unpacked[count:]
        return count

    def _unpack_piece(self) -> None:
        self._unpacked = memoryview(self._frame.decompress(self._packed))
        self._is_inside = not self._frame.eof
        self._packed = b""
        if self._frame.eof:
            self._packed = self._frame.unused_data
            self._frame = _new_frame()


def _new_frame() -> "zstandard.ZstdDecompressionObj":
    return zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW).decompressobj()
