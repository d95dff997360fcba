"""What was paid for is on the disk, whole, and held by one process."""

from pathlib import Path

import pytest

from thumbs.errors import RunError
from thumbs.evaluate.journal import open_journal


def test_entries_are_there_before_add_returns_and_later_ones_count(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.jsonl"
    with open_journal(path) as journal:
        journal.add("k", {"verdict": "first"})
        assert path.read_bytes() == b'{"key":"k","verdict":"first"}\n'
        journal.add("k", {"verdict": "tie"})
        journal.add("gone", {"verdict": None})
        journal.withdraw("gone")
    with open_journal(path) as journal:
        assert journal.entries == {"k": {"verdict": "tie"}}


def test_a_line_that_a_kill_has_cut_is_taken_off(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"key":"k","verdict":"first"}\n{"key":"l","verd')
    with open_journal(path) as journal:
        assert list(journal.entries) == ["k"]
        journal.add("l", {"verdict": "tie"})
    with open_journal(path) as journal:
        assert list(journal.entries) == ["k", "l"]


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with open_journal(path), pytest.raises(RunError, match="another process"), open_journal(path):
        pass


@pytest.mark.parametrize("line", [b"garbage\n", b'{"verdict": 1}\n', b"[1]\n"])
def test_a_foreign_line_is_refused_where_it_stands(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"key":"k"}\n' + line)
    with pytest.raises(RunError, match=r"journal.jsonl:2: is no line"), open_journal(path):
        pass
    assert path.read_bytes().endswith(line)
