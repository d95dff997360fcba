"""Zip archives: read as folders, and everything that is wrong with some of them."""

import io
import stat
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from thumbs.errors import FeedbackError
from thumbs.feedback.archive import LINK, OF_ONE_NAME, UNSAFE_NAME, is_archive, member_paths
from thumbs.feedback.importing import import_feedback
from thumbs.feedback.packed import open_bytes

ROW = b'{"prompt": "a", "completion": "b", "label": true}\n'


def archive_with(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_members_are_read_like_the_files_of_a_folder(tmp_path: Path) -> None:
    nested = io.BytesIO()
    with zipfile.ZipFile(nested, "w") as archive:
        archive.writestr("x.jsonl", ROW)
    members = {
        "b/two.jsonl": ROW.replace(b'"b"', b'"c"'),
        "a.jsonl": ROW,
        "read me.txt": b"hello",
        "inner.zip": nested.getvalue(),
        ".hidden.jsonl": b"{",
    }
    path = archive_with(tmp_path / "export.zip", members)
    result = import_feedback([path], tmp_path / "f.jsonl")
    assert (result.records, result.source) == (2, "trl-unpaired")
    assert result.skipped == {".txt file": 1, ".zip file": 1}


def test_an_error_names_the_archive_and_its_member(tmp_path: Path) -> None:
    path = archive_with(tmp_path / "export.zip", {"b/bad.jsonl": ROW + b"{"})
    with pytest.raises(FeedbackError) as caught:
        import_feedback([path], tmp_path / "f.jsonl")
    assert str(caught.value).startswith(f"{path}/b/bad.jsonl:2: not JSON")
    with pytest.raises(FeedbackError, match="there is no such file in"), open_bytes(path / "c"):
        pass


def test_names_that_lead_elsewhere_and_links_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "tricks.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("../up.jsonl", "/etc/x.jsonl", "a/../../b.jsonl", "C:\\c.jsonl"):
            archive.writestr(name, ROW)
        link = zipfile.ZipInfo("link.jsonl")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("good.jsonl", ROW)
    skipped = Counter[str]()
    assert member_paths(path, skipped) == [path / "good.jsonl"]
    assert skipped == {UNSAFE_NAME: 4, LINK: 1}
    assert not (tmp_path.parent / "up.jsonl").exists()


def test_what_unpacks_to_far_more_than_its_size_is_refused(tmp_path: Path) -> None:
    path = archive_with(tmp_path / "bomb.zip", {"zeros.jsonl": b"\0" * (80 << 20)})
    assert path.stat().st_size < 1 << 20
    with pytest.raises(FeedbackError, match=r"unpacks to 83,886,080 bytes from"):
        import_feedback([path], tmp_path / "f.jsonl")


def test_damaged_and_encrypted_archives_are_refused(tmp_path: Path) -> None:
    whole = archive_with(tmp_path / "whole.zip", {"a.jsonl": ROW * 100}).read_bytes()
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole[: len(whole) // 2])
    assert is_archive(cut)
    with pytest.raises(FeedbackError, match="the zip file is cut or damaged"):
        import_feedback([cut], tmp_path / "f.jsonl")
    locked = tmp_path / "locked.zip"
    content = bytearray(whole)
    content[6] |= 1  # the flag of encryption, of the member ...
    content[whole.rindex(b"PK\x01\x02") + 8] |= 1  # ... and of its entry in the directory
    locked.write_bytes(content)
    with pytest.raises(FeedbackError, match=r"is encrypted\. Unpack it first"):
        import_feedback([locked], tmp_path / "f.jsonl")
    flipped = tmp_path / "flipped.zip"
    content = bytearray(whole)
    content[60] ^= 0xFF
    flipped.write_bytes(content)
    with pytest.raises(FeedbackError, match=r"cut or damaged|not JSON|not UTF-8"):
        import_feedback([flipped], tmp_path / "f.jsonl")


def test_a_database_inside_is_to_be_unpacked_first(tmp_path: Path) -> None:
    database = Path(__file__).parents[1] / "fixtures" / "chainlit.db"
    path = archive_with(tmp_path / "e.zip", {"chat.db": database.read_bytes()})
    with pytest.raises(FeedbackError, match=r"a database in an archive\. Unpack it first"):
        import_feedback([path], tmp_path / "f.jsonl")


def test_of_two_members_with_one_name_the_later_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.jsonl", b"{")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("x.jsonl", ROW)
    result = import_feedback([path], tmp_path / "f.jsonl")
    assert result.records == 1
    assert result.skipped == {OF_ONE_NAME: 1}
