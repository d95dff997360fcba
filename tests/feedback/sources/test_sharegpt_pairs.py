"""Pairs in ShareGPT form."""

from pathlib import Path
from typing import Any

import pytest
from tests.feedback.sources.reading import Reading

from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import first_entry
from thumbs.feedback.sources.sharegpt_pairs import detect, read

OWN = Path(__file__).parents[2] / "fixtures" / "own" / "sharegpt-pairs.json"
READING = Reading("sharegpt-pairs", read)
record, read_all, rows, refusal = READING.record, READING.read_all, READING.rows, READING.refusal


def test_the_own_fixture_gives_its_records() -> None:
    assert detect(first_entry(OWN))
    tally = Tally()
    chinese = ["你好", ("assistant", "您好"), "今天天气怎么样"]
    assert read_all(OWN, tally=tally) == [
        record(chinese, "晴 25 度", True),
        record(chinese, "不知道", False),
        record([("system", "Be brief."), "2+2?"], "4", True),
    ]
    assert tally.dropped == {
        "empty answer": 1,
        "answer of a pair whose two answers are the same": 2,
    }
    assert tally.changed == {"key 'topic' is not used": 1}


TURN = {"from": "human", "value": "Hi"}
GOOD, BAD = {"from": "gpt", "value": "Hello"}, {"from": "gpt", "value": "Go"}


@pytest.mark.parametrize(
    "change",
    [
        {"conversations": [{"from": "Ann", "value": "Hi"}]},
        {"conversations": [TURN, 5]},
        {"conversations": []},
        {"conversations": None},
        {"chosen": {"from": "gpt"}},
        {"rejected": {"from": "Ann", "value": "a"}},
    ],
)
def test_a_pair_with_an_unknown_speaker_is_counted(tmp_path: Path, change: dict[str, Any]) -> None:
    tally = Tally()
    pair = {"conversations": [TURN], "chosen": GOOD, "rejected": BAD}
    assert len(rows(tmp_path, pair, {**pair, **change}, tally=tally)) == 2
    assert tally.dropped == {"answer of a pair whose conversation has an unknown speaker": 2}


def test_a_system_prompt_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    pair = {"conversations": [TURN], "chosen": GOOD, "rejected": BAD, "system": 5}
    assert refusal(tmp_path, pair) == ':1: "system" must be text, but is 5.'


def test_only_pairs_of_turns_are_detected() -> None:
    assert detect({"conversations": [], "chosen": {}, "rejected": {}})
    assert not detect({"conversations": [], "chosen": "a", "rejected": "b"})
    assert not detect({"conversations": [], "chosen": {}})
