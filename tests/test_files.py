"""A file is whole or absent."""

from pathlib import Path

import pytest

from thumbs.files import sha256_bytes, sha256_file, write_bytes, written_aside


def test_bytes_are_written_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.bin"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_an_exception_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_until_a_power_cut() -> None:
        with written_aside(path) as aside:
            aside.write_text("ne")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_until_a_power_cut()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_stands_at_the_path_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with written_aside(path) as aside:
        aside.write_text("text")
        assert not path.exists()
    assert path.read_text() == "text"


def test_a_file_and_its_bytes_have_one_hash(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1: the sha256 of "abc".
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(path) == sha256_bytes(b"abc") == known
