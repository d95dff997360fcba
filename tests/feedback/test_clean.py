"""What holds for the records of every source."""

from collections import Counter

import pytest

from thumbs.feedback.clean import (
    END_TOKEN,
    LEAKED_TOKEN,
    Tally,
    clean,
    strip_blocks,
    strip_text,
    without_repeats,
)
from thumbs.feedback.record import Feedback, Message, with_defaults

ASK: list[Message] = [{"role": "user", "content": "What is 2+2?"}]
REASONING = '<details type="reasoning" done="true" duration="3">\n<summary>x</summary>\n</details>'
CALLS = '<details type="tool_calls" name="sum" arguments="&quot;1&quot;">\nx\n</details>'


def answer(text: str, label: bool = True, rater: str = "") -> Feedback:
    return Feedback(ASK, [{"role": "assistant", "content": text}], label, rater=rater)


@pytest.mark.parametrize(
    ("text", "kept", "counts"),
    [
        (f"{REASONING}\nIt is 4.", "It is 4.", {"reasoning block stripped": 1}),
        (f"A\n{CALLS}\n{CALLS}", "A", {"tool-call block stripped": 2}),
        ("<think>\n2+2\n</think>\n\n4", "4", {"think block stripped": 1}),
        ("<think>2+2 is", "", {"unfinished reasoning stripped": 1}),
        ('<details type="reasoning" done="false">so', "", {"unfinished reasoning stripped": 1}),
        ("Is 1 < 2?", "Is 1 < 2?", {}),
        (" <details><summary>S</summary>x</details>", None, {}),
        ("Write <think> to think.", None, {}),
        # Where a template opens the block in the prompt, only its end stands in the answer.
        ("2+2, hm\n</think>\n\n4", "4", {"reasoning without its opening tag stripped": 1}),
        ("a</think>\nb\n</think>\n4", "4", {"reasoning without its opening tag stripped": 1}),
        ("2+2, hm</think>4", "4", {"reasoning without its opening tag stripped": 1}),
        ("Close it with </think> then.", None, {}),
        ("Close it with </think>.", None, {}),
        ("<think>a<think>b</think>c</think>4", "4", {"think block stripped": 1}),
        ("<think>a<think>b</think>4", "4", {"think block stripped": 1}),
        ("<think>a</think><think>b</think>4", "4", {"think block stripped": 2}),
        ("<think>an open ``` and ` in it</think>4 `b`", "4 `b`", {"think block stripped": 1}),
        ("Use `<think>`: ```\n<think>x</think>\n```", None, {}),
        ("A\n<think>x</think>B", "A\nB", {"think block stripped": 1}),
        ("<think>x</think>" * 20_000 + "4", "4", {"think block stripped": 20_000}),
    ],
)
def test_machine_blocks_leave_the_answer_and_are_counted(
    text: str, kept: str | None, counts: dict[str, int]
) -> None:
    changed: Counter[str] = Counter()
    assert strip_text(text, changed) == (text if kept is None else kept)
    assert changed == counts


def test_earlier_answers_are_stripped_too_but_not_what_the_user_wrote() -> None:
    prompt: list[Message] = [
        {"role": "user", "content": "<think>my own</think> words"},
        {"role": "assistant", "content": "<think>hm</think>Yes"},
        *ASK,
    ]
    record = strip_blocks(Feedback(prompt, answer("4").completion, True), Counter())
    assert [turn["content"] for turn in record.prompt if isinstance(turn, dict)] == [
        "<think>my own</think> words",
        "Yes",
        "What is 2+2?",
    ]


def test_plain_strings_are_stripped() -> None:
    record = strip_blocks(Feedback("a", "<think>x</think> b", True), Counter())
    assert (record.prompt, record.completion) == ("a", "b")


def test_a_default_id_follows_the_text_and_a_given_one_stays() -> None:
    thinking = answer("<think>x</think>4")
    followed = with_defaults(strip_blocks(with_defaults(thinking), Counter()))
    assert followed.id == with_defaults(answer("4")).id
    given = Feedback(ASK, thinking.completion, True, id="r1")
    assert strip_blocks(given, Counter()).id == "r1"


def test_repeats_and_empty_answers_go_and_the_order_stays() -> None:
    tally = Tally()
    records = [
        answer("4"),
        answer("<think>x</think>"),
        answer("5", label=False),
        answer("4"),
        answer("<think>x</think>4"),
        answer("4", label=False),
        answer("4", rater="ann"),
        answer(" "),
        Feedback(" ", "4", True),
    ]
    kept = list(without_repeats(clean(records, tally), tally))
    assert kept == [records[0], records[2], records[5], records[6]]
    assert tally.dropped == {"empty answer": 2, "repeated record": 2, "empty prompt": 1}
    assert tally.changed == {"think block stripped": 2}


def answered(text: str) -> Feedback:
    prompt = [{"role": "user", "content": "Hi <|im_end|>"}]
    return Feedback(prompt=prompt, completion=[{"role": "assistant", "content": text}], label=True)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Hello.<|im_end|>", "Hello."),
        ("Hello. <end_of_turn>\n</s>\n", "Hello."),
        ("Hello.<|im_end|>\n<|im_start|>user\nAnd?", None),
        ("Hello. [INST] more [/INST]", None),
        ("ChatML ends turns with `<|im_end|>` like so:\n```\n<|im_start|>user\n```", ""),
        ("a </s", ""),
    ],
)
def test_tokens_of_templates_in_answers(text: str, kept: str | None) -> None:
    """kept: what is left of the answer, "" for all of it, None where it is left out."""
    tally = Tally()
    found = [record.completion[0] for record in clean([answered(text)], tally)]
    if kept is None:
        assert found == []
        assert tally.dropped == {LEAKED_TOKEN: 1}
    else:
        assert found == [{"role": "assistant", "content": kept or text}]
        assert tally.changed[END_TOKEN] == bool(kept)
        assert not tally.dropped


def test_texts_may_hold_what_a_template_wrote() -> None:
    record = Feedback(prompt="<|user|>Hi<|end|>", completion="Yes<|end|>", label=True)
    assert list(clean([record], Tally())) == [record]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("reasoning", "<think>hm</think>4"),
        ("tool-blocks", '<details type="tool_calls">x</details>4'),
        ("template-tokens", "4<|im_end|>"),
    ],
)
def test_a_rule_can_be_switched_off(rule: str, text: str) -> None:
    tally = Tally(keep=frozenset({rule}))
    assert [record.completion for record in clean([answered(text)], tally)] == [
        [{"role": "assistant", "content": text}]
    ]
    [changed] = clean([answered(text)], Tally())
    assert changed.completion == [{"role": "assistant", "content": "4"}]


def test_repeats_may_be_kept() -> None:
    record = answered("4")
    kept = Tally(keep=frozenset({"duplicates"}))
    assert len(list(without_repeats([record, record], kept))) == 2
    assert len(list(without_repeats([record, record], Tally()))) == 1
