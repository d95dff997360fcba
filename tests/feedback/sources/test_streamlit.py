"""Streamlit feedback: the widget's dict beside a text, st.feedback's numbers, and bare votes."""

import csv
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from tests.feedback.sources.reading import Reading

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import first_entry
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.sources.streamlit import detect, read

FIXTURES = Path(__file__).parents[2] / "fixtures"
RETURNED = FIXTURES / "streamlit_feedback_return.jsonl"
OWN = FIXTURES / "own" / "streamlit.jsonl"
UP = {"type": "thumbs", "score": "👍", "text": None}
READING = Reading("streamlit", read)
records_of, record = READING.rows, READING.record


def row(vote: object, **more: object) -> dict[str, Any]:
    return {"prompt": "2+2?", "response": "4", "feedback": vote, **more}


def test_what_the_widget_returned_is_refused() -> None:
    assert detect(first_entry(RETURNED))
    with pytest.raises(FeedbackError) as caught:
        list(read([RETURNED], Tally(), options=ImportOptions()))
    assert str(caught.value) == (
        f"{RETURNED}:1: what the widget returned, without any text. Log with it what it is about: "
        '{"prompt": ..., "response": ..., "feedback": ...}. For columns of other names: --map '
        "prompt=A --map completion=B --map label=C."
    )


def test_the_own_fixture_gives_its_records() -> None:
    assert detect(first_entry(OWN))
    tally = Tally()
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "こんにちは"},
        {"role": "assistant", "content": "こんにちは。"},
        {"role": "user", "content": "日本の首都は"},
    ]
    assert list(read([OWN], tally, options=ImportOptions())) == [
        record(
            chat,
            "東京です。",
            True,
            "👍",
            rater="yuki",
            conversation="s1",
            model="m1",
            comment="正しい",
            time="2026-03-01T00:00:00.000000+00:00",
        ),
        record(
            "2+2?",
            "5",
            False,
            "👎",
            rater="ann",
            conversation="s2",
            comment="wrong",
            time="2026-03-01T08:01:09.000000+00:00",
        ),
        record(
            "3+3?",
            "6",
            True,
            "1",
            rater="bob",
            conversation="s3",
            time="2026-03-01T08:03:00.000000+00:00",
        ),
        record("Hi", "What?", False, "👎", rater="bob", comment="rude"),
        record("Name a prime.", "7", True, "👍"),
    ]
    assert tally.dropped == {
        "vote with a later one on the same answer": 2,
        "vote taken back": 1,
        "empty answer": 1,
        "row without a vote": 1,
    }


def test_a_table_holds_votes_as_text_also_as_python_prints_a_dict(tmp_path: Path) -> None:
    lines = [
        ("question", "answer", "user_feedback", "comment"),
        ("1+1?", "2", str(UP), ""),
        ("1+1?", "3", json.dumps({**UP, "score": "👎🏽"}), ""),
        ("1+1?", "4", "0", "no"),
        ("1+1?", "5", "{broken", ""),
    ]
    table = tmp_path / "log.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    assert detect(first_entry(table))
    found = islice(read([table], Tally(), options=ImportOptions()), 3)
    assert [(item.label, item.score, item.comment) for item in found] == [
        (True, "👍", ""),
        (False, "👎🏽", ""),
        (False, "0", "no"),
    ]
    with pytest.raises(FeedbackError, match=r"the vote is '\{broken', which is not plainly"):
        list(read([table], Tally(), options=ImportOptions()))


def test_faces_and_stars_need_to_be_judged(tmp_path: Path) -> None:
    faces = [row({"type": "faces", "score": face}, user=face) for face in "😞😀"]
    with pytest.raises(FeedbackError, match="the values found: 😞 \\(1\\), 😀 \\(1\\)"):
        records_of(tmp_path, *faces)
    assert [item.label for item in records_of(tmp_path, *faces, up=("😀",), down=("😞",))] == [
        False,
        True,
    ]
    stars = [row(stars, user=str(stars)) for stars in (0, 3, 4)]
    assert detect(stars[2])
    found = records_of(tmp_path, *stars, threshold="3")
    assert [item.label for item in found] == [False, True, True]


def test_votes_are_told_apart_by_message_session_and_user(tmp_path: Path) -> None:
    tally = Tally()
    rows = [
        row(1, message_id="m1"),
        row(0, message_id="m1"),
        row(1, message_id="m2"),
        row(1, user="ann"),
        row(0, user="bob"),
        row(1, session_id="s"),
    ]
    found = records_of(tmp_path, *rows, tally=tally)
    assert [(item.label, item.rater, item.conversation == "s") for item in found] == [
        (False, "", False),
        (True, "", False),
        (True, "ann", False),
        (False, "bob", False),
        (True, "", True),
    ]
    assert tally.dropped == {"vote with a later one on the same answer": 1}


def test_an_answer_that_the_chat_already_ends_with_is_no_part_of_the_prompt(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
    (kept,) = records_of(tmp_path, {"messages": chat, "response": "4", "feedback": True})
    assert (kept.prompt, kept.completion, kept.score) == (chat[:1], chat[1:], "true")


@pytest.mark.parametrize(
    ("entry", "is_one"),
    [
        ({"prompt": "a", "response": "b", "feedback": 1}, True),
        ({"prompt": "a", "response": "b", "feedback": None}, True),
        ({"prompt": "a", "response": "b", "feedback": "great"}, False),
        ({"prompt": "a", "response": "b", "feedback": 5}, False),
        ({"prompt": "a", "feedback": 1}, False),
        ({"prompt": "a", "response": "b"}, False),
        ({"type": "rating", "score": 1}, False),
        ({"user": "ann", "feedback": UP}, True),
    ],
)
def test_only_a_widgets_vote_makes_a_row_streamlits(entry: dict[str, Any], is_one: bool) -> None:
    assert detect(entry) is is_one


def test_a_vote_beside_a_lone_user_is_refused_like_a_bare_one(tmp_path: Path) -> None:
    with pytest.raises(FeedbackError, match="without any text"):
        records_of(tmp_path, {"user": "ann", "feedback": UP})
    with pytest.raises(FeedbackError, match=r"f\.jsonl:1: the time 'noon' is none"):
        records_of(tmp_path, row(1, time="noon"))
