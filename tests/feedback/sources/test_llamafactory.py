"""LLaMA-Factory's KTO rows in every shape, and those of ms-swift, by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.record import Feedback, Message
from thumbs.feedback.sources.llamafactory import detect, read

FIXTURES = Path(__file__).parents[2] / "fixtures"
TOOLS = '[{"name": "add", "parameters": {}}]'


def records(tmp_path: Path, *rows: dict[str, Any], tally: Tally | None = None) -> list[Feedback]:
    (tmp_path / "f.json").write_text(json.dumps(rows))
    return list(read([tmp_path / "f.json"], tally or Tally(), options=ImportOptions()))


def only(tmp_path: Path, row: dict[str, Any]) -> Feedback:
    (record,) = records(tmp_path, row)
    return record


def said(*turns: tuple[str, str]) -> list[Message]:
    return [{"role": role, "content": content} for role, content in turns]


def spoken(*turns: tuple[str, str]) -> list[Message]:
    return [{"from": speaker, "value": words} for speaker, words in turns]


def call(name: str, **arguments: object) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    "name", ["llamafactory_kto_sharegpt.json", "llamafactory_kto_messages.json"]
)
def test_both_shapes_of_a_row_are_one_record(name: str) -> None:
    tally = Tally()
    (record,) = read([FIXTURES / name], tally, options=ImportOptions())
    assert record.prompt == said(("user", "What is 2+2?"))
    assert record.completion == said(("assistant", "4"))
    assert (record.label, record.tools, record.source) == (True, "null", "llama-factory")
    assert not tally.dropped
    assert not tally.changed


def test_the_answer_is_what_follows_the_last_words_of_the_user(tmp_path: Path) -> None:
    turns = said(
        *(("system", "Be brief."), ("user", "1+1?"), ("assistant", "2")),
        *(("user", "Plus 1?"), ("assistant", "3")),
    )
    record = only(tmp_path, {"messages": turns, "label": False})
    assert record.prompt == turns[:4]
    assert record.completion == turns[4:]
    assert record.label is False


def test_calls_and_results_after_the_last_user_are_part_of_the_answer(tmp_path: Path) -> None:
    turns = spoken(
        *(("human", "1+1?"), ("function_call", '{"name": "add", "arguments": {"a": 1}}')),
        *(("observation", "2"), ("gpt", "It is 2.")),
        *(("human", "2+2?"), ("function_call", '{"name": "add", "arguments": {"a": 2}}')),
        *(("observation", "4"), ("gpt", "It is 4.")),
    )
    row = {"conversations": turns, "kto_tag": True, "system": "Add.", "tools": TOOLS}
    record = only(tmp_path, row)
    assert record.prompt == [
        *said(("system", "Add."), ("user", "1+1?")),
        {"role": "assistant", "content": "", "tool_calls": [call("add", a=1)]},
        *said(("tool", "2"), ("assistant", "It is 2."), ("user", "2+2?")),
    ]
    assert record.completion == [
        {"role": "assistant", "content": "", "tool_calls": [call("add", a=2)]},
        *said(("tool", "4"), ("assistant", "It is 4.")),
    ]
    assert json.loads(record.tools) == json.loads(TOOLS)


def test_an_answer_may_end_in_a_call(tmp_path: Path) -> None:
    turns = spoken(("human", "1+1?"), ("function_call", '{"name": "add", "arguments": {"a": 1}}'))
    record = only(tmp_path, {"conversations": turns, "kto_tag": False})
    assert record.completion == [
        {"role": "assistant", "content": "", "tool_calls": [call("add", a=1)]}
    ]


def test_calls_side_by_side_are_one_message_with_the_thought_before_them(tmp_path: Path) -> None:
    # ms-swift writes each call by itself, LLaMA-Factory a list of them behind the thought.
    one, two = '{"name": "aqi", "arguments": {"city": "B"}}', '{"name": "aqi", "arguments": {}}'
    swift = said(
        *(("user", "Air?"), ("assistant", "<think>Both.</think>")),
        *(("tool_call", one), ("tool_call", two)),
        *(("tool_response", "10"), ("tool_response", "72"), ("assistant", "Good.")),
    )
    listed = spoken(
        *(("human", "Air?"), ("function_call", f"<think>Both.</think>\n[{one}, {two}]")),
        *(("observation", "10"), ("observation", "72"), ("gpt", "Good.")),
    )
    expected = [
        {
            "role": "assistant",
            "content": "<think>Both.</think>",
            "tool_calls": [call("aqi", city="B"), call("aqi")],
        },
        *said(("tool", "10"), ("tool", "72"), ("assistant", "Good.")),
    ]
    assert only(tmp_path, {"messages": swift, "label": True}).completion == expected
    assert only(tmp_path, {"conversations": listed, "kto_tag": True}).completion == expected


def test_calls_in_openais_form_stay_and_their_arguments_become_objects(tmp_path: Path) -> None:
    raw = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    turns = [
        *said(("user", "1+1?")),
        {"role": "assistant", "content": None, "tool_calls": [raw]},
        {"role": "tool", "content": "2", "tool_call_id": "c1"},
        *said(("assistant", "2")),
    ]
    first = only(tmp_path, {"messages": turns, "label": True}).completion[0]
    assert first == {"role": "assistant", "content": "", "tool_calls": [raw | call("add", a=1)]}


def test_an_alpaca_row_is_its_history_question_and_answer(tmp_path: Path) -> None:
    row = {
        "instruction": "Add.",
        "input": "2+2",
        "output": "4",
        "kto_tag": True,
        "system": "Be brief.",
        "history": [["1+1?", "2"]],
    }
    assert detect(row)
    record = only(tmp_path, row)
    assert record.prompt == said(
        *(("system", "Be brief."), ("user", "1+1?"), ("assistant", "2"), ("user", "Add.\n2+2"))
    )
    assert record.completion == said(("assistant", "4"))


def test_a_system_column_yields_to_a_system_message(tmp_path: Path) -> None:
    tally = Tally()
    turns = said(("system", "A"), ("user", "b"), ("assistant", "c"))
    (record,) = records(tmp_path, {"messages": turns, "label": True, "system": "B"}, tally=tally)
    assert record.prompt == turns[:2]
    name = "system prompt of a row that has one among its messages, left out"
    assert tally.changed == {name: 1}


GOOD = said(("user", "a"), ("assistant", "b"))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": GOOD}, "entry without a judgement"),
        ({"messages": GOOD[:1], "label": True}, "entry that ends before its answer"),
        ({"messages": [*GOOD, *GOOD[:1]], "label": True}, "entry that ends before its answer"),
        ({"messages": [], "label": True}, "entry that ends before its answer"),
        ({"messages": GOOD[1:], "label": True}, "empty prompt"),
        ({"messages": said(("user", " "), ("assistant", "b")), "label": True}, "empty prompt"),
        ({"messages": said(("user", "a"), ("assistant", " ")), "label": True}, "empty answer"),
        ({"instruction": "a", "output": "", "kto_tag": True}, "empty answer"),
        (
            {"messages": [*GOOD, *said(("tool", "c"))], "label": True},
            "answer that ends in a tool's result",
        ),
        (
            {"messages": said(("user", "a"), ("tool", "c"), ("assistant", "b")), "label": True},
            "answer that is not the assistant's",
        ),
        (
            {"messages": [*GOOD, *said(("system", "c"), ("assistant", "d"))], "label": True},
            "answer that is not the assistant's",
        ),
        (
            {"messages": GOOD, "label": True, "images": ["a.png"]},
            "entry with images, videos or audio",
        ),
        (
            {"conversations": spoken(("human", "a"), ("function_call", "add(1)")), "kto_tag": True},
            "entry with a tool call that is not JSON with a name",
        ),
        (
            {"conversations": spoken(("human", "a"), ("function_call", "[]")), "kto_tag": True},
            "entry with a tool call that is not JSON with a name",
        ),
    ],
)
def test_a_row_that_cannot_be_used_is_counted(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    tally = Tally()
    assert records(tmp_path, row, tally=tally) == []
    assert tally.dropped == {reason: 1}


def test_an_answer_that_says_nothing_after_its_calls_is_empty(tmp_path: Path) -> None:
    tally = Tally()
    turns = said(
        *(("user", "a"), ("tool_call", '{"name": "f"}'), ("tool_response", "1")),
        ("assistant", ""),
    )
    assert records(tmp_path, {"messages": turns, "label": True}, tally=tally) == []
    assert tally.dropped == {"empty answer": 1}


def test_keys_without_use_are_counted(tmp_path: Path) -> None:
    tally = Tally()
    turns = [GOOD[0], GOOD[1] | {"loss": True}]
    row = {"messages": turns, "label": True, "id": 7, "images": []}
    assert len(records(tmp_path, row, tally=tally)) == 1
    assert tally.changed == {
        "key 'id' is not used": 1,
        "key 'loss' of a message is not used": 1,
    }


@pytest.mark.parametrize("key", ["kto_tag", "label"])
@pytest.mark.parametrize("label", ["true", 1, 0, None, "👍", [True]])
def test_only_true_and_false_are_labels(tmp_path: Path, key: str, label: object) -> None:
    rows = [{"messages": GOOD, key: value} for value in (True, label)]
    with pytest.raises(FeedbackError) as caught:
        records(tmp_path, *rows)
    assert str(caught.value) == (
        f'{tmp_path / "f.json"}: record 2: "{key}" must be true or false, but is {label!r}. '
        "Write it without quotes; leave the row out if nobody judged it."
    )


@pytest.mark.parametrize(
    ("row", "finding"),
    [
        ({"label": True, "kto_tag": True, "messages": GOOD}, "has 'kto_tag' and 'label', of which"),
        (
            {"label": True, "conversations": [], "messages": GOOD},
            "has 'conversations' and 'messages', of which only one may be there. Remove one.",
        ),
        ({"label": True, "text": "a"}, "has none of 'conversations', 'messages' and 'output'; the"),
        ({"label": True, "messages": "a"}, "\"messages\": must be a list of messages, but is 'a'."),
        (
            {"kto_tag": True, "conversations": spoken(("bing", "a"))},
            '"conversations": message 1: role must be one of system, human, user, gpt, assistant, '
            "observation, tool, tool_response, function_call, tool_call, but is 'bing'.",
        ),
        (
            {"kto_tag": True, "output": "a", "history": [["b"]]},
            "\"history\" must hold [question, answer] pairs, but pair 1 is ['b'].",
        ),
        (
            {"label": True, "messages": GOOD, "tools": "add"},
            "\"tools\" must hold JSON, but is 'add'",
        ),
        (
            {"label": True, "messages": GOOD, "system": 7},
            'message 1 of "prompt": "content" must be',
        ),
        (
            {
                "label": True,
                "messages": [*said(("user", "a")), {"role": "assistant", "content": 4}],
            },
            'message 1 of "completion": "content" must be text, but is 4.',
        ),
    ],
)
def test_a_malformed_row_is_an_error_with_its_place(
    tmp_path: Path, row: dict[str, Any], finding: str
) -> None:
    with pytest.raises(FeedbackError) as caught:
        records(tmp_path, {"messages": GOOD, "label": True}, row)
    assert str(caught.value).startswith(f"{tmp_path / 'f.json'}: record 2: {finding}")


def test_a_row_is_recognised_by_its_turns_and_its_label() -> None:
    assert detect({"conversations": [], "kto_tag": True})
    assert detect({"messages": [], "label": True})
    assert detect({"messages": [], "kto_tag": True})
    assert not detect({"messages": []})
    assert not detect({"instruction": "a", "output": "b", "label": True})
