"""OpenAI's preference files, by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.record import Feedback
from thumbs.feedback.sources.openai_pairs import detect, read

FIXTURE = Path(__file__).parents[2] / "fixtures" / "openai_dpo.jsonl"

ASK = {"role": "user", "content": "What is 2+2?"}
FOUR = {"role": "assistant", "content": "4"}
FIVE = {"role": "assistant", "content": "5"}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
LINE: dict[str, Any] = {
    "input": {"messages": [ASK]},
    "preferred_output": [FOUR],
    "non_preferred_output": [FIVE],
}


def records(tmp_path: Path, *rows: dict[str, Any], tally: Tally | None = None) -> list[Feedback]:
    (tmp_path / "f.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return list(read([tmp_path / "f.jsonl"], tally or Tally(), options=ImportOptions()))


def test_a_line_gives_two_records_with_one_prompt() -> None:
    tally = Tally()
    better, worse = read([FIXTURE], tally, options=ImportOptions())
    assert (better.prompt, better.completion, better.label) == ([ASK], [FOUR], True)
    assert (worse.prompt, worse.completion, worse.label) == ([ASK], [FIVE], False)
    assert better.source == "openai-preference"
    assert better.tools == worse.tools == "null"
    assert better.conversation == worse.conversation
    assert tally.changed == {"key 'input.parallel_tool_calls' is not used": 1}
    assert tally.dropped == {}


def test_tools_and_tool_calls_are_kept_and_arguments_become_objects(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    called = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "4"}
    line = LINE | {
        "input": {"messages": [ASK], "tools": TOOLS},
        "preferred_output": [called, result, FOUR],
    }
    better, worse = records(tmp_path, line)
    assert json.loads(better.tools) == TOOLS
    assert worse.tools == better.tools
    read_call = call | {"function": {"name": "add", "arguments": {"a": 2}}}
    expected = {"role": "assistant", "content": "", "tool_calls": [read_call]}
    assert better.completion == [expected, result, FOUR]


def test_content_in_parts_is_joined_and_attachments_are_counted(tmp_path: Path) -> None:
    parts = [
        {"type": "text", "text": "What is"},
        {"type": "image_url", "image_url": {"url": "data:"}},
        {"type": "text", "text": "2+2?"},
    ]
    asked = {"role": "user", "content": parts, "name": "ann", "weight": 1}
    tally = Tally()
    better, _ = records(tmp_path, LINE | {"input": {"messages": [asked]}}, tally=tally)
    assert better.prompt == [{"role": "user", "content": "What is\n2+2?", "name": "ann"}]
    assert tally.changed["attachment left out of a message"] == 1
    assert tally.changed["key 'weight' of a message is not used"] == 1


@pytest.mark.parametrize(
    ("change", "dropped"),
    [
        ({"non_preferred_output": [FOUR]}, {"answer of a pair whose two answers are the same": 2}),
        ({"non_preferred_output": []}, {"empty answer": 1}),
        ({"non_preferred_output": None}, {"empty answer": 1}),
        ({"preferred_output": [{"role": "tool", "content": "4"}]}, {"NOT": 1}),
        (
            {"preferred_output": [FOUR, {"role": "tool", "content": "4"}]},
            {"answer that ends in a tool's result": 1},
        ),
        ({"preferred_output": [FOUR, {"role": ["tool"], "content": "4"}]}, {"NOT": 1}),
        ({"input": {"messages": []}}, {"empty prompt": 2}),
    ],
)
def test_answers_that_cannot_be_used_are_counted(
    tmp_path: Path, change: dict[str, Any], dropped: dict[str, int]
) -> None:
    tally = Tally()
    found = records(tmp_path, LINE | change, tally=tally)
    expected = {
        name.replace("NOT", "answer that is not the assistant's"): n for name, n in dropped.items()
    }
    assert tally.dropped == expected
    assert len(found) == 2 - sum(dropped.values())


def test_a_line_with_one_answer_holds_no_judgement(tmp_path: Path) -> None:
    tally = Tally()
    line = {key: value for key, value in LINE.items() if key != "non_preferred_output"}
    assert len(records(tmp_path, LINE, line, tally=tally)) == 2
    assert tally.dropped == {"entry without a judgement": 1}
    assert not detect(line)
    assert detect(LINE)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"input": []}, '"input" must be {"messages": [...]}, but is [].'),
        ({"input": {}}, '"input.messages": must be a list of messages, but is None.'),
        ({"input": {"messages": ASK}}, '"input.messages": must be a list of messages, but is {'),
        ({"preferred_output": "4"}, "\"preferred_output\": must be a list of messages, but is '4'"),
        (
            {"input": {"messages": [ASK], "tools": {"name": "add"}}},
            "\"input\": \"tools\" must be a list, but is {'name': 'add'}.",
        ),
    ],
)
def test_a_malformed_line_is_an_error_with_its_place(
    tmp_path: Path, change: dict[str, Any], finding: str
) -> None:
    with pytest.raises(FeedbackError) as caught:
        records(tmp_path, LINE, LINE | change)
    assert str(caught.value).startswith(f"{tmp_path / 'f.jsonl'}:2: {finding}")
