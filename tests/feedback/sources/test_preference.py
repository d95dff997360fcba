"""Preference pairs of every form, by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.record import Feedback
from thumbs.feedback.sources.preference import detect, read

FIXTURE = Path(__file__).parents[2] / "fixtures" / "anthropic_hh.jsonl"

USER = {"role": "user", "content": "What is 2+2?"}
FOUR = {"role": "assistant", "content": "4"}
FIVE = {"role": "assistant", "content": "5"}


def pairs(tmp_path: Path, *rows: dict[str, Any], tally: Tally | None = None) -> list[Feedback]:
    (tmp_path / "f.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return list(read([tmp_path / "f.jsonl"], tally or Tally(), options=ImportOptions()))


def sides(records: list[Feedback]) -> list[tuple[object, object, bool]]:
    return [(record.prompt, record.completion, record.label) for record in records]


def test_a_transcript_pair_becomes_messages() -> None:
    records = list(read([FIXTURE], Tally(), options=ImportOptions()))
    assert sides(records) == [([USER], [FOUR], True), ([USER], [FIVE], False)]
    assert records[0].conversation == records[1].conversation


def test_the_prompt_of_a_transcript_ends_at_the_last_answer_both_share(tmp_path: Path) -> None:
    start = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: And?\n\nAssistant:"
    records = pairs(tmp_path, {"chosen": f"{start} Go on.", "rejected": f"{start} Go away."})
    prompt = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "And?"},
    ]
    assert sides(records) == [
        (prompt, [{"role": "assistant", "content": "Go on."}], True),
        (prompt, [{"role": "assistant", "content": "Go away."}], False),
    ]


def test_turns_of_one_speaker_in_a_row_become_one_message(tmp_path: Path) -> None:
    tally = Tally()
    start = "\n\nHuman: What is\n\nHuman: 2+2?\n\nAssistant:"
    record, _ = pairs(tmp_path, {"chosen": f"{start} 4", "rejected": f"{start} 5"}, tally=tally)
    assert record.prompt == [{"role": "user", "content": "What is\n\n2+2?"}]
    assert tally.changed == {"turns of one speaker in a row, made one message": 1}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [USER], "chosen": [FOUR], "rejected": [FIVE]},
        {"chosen": [USER, FOUR], "rejected": [USER, FIVE]},
        {"prompt": [USER], "chosen": [USER, FOUR], "rejected": [USER, FIVE]},
        {"prompt": "What is 2+2?", "chosen": [FOUR], "rejected": [FIVE]},
        {"prompt": "What is 2+2?", "chosen": [USER, FOUR], "rejected": [USER, FIVE]},
    ],
)
def test_messages_with_a_given_or_implicit_prompt(tmp_path: Path, row: dict[str, Any]) -> None:
    assert sides(pairs(tmp_path, row)) == [([USER], [FOUR], True), ([USER], [FIVE], False)]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "The sky is", "chosen": " blue.", "rejected": " black."},
        {"chosen": "The sky is blue.", "rejected": "The sky is black."},
    ],
)
def test_strings_with_a_given_or_implicit_prompt(tmp_path: Path, row: dict[str, Any]) -> None:
    # "blue" and "black" share "bl": the cut goes before the word.
    expected = [("The sky is", " blue.", True), ("The sky is", " black.", False)]
    assert sides(pairs(tmp_path, row)) == expected


def test_an_empty_answer_is_counted_and_the_other_stays(tmp_path: Path) -> None:
    tally = Tally()
    start = "\n\nHuman: Hi\n\nAssistant:"
    records = pairs(tmp_path, {"chosen": f"{start} ", "rejected": f"{start} No."}, tally=tally)
    assert [record.label for record in records] == [False]
    assert tally.dropped == {"empty answer": 1}


def test_a_pair_with_an_empty_prompt_is_counted(tmp_path: Path) -> None:
    tally = Tally()
    start = "\n\nHuman: \n\nAssistant:"
    assert pairs(tmp_path, {"chosen": f"{start} a", "rejected": f"{start} b"}, tally=tally) == []
    assert tally.dropped == {"empty prompt": 2}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"chosen": "Yes.", "rejected": "No."}, "without a common prompt"),
        ({"chosen": [FOUR], "rejected": [FIVE]}, "without a common prompt"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "whose two answers are the same"),
        (
            {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: b\n\nAssistant: b"},
            "without a common prompt",
        ),
        (
            {"chosen": [USER, FOUR, USER, FOUR], "rejected": [USER, FIVE, USER, FOUR]},
            "that parts before its last answer",
        ),
        (
            {
                "chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
                "rejected": "\n\nHuman: a\n\nAssistant: b\n\nHuman: x\n\nAssistant: d",
            },
            "that parts before its last answer",
        ),
    ],
)
def test_a_pair_that_cannot_be_judged_is_counted(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    tally = Tally()
    assert pairs(tmp_path, row, tally=tally) == []
    assert tally.dropped == {f"answer of a pair {reason}": 2}


def test_keys_without_use_are_counted(tmp_path: Path) -> None:
    tally = Tally()
    pairs(tmp_path, {"prompt": "a", "chosen": "b", "rejected": "c", "split": ""}, tally=tally)
    assert tally.changed["key 'split' is not used"] == 1


def test_text_beside_messages_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FeedbackError, match=r"f\.jsonl:1: .* but are str and list\."):
        pairs(tmp_path, {"chosen": "a", "rejected": [FOUR]})


def test_a_pair_is_recognised_by_its_two_answers() -> None:
    assert detect({"chosen": "a", "rejected": "b"})
    assert not detect({"chosen": "a"})


CHAT = [{"role": "system", "content": "Be brief."}, USER]


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"question": "What is 2+2?", "chosen": "4", "rejected": "5"}, [USER]),
        (
            {"question": "What is 2+2?", "system": "Be brief.", "chosen": "4", "rejected": "5"},
            CHAT,
        ),
        ({"input": "What is 2+2?", "system": "", "chosen": "4", "rejected": "5"}, [USER]),
        (
            {
                "instruction": "Add.",
                "input": "2+2",
                "chosen_response": "4",
                "rejected_response": "5",
            },
            [{"role": "user", "content": "Add.\n2+2"}],
        ),
        ({"prompt": "What is 2+2?", "system": "Be brief.", "chosen": "4", "rejected": "5"}, CHAT),
        ({"query": "What is 2+2?", "chosen": [FOUR], "rejected": [FIVE]}, [USER]),
        ({"question": "no", "chosen": [USER, FOUR], "rejected": [USER, FIVE]}, [USER]),
        (
            {"prompt": [USER], "system": "Be brief.", "chosen": [FOUR], "rejected": [FIVE]},
            CHAT,
        ),
        (
            {"prompt": CHAT, "system": "Another.", "chosen": [FOUR], "rejected": [FIVE]},
            CHAT,
        ),
    ],
)  # fmt: skip
def test_the_prompt_of_a_chat_may_stand_in_columns(
    tmp_path: Path, row: dict[str, Any], prompt: list[dict[str, str]]
) -> None:
    assert detect(row)
    assert sides(pairs(tmp_path, row)) == [(prompt, [FOUR], True), (prompt, [FIVE], False)]


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ("score_chosen", "score_rejected"),
        ("chosen_score", "rejected_score"),
        ("chosen_rating", "rejected_rating"),
        ("chosen-rating", "rejected-rating"),
    ],
)
def test_ratings_beside_the_answers_are_their_scores(
    tmp_path: Path, chosen: str, rejected: str
) -> None:
    row = {"prompt": "2+2?", "chosen": "4", "rejected": "5", "chosen_model": "m-1"}
    tally = Tally()
    found = pairs(tmp_path, {**row, chosen: 9.5, rejected: 1}, tally=tally)
    assert [(item.score, item.model) for item in found] == [("9.5", "m-1"), ("1", "")]
    assert tally.changed == {}
    assert pairs(tmp_path, {**row, chosen: 3, rejected: 3.0}, tally=tally) == []
    assert pairs(tmp_path, {**row, chosen: 3, rejected: 4}, tally=tally) == []
    assert tally.dropped == {
        "answer of a pair with equal scores": 2,
        "answer of a pair whose rejected answer has the higher score": 2,
    }


@pytest.mark.parametrize("key", ["system", "question", "input"])
def test_a_column_of_the_prompt_that_is_no_text_is_an_error(tmp_path: Path, key: str) -> None:
    row = {"question": "a", "chosen": "b", "rejected": "c", key: ["d"]}
    with pytest.raises(FeedbackError, match=rf'f\.jsonl:1: "{key}" must be text, but is'):
        pairs(tmp_path, row)


def test_pairs_of_other_tools_are_not_recognised() -> None:
    assert not detect({"messages": [], "chosen_response": "a", "rejected_response": "b"})
    assert not detect({"conversations": [], "chosen": {}, "rejected": {}})
