"""The chat templates of common model families, as published: what is the prompt, what has loss.

Each template of tests/fixtures/templates is written into a tokenizer of single bytes that has the
family's special tokens; families.yaml there holds the texts to expect, written by hand.
"""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from thumbs.data.chat import RenderedText, render
from thumbs.data.templates import BUILT_IN_TEMPLATES, TemplateRefused, load_template
from thumbs.data.tokenizing import TokenizedRows, loss_segments, tokenize
from thumbs.feedback.record import Feedback, Message
from thumbs.models.tiny import train_bpe

TODAY = date(2026, 3, 7)
TEMPLATES = Path(__file__).parents[1] / "fixtures" / "templates"
FAMILIES: dict[str, dict[str, Any]] = yaml.safe_load(
    (TEMPLATES / "families.yaml").read_text(encoding="utf-8")
)
WITH_CALLS = [name for name, family in FAMILIES.items() if "call" in family]
CALL = {
    "id": "abcdefghi",
    "type": "function",
    "function": {"name": "add", "arguments": {"a": 1}},
}
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    },
}
RESULT = {"role": "tool", "name": "add", "tool_call_id": "abcdefghi", "content": "3"}


def family_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Single bytes, the special tokens of the family, and its published template."""
    family = FAMILIES[name]
    tokens = dict.fromkeys([family["bos"] or family["eos"], family["eos"], *family["special"]])
    added = [token for token in tokens if token not in ("<s>", "</s>")]
    tokenizer = train_bpe([], 261 + len(added), extra_special_tokens=added)
    tokenizer.bos_token, tokenizer.eos_token = family["bos"], family["eos"]
    tokenizer.chat_template = (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")
    return tokenizer


TOKENIZERS = {name: family_tokenizer(name) for name in FAMILIES}
PRINTS_DATE = [name for name in FAMILIES if "strftime_now" in str(TOKENIZERS[name].chat_template)]


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str, **fields: Any) -> Message:
    return {"role": "assistant", "content": text, **fields}


def system(text: str) -> Message:
    return {"role": "system", "content": text}


def rendered(name: str, prompt: list[Message], *completion: Message, **fields: Any) -> RenderedText:
    record = Feedback(prompt, list(completion), label=True, id="r1", **fields)
    tokenizer = TOKENIZERS[name]
    return render(record, tokenizer, load_template(None, tokenizer, today=TODAY))


def rows_of(name: str, *records: Feedback, chat_template: str | None = None) -> TokenizedRows:
    return tokenize(
        records,
        TOKENIZERS[name],
        max_tokens=100_000,
        min_completion_tokens=1,
        chat_template=chat_template,
        keep_cut=False,
        today=TODAY,
    )


def segments_of(name: str, record: Feedback) -> list[tuple[str, bool]]:
    """The decoded row: the prompt, then pieces of the completion with and without loss."""
    [row] = rows_of(name, record).rows
    return loss_segments(row, TOKENIZERS[name])


def loss_texts(text: RenderedText) -> list[str]:
    joint = text.prompt_text + text.completion_text
    return [joint[start:end] for start, end in text.loss_spans]


def answer_of(name: str) -> str:
    """An answer as text; where eos is appended as an id, without it."""
    appended = "turn_end_appended" in FAMILIES[name].get("notes", ())
    return str(FAMILIES[name]["answer"]).removesuffix(FAMILIES[name]["eos"] if appended else "")


def assert_is(text: str, wanted: str) -> None:
    """`text` is `wanted`, or ends with the rest of it where that begins with "…"."""
    assert (text[1 - len(wanted) :] if wanted[0] == "…" else text) == wanted.removeprefix("…")


def test_every_template_is_listed_with_its_source() -> None:
    sources = (TEMPLATES / "README.md").read_text(encoding="utf-8")
    assert sorted(FAMILIES) == sorted(path.stem for path in TEMPLATES.glob("*.jinja"))
    assert [name for name in FAMILIES if f"`{name}.jinja`" not in sources] == []


@pytest.mark.parametrize("name", FAMILIES)
def test_a_plain_chat_is_a_prompt_as_served_and_an_answer_with_its_end(name: str) -> None:
    family, tokenizer = FAMILIES[name], TOKENIZERS[name]
    rows = rows_of(name, Feedback([user("Hi")], [assistant("Yo")], label=True))
    [row] = rows.rows
    (prompt, _), *rest = loss_segments(row, tokenizer)
    assert_is(prompt, family["prompt"])
    inserted = [(family["inserted"], False)] if "inserted" in family else []
    assert rest == [*inserted, (family["answer"], True)]
    assert rows.counts == dict.fromkeys(family.get("notes", ()), 1)
    # BOS once and first, where the template writes one.
    ids = row.prompt_ids + row.completion_ids
    if "bos_token" in str(tokenizer.chat_template):
        assert (ids[0], ids.count(ids[0])) == (tokenizer.bos_token_id, 1)
    # What a served model is given is what transformers writes for the prompt alone.
    if "prompt_not_prefix" not in rows.counts and name not in PRINTS_DATE:
        served = tokenizer.apply_chat_template(
            [user("Hi")], add_generation_prompt=True, return_dict=False
        )
        assert list(row.prompt_ids) == served


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if "turns" in family])
def test_a_system_message_and_earlier_answers_are_prompt_without_loss(name: str) -> None:
    prompt = [system("S"), user("Hi"), assistant("Yo"), user("Ho")]
    text = rendered(name, prompt, assistant("Yo"))
    assert_is(text.prompt_text, FAMILIES[name]["turns"])
    assert text.completion_text == FAMILIES[name].get("inserted", "") + answer_of(name)
    assert loss_texts(text) == [answer_of(name)]
    # Two Mistrals leave the system message out once an answer follows.
    moved = name.startswith(("deepseek", "mistral-v0.3", "mistral-nemo"))
    assert ("prompt_not_prefix" in text.notes) == moved


@pytest.mark.parametrize("name", FAMILIES)
def test_two_answers_of_one_completion_both_carry_loss_with_their_ends(name: str) -> None:
    text = rendered(name, [user("Hi")], assistant("Yo"), user("Ho"), assistant("Ya"))
    first = answer_of(name).replace("<|return|>", "<|end|>")  # gpt-oss: only the last returns
    assert loss_texts(text) == [first, answer_of(name).replace("Yo", "Ya")]


def test_prompts_that_are_no_prefix_are_still_told_apart() -> None:
    # With the common prefix as prompt, every prompt with a system message would be "<s>[INST] ".
    texts = [rendered("mistral-v0.3", [system("S"), user(x)], assistant("Yo")) for x in "ab"]
    assert [text.prompt_text for text in texts] == [f"<s>[INST] S\n\n{x}[/INST]" for x in "ab"]
    assert [loss_texts(text) for text in texts] == [[" Yo</s>"]] * 2


def test_an_answer_that_begins_as_the_prompt_goes_on_is_whole() -> None:
    # DeepSeek's prompt ends with "<think>\n", which the joint text does not have.
    text = rendered("deepseek-v3", [user("Hi")], assistant("<thin ice>"))
    assert loss_texts(text) == [answer_of("deepseek-v3").replace("Yo", "<thin ice>")]
    call = rendered("qwen3.5", [user("Hi")], assistant("", tool_calls=[CALL]), RESULT, user("Ho"))
    assert loss_texts(call) == [FAMILIES["qwen3.5"]["call"]]


def test_refused_records_are_dropped_counted_and_explained() -> None:
    prompts = [
        [system("S"), user("Hi")],
        [user("Hi")],
        [system("T"), user("Ho")],
        [user("Hi"), user("Ho")],
    ]
    rows = rows_of("gemma2", *(Feedback(p, [assistant("Yo")], label=True) for p in prompts))
    assert (len(rows.rows), rows.drops) == (1, {"template_refused": 3})
    [(no_system, num_system), (no_turns, num_turns)] = rows.refusals.items()
    assert (num_system, num_turns) == (2, 1)
    assert "System role not supported" in no_system
    assert "put its text into the first user message, or name another template" in no_system
    assert "roles must alternate" in no_turns


@pytest.mark.parametrize("arguments", [{"a": 1}, '{"a": 1}'], ids=["object", "text"])
@pytest.mark.parametrize("name", WITH_CALLS)
def test_a_call_and_the_answer_carry_loss_and_the_result_does_not(
    name: str, arguments: object
) -> None:
    # Logs of servers hold arguments as JSON text: the row must be the same.
    call = {**CALL, "function": {"name": "add", "arguments": arguments}}
    completion = [assistant("", tool_calls=[call]), RESULT, assistant("Yo")]
    record = Feedback([user("1+2")], completion, label=True, tools=json.dumps([TOOL]))
    (prompt, _), *rest = segments_of(name, record)
    assert "1+2" in prompt
    assert ("Adds." in prompt) == (name != "deepseek-v3")  # whose template writes no tools
    # An empty block of reasoning before the call: without loss.
    ahead = {"glm4.5": "\n<think></think>\n", "qwen3.5": "\n</think>\n\n"}.get(name)
    assert rest == [
        *([(ahead, False)] if ahead else []),
        (FAMILIES[name]["call"], True),
        (FAMILIES[name]["result"] + FAMILIES[name].get("inserted", ""), False),
        (FAMILIES[name]["answer"], True),
    ]


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - set(WITH_CALLS)))
def test_a_call_the_template_leaves_out_is_refused_and_not_learned_as_silence(name: str) -> None:
    with pytest.raises(TemplateRefused, match=r"leaves out the tool call 'add'.*chat_template"):
        rendered(name, [user("1+2")], assistant("", tool_calls=[CALL]))


@pytest.mark.parametrize("name", WITH_CALLS)
def test_what_was_said_beside_a_call_carries_loss_or_is_counted(name: str) -> None:
    text = rendered(name, [user("1+2")], assistant("Ok", tool_calls=[CALL]))
    [own] = loss_texts(text)
    assert "add" in own
    assert ("Ok" in own) == ("content_left_out" not in text.notes)
    assert ("content_left_out" in text.notes) == name.startswith(("llama", "mistral"))
    assert text.append_eos == (name == "glm4.5")  # <|call|> and the like end a turn, too


@pytest.mark.parametrize("name", ["mistral-nemo", "mistral-v0.3", "mistral-small-3.2"])
def test_mistral_refuses_call_ids_of_another_length_and_says_so(name: str) -> None:
    call = {**CALL, "id": "call_0123456789"}
    with pytest.raises(TemplateRefused, match="Tool call IDs should be alphanumeric strings with"):
        rendered(name, [user("1+2")], assistant("", tool_calls=[call]))


def test_an_empty_list_of_calls_or_tools_is_none() -> None:
    plain = rendered("llama3.1", [user("Hi")], assistant("Yo"))
    assert rendered("llama3.1", [user("Hi")], assistant("Yo", tool_calls=[]), tools="[]") == plain


def test_arguments_that_are_no_json_stay_as_the_model_wrote_them() -> None:
    call = {**CALL, "function": {"name": "add", "arguments": "{a: 1"}}
    text = rendered("qwen3", [user("1+2")], assistant("", tool_calls=[call]))
    assert '{"name": "add", "arguments": {a: 1}\n' in text.completion_text


def test_a_turn_whose_end_cannot_be_told_carries_no_loss_and_is_counted() -> None:
    # gpt-oss leaves the thinking before a call out once an answer follows: the call is written
    # otherwise then, and no end of turn is between it and the result.
    call = assistant("", tool_calls=[CALL], thinking="Hm")
    text = rendered("gpt-oss", [user("1+2")], call, RESULT, assistant("Yo"))
    assert loss_texts(text) == ["Yo<|return|>"]
    assert "turn_end_unknown" in text.notes


REASONING = {
    "qwen3": "<think>\nHm\n</think>\n\nYo<|im_end|>",
    "qwen3.5": "Hm\n</think>\n\nYo<|im_end|>",  # the prompt opens the block
    "glm4.5": "\n<think>Hm</think>\nYo",
    "gemma4": "<|channel>thought\nHm\n<channel|>Yo<turn|>",
    "gpt-oss": (
        "<|channel|>analysis<|message|>Hm<|end|>"
        "<|start|>assistant<|channel|>final<|message|>Yo<|return|>"
    ),
}


@pytest.mark.parametrize("name", REASONING)
def test_reasoning_of_the_answer_carries_loss_where_the_template_writes_it(name: str) -> None:
    text = rendered(name, [user("Hi")], assistant("Yo", reasoning_content="Hm", thinking="Hm"))
    assert loss_texts(text) == [REASONING[name]]
    assert "reasoning_stripped" not in text.notes
    if name in ("qwen3", "qwen3.5", "glm4.5"):  # at the head of the content it is the same
        inside = rendered(name, [user("Hi")], assistant("<think>\nHm\n</think>\n\nYo"))
        assert loss_texts(inside) == [REASONING[name]]


@pytest.mark.parametrize("name", ["qwen3", "qwen3.5", "glm4.5", "deepseek-r1-distill"])
def test_reasoning_of_earlier_answers_is_left_out_as_in_serving(name: str) -> None:
    earlier = assistant("<think>\nHm\n</think>\n\nYo")
    text = rendered(name, [user("Hi"), earlier, user("Ho")], assistant("Ya"))
    assert "Hm" not in text.prompt_text
    assert "Yo" in text.prompt_text


@pytest.mark.parametrize("name", ["deepseek-r1-distill", "deepseek-v3"])
def test_reasoning_that_deepseek_leaves_out_of_answers_is_counted(name: str) -> None:
    text = rendered(name, [user("Hi")], assistant("<think>\nHm\n</think>\n\nYo"))
    assert loss_texts(text) == ["\n\n" + answer_of(name)]
    assert text.notes == ("prompt_not_prefix", "reasoning_stripped")


@pytest.mark.parametrize(
    ("name", "prompt", "answer"),
    [
        ("qwen3", "…assistant\n<think>\n\n</think>\n\n", "Yo<|im_end|>"),
        ("qwen3.5", "…assistant\n<think>\n\n</think>\n\n", "Yo<|im_end|>"),
        ("glm4.5", "…Hi/nothink<|assistant|>\n<think></think>", "\nYo"),
    ],
)
def test_template_kwargs_turn_thinking_off(name: str, prompt: str, answer: str) -> None:
    kwargs = json.dumps({"enable_thinking": False})
    text = rendered(name, [user("Hi")], assistant("Yo"), template_kwargs=kwargs)
    assert_is(text.prompt_text, prompt)
    assert loss_texts(text) == [answer]
    assert "template_text_masked" not in text.notes


def test_templates_that_print_the_date_print_the_day_of_the_run() -> None:
    printed = {
        "gpt-oss": "Current date: 2026-03-07\n",
        "llama3.2": "Today Date: 07 Mar 2026\n",
        "mistral-small-3.2": "The current date is 2026-03-07.",
    }
    assert sorted(printed) == PRINTS_DATE
    for name, words in printed.items():
        assert words in rendered(name, [user("Hi")], assistant("Yo")).prompt_text


@pytest.mark.parametrize("name", BUILT_IN_TEMPLATES)
def test_built_in_templates_write_the_tokens_of_the_published_ones(name: str) -> None:
    # Apart from BOS: a built-in template writes it where the tokenizer puts it before plain text,
    # which single bytes do not; Llama 3's writes it always.
    turns = [system("S"), user(" Hi\n"), assistant("Yo <|x|> "), user("Ho")]
    records = [
        Feedback([user("Hi")], [assistant(" Yo\n")], label=True),
        Feedback(turns, [assistant("Yo"), user("Ha"), assistant("é")], label=False),
    ]
    published, built_in = rows_of(name, *records), rows_of(name, *records, chat_template=name)
    bos = (TOKENIZERS[name].bos_token_id,) if name == "llama3" else ()
    for ours, theirs in zip(built_in.rows, published.rows, strict=True):
        assert bos + ours.prompt_ids == theirs.prompt_ids
        assert (ours.completion_ids, ours.loss_mask) == (theirs.completion_ids, theirs.loss_mask)


WORDS = st.text("ab é\n</im_end>😀", min_size=1, max_size=8).filter(lambda text: bool(text.strip()))


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=15, deadline=None, database=None, derandomize=True)
@given(turns=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=3), num_rated=st.integers(1, 3))
def test_any_conversation_has_loss_on_its_rated_answers_and_their_ends_alone(
    name: str, turns: list[tuple[str, str]], num_rated: int
) -> None:
    tokenizer = TOKENIZERS[name]
    messages = [message for asked, said in turns for message in (user(asked), assistant(said))]
    start = 2 * max(0, len(turns) - num_rated) + 1
    text = rendered(name, messages[:start], *messages[start:])
    segments = segments_of(name, Feedback(messages[:start], messages[start:], label=True))
    # The ids are the rendering up to the end of the last turn.
    end = FAMILIES[name]["eos"] if text.append_eos else ""
    decoded = "".join(piece for piece, _ in segments)
    assert decoded == text.prompt_text + text.completion_text + end
    if name not in PRINTS_DATE and not name.startswith(("deepseek", "qwen3.5")):
        joint = str(tokenizer.apply_chat_template(messages, tokenize=False))
        assert joint.startswith(text.prompt_text + text.completion_text)
    own = [piece for piece, carries_loss in segments if carries_loss]
    said = [answer.strip() for _, answer in turns[-num_rated:]]
    ends = [answer_of(name).strip().removeprefix("Yo").replace("<|return|>", "<|end|>")] * len(own)
    ends[-1] = FAMILIES[name]["answer"].strip().removeprefix("Yo")
    trimmed = zip(said, ends, own, strict=True)
    assert [piece.replace(answer, "", 1).strip() for answer, _, piece in trimmed] == ends
    assert [answer in piece for answer, piece in zip(said, own, strict=True)] == [True] * len(own)
