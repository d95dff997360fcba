"""Nectar's ranked answers."""

from pathlib import Path
from typing import Any

import pytest
from tests.feedback.sources.reading import Reading

from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import first_entry
from thumbs.feedback.sources.nectar import detect, read

OWN = Path(__file__).parents[2] / "fixtures" / "own" / "nectar.jsonl"
READING = Reading("nectar", read)
record, read_all, rows, refusal = READING.record, READING.read_all, READING.rows, READING.refusal


def test_the_own_fixture_gives_its_records() -> None:
    assert detect(first_entry(OWN))
    tally = Tally()
    asked = ["你好", ("assistant", "您好"), "2+2?"]
    assert read_all(OWN, tally=tally) == [
        record(asked, "4", True, score="1.0", model="m-1"),
        record(asked, "5", False, score="3.0", model="m-3"),
    ]
    assert +tally.dropped == {
        "answer that is neither first nor last of a ranking": 1,
        "answer to a prompt whose answers share one rank": 2,
    }


def ranked(*answers: tuple[Any, Any], prompt: Any = "\n\nHuman: Hi\n\nAssistant: ") -> Any:
    return {"prompt": prompt, "answers": [{"answer": a, "rank": rank} for a, rank in answers]}


def test_a_single_answer_and_an_empty_one_are_counted(tmp_path: Path) -> None:
    tally = Tally()
    entries = ranked(("a", 1)), ranked(("a", 1), ("", 2))
    assert rows(tmp_path, *entries, tally=tally) == [record(["Hi"], "a", True, score="1")]
    assert +tally.dropped == {
        "answer to a prompt whose answers share one rank": 1,
        "empty answer": 1,
    }


def test_a_prompt_without_markers_is_the_users(tmp_path: Path) -> None:
    first, _ = rows(tmp_path, ranked(("a", 1), ("b", 2), prompt="Say: Hi"))
    assert first == record(["Say: Hi"], "a", True, score="1")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (ranked(("a", "1"), ("b", 2)), ":2: \"rank\" must be a number, but is '1'."),
        (ranked(("a", None), ("b", 2)), ':2: "rank" must be a number, but is None.'),
        (ranked(("a", True), ("b", 2)), ':2: "rank" must be a number, but is True.'),
        (ranked(("a", 1), ("b", 2), prompt=5), ':2: "prompt" must be text, but is 5.'),
        (ranked((5, 1), ("b", 2)), '"content" must be text, but is 5.'),
    ],
)
def test_a_damaged_row_is_named(tmp_path: Path, bad: dict[str, Any], message: str) -> None:
    assert message in refusal(tmp_path, ranked(("a", 1), ("b", 2)), bad)


def test_only_prompts_with_ranked_answers_are_detected() -> None:
    assert not detect({"prompt": "a", "answers": ["b"]})
    assert not detect({"prompt": "a", "answers": []})
    assert not detect({"answers": [{"answer": "a", "rank": 1}]})
