"""SHP's pairs of comments."""

from pathlib import Path
from typing import Any

import pytest
from tests.feedback.sources.reading import Reading

from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import first_entry
from thumbs.feedback.sources.shp import detect, read

OWN = Path(__file__).parents[2] / "fixtures" / "own" / "shp.jsonl"
READING = Reading("shp", read)
record, read_all, rows, refusal = READING.record, READING.read_all, READING.rows, READING.refusal


def test_the_own_fixture_gives_its_records() -> None:
    assert detect(first_entry(OWN))
    tally = Tally()
    egg, bread = ["How long do I boil an egg?"], ["Où acheter du pain ?"]
    assert read_all(OWN, tally=tally) == [
        record(egg, "Seven minutes.", True, score="12", conversation="p1"),
        record(egg, "An hour.", False, score="3", conversation="p1"),
        record(bread, "À la boulangerie.", True, score="20", conversation="p2"),
        record(bread, "Nulle part.", False, score="12", conversation="p2"),
    ]
    assert tally.dropped == {}


PAIR = {"history": "a", "human_ref_A": "b", "human_ref_B": "c", "labels": 1}


def test_a_pair_without_a_post_and_scores_is_read_too(tmp_path: Path) -> None:
    assert rows(tmp_path, PAIR) == [record(["a"], "b", True), record(["a"], "c", False)]


def test_equal_and_empty_comments_are_counted(tmp_path: Path) -> None:
    tally = Tally()
    equal, empty = {**PAIR, "human_ref_B": "b"}, {**PAIR, "human_ref_B": " "}
    assert rows(tmp_path, equal, empty, tally=tally) == [record(["a"], "b", True)]
    assert tally.dropped == {
        "answer of a pair whose two answers are the same": 2,
        "empty answer": 1,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": 2}, ':1: "labels" must be 1 or 0, but is 2.'),
        ({"labels": "1"}, ":1: \"labels\" must be 1 or 0, but is '1'."),
        ({"history": None}, ':1: "history" must be text, but is None.'),
        ({"human_ref_B": 5}, ':1: "human_ref_B" must be text, but is 5.'),
    ],
)
def test_a_damaged_pair_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    assert refusal(tmp_path, {**PAIR, **change}) == message


def test_only_pairs_are_detected() -> None:
    assert not detect({"history": "a", "human_ref_A": "b", "labels": 1})
