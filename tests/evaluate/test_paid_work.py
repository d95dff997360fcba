"""Requests that cost: once each, kept as they come, stopped without loss."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from thumbs.errors import ConfigError, Interrupted
from thumbs.evaluate.journal import Journal, open_journal
from thumbs.evaluate.paid_work import Outcome, do_paid


def work_through(
    journal: Journal, num: int, refused: set[int] | None = None, seconds: float = 0.0
) -> tuple[dict[str, str], list[int]]:
    """What was refused, and which tasks were asked for, in their order."""
    asked: list[int] = []

    def work(task: int) -> Outcome:
        asked.append(task)
        time.sleep(seconds)
        return Outcome({}, "too long") if task in (refused or ()) else Outcome({"text": task})

    refusals = do_paid(
        work,
        {str(task): task for task in range(num)},
        journal,
        concurrency=2,
        title="asking",
        unit="answers",
        give_up=lambda: None,
    )
    return refusals, sorted(asked)


def test_only_what_is_missing_is_asked_for_and_refusals_are_not_kept(tmp_path: Path) -> None:
    with open_journal(tmp_path / "j.jsonl") as journal:
        assert work_through(journal, 4, {3}) == ({"3": "too long"}, [0, 1, 2, 3])
        refusals, asked = work_through(journal, 6)
    assert (refusals, asked) == ({}, [3, 4, 5])


def test_a_server_that_takes_nothing_is_told_after_five(tmp_path: Path) -> None:
    with open_journal(tmp_path / "j.jsonl") as journal:
        with pytest.raises(ConfigError, match="refuses every request: too long"):
            work_through(journal, 100, set(range(100)), seconds=0.01)
        with pytest.raises(ConfigError, match="refuses every request"):
            work_through(journal, 1, {0})
        assert work_through(journal, 3, {0})[0] == {"0": "too long"}


def test_what_the_journal_holds_of_other_work_gives_a_server_no_credit(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with open_journal(tmp_path / "j.jsonl") as journal:
        journal.add("of another comparison", {"text": 1})
        with pytest.raises(ConfigError, match="refuses every request: too long"):
            work_through(journal, 3, {0, 1, 2})
        assert "the server refused" not in capfd.readouterr().err
        # What it has taken of these very tasks does: the one that is too long is refused again.
        for _ in range(2):
            assert work_through(journal, 3, {2})[0] == {"2": "too long"}
            assert "the server refused 1 of" in capfd.readouterr().err


def test_ctrl_c_ends_after_the_requests_under_way_which_are_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def press() -> None:
        while (tmp_path / "j.jsonl").read_bytes().count(b"\n") < 3:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    with open_journal(tmp_path / "j.jsonl") as journal:
        thread = threading.Thread(target=press)
        thread.start()
        with pytest.raises(Interrupted, match="what has come is kept"):
            work_through(journal, 100, seconds=0.05)
        thread.join()
        kept = set(journal.entries)
        assert 3 <= len(kept) < 60
        assert "stopping after the requests under way" in capfd.readouterr().err
        _, asked = work_through(journal, 100)
    assert set(map(str, asked)) == {str(task) for task in range(100)} - kept
