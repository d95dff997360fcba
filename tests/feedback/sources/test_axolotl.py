"""axolotl's KTO rows."""

from pathlib import Path
from typing import Any

import pytest
from tests.feedback.sources.reading import Reading

from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import first_entry
from thumbs.feedback.sources.axolotl import detect, read

OWN = Path(__file__).parents[2] / "fixtures" / "own" / "axolotl.jsonl"
READING = Reading("axolotl", read)
record, read_all, rows, refusal = READING.record, READING.read_all, READING.rows, READING.refusal


def test_the_own_fixture_gives_its_records() -> None:
    assert detect(first_entry(OWN))
    tally = Tally()
    assert read_all(OWN, tally=tally) == [
        record([("system", "Be brief."), "2+2?"], "4", True, score="5.0"),
        record(["¿2+3?"], "6", False),
        record(["3+3?"], "6", True),
        record(["Hi", ("assistant", "Hello"), "4+4?"], "9", False, score="1.0"),
    ]
    assert tally.dropped == {"empty answer": 1}
    assert tally.changed == {"key 'dataset' is not used": 1}


USER, FOUR = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "2+2?", "completion": "4", "label": True},
        {"question": "2+2?", "completion": "4", "label": True},
        {"prompt": "2+2?", "system": "", "completion": "4", "label": True},
        {"prompt": "2+2?", "completion": [USER, FOUR], "label": True},
        {"completion": [USER, FOUR], "label": True},
    ],
)
def test_each_strategys_row_is_detected_and_read(tmp_path: Path, row: dict[str, Any]) -> None:
    assert detect(row)
    assert rows(tmp_path, row) == [record(["2+2?"], "4", True)]


def test_an_answer_in_messages_alone_goes_with_the_prompt(tmp_path: Path) -> None:
    row = {"prompt": "2+2?", "system": "Hm.", "completion": [FOUR], "label": False}
    assert rows(tmp_path, row) == [record([("system", "Hm."), "2+2?"], "4", False)]


def test_a_row_without_a_judgement_and_one_without_an_answer_are_counted(tmp_path: Path) -> None:
    tally = Tally()
    chat = {"completion": [USER], "label": True}
    assert rows(tmp_path, {"instruction": "a", "completion": "b"}, chat, tally=tally) == []
    assert tally.dropped == {"entry without a judgement": 1, "empty answer": 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "a", "completion": "b", "label": 1}, '"label" must be true or false'),
        ({"instruction": 5, "completion": "b", "label": True}, '"instruction" must be text, but'),
        ({"question": "a", "completion": 5, "label": True}, '"completion" must be text, but is 5'),
        ({"question": "a", "completion": [5], "label": True}, "must be {"),
        ({"system": 5, "question": "a", "completion": "b", "label": True}, '"system" must be text'),
        ({"completion": "b", "label": True}, "has no prompt; the keys found: 'completion', 'lab"),
    ],
)
def test_a_damaged_row_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    told = refusal(tmp_path, {"instruction": "a", "completion": "b", "label": True}, row)
    assert told.startswith(":2: ")
    assert message in told


def test_rows_of_trl_are_not_detected() -> None:
    assert not detect({"prompt": "a", "completion": "b", "label": True})
    assert not detect({"prompt": [USER], "completion": [FOUR], "label": True, "system": ""})
    assert not detect({"prompt": "a", "system": "b", "completion": "c"})
    assert not detect({"completion": [FOUR], "label": True})
