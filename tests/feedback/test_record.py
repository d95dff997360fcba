"""One mapping to one record: what is filled in, and what is refused in which words."""

from collections import Counter
from typing import Any

import pytest

from thumbs.errors import FeedbackError
from thumbs.feedback.record import Feedback, content_id, is_blank, parse_record, with_defaults

ASK = [{"role": "user", "content": "What is 2+2?"}]
ANSWER = [{"role": "assistant", "content": "4"}]
GOOD: dict[str, Any] = {"prompt": ASK, "completion": ANSWER, "label": True}


def error_of(**changes: Any) -> str:
    with pytest.raises(FeedbackError) as caught:
        parse_record(GOOD | changes, "votes.jsonl:2")
    return str(caught.value)


def test_a_record_is_read_with_every_field() -> None:
    given = {
        "weight": 2,
        "score": "9",
        "id": "r1",
        "conversation": "c1",
        "source": "chat",
        "rater": "ann",
        "model": "m",
        "time": "2026-01-01T02:00:00+02:00",
        "comment": "good",
        "tools": '[{"name":"sum"}]',
        "template_kwargs": '{"thinking":false}',
    }
    assert parse_record(GOOD | given, "f:1") == Feedback(
        ASK,
        ANSWER,
        True,
        weight=2.0,
        score="9",
        id="r1",
        conversation="c1",
        source="chat",
        rater="ann",
        model="m",
        time="2026-01-01T00:00:00.000000+00:00",
        comment="good",
        tools='[{"name":"sum"}]',
        template_kwargs='{"thinking":false}',
    )


def test_what_is_left_out_is_filled_in() -> None:
    record = parse_record(GOOD, "f:1")
    assert (record.weight, record.rater, record.time, record.tools) == (1.0, "", "", "null")
    assert record.id == content_id(record)
    assert len(record.id) == 16


def test_null_text_is_absent_text() -> None:
    assert parse_record(GOOD | {"rater": None, "time": None, "tools": None}, "f:1") == parse_record(
        GOOD, "f:1"
    )


def test_tools_given_as_json_values_become_json_text() -> None:
    assert parse_record(GOOD | {"tools": [{"name": "sum"}]}, "f:1").tools == '[{"name":"sum"}]'


def test_plain_strings_are_a_record_too() -> None:
    record = parse_record({"prompt": "2+2=", "completion": " 4", "label": False}, "f:1")
    assert (record.prompt, record.completion, record.label) == ("2+2=", " 4", False)


def test_keys_without_use_and_times_without_a_zone_are_counted() -> None:
    notes: Counter[str] = Counter()
    parse_record(GOOD | {"split": "train", "time": "2026-01-01T00:00:00"}, "f:1", notes=notes)
    assert notes == {"key 'split' is not used": 1, "time without a zone, taken as UTC": 1}


def test_the_id_tells_judgements_apart_and_repeats_not() -> None:
    record = Feedback(ASK, ANSWER, True, rater="ann")
    same = Feedback(ASK, ANSWER, True, rater="ann", comment="again", weight=2.0, id="x")
    other_label = Feedback(ASK, ANSWER, False, rater="ann")
    other_rater = Feedback(ASK, ANSWER, True, rater="bob")
    assert content_id(record) == content_id(same)
    assert len({content_id(r) for r in (record, other_label, other_rater)}) == 3


def test_turns_of_one_thread_share_the_conversation() -> None:
    later = [{"role": "system", "content": "Be brief."}, *ASK, *ANSWER]
    later.append({"role": "user", "content": "And times 3?"})
    first = with_defaults(Feedback(ASK, ANSWER, True))
    second = with_defaults(Feedback(later, ANSWER, True))
    other = with_defaults(Feedback([{"role": "user", "content": "Hi"}], ANSWER, True))
    assert first.conversation == second.conversation != other.conversation


def test_string_prompts_and_prompts_without_a_user_have_a_conversation() -> None:
    system = [{"role": "system", "content": "Talk."}]
    conversations = [
        with_defaults(Feedback(prompt, completion, True)).conversation
        for prompt, completion in (("a", "b"), ("b", "b"), (system, ANSWER))
    ]
    assert len(set(conversations)) == 3


@pytest.mark.parametrize("label", ["down", "true", 1, 0, 1.0, None])
def test_pitfall_21_a_label_that_is_no_bool_is_refused(label: object) -> None:
    assert error_of(label=label) == (
        f'votes.jsonl:2: "label" must be true or false, but is {label!r}. '
        "Write it without quotes; leave the row out if nobody judged it."
    )


def test_pitfall_21_weight_zero_is_honoured() -> None:
    weight = parse_record(GOOD | {"weight": 0}, "f:1").weight
    assert weight == 0.0
    assert isinstance(weight, float)


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf"), "1", True, None])
def test_a_weight_that_is_no_finite_number_from_zero_is_refused(weight: object) -> None:
    assert f"finite number >= 0, but is {weight!r}" in error_of(weight=weight)


@pytest.mark.parametrize("key", ["prompt", "completion", "label"])
def test_a_missing_key_is_named_with_advice(key: str) -> None:
    entry = {name: value for name, value in GOOD.items() if name != key}
    with pytest.raises(FeedbackError, match=rf'^f:1: "{key}" is missing.* Do this\.$'):
        parse_record(entry, "f:1", advice="Do this.")


@pytest.mark.parametrize(
    "completion",
    [
        "",
        " \n",
        [],
        [{"role": "assistant", "content": ""}],
        [{"role": "assistant", "content": " "}],
    ],
)
def test_an_empty_answer_is_an_error(completion: object) -> None:
    prompt = "2+2=" if isinstance(completion, str) else ASK
    assert error_of(prompt=prompt, completion=completion) == 'votes.jsonl:2: "completion" is empty.'


def test_an_answer_that_only_calls_a_tool_is_not_empty() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "sum"}]}
    completion = parse_record(GOOD | {"completion": [call]}, "f:1").completion
    assert completion == [{"role": "assistant", "content": "", "tool_calls": [{"name": "sum"}]}]


def test_an_empty_prompt_is_an_error() -> None:
    assert error_of(prompt=[]) == 'votes.jsonl:2: "prompt" is empty.'


def test_a_record_of_messages_and_text_is_refused() -> None:
    assert '"prompt" is a list of messages and "completion" is text' in error_of(completion="4")


def test_a_completion_that_starts_with_the_user_is_refused() -> None:
    assert "must be the assistant's, but has the role 'user'" in error_of(completion=ASK)


@pytest.mark.parametrize(
    ("message", "finding"),
    [
        ("Hi", "but is 'Hi'"),
        ({"content": "Hi"}, '"role" must be a name like user, but is None'),
        ({"role": "", "content": "Hi"}, "but is ''"),
        ({"role": "user"}, '"content" must be text, but is None'),
        ({"role": "user", "content": [{"type": "image"}]}, "but is [{'type': 'image'}]"),
    ],
)
def test_a_malformed_message_is_named_by_its_number(message: object, finding: str) -> None:
    error = error_of(prompt=[*ASK, message])
    assert error.startswith('votes.jsonl:2: message 2 of "prompt": ')
    assert finding in error


@pytest.mark.parametrize(
    ("key", "value", "finding"),
    [
        ("rater", 7, '"rater" must be text, but is 7'),
        ("time", "yesterday", '"time" must be ISO 8601 like'),
        ("tools", "[", "\"tools\" must hold JSON, but is '['"),
        ("tools", {"name": "f"}, '"tools" must hold a JSON list or null'),
        ("template_kwargs", "[1]", '"template_kwargs" must hold a JSON object or null'),
        ("prompt", 7, '"prompt" must be text or a list of messages, but is 7'),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused(key: str, value: object, finding: str) -> None:
    assert finding in error_of(**{key: value})


def test_blank_means_no_text_and_no_tool_call() -> None:
    assert is_blank(None)
    assert is_blank([{"role": "assistant", "content": None}])
    assert is_blank("\u200b \ufeff\n")
    assert not is_blank("\u200b.")
    assert not is_blank([{"role": "assistant", "tool_calls": [{}]}])
    assert not is_blank(["no message"])
