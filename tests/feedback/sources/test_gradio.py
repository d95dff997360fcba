"""Gradio's logs: the shifted columns, votes changed and taken back, runs of messages, flags."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import first_entry
from thumbs.feedback.file import read_feedback
from thumbs.feedback.importing import import_feedback
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.record import Feedback, with_defaults
from thumbs.feedback.sources.gradio import detect, read

FIXTURES = Path(__file__).parents[2] / "fixtures"
LOG = FIXTURES / "gradio_log.csv"
OWN = FIXTURES / "own" / "gradio.csv"
HEADER = ("conversation", "index", "value", "flag", "timestamp")

SUM = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]


def records_of(
    tmp_path: Path,
    *lines: tuple[object, ...],
    header: tuple[str, ...] = HEADER,
    tally: Tally | None = None,
    **options: Any,
) -> list[Feedback]:
    with (tmp_path / "log.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *lines])
    return list(read([tmp_path / "log.csv"], tally or Tally(), options=ImportOptions(**options)))


def line(vote: str, messages: object = SUM, index: object = 1, time: str = "") -> tuple[Any, ...]:
    """Four cells under five columns, as Gradio writes them."""
    return json.dumps(messages), index, vote, time


def record(prompt: object, answer: str, label: bool, **more: Any) -> Feedback:
    turns = [{"role": role, "content": content} for role, content in prompt]  # type: ignore[attr-defined]
    said = [{"role": "assistant", "content": answer}]
    score = "Like" if label else "Dislike"
    return with_defaults(Feedback(turns, said, label, score=score, source="gradio", **more))


def test_the_fixture_holds_a_vote_changed_and_then_taken_back(tmp_path: Path) -> None:
    assert detect(first_entry(LOG))
    with pytest.raises(FeedbackError, match="nothing is left to import") as caught:
        import_feedback([LOG], tmp_path / "out.jsonl")
    assert str(caught.value).endswith(
        "vote with a later one on the same answer (2), vote taken back (1)."
    )


def test_the_own_fixture_gives_its_records() -> None:
    tally = Tally()
    found = list(read([OWN], tally, options=ImportOptions()))
    chinese = [
        ("system", "Be brief."),
        ("user", "你好"),
        ("assistant", "您好"),
        ("user", "今天天气怎么样"),
    ]
    day = "2026-03-01T08:0"
    assert found == [
        record(chinese, "晴 25 度", True, time=f"{day}0:00.000001+00:00"),
        record([("user", "2+2?")], "5", False, time=f"{day}1:05.000000+00:00"),
        record([("user", "2+2?")], "4", True, time=f"{day}2:00.000000+00:00"),
        record(
            [("user", "Who wrote Faust?")],
            "Goethe.\n\nIn 1808.",
            False,
            time=f"{day}4:00.000000+00:00",
        ),
        record(
            [("user", "Hi"), ("assistant", "Hello!"), ("user", "3+3?")],
            "6",
            True,
            time=f"{day}6:00.000000+00:00",
        ),
    ]
    assert tally.dropped == {
        "vote with a later one on the same answer": 2,
        "vote taken back": 1,
        "unfinished answer": 1,
    }
    assert +tally.changed == {
        "thought or tool message left out": 1,
        "messages of one speaker in a row, made one message": 1,
        "time without a zone, taken as UTC": 5,
    }


def test_the_latest_vote_is_that_of_the_latest_time_whichever_file_it_is_in(tmp_path: Path) -> None:
    early = line("Like", time="2026-01-01 00:00:01"), line("", time="2026-01-01 00:00:03")
    late = line("Dislike", time="2026-01-01 00:00:02")
    assert records_of(tmp_path, late, *early) == []
    (kept,) = records_of(tmp_path, late, early[0])
    assert kept.label is False


def test_an_answer_is_the_run_of_messages_the_place_names(tmp_path: Path) -> None:
    run = [*SUM, {"role": "assistant", "content": "Sure."}, {"role": "user", "content": "Thanks"}]
    for place in (1, "[1, 2]", "(1, 2)"):
        (kept,) = records_of(tmp_path, line("Like", run, place))
        assert kept.completion == [{"role": "assistant", "content": "4\n\nSure."}]
        assert kept.prompt == SUM[:1]


@pytest.mark.parametrize(
    ("messages", "index", "reason"),
    [
        (SUM, 0, "vote on a message that is not an answer"),
        ([["a", "b"]], [0, 0], "vote on a message that is not an answer"),
        (SUM, 2, "vote on a message that is not in its conversation"),
        ([["a", "b"]], [1, 1], "vote on a message that is not in its conversation"),
        ([["a", None]], [0, 1], "vote on a message that is not in its conversation"),
        ([["a", "b"]], 0, "vote on a message that is not in its conversation"),
        ([], 0, "vote on a message that is not in its conversation"),
        (SUM[1:], 0, "answer without a prompt"),
        ([SUM[0], {"role": "assistant", "content": {"path": "a.png"}}], 1, "empty answer"),
        ([SUM[0], {**SUM[1], "metadata": {"title": "thinking"}}], 1, "empty answer"),
    ],
)
def test_what_is_no_vote_on_an_answer_is_counted(
    tmp_path: Path, messages: object, index: object, reason: str
) -> None:
    tally = Tally()
    assert records_of(tmp_path, line("Like", messages, index), tally=tally) == []
    assert tally.dropped == {reason: 1}


def test_content_is_text_in_any_of_its_forms(tmp_path: Path) -> None:
    file = {"type": "file", "file": {"path": "a.png"}, "alt_text": None}
    parts = [{"type": "text", "text": "What is"}, file, {"type": "text", "text": "this?"}]
    pair = [[["a.png", None], None], ["What is this?", "A cat"]]
    tally = Tally()
    messages = [{"role": "user", "content": parts}, SUM[1]]
    (kept,) = records_of(tmp_path, line("Like", messages), tally=tally)
    assert kept.prompt == [{"role": "user", "content": "What is\nthis?"}]
    assert tally.changed["attachment left out of a message"] == 1
    (kept,) = records_of(tmp_path, line("Like", pair, [1, 1]))
    assert kept.prompt == [{"role": "user", "content": "What is this?"}]


def test_an_escaped_cell_is_read_as_it_was(tmp_path: Path) -> None:
    escaped = ("'" + json.dumps([SUM[0], {**SUM[1], "content": "4,-"}]), 1, "'-1", "")
    (kept,) = records_of(tmp_path, escaped, up=("1",), down=("-1",))
    assert (kept.score, kept.label) == ("-1", False)
    assert kept.completion == [{"role": "assistant", "content": "4,-"}]


def test_flags_of_the_apps_own_need_to_be_named(tmp_path: Path) -> None:
    lines = line("Rude"), line("Like", [*SUM, *SUM], 3)
    with pytest.raises(FeedbackError) as caught:
        records_of(tmp_path, *lines)
    assert str(caught.value) == (
        f"{tmp_path}/log.csv: record 1: the vote is 'Rude', which is not plainly good or bad; the "
        "values found: Rude (1), Like (1). Say which are which: --up good --down bad, or for "
        "numbers --threshold 4."
    )
    found = records_of(tmp_path, *lines, down=("Rude",))
    assert [(item.score, item.label) for item in found] == [("Rude", False), ("Like", True)]
    found = records_of(tmp_path, *lines, up=("Rude",), down=("Like",))
    assert [item.label for item in found] == [True, False]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (("{", 1, "Like", ""), "record 1: \"conversation\" must hold JSON, but is '{'"),
        (("3", 1, "Like", ""), "record 1: \"conversation\" must hold a list, but is '3'."),
        (line("Like", index="x"), 'record 1: "index" must be a number, or two like [0, 1], but'),
        (line("Like", time="noon"), "record 1: the time 'noon' is none"),
        (line("Like", [SUM[0], {"role": "assistant"}, 5], 2), None),
        (line("Like", [5, SUM[1]]), "must be {"),
        (line("Like", [{"role": 1, "content": "a"}, SUM[1]]), "a message has the role 1"),
        (line("Like", [{"role": "user", "content": 1}, SUM[1]]), "and the content 1. Both must"),
    ],
)
def test_a_damaged_line_is_named(
    tmp_path: Path, cells: tuple[Any, ...], message: str | None
) -> None:
    if message is None:
        assert records_of(tmp_path, cells) == []
        return
    with pytest.raises(FeedbackError) as caught:
        records_of(tmp_path, cells)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/log.csv: ")


FLAGS = ("question", "answer", "flag", "username", "timestamp")


def test_an_interface_with_one_input_and_one_output_is_read(tmp_path: Path) -> None:
    lines = [
        ("2+2?", "4", "good", "ann", "2026-03-01 08:00:00"),
        ("2+2?", "4", "bad", "ann", "2026-03-01 08:00:09"),
        ("2+2?", "4", "good", "bob", "2026-03-01 08:00:01"),
        ("'-1?", "", "good", "bob", "2026-03-01 08:00:02"),
        ("hm", "hm", "", "bob", "2026-03-01 08:00:03"),
    ]
    tally = Tally()
    ann, bob = records_of(tmp_path, *lines, header=FLAGS, tally=tally)
    time = "2026-03-01T08:00:09.000000+00:00"
    expected = record([("user", "2+2?")], "4", False, rater="ann", time=time)
    assert ann == replace(expected, score="bad")
    assert (bob.label, bob.rater, bob.score) == (True, "bob", "good")
    assert tally.dropped == {
        "vote with a later one on the same answer": 1,
        "empty answer": 1,
        "vote taken back": 1,
    }


def test_an_interface_with_more_columns_needs_two_of_them_named(tmp_path: Path) -> None:
    header = ("question", "style", "answer", "flag", "timestamp")
    cells = ("2+2?", "short", "4", "good", "2026-03-01 08:00:00")
    with pytest.raises(FeedbackError) as caught:
        records_of(tmp_path, cells, header=header)
    assert str(caught.value) == (
        f"{tmp_path}/log.csv: record 1: which column is the prompt and which the answer is open; "
        "the columns: 'question', 'style', 'answer'. Name them: --map prompt=COLUMN --map "
        "completion=COLUMN --map label=flag."
    )
    mapping = {"prompt": "question", "completion": "answer", "label": "flag"}
    out = tmp_path / "out.jsonl"
    import_feedback([tmp_path / "log.csv"], out, options=ImportOptions(mapping=mapping))
    (kept,) = read_feedback(out)
    assert (kept.prompt, kept.label) == ([{"role": "user", "content": "2+2?"}], True)


def test_only_a_table_that_ends_as_a_log_does_is_an_interfaces() -> None:
    assert detect(dict.fromkeys(FLAGS, ""))
    assert detect(dict.fromkeys(("a", "b", "flag", "timestamp"), ""))
    assert not detect(dict.fromkeys(("flag", "timestamp", "a", "b"), ""))
    assert not detect(dict.fromkeys(("a", "b", "timestamp"), ""))
    assert not detect({"a": "", "b": "", "flag": True, "timestamp": ""})
    assert not detect({})
