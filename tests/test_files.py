"""A file is whole or absent."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from thumbs.errors import OutputError
from thumbs.files import (
    cache_folder,
    folder_written_aside,
    remove_folder,
    remove_partials,
    sha256_bytes,
    sha256_file,
    write_bytes,
    written_aside,
)

SmallDisk = Callable[[int], AbstractContextManager[None]]


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


def test_a_folder_stands_when_it_is_whole_and_replaces_what_stood_there(tmp_path: Path) -> None:
    path = tmp_path / "below" / "model"
    for text in ("one", "two"):
        with folder_written_aside(path) as aside:
            (aside / "deeper").mkdir()
            (aside / "deeper" / "file").write_text(text)
            assert path.exists() == (text == "two")
    assert (path / "deeper" / "file").read_text() == "two"
    assert [entry.name for entry in path.rglob("*")] == ["deeper", "file"]
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupt_between_the_two_renames_brings_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "file").write_text("old")
    rename = Path.rename

    def stopped(self: Path, target: Path) -> Path:
        if self.name == ".model.partial":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stopped)
    with pytest.raises(KeyboardInterrupt), folder_written_aside(path) as aside:
        (aside / "file").write_text("new")
    assert (path / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def fail_to_fill(path: Path) -> None:
    with folder_written_aside(path) as aside:
        (aside / "file").write_text("half")
        raise KeyboardInterrupt


def test_a_folder_that_is_not_filled_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "file").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fail_to_fill(path)
    assert (path / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_kills_left_of_a_folder_is_no_part_of_the_next(tmp_path: Path) -> None:
    for left in (".model.partial", ".model.replaced.partial"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "half").write_text("")
    with folder_written_aside(tmp_path / "model") as aside:
        (aside / "file").write_text("")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [
        *("model", "model/file")
    ]


def test_without_room_the_old_file_stays_and_the_line_names_place_reason_and_room(
    tmp_path: Path, small_disk: SmallDisk
) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with (
        small_disk(1000),
        pytest.raises(OutputError, match="could not be written: ") as e,
    ):
        write_bytes(path, bytes(2000))
    assert str(e.value).startswith(f"{path}: could not be written: File too large (")
    assert " MB free there)" in str(e.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_library_that_tells_the_reason_in_its_text_only_is_understood(
    tmp_path: Path, small_disk: SmallDisk
) -> None:
    path = tmp_path / "model"
    many = Tokenizer(models.BPE({str(i): i for i in range(5000)}, []))
    with small_disk(1000), pytest.raises(OutputError, match="File too large"):  # noqa: SIM117
        with folder_written_aside(path) as aside:
            many.save(str(aside / "tokenizer.json"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_place_of_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OutputError, match=r"file: cannot be written, something else .*directory"):
        write_bytes(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_other_mistakes_while_writing_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), written_aside(tmp_path / "file"):
        (tmp_path / "absent").read_text()


def test_a_folder_is_gone_at_once_when_it_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "step-000001"
    folder.mkdir()
    (folder / "file").write_text("")
    unlink = os.unlink

    def see(name: object, **how: object) -> None:
        assert not folder.exists()  # when its first file goes, it has no longer its name
        unlink(name, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "unlink", see)
    remove_folder(folder)
    assert list(tmp_path.iterdir()) == []


def test_only_partial_files_are_removed_and_recent_ones_left_where_asked(tmp_path: Path) -> None:
    for name in (".new.partial", ".old.partial", "kept", ".kept"):
        (tmp_path / name).write_text("")
    os.utime(tmp_path / ".old.partial", (100, 100))
    remove_partials(tmp_path, older_than=200)
    assert {path.name for path in tmp_path.iterdir()} == {".new.partial", "kept", ".kept"}
    remove_partials(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"kept", ".kept"}


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBS_CACHE", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    assert cache_folder() == Path("/one")
    monkeypatch.delenv("THUMBS_CACHE")
    assert cache_folder() == Path("/two/thumbs")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/thumbs")
