"""Judged pairs as they are published, and a judge measured by them."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from thumbs.errors import FeedbackError
from thumbs.evaluate.intervals import wilson
from thumbs.evaluate.judging import Judgement, Question, Verdict
from thumbs.evaluate.known_pairs import judge_accuracy, read_known_pairs

LLMBAR = {"input": "p", "output_1": "a", "output_2": "b", "label": 2}
PANDALM = {
    "idx": 0,
    "instruction": "do",
    "input": "this",
    "response1": "a",
    "response2": "b",
    "annotator1": 1,
    "annotator2": 0,
    "annotator3": 1,
}
MTBENCH = {
    "conversation_a": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
    "conversation_b": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}],
    "winner": "model_b",
    "turn": 1,
}


def pairs_of(tmp_path: Path, entries: list[dict[str, Any]]) -> tuple[list[Any], Counter[str]]:
    file = tmp_path / "pairs.json"
    file.write_text(json.dumps(entries), encoding="utf-8")
    dropped: Counter[str] = Counter()
    return read_known_pairs([file], dropped), dropped


def test_published_pairs_are_read_with_what_people_said(tmp_path: Path) -> None:
    entries: list[dict[str, Any]] = [
        LLMBAR,
        PANDALM,
        {**PANDALM, "annotator1": 2},  # 2, 0, 1: no majority
        {**PANDALM, "annotator1": 0, "input": ""},
        MTBENCH,
        {**MTBENCH, "turn": 2},
        {**MTBENCH, "winner": "tie"},
        {**LLMBAR, "output_2": "a"},
        {"prompt": "p", "first": "a", "second": "b", "better": "first"},
    ]
    pairs, dropped = pairs_of(tmp_path, entries)
    assert [(pair.question.prompt, pair.verdict) for pair in pairs] == [
        ("p", "second"),
        ("do\n\nthis", "first"),
        ("do", "tie"),
        ("q", "second"),
        ("q", "tie"),
        ("p", "first"),
    ]
    assert dropped == {
        "annotators without a majority": 1,
        "judged on a later turn": 1,
        "both answers are the same text": 1,
    }


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"question": "?"}, r"record 1: is no judged pair; the keys found: 'question'"),
        ({**LLMBAR, "label": 3}, "must be one of 0, 1, 2, but is 3"),
        ({**LLMBAR, "output_1": None}, "must be text, but is None"),
        ({**LLMBAR, "output_1": "b"}, "no pair to measure a judge by"),
    ],
)
def test_what_is_no_pair_is_refused(entry: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(FeedbackError, match=words):
        pairs_of(tmp_path, [entry])


@dataclass(frozen=True)
class Scripted:
    """Says what a table holds for (prompt, first answer)."""

    table: dict[tuple[str, str], Verdict | None]
    sees_order: bool = True
    name: str = "scripted"

    def judge(self, questions: Sequence[Question]) -> list[Judgement]:
        said = [self.table[str(question.prompt), question.first] for question in questions]
        return [Judgement(verdict, "" if verdict else "mute") for verdict in said]


def test_accuracy_counts_ties_and_silence_as_wrong_where_people_preferred(tmp_path: Path) -> None:
    entries = [{**LLMBAR, "input": name, "label": 1} for name in "pqrs"]
    pairs, _ = pairs_of(tmp_path, entries)
    judge = Scripted(
        {
            ("p", "a"): "first",
            ("p", "b"): "second",  # right
            ("q", "a"): "first",
            ("q", "b"): "first",  # by place: a tie
            ("r", "a"): None,
            ("r", "b"): "second",  # silent once
            ("s", "a"): "second",
            ("s", "b"): "first",  # wrong
        }
    )
    found = judge_accuracy(judge, pairs)
    assert (found["accuracy"], found["n"], found["method"]) == (0.25, 4, "wilson")
    assert (found["ci_low"], found["ci_high"]) == tuple(wilson(1, 4))
    # Single judgements: p both, q one, r one of two, s none: 4 of 8.
    assert found["accuracy_one_order"] == 0.5
    assert (found["ties"], found["nulls"], found["null_reasons"]) == (1, 1, {"mute": 1})
    assert found["consistency"] == 2 / 3
    assert found["first_position_rate"] == 4 / 7


def test_a_judge_that_sees_no_order_is_asked_once(tmp_path: Path) -> None:
    pairs, _ = pairs_of(tmp_path, [{**LLMBAR, "label": 1}])
    found = judge_accuracy(Scripted({("p", "a"): "first"}, sees_order=False), pairs)
    assert (found["accuracy"], found["consistency"]) == (1, None)


@pytest.mark.shared
def test_the_published_files_are_read_whole(shared: Path) -> None:
    dropped: Counter[str] = Counter()
    llmbar = read_known_pairs(sorted((shared / "data" / "llmbar").glob("*.json")), dropped)
    assert (len(llmbar), dropped) == (419, {})
    panda = read_known_pairs([shared / "data" / "pandalm-testset" / "testset-v1.json"], dropped)
    # Of 999 every one with three different votes, and those with equal answers, is left out.
    assert len(panda) + sum(dropped.values()) == 999
    assert {pair.verdict for pair in panda} == {"first", "second", "tie"}
    assert not any(pair.question.first == pair.question.second for pair in [*llmbar, *panda])
