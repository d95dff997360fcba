"""HelpSteer's ratings and preferences."""

from pathlib import Path
from typing import Any

import pytest
from tests.feedback.sources.reading import Reading

from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import first_entry
from thumbs.feedback.sources.helpsteer import detect, read

OWN = Path(__file__).parents[2] / "fixtures" / "own" / "helpsteer"
READING = Reading("helpsteer", read)
record, read_all, rows, refusal = READING.record, READING.read_all, READING.rows, READING.refusal


RATINGS, PAIRS, PAIRS3 = (
    OWN / name for name in ("ratings.jsonl", "preferences.jsonl", "preference3.jsonl")
)


def test_ratings_are_judged_by_the_threshold() -> None:
    assert detect(first_entry(RATINGS))
    tally = Tally()
    spanish = ["Hi", ("assistant", "Hello"), "¿Qué es C#?"]
    assert read_all(RATINGS, tally=tally, threshold="3") == [
        record(["c#"], "C# is a language.", True, score="4"),
        record(spanish, "No sé.", False, score="0"),
    ]
    assert tally.dropped == {"empty answer": 1}
    found = read_all(RATINGS, threshold="4", score_name="coherence")
    assert [item.label for item in found] == [True, True]


def test_preferences_give_two_records() -> None:
    assert detect(first_entry(PAIRS))
    assert detect(first_entry(PAIRS3))
    tally = Tally()
    chat = [("system", "Be brief."), "Hi", ("assistant", "Hello"), "4+4?"]
    assert read_all(PAIRS, PAIRS3, tally=tally) == [
        record(["2+2?"], "4", True, score="-2"),
        record(["2+2?"], "5", False, score="-2"),
        record(chat, "8", True, score="3"),
        record(chat, "9", False, score="3"),
    ]
    assert tally.dropped == {"answer of a pair without a preference": 2}


SCALES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
RATED: dict[str, Any] = {**dict.fromkeys(SCALES, 1), "prompt": "a", "response": "b"}
PAIR = {"prompt": "a", "response_1": "b", "response_2": "c", "preference_strength": 1}


def test_ratings_need_a_threshold_and_a_known_name(tmp_path: Path) -> None:
    told = "ratings from 0 to 4, which need a threshold. Give --threshold 3, mean or median."
    assert refusal(tmp_path, RATED) == f": {told}"
    told = refusal(tmp_path, RATED, threshold="1", score_name="tone")
    assert told.startswith(": --score-name: no rating is called 'tone'; found: helpfulness, corr")


def test_an_answer_without_the_rating_is_counted(tmp_path: Path) -> None:
    tally = Tally()
    assert rows(tmp_path, {**RATED, "helpfulness": None}, threshold="1", tally=tally) == []
    assert tally.dropped == {"answer without the rating": 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**PAIR, "preference_strength": 4}, "must be a number from -3 to 3, but is 4."),
        ({**PAIR, "preference_strength": True}, "must be a number from -3 to 3, but is True."),
        ({**PAIR, "preference_strength": None}, "must be a number from -3 to 3, but is None."),
        ({**PAIR, "prompt": 5}, '"prompt": must be text, but is 5.'),
        ({**PAIR, "response_2": []}, '"response_2": must be text, but is [].'),
        ({**RATED, "prompt": {}}, '"prompt": must be text, but is {}.'),
        ({**RATED, "response": 5}, '"response": must be text, but is 5.'),
        ({"response": "b"}, "\"prompt\" is missing; found: 'response'."),
        ({**RATED, "helpfulness": "high"}, "rating 'helpfulness' is 'high', no number"),
    ],
)
def test_a_damaged_row_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    told = refusal(tmp_path, RATED, row, threshold="1")
    assert told.startswith(":2: ")
    assert message in told


def test_a_prompt_alone_is_not_detected() -> None:
    assert not detect({"prompt": "a", "response": "b"})
    assert not detect({"prompt": "a", "response_1": "b", "response_2": "c"})
