"""LangSmith: which scores are labels without a word, and which need one."""

from pathlib import Path
from typing import Any

import pytest
from tests.feedback.sources.reading import Reading

from thumbs.feedback.sources.langsmith import read

READING = Reading("langsmith", read)
rows, refusal, record = READING.rows, READING.refusal, READING.record
RUN = {"id": "r", "run_type": "llm", "inputs": {"input": "2+2?"}, "outputs": {"output": "4"}}


def feedback(score: object, value: object = None) -> dict[str, Any]:
    return {"id": "f", "run_id": "r", "key": "vote", "score": score, "value": value}


@pytest.mark.parametrize(
    ("score", "label"), [(1, True), (0.5, True), (True, True), (0.4, False), (0, False)]
)
def test_a_score_of_0_to_1_counts_by_its_number(tmp_path: Path, score: Any, label: bool) -> None:
    assert [one.label for one in rows(tmp_path, RUN, feedback(score))] == [label]


@pytest.mark.parametrize("score", [5, 1.5, -1])
def test_a_score_of_another_range_is_refused_until_a_threshold_is_named(
    tmp_path: Path, score: float
) -> None:
    said = refusal(tmp_path, RUN, feedback(score))
    assert f"feedback 'vote' is {score}, a score that is not of 0 to 1" in said
    assert "--threshold" in said
    [one] = rows(tmp_path, RUN, feedback(score), threshold="3")
    assert one.label is (score >= 3)


@pytest.mark.parametrize(("value", "label"), [("👍", True), ("👎", False), ("bad", False)])
def test_a_value_that_is_plainly_good_or_bad_is_read(
    tmp_path: Path, value: str, label: bool
) -> None:
    [one] = rows(tmp_path, RUN, feedback(None, value))
    assert one == record("2+2?", "4", label, value)
    said = refusal(tmp_path, RUN, feedback(None, "maybe"))
    assert "is 'maybe', which is not plainly good or bad" in said


def test_langchains_tool_calls_become_the_form_that_templates_read(tmp_path: Path) -> None:
    call = {"name": "add", "args": {"a": 2}, "id": "c1", "type": "tool_call"}
    messages = [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "4", "tool_call_id": "c1"},
    ]
    [one] = rows(tmp_path, {**RUN, "inputs": {"messages": messages}}, feedback(1))
    assert isinstance(one.prompt[1], dict)
    assert one.prompt[1]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 2}}}
    ]


def test_tool_turns_that_a_state_repeats_stand_in_the_prompt_alone(tmp_path: Path) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "add", "arguments": {}}}
    state = [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "4", "tool_call_id": "c"},
    ]
    answer = {"role": "assistant", "content": "It is 4."}
    run = {**RUN, "inputs": {"messages": state}, "outputs": {"messages": [*state, answer]}}
    [one] = rows(tmp_path, run, feedback(1))
    assert [turn["role"] for turn in one.prompt if isinstance(turn, dict)] == [
        *("user", "assistant", "tool")
    ]
    assert one.completion == [answer]
