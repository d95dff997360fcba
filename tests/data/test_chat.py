"""Templates of common families, and what of the text they write carries loss.

The templates are shortened copies of how the families write: the same tokens, the same trims,
refusals and insertions.
"""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from thumbs.data.chat import RenderedText, render
from thumbs.data.templates import TemplateRefused, load_template
from thumbs.errors import ConfigError, FeedbackError
from thumbs.feedback.record import Feedback, Message
from thumbs.models.tiny import CHATML, train_bpe

TODAY = date(2026, 3, 7)
EXTRA = (
    *("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "[TOOL_CALLS]"),
)
LLAMA3 = """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
GEMMA = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}
{%- endif %}
{%- for message in messages %}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
    {{- '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""
MISTRAL = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/...') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- '[INST] ' + message['content'] + ' [/INST]' }}
    {%- else %}
        {{- ' ' + message['content'] + eos_token }}
    {%- endif %}
{%- endfor %}"""
QWEN3 = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}{{- tool | tojson + '\\n' }}{%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last_user=-1) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{%- set ns.last_user = loop.index0 %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'assistant' %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.last_user and (loop.last or reasoning) %}
            {{- '<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- content.lstrip('\\n') }}
        {%- for call in message.tool_calls or [] %}
            {{- ('\\n' if content else '') + '<tool_call>\\n' + call | tojson + '\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + content }}
        {{- '\\n</tool_response><|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""
THINKING_PROMPT = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content.split('</think>')[-1] }}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"""

BYTES = train_bpe([], 261 + len(EXTRA), extra_special_tokens=EXTRA)


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str | None, **fields: Any) -> Message:
    return {"role": "assistant", "content": text, **fields}


def rendered(
    template: str, prompt: list[Message], completion: list[Message], **fields: Any
) -> RenderedText:
    """Render with `template` as the tokenizer's own."""
    tokenizer = with_template(template)
    record = Feedback(prompt, completion, label=True, id="r1", **fields)
    return render(record, tokenizer, load_template(None, tokenizer, today=TODAY))


def with_template(template: str | None) -> PreTrainedTokenizerFast:
    BYTES.chat_template = template
    return BYTES


def loss_texts(text: RenderedText) -> list[str]:
    joint = text.prompt_text + text.completion_text
    return [joint[start:end] for start, end in text.loss_spans]


def test_chatml_ends_with_the_turn_end_and_not_the_newline_behind_it() -> None:
    text = rendered(CHATML, [user("Hi")], [assistant("Yo")])
    assert text.prompt_text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert text.completion_text == "Yo<|im_end|>"
    assert loss_texts(text) == ["Yo<|im_end|>"]
    assert (text.append_eos, text.is_templated, text.notes) == (False, True, ())


@pytest.mark.parametrize("content", ["im", "end", "assistant", "<|im_end|>", "a<|im_end|>b", " a "])
def test_an_answer_that_looks_like_template_text_is_found_whole(content: str) -> None:
    text = rendered(CHATML, [user("assistant")], [assistant(content)])
    assert loss_texts(text) == [content + "<|im_end|>"]
    assert text.notes == ()


def test_llama_3_keeps_bos_in_the_prompt_and_prints_the_date_of_the_run() -> None:
    text = rendered(LLAMA3, [user("Hi")], [assistant(" Yo ")])
    assert text.prompt_text == (
        "<s><|start_header_id|>system<|end_header_id|>\n\nToday Date: 07 Mar 2026<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert loss_texts(text) == ["Yo<|eot_id|>"]
    assert text.completion_text == "Yo<|eot_id|>"


def test_a_date_given_with_the_record_wins() -> None:
    kwargs = json.dumps({"date_string": "1 May 1999"})
    text = rendered(LLAMA3, [user("Hi")], [assistant("Yo")], template_kwargs=kwargs)
    assert "Today Date: 1 May 1999<" in text.prompt_text


def test_a_date_inside_a_macro_is_fixed_too() -> None:
    template = (
        "  {% macro head() %}{{ strftime_now('%Y-%m-%d %A %-d 100%%') }}|{% endmacro %}\n"
        "{{ head() }}" + CHATML
    )
    text = rendered(template, [user("Hi")], [assistant("Yo")])
    assert text.prompt_text.startswith("2026-03-07 Saturday 7 100%|<|im_start|>user")


def test_gemma_calls_the_assistant_model_and_refuses_a_system_message() -> None:
    text = rendered(GEMMA, [user("Hi")], [assistant("Yo\n")])
    assert text.prompt_text == "<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"
    assert text.completion_text == "Yo<end_of_turn>"
    with pytest.raises(TemplateRefused, match="System role not supported"):
        rendered(GEMMA, [{"role": "system", "content": "S"}, user("Hi")], [assistant("Yo")])


def test_mistral_answers_begin_with_the_space_the_model_writes() -> None:
    text = rendered(MISTRAL, [user("Hi")], [assistant("Yo")])
    assert text.prompt_text == "<s>[INST] Hi [/INST]"
    assert loss_texts(text) == [" Yo</s>"]
    with pytest.raises(TemplateRefused, match="must alternate"):
        rendered(MISTRAL, [user("Hi"), user("Ho")], [assistant("Yo")])


def test_a_reasoning_block_the_template_inserts_carries_no_loss() -> None:
    text = rendered(QWEN3, [user("Hi")], [assistant("Yo")])
    assert text.prompt_text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert text.completion_text == "<think>\n\n</think>\n\nYo<|im_end|>"
    assert loss_texts(text) == ["Yo<|im_end|>"]
    assert text.notes == ("template_text_masked",)


def test_a_reasoning_block_of_the_generation_prompt_belongs_to_the_prompt() -> None:
    kwargs = json.dumps({"enable_thinking": False})
    text = rendered(QWEN3, [user("Hi")], [assistant("Yo")], template_kwargs=kwargs)
    assert text.prompt_text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert text.completion_text == "Yo<|im_end|>"
    assert text.notes == ()


@pytest.mark.parametrize(
    "answer",
    [assistant("<think>\nHm\n</think>\n\nYo"), assistant("Yo", reasoning_content="Hm")],
)
def test_reasoning_of_the_answer_itself_carries_loss(answer: Message) -> None:
    text = rendered(QWEN3, [user("Hi")], [answer])
    assert loss_texts(text) == ["<think>\nHm\n</think>\n\nYo<|im_end|>"]
    assert text.notes == ()


def test_reasoning_of_earlier_turns_is_left_out_as_in_serving() -> None:
    prompt = [user("Hi"), assistant("<think>\nHm\n</think>\n\nYo"), user("Ho")]
    text = rendered(QWEN3, prompt, [assistant("Ya")])
    assert "<|im_start|>assistant\nYo<|im_end|>\n<|im_start|>user\nHo" in text.prompt_text
    assert loss_texts(text) == ["Ya<|im_end|>"]


def test_a_tool_call_and_the_answer_carry_loss_and_the_result_between_does_not() -> None:
    call = {"name": "add", "arguments": {"a": 1}}
    completion = [
        assistant(None, tool_calls=[call]),
        {"role": "tool", "content": "3"},
        assistant("Three"),
    ]
    text = rendered(QWEN3, [user("1+2")], completion, tools='[{"name": "add"}]')
    assert text.prompt_text.startswith('<|im_start|>system\n{"name": "add"}\n<|im_end|>\n')
    wanted = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>'
    assert loss_texts(text) == [wanted, "Three<|im_end|>"]
    assert text.completion_text == (
        wanted + "\n<|im_start|>user\n<tool_response>\n3\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\nThree<|im_end|>"
    )
    assert text.notes == ("template_text_masked",)


def test_a_reasoning_block_inserted_before_a_lone_tool_call_carries_no_loss() -> None:
    text = rendered(QWEN3, [user("1+2")], [assistant(None, tool_calls=[{"name": "f"}])])
    assert text.completion_text.startswith("<think>\n\n</think>\n\n<tool_call>")
    assert loss_texts(text) == ['<tool_call>\n{"name": "f"}\n</tool_call><|im_end|>']
    assert text.notes == ("template_text_masked",)


def test_the_template_for_tools_is_used_where_a_record_has_tools() -> None:
    tokenizer = with_template(CHATML)
    tokenizer.chat_template = {"default": CHATML, "tool_use": "TOOLS " + CHATML}
    template = load_template(None, tokenizer, today=TODAY)
    for tools, starts in (("null", "<|im_start|>"), ('[{"name": "f"}]', "TOOLS <|im_start|>")):
        record = Feedback([user("Hi")], [assistant("Yo")], label=True, tools=tools)
        assert render(record, tokenizer, template).prompt_text.startswith(starts)


def test_an_answer_that_no_mark_can_be_put_around_ends_at_the_turn_end() -> None:
    # The text differs when the content does: the answer is what follows the generation prompt.
    template = CHATML.replace(
        "message['content']", "{'Hi': 'Hi', 'Yo': 'Yes'}[message.content]|string"
    )
    text = rendered(template, [user("Hi")], [assistant("Yo")])
    assert loss_texts(text) == ["Yes<|im_end|>"]
    marked = rendered(CHATML, [user("Hi")], [assistant("Yo\U000f0000Yo")])
    assert loss_texts(marked) == ["Yo\U000f0000Yo<|im_end|>"]


def test_a_special_token_inside_a_tool_call_does_not_end_the_turn() -> None:
    template = (
        "{% for m in messages %}{{ '[INST]' if m.role == 'user' else '[/INST]' }}{{ m.content }}"
        "{% for call in m.tool_calls or [] %}{{ '[TOOL_CALLS]' + call.name }}{% endfor %}"
        "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}{{ '[/INST]' }}{% endif %}"
    )
    text = rendered(template, [user("Hi")], [assistant("Ok", tool_calls=[{"name": "f"}])])
    assert loss_texts(text) == ["Ok[TOOL_CALLS]f</s>"]


def test_a_prompt_rendering_that_is_no_prefix_is_split_at_the_common_prefix_and_counted() -> None:
    text = rendered(THINKING_PROMPT, [user("Hi")], [assistant("Yo")])
    assert text.prompt_text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert loss_texts(text) == ["Yo<|im_end|>"]
    assert text.notes == ("prompt_not_prefix",)


def test_text_that_differs_early_in_the_prompt_stays_as_the_model_is_given_it() -> None:
    template = "{{ messages | length }} messages\n" + CHATML
    text = rendered(template, [user("Hi")], [assistant("Yo")])
    assert text.prompt_text.startswith("1 messages\n<|im_start|>user\nHi")  # jointly, 2 messages
    assert text.prompt_text.endswith("<|im_start|>assistant\n")
    assert (text.completion_text, loss_texts(text)) == ("Yo<|im_end|>", ["Yo<|im_end|>"])
    assert text.notes == ("prompt_not_prefix",)


def test_reasoning_the_template_strips_is_counted() -> None:
    text = rendered(THINKING_PROMPT, [user("Hi")], [assistant("<think>Hm</think>Yo")])
    assert loss_texts(text) == ["Yo<|im_end|>"]
    assert text.notes == ("prompt_not_prefix", "reasoning_stripped")


def test_a_template_without_a_turn_end_gets_eos() -> None:
    template = (
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    )
    text = rendered(template, [user("Hi")], [assistant("Yo")])
    assert text.prompt_text == "user: Hi\n\nassistant:"
    assert loss_texts(text) == [" Yo"]
    assert text.completion_text == " Yo"
    assert (text.append_eos, text.notes) == (True, ("turn_end_appended",))


def test_without_prompt_messages_the_header_of_the_answer_is_the_prompt() -> None:
    text = rendered(CHATML, [], [assistant("Yo")])
    assert text.prompt_text == "<|im_start|>assistant\n"
    assert loss_texts(text) == ["Yo<|im_end|>"]


def test_strings_are_joined_as_they_are_and_eos_follows_once() -> None:
    tokenizer = with_template(None)
    text = render(Feedback("Q: a\nA:", " b", label=True), tokenizer, None)
    assert (text.prompt_text, text.completion_text) == ("Q: a\nA:", " b")
    assert loss_texts(text) == [" b"]
    assert (text.append_eos, text.is_templated) == (True, False)
    assert not render(Feedback("Q", "b</s>", label=True), tokenizer, None).append_eos


@pytest.mark.parametrize(
    ("name", "prompt_text", "completion_text"),
    [
        ("chatml", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "Yo<|im_end|>"),
        (
            "llama3",
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            "Yo<|eot_id|>",
        ),
        ("zephyr", "<|user|>\nHi</s>\n<|assistant|>\n", "Yo</s>"),
    ],
)
def test_built_in_templates_need_nothing_of_the_tokenizer_and_keep_its_bos(
    name: str, prompt_text: str, completion_text: str
) -> None:
    record = Feedback([user("Hi")], [assistant("Yo")], label=True)
    plain = with_template(None)
    text = render(record, plain, load_template(name, plain, today=TODAY))
    assert (text.prompt_text, text.completion_text) == (prompt_text, completion_text)
    with_bos = train_bpe([], 261 + len(EXTRA), extra_special_tokens=EXTRA, add_bos=True)
    text = render(record, with_bos, load_template(name, with_bos, today=TODAY))
    assert (text.prompt_text, text.completion_text) == ("<s>" + prompt_text, completion_text)


def test_a_template_file_is_used_instead_of_the_tokenizers_own(tmp_path: Path) -> None:
    path = tmp_path / "chat.jinja"
    path.write_text(GEMMA)
    tokenizer = with_template(CHATML)
    record = Feedback([user("Hi")], [assistant("Yo")], label=True)
    text = render(record, tokenizer, load_template(str(path), tokenizer, today=TODAY))
    assert text.completion_text == "Yo<end_of_turn>"


def test_messages_without_a_template_say_which_key_to_set() -> None:
    tokenizer = with_template(None)
    record = Feedback([user("Hi")], [assistant("Yo")], label=True, id="r7")
    assert load_template(None, tokenizer, today=TODAY) is None
    with pytest.raises(ConfigError, match=r"data\.chat_template is not set .* record 'r7'.*chatml"):
        render(record, tokenizer, None)


def test_a_template_that_is_neither_built_in_nor_a_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"data\.chat_template: 'chatmll' .* allowed are chatml"):
        load_template("chatmll", with_template(None), today=TODAY)


def test_a_file_that_is_not_jinja_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "chat.jinja"
    path.write_text("\n{% for m in %}")
    with pytest.raises(ConfigError, match=r"data\.chat_template: line 2"):
        load_template(str(path), with_template(None), today=TODAY)


def test_tools_that_are_not_json_name_the_record() -> None:
    with pytest.raises(FeedbackError, match="record 'r1': tools must be JSON"):
        rendered(QWEN3, [user("Hi")], [assistant("Yo")], tools="{")
    with pytest.raises(FeedbackError, match="template_kwargs must be a JSON dict or null"):
        rendered(QWEN3, [user("Hi")], [assistant("Yo")], template_kwargs="[]")
