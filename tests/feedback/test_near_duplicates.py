"""Texts that are nearly the same are found, others are not."""

import random
from pathlib import Path

from thumbs.feedback.file import write_feedback
from thumbs.feedback.inspect import check_feedback
from thumbs.feedback.near_duplicates import NearDuplicates
from thumbs.feedback.record import Feedback

WORDS = [f"word{i}" for i in range(500)]


def text(draw: random.Random, count: int = 100) -> list[str]:
    return draw.choices(WORDS, k=count)


def groups(*texts: str) -> list[list[int]]:
    found = NearDuplicates()
    for one in texts:
        found.add(one)
    return found.groups()


def test_a_word_changed_in_a_hundred_makes_no_other_text() -> None:
    draw = random.Random(0)
    first, other = text(draw), text(draw)
    changed = [*first[:50], "else", *first[51:]]  # 3 of 98 runs
    copies = [" ".join(first), " ".join(other), " ".join(changed), " ".join(first).upper() + "!"]
    assert groups(*copies) == [[0, 2, 3]]


def test_half_the_words_make_another_text() -> None:
    draw = random.Random(1)
    for _ in range(20):
        first = text(draw)
        half = [*first[:50], *text(draw, 50)]
        assert groups(" ".join(first), " ".join(half)) == []


def test_similarity_on_either_side_of_the_limit() -> None:
    # k of 100 words changed one by one, far apart: 3k of 98 runs differ, Jaccard (98-3k)/(98+3k).
    draw = random.Random(2)
    found = {0.94: 0, 0.61: 0}  # k = 1 and k = 8
    for _ in range(50):
        first = text(draw)
        for changes, share in ((1, 0.94), (8, 0.61)):
            other = list(first)
            for i in range(changes):
                other[10 + 11 * i] = f"new{i}"
            found[share] += bool(groups(" ".join(first), " ".join(other)))
    assert found[0.94] >= 48
    assert found[0.61] <= 3


def test_short_and_empty_texts() -> None:
    assert groups("yes", "yes!", "no", "", "") == [[0, 1], [3, 4]]
    assert NearDuplicates().groups() == []


def test_check_reports_them_when_asked(tmp_path: Path) -> None:
    draw = random.Random(3)
    answer = " ".join(text(draw))
    records = [
        Feedback("q", answer, True, id="a"),
        Feedback("q", answer + " indeed", False, id="b"),
        Feedback("q", " ".join(text(draw)), True, id="c"),
        Feedback("another question", answer, True, id="d"),
    ]
    write_feedback(tmp_path / "f.jsonl", records)
    assert check_feedback(tmp_path / "f.jsonl").near_duplicates is None
    found = check_feedback(tmp_path / "f.jsonl", near_duplicates=True).near_duplicates
    assert found == {"groups": 1, "records": 3, "examples": [["a", "b", "d"]]}
