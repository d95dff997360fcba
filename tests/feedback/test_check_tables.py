"""What people see of `thumbs check`, of data that tries to be seen otherwise."""

import doctest
from pathlib import Path

from rich.console import Console

from thumbs.feedback import check_tables as module
from thumbs.feedback.check_tables import check_tables, plain
from thumbs.feedback.file import write_feedback
from thumbs.feedback.inspect import check_feedback
from thumbs.feedback.record import Feedback

HOSTILE = "[bold red]x[/] \x1b[31mred\x1b[0m \u202egnp.exe\r\nline " + "y" * 500


def printed(tmp_path: Path, *records: Feedback, width: int = 80) -> str:
    write_feedback(tmp_path / "f.jsonl", records)
    result = check_feedback(tmp_path / "f.jsonl").as_dict()
    console = Console(width=width, record=True, highlight=False, file=open("/dev/null", "w"))  # noqa: SIM115
    for part in check_tables("f.jsonl", result):
        console.print(part)
    console.file.close()
    return console.export_text()


def test_everything_is_there_for_people(tmp_path: Path) -> None:
    records = [
        *(Feedback(f"q{i}", "short", True, rater="ann", model="m") for i in range(12)),
        *(Feedback(f"q{i}", "a longer answer", i % 2 == 0, rater="bob") for i in range(12)),
        Feedback("q0", "short", False, rater="bob", model="m"),
    ]
    text = printed(tmp_path, *records, width=100)
    assert "25: 18 desirable, 7 undesirable" in text
    assert "always up" in text
    assert "they agree on 0% of 1 answers rated twice" in text
    assert "m" in text
    assert "92%" in text  # 12 of 13 answers of m are up
    assert "4 to 7" in text
    assert "8 to 15" in text
    assert "█" in text
    assert "warning: rater ann is always up in 12 votes" in text


def test_hostile_text_is_shown_as_it_is(tmp_path: Path) -> None:
    records = [
        Feedback(HOSTILE, HOSTILE, label, rater=f"{HOSTILE}{label}", model=HOSTILE)
        for label in (True, False)
    ]
    text = printed(tmp_path, *records)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[bold red]x[/]" in text
    assert max(map(len, text.splitlines())) <= 80


def test_one_label_and_no_raters(tmp_path: Path) -> None:
    text = printed(tmp_path, Feedback("q", "a", True), Feedback("r", "a", True))
    assert "no answer was rated by two of them" in text
    assert "warning: every record is desirable" in text
    assert "raters (" not in text


def test_plain_text_is_one_line_cut_to_its_width() -> None:
    assert plain("a\nb\tc\x07") == "a b c\\x07"
    assert plain("abcdef", 4) == "abc…"


def test_the_docstring_holds() -> None:
    assert doctest.testmod(module).failed == 0
