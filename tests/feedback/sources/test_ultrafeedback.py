"""UltraFeedback's scored completions."""

from pathlib import Path
from typing import Any

import pytest
from tests.feedback.sources.reading import Reading

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import first_entry
from thumbs.feedback.sources.ultrafeedback import detect, read

OWN = Path(__file__).parents[2] / "fixtures" / "own" / "ultrafeedback.jsonl"
READING = Reading("ultrafeedback", read)
record, read_all, rows, refusal = READING.record, READING.read_all, READING.rows, READING.refusal


WHAT = "What is 2+2?"


def test_the_own_fixture_gives_its_records() -> None:
    assert detect(first_entry(OWN))
    tally = Tally()
    # The mean of the overall scores 9, 1, 5 and 8 is 5.75.
    exact = [("system", "Be exact."), WHAT]
    assert read_all(OWN, tally=tally, threshold="mean") == [
        record(exact, "4", True, score="9", model="a", comment="Right."),
        record([WHAT], "5", False, score="1.0", model="b"),
        record(["法国的首都?"], "巴黎", True, score="8", model="a"),
    ]
    assert tally.dropped == {"completion without a score": 1, "empty answer": 1}


def test_an_aspect_is_judged_by_its_rating() -> None:
    tally = Tally()
    found = read_all(OWN, tally=tally, threshold="3", score_name="helpfulness")
    assert [(item.score, item.label) for item in found] == [
        ("5", True),
        ("1", False),
        ("1", False),
        ("5", True),
    ]


def test_scores_need_a_threshold_or_values() -> None:
    with pytest.raises(FeedbackError) as caught:
        read_all(OWN)
    assert str(caught.value) == (
        f"{OWN}: scores on a scale, which need a threshold. Give --threshold 7, mean, median or "
        "per-prompt-mean."
    )
    (kept,) = read_all(OWN, up=("9",), down=("2",))
    assert kept.label is True


def test_a_score_that_no_completion_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(FeedbackError) as caught:
        read_all(OWN, threshold="3", score_name="honesty")
    assert str(caught.value) == (
        f"{OWN}: --score-name: no completion has the score 'honesty'; found: helpfulness, "
        "overall_score."
    )


def test_within_a_prompt_the_better_ones_are_desirable(tmp_path: Path) -> None:
    done = [{"response": text, "overall_score": n} for text, n in (("a", 1), ("b", 3), ("c", 2))]
    tally = Tally()
    row = {"instruction": "Say.", "completions": done}
    found = rows(tmp_path, row, threshold="per-prompt-mean", tally=tally)
    assert [(item.score, item.label) for item in found] == [("1", False), ("3", True)]
    assert tally.dropped == {"score that lies on the threshold": 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"completions": [{"response": "a", "overall_score": 1}]}, '"instruction" must be text'),
        ({"instruction": 5, "completions": []}, '"instruction" must be text, but is 5'),
        (
            {"instruction": "a", "completions": [{"response": 5, "overall_score": 1}]},
            '"content" must be text, but is 5',
        ),
        (
            {"instruction": "a", "completions": [{"response": "b", "overall_score": "high"}]},
            "score 'overall_score' is 'high', no number",
        ),
    ],
)
def test_a_damaged_row_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    good = {"instruction": "a", "completions": [{"response": "b", "overall_score": 1}]}
    told = refusal(tmp_path, good, row, threshold="1")
    assert told.startswith(":2: ")
    assert message in told


def test_only_instructions_with_completions_are_detected() -> None:
    assert not detect({"instruction": "a", "completions": []})
    assert not detect({"instruction": "a", "completions": ["b"]})
    assert not detect({"completions": [{"response": "a"}]})
