"""Prompt and answer among fields that a team named itself."""

from typing import Any

import pytest

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.team_fields import (
    count_unused,
    detail_of,
    names_of,
    require_fields,
    sides_of,
    turns_of,
)

NAMES = names_of(ImportOptions())
ANSWER = {"role": "assistant", "content": "4"}


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({"prompt": "2+2?", "question": "no"}, [user("2+2?")]),
        ({"prompt": "", "question": "2+2?"}, [user("2+2?")]),
        ({"instruction": "Add.", "input": "2+2"}, [user("Add.\n2+2")]),
        ({"instruction": "Add 2 and 2.", "input": ""}, [user("Add 2 and 2.")]),
        ({"input": "2+2"}, [user("2+2")]),
        (
            {"system": "Hm.", "history": [user("a"), ANSWER], "query": "b"},
            [{"role": "system", "content": "Hm."}, user("a"), ANSWER, user("b")],
        ),
        ({"chat": [{"from": "Human", "value": "2+2?"}]}, [user("2+2?")]),
        ({"dialogue": '[{"speaker": "user", "phrase": "2+2?"}]'}, [user("2+2?")]),
        ({"messages": [{**user("a"), "name": "Ann"}]}, [{**user("a"), "name": "Ann"}]),
        ({"other": "2+2?"}, []),
    ],
)
def test_the_prompt_is_the_first_known_field_that_holds_something(
    fields: dict[str, Any], prompt: list[dict[str, str]]
) -> None:
    assert sides_of({**fields, "answer": "4"}, NAMES, "here") == (prompt, [ANSWER])


def test_a_chat_without_an_answer_beside_it_ends_in_the_answer() -> None:
    chat = [user("2+2?"), ANSWER]
    assert sides_of({"chat": chat}, NAMES, "here") == (chat[:1], chat[1:])
    assert sides_of({"chat": chat[:1]}, NAMES, "here") == (chat[:1], [])
    assert sides_of({"chat": chat, "answer": "5"}, NAMES, "here")[0] == chat


def test_fields_named_by_the_user_are_the_only_ones_looked_at() -> None:
    names = names_of(ImportOptions(mapping={"prompt": "a", "completion": "b"}))
    fields = {"prompt": "no", "answer": "no", "a": "2+2?", "b": "4"}
    assert sides_of(fields, names, "here") == ([user("2+2?")], [ANSWER])
    require_fields(fields, names, "here", tool="argilla")
    with pytest.raises(FeedbackError, match="known to hold the answer: 'prompt', 'x'"):
        require_fields(["prompt", "x"], NAMES, "here", tool="argilla")


def test_text_that_holds_other_json_stays_text() -> None:
    for text in ('["a"]', "[]", '{"role": "user"}', '[{"role": "user"}, 5]', "[1, 2"):
        assert turns_of(text, "user", "here") == [user(text)]


@pytest.mark.parametrize("value", [5, 2.5, True, {"a": 1}, [], [user("a"), 5], [["a", "b"]]])
def test_what_is_neither_text_nor_turns_is_refused(value: object) -> None:
    with pytest.raises(FeedbackError, match="here: must be text, or a list of turns"):
        turns_of(value, "user", "here")


def test_details_are_text_or_numbers() -> None:
    assert detail_of({"a": ["x"], "b": True, "c": "", "d": 7}, "abcd") == "7"
    assert detail_of({"a": None}, "abcd") == ""


def test_fields_without_a_use_are_counted_where_they_hold_something() -> None:
    tally = Tally()
    count_unused({"prompt": "a", "topic": "b", "more": None, "best": "c"}, ("best",), NAMES, tally)
    assert tally.changed == {"key 'topic' is not used": 1}
