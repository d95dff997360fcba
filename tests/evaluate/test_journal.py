"""What was paid for is on the disk, whole, whichever processes add to it."""

import time
import warnings
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest

from thumbs.errors import Interrupted, RunError
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


def forked(work: Callable[[], object]) -> ForkProcess:
    with warnings.catch_warnings():
        # Python 3.12 warns of threads; those of a parent that are idle do no harm here.
        warnings.simplefilter("ignore", DeprecationWarning)
        process = get_context("fork").Process(target=work)
        process.start()
    return process


def test_processes_that_add_at_once_lose_no_line_and_see_each_others(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"

    def add_many(name: str) -> None:
        with open_journal(path) as journal:
            for number in range(40):
                journal.add(f"{name}{number}", {"text": "x" * 3000})

    others = [forked(partial(add_many, name)) for name in "ab"]
    with open_journal(path) as journal:
        for other in others:
            other.join()
            assert other.exitcode == 0
        journal.add("mine", {"text": ""})
        assert len(journal.entries) == 81
    assert path.read_bytes().count(b"\n") == 81


def test_a_line_cut_by_a_kill_of_another_process_is_taken_off_by_the_next_that_writes(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.jsonl"
    with open_journal(path) as journal:
        journal.add("k", {})
        forked(partial(path.write_bytes, path.read_bytes() + b'{"key":"l","te')).join()
        journal.add("m", {})
    with open_journal(path) as journal:
        assert list(journal.entries) == ["k", "m"]


def test_a_key_that_another_process_claims_is_waited_for_also_where_it_is_killed(
    tmp_path: Path,
) -> None:
    path, begun = tmp_path / "journal.jsonl", tmp_path / "begun"

    def claim(seconds: float) -> None:
        with open_journal(path) as journal, journal.claimed("k", lambda: False):
            begun.touch()
            time.sleep(seconds)
            journal.add("k", {"text": "theirs"})

    for seconds, kept in ((600, None), (0.2, {"text": "theirs"})):
        other = forked(partial(claim, seconds))
        while not begun.exists():
            time.sleep(0.01)
        with open_journal(path) as journal:
            with pytest.raises(Interrupted), journal.claimed("k", lambda: True):
                pass
            with journal.claimed("another", lambda: True):
                pass
            if kept is None:
                other.kill()
            with journal.claimed("k", lambda: False):
                assert journal.get("k") == kept
        other.join()
        begun.unlink()


@pytest.mark.parametrize("line", [b"garbage\n", b'{"verdict": 1}\n', b"[1]\n"])
def test_a_foreign_line_is_refused_where_it_stands(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"key":"k"}\n' + line)
    with pytest.raises(RunError, match=r"journal.jsonl:2: is no line"), open_journal(path):
        pass
    assert path.read_bytes().endswith(line)
