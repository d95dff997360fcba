"""Packed files as their own bytes, and one clear error where they are cut or damaged."""

import gzip
import random
from pathlib import Path

import pytest
import zstandard

from thumbs.errors import FeedbackError
from thumbs.feedback.packed import open_bytes

SKIPPABLE = b"\x50\x2a\x4d\x18\x05\x00\x00\x00notes"  # a frame of 5 bytes that mean nothing
TEXT = b'{"a": 1}\n' * 40_000 + random.Random(0).randbytes(40_000)  # packs well, then not at all


def read(path: Path) -> bytes:
    with open_bytes(path) as file:
        return file.read()


def zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


@pytest.mark.parametrize(
    "packed",
    [
        TEXT,
        gzip.compress(TEXT),
        gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:]),
        zstandard.compress(TEXT),
        zstd(TEXT[:100]) + zstd(b"") + SKIPPABLE + zstd(TEXT[100:]),
        SKIPPABLE + zstd(TEXT),
    ],
    ids=["plain", "gzip", "gzip twice", "zstd", "zstd frames", "skippable first"],
)
def test_the_bytes_come_out_whatever_they_are_packed_with(tmp_path: Path, packed: bytes) -> None:
    (tmp_path / "a").write_bytes(packed)
    assert read(tmp_path / "a") == TEXT


def test_lines_are_read_before_the_whole_file_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.zst").write_bytes(zstandard.compress(TEXT)[:-1])
    with open_bytes(tmp_path / "a.zst") as file:
        assert file.readline() == b'{"a": 1}\n'


def test_a_long_window_is_unpacked(tmp_path: Path) -> None:
    # 2^28 bytes is twice what zstandard unpacks unless told; streamed, its size is unknown.
    window = zstandard.ZstdCompressionParameters.from_level(3, window_log=28)
    packer = zstandard.ZstdCompressor(compression_params=window).compressobj()
    (tmp_path / "a.zst").write_bytes(packer.compress(b"abc") + packer.flush())
    assert read(tmp_path / "a.zst") == b"abc"


@pytest.mark.parametrize("length", [4, 5, 100, 20_000, -5, -1])
def test_a_cut_zstandard_file_is_an_error_wherever_it_is_cut(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.zst"
    path.write_bytes(zstd(TEXT)[:length])
    with pytest.raises(FeedbackError) as caught:
        read(path)
    assert str(caught.value) == (
        f"{path}: the zstandard file is cut or damaged (it ends before its last frame does). "
        "Copy or export it again."
    )


@pytest.mark.parametrize("tail", [b"no frame", SKIPPABLE[:6]])
def test_bytes_after_the_last_frame_are_an_error(tmp_path: Path, tail: bytes) -> None:
    (tmp_path / "a.zst").write_bytes(zstd(TEXT) + tail)
    with pytest.raises(FeedbackError, match="the zstandard file is cut or damaged"):
        read(tmp_path / "a.zst")


def test_a_changed_byte_of_a_zstandard_file_is_an_error(tmp_path: Path) -> None:
    packed = bytearray(zstd(TEXT))
    packed[-100] ^= 1  # inside the part that does not pack: only the checksum can tell
    (tmp_path / "a.zst").write_bytes(packed)
    with pytest.raises(FeedbackError, match="match checksum"):
        read(tmp_path / "a.zst")
