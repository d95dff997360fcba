"""ms-swift's preference pairs."""

from pathlib import Path
from typing import Any

import pytest
from tests.feedback.sources.reading import Reading

from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import first_entry
from thumbs.feedback.sources.swift_pairs import detect, read

OWN = Path(__file__).parents[2] / "fixtures" / "own" / "ms-swift-pairs.jsonl"
READING = Reading("ms-swift-pairs", read)
record, read_all, rows, refusal = READING.record, READING.read_all, READING.rows, READING.refusal


def test_the_own_fixture_gives_its_records() -> None:
    assert detect(first_entry(OWN))
    tally = Tally()
    chat = [("system", "Be brief."), "你好", ("assistant", "您好"), "2+2?"]
    assert read_all(OWN, tally=tally) == [
        record(chat, "4", True),
        record(chat, "5", False),
        record(["3+3?"], "6", True),
        record(["3+3?"], "7", False),
    ]
    assert tally.dropped == {"entry without a judgement": 1}


USER, FOUR = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}
FIVE = {"role": "assistant", "content": "5"}
PAIR = {"messages": [USER, FOUR], "rejected_response": "5"}


def test_a_rejected_answer_may_be_its_messages_alone_and_tools_are_kept(tmp_path: Path) -> None:
    del (row := dict(PAIR))["rejected_response"]
    row |= {"rejected_messages": [FIVE], "tools": '[{"name": "sum"}]'}
    tools = '[{"name":"sum"}]'
    assert rows(tmp_path, row) == [
        record(["2+2?"], "4", True, tools=tools),
        record(["2+2?"], "5", False, tools=tools),
    ]


def test_pairs_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    tally = Tally()
    same, seen = {**PAIR, "rejected_response": "4"}, {**PAIR, "images": ["a.png"]}
    open_ = {**PAIR, "messages": [USER]}
    assert rows(tmp_path, same, seen, open_, tally=tally) == [record(["2+2?"], "5", False)]
    assert tally.dropped == {
        "answer of a pair whose two answers are the same": 2,
        "entry with images, videos or audio": 2,
        "empty answer": 1,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"messages": 5}, '"messages": must be a list of messages, but is 5.'),
        ({"messages": None}, '"messages": must be a list of messages, but is None.'),
        ({"rejected_response": {"a": 1}}, '"rejected_response": must be a list of messages, but'),
        ({"tools": "{"}, '"tools" must hold JSON'),
    ],
)
def test_a_damaged_pair_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    told = refusal(tmp_path, PAIR, {**PAIR, **change})
    assert told.startswith(":2: ")
    assert message in told


def test_only_pairs_are_detected() -> None:
    assert not detect({"messages": [], "label": True, "rejected_response": "a"})
    assert not detect({"messages": []})
    assert not detect({"rejected_response": "a"})
