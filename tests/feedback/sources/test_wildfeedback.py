"""WildFeedback's annotated utterances."""

from pathlib import Path
from typing import Any

import pytest
from tests.feedback.sources.reading import Reading

from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import first_entry
from thumbs.feedback.sources.wildfeedback import detect, read

OWN = Path(__file__).parents[2] / "fixtures" / "own" / "wildfeedback.json"
READING = Reading("wildfeedback", read)
record, read_all, rows, refusal = READING.record, READING.read_all, READING.rows, READING.refusal


def test_the_own_fixture_gives_its_records() -> None:
    assert detect(first_entry(OWN))
    tally = Tally()
    asked = "What is 2+2?"
    no = "No, that is wrong."
    assert read_all(OWN, tally=tally) == [
        record([asked], "5", False, score="dissatisfied", comment=no),
        record([asked, ("assistant", "5"), no], "4", True, score="satisfied", comment="Thanks!"),
    ]
    assert tally.dropped == {
        "answer that its user did not reply to": 1,
        "answer whose user was neither satisfied nor dissatisfied, or both": 1,
        "empty answer": 1,
        "utterance that does not follow the one before it": 2,
    }


def utterance(number: int, role: str, text: Any, sat: Any = None, **more: Any) -> dict[str, Any]:
    said = {"UtteranceId": number, "Role": role, "Content": text, "Satisfaction": sat}
    return {**said, "Disatisfaction": None, **more}


START = utterance(0, "User", "Hi"), utterance(1, "Agent", "Hello")


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ({"sat": True}, True),
        ({"sat": "True"}, True),
        ({"sat": "yes", "Disatisfaction": "no"}, True),
        ({"sat": False, "Disatisfaction": True}, False),
        ({"Dissatisfaction": True}, False),
        ({"sat": True, "Disatisfaction": True}, None),
        ({"sat": ""}, None),
    ],
)
def test_what_the_reply_says_is_about_the_answer_before_it(
    tmp_path: Path, reply: dict[str, Any], label: bool | None
) -> None:
    found = rows(tmp_path, *START, utterance(2, "User", "And?", **reply))
    assert [item.label for item in found] == ([] if label is None else [label])


def test_two_utterances_of_one_speaker_end_what_is_known_of_a_conversation(tmp_path: Path) -> None:
    tally = Tally()
    more = utterance(2, "Agent", "Hello?"), utterance(3, "User", "Yes", True)
    assert rows(tmp_path, *START, *more, tally=tally) == []
    assert tally.dropped == {
        "utterance that does not follow the one before it": 2,
        "answer that its user did not reply to": 1,
    }


def test_a_missing_utterance_ends_what_is_known_of_a_conversation(tmp_path: Path) -> None:
    tally = Tally()
    assert rows(tmp_path, *START, utterance(4, "User", "Good", True), tally=tally) == []
    assert tally.dropped == {
        "utterance that does not follow the one before it": 1,
        "answer that its user did not reply to": 1,
    }


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (utterance(2, "Bot", "a"), ":3: \"Role\" must be User or Agent, but is 'Bot'."),
        (utterance(2, "User", 5), ':3: "Content" must be text, but is 5.'),
        (utterance(2, "User", "a", 1), ':3: "Satisfaction" must be true or false, but is 1.'),
        (utterance(2, "User", "a", "so"), "but is 'so'."),
    ],
)
def test_a_damaged_utterance_is_named(tmp_path: Path, bad: dict[str, Any], message: str) -> None:
    assert message in refusal(tmp_path, *START, bad)


def test_only_utterances_with_an_annotation_are_detected() -> None:
    assert not detect({"UtteranceId": 0, "Role": "User", "Content": "a"})
    assert not detect({"UtteranceId": 0, "Satisfaction": True})
