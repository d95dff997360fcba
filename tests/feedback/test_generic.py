"""Rows of any log: paths, votes, and what is said where they do not fit."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from thumbs.errors import FeedbackError
from thumbs.feedback.file import read_feedback
from thumbs.feedback.importing import ImportResult, import_feedback
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.record import Feedback

MAPPING = {"prompt": "in.text", "completion": "out.0.text", "label": "vote"}


def row(question: str, answer: str, vote: object, **rest: Any) -> dict[str, Any]:
    return {"in": {"text": question}, "out": [{"text": answer}], "vote": vote, **rest}


def imported(
    tmp_path: Path, *rows: Mapping[str, Any], **options: Any
) -> tuple[ImportResult, list[Feedback]]:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    chosen = ImportOptions(**{"mapping": MAPPING, **options})
    result = import_feedback([path], tmp_path / "f.jsonl", options=chosen)
    return result, list(read_feedback(tmp_path / "f.jsonl"))


def test_paths_lead_into_objects_lists_and_json_text(tmp_path: Path) -> None:
    rest = {"u": '{"name": "ann"}', "t": 1763800000, "w": "0.5", "a.b": "m", "s": "Be brief."}
    mapping = {**MAPPING, "rater": "u.name", "time": "t", "weight": "w", "model": "a.b"}
    _, (record,) = imported(
        tmp_path, row("1+1?", "2", "good", **rest), mapping={**mapping, "system": "s"}
    )
    assert record.prompt == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1+1?"},
    ]
    assert record.completion == [{"role": "assistant", "content": "2"}]
    assert (record.label, record.score, record.rater, record.model) == (True, "good", "ann", "m")
    assert (record.weight, record.time) == (0.5, "2025-11-22T08:26:40.000000+00:00")


def test_one_list_of_messages_is_prompt_and_answer(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "times 3?"},
        {"role": "assistant", "content": "6"},
    ]
    mapping = {"prompt": "turns", "completion": "turns", "label": "ok"}
    _, (record,) = imported(tmp_path, {"turns": turns, "ok": True}, mapping=mapping)
    assert (record.prompt, record.completion) == (turns[:3], turns[3:])


def test_the_last_vote_counts_and_an_empty_one_takes_back(tmp_path: Path) -> None:
    mapping = {**MAPPING, "id": "id", "rater": "by", "time": "at"}
    rows = [
        row("a", "1", "good", id=1, by="ann", at="2026-01-02T00:00:00Z"),
        row("a", "1", "bad", id=1, by="ann", at="2026-01-01T00:00:00Z"),
        row("a", "1", "bad", id=1, by="bob", at="2026-01-01T00:00:00Z"),
        row("b", "1", "good", id=2, by="ann", at="2026-01-01T00:00:00Z"),
        row("b", "1", None, id=2, by="ann", at="2026-01-03T00:00:00Z"),
    ]
    result, records = imported(tmp_path, *rows, mapping=mapping)
    assert [(record.rater, record.label) for record in records] == [("ann", True), ("bob", False)]
    assert result.dropped == {"vote with a later one on the same answer": 2, "vote taken back": 1}


def test_a_score_is_held_against_a_threshold(tmp_path: Path) -> None:
    rows = [row("a", str(stars), None, stars=stars) for stars in (1, 4, 5)]
    mapping = {key: MAPPING[key] for key in ("prompt", "completion")}
    _, records = imported(tmp_path, *rows, mapping=mapping, score="stars", threshold="4")
    assert [(record.score, record.label) for record in records] == [
        ("1", False),
        ("4", True),
        ("5", True),
    ]


def test_rows_without_a_vote_are_counted(tmp_path: Path) -> None:
    result, _ = imported(tmp_path, row("a", "1", "good"), row("a", "2", None))
    assert result.dropped == {"row without a vote": 1}


def test_rows_without_a_path_are_counted_where_others_have_it(tmp_path: Path) -> None:
    unrated, unanswered = row("b", "2", "good"), row("c", "3", "bad")
    del unrated["vote"], unanswered["out"]
    result, records = imported(tmp_path, unrated, unanswered, row("a", "1", "good"))
    assert len(records) == 1
    assert result.dropped == {"row without a vote": 1, "row without what --map names": 1}


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"prompt": "in.text"}, "completion and label is not given"),
        ({**MAPPING, "ratter": "x"}, "--map ratter: is no key of a record; the nearest is rater"),
        ({**MAPPING, "prompt": "in.txt"}, "nothing stands at 'in.txt'. The nearest is 'in.text'"),
        ({**MAPPING, "completion": "out.3.text"}, "nothing stands at 'out.3.text'"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(
    tmp_path: Path, mapping: dict[str, str], words: str
) -> None:
    with pytest.raises(FeedbackError) as caught:
        imported(tmp_path, row("a", "1", "good"), mapping=mapping)
    assert words in str(caught.value)
    assert not (tmp_path / "f.jsonl").exists()


def test_an_unknown_file_is_told_a_mapping_to_paste(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("question,reply,stars\na,b,5\n")
    with pytest.raises(FeedbackError) as caught:
        import_feedback([path], tmp_path / "f.jsonl")
    assert "--map prompt=question --map completion=reply --map label=stars" in str(caught.value)
