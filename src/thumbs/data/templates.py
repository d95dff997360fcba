"""Chat templates: where they come from, and messages written with one.

In: a template's name, a tokenizer, messages. Out: text. Must not know: labels, loss, token ids.
Dates a template prints are fixed, so a run resumed tomorrow trains on the same text.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError, TemplateSyntaxError

from thumbs.errors import ConfigError, FeedbackError
from thumbs.feedback.record import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_GENERATION_PROMPT = "{% if add_generation_prompt %}"
BUILT_IN_TEMPLATES = {
    "chatml": (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n'"
        " + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
        + _GENERATION_PROMPT
        + "{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "llama3": (
        "{% for message in messages %}{{ '<|start_header_id|>' + message['role']"
        " + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
        + _GENERATION_PROMPT
        + "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    "zephyr": (
        "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n'"
        " + message['content'] + eos_token + '\\n' }}{% endfor %}"
        + _GENERATION_PROMPT
        + "{{ '<|assistant|>\\n' }}{% endif %}"
    ),
}
_DATE_CODES = ("%Y", "%y", "%m", "%d", "%B", "%b", "%A", "%a", "%j", "%H", "%M", "%S", "%I", "%p")


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """Jinja source in which dates are fixed, and the tokens that can end an assistant's turn.

    tool_source: used where the record has tools; most tokenizers have one template for both.
    special: finds any special token. turn_end: finds eos and the token that follows an answer.
    """

    source: str
    tool_source: str
    special: re.Pattern[str]
    turn_end: re.Pattern[str]


class TemplateRefused(FeedbackError):
    """A conversation the chat template does not accept (roles must alternate, no system role)."""


def load_template(
    chat_template: str | None, tokenizer: "PreTrainedTokenizerBase", *, today: date
) -> ChatTemplate | None:
    """The template to render messages with, the same for the whole run.

    Args:
        chat_template: a name of BUILT_IN_TEMPLATES, the path of a Jinja file, or None for the
            tokenizer's own.
        today: what `strftime_now` in the template prints.

    Returns:
        None where nothing is named and the tokenizer has no template; strings need none.

    Raises:
        ConfigError: a name that is neither built in nor a file, a file that is not Jinja, or
            several templates of which none is the default.
    """
    if chat_template is None and not tokenizer.chat_template:
        return None
    own = tokenizer.chat_template
    if chat_template is None and isinstance(own, dict) and "default" not in own:
        raise ConfigError(
            f"data.chat_template: the tokenizer has the templates {', '.join(sorted(own))} and "
            f"none is named default; name one: {allowed_templates()}"
        )
    if chat_template is None:
        source = tokenizer.get_chat_template()
        tool_source = tokenizer.get_chat_template(tools=[])
    else:
        source = tool_source = _named_source(chat_template, tokenizer)
    special = _special_texts(tokenizer)
    template = ChatTemplate(
        _with_fixed_date(source, today),
        _with_fixed_date(tool_source, today),
        _any_of(special),
        _any_of([tokenizer.eos_token] if tokenizer.eos_token else []),
    )
    end = _turn_end_text(tokenizer, template)
    ends = dict.fromkeys(text for text in (end, tokenizer.eos_token) if text)
    return replace(template, special=_any_of([end, *special]), turn_end=_any_of(list(ends)))


def adopt_template(name: str | None, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Make the template `data.chat_template` names the tokenizer's own, as it will be saved.

    It stays as it was written: where it prints today's date, the served model prints it too.
    """
    if name is not None:
        tokenizer.chat_template = _named_source(name, tokenizer)


def render_messages(
    messages: Sequence[Message],
    tokenizer: "PreTrainedTokenizerBase",
    template: ChatTemplate,
    tools: list[Any] | None = None,
    template_kwargs: dict[str, Any] | None = None,
    add_generation_prompt: bool = False,
) -> str:
    """Write messages as text; with `add_generation_prompt`, as the model is given them.

    Raises:
        TemplateRefused: the template does not accept the conversation.
        ConfigError: the template is not valid Jinja.
    """
    options: dict[str, Any] = {
        **(template_kwargs or {}),
        "tools": tools,
        "chat_template": template.source if tools is None else template.tool_source,
        "add_generation_prompt": add_generation_prompt,
        "tokenize": False,
    }
    try:
        return str(tokenizer.apply_chat_template(list(messages), **options))
    except TemplateSyntaxError as error:
        raise ConfigError(
            f"data.chat_template: line {error.lineno}: {error.message}; correct the Jinja source "
            f"or name one of {allowed_templates()}"
        ) from None
    except (TemplateError, TypeError) as error:  # TypeError: adding None or a list to text
        raise TemplateRefused(f"the chat template refuses the conversation: {error}") from None


def _named_source(name: str, tokenizer: "PreTrainedTokenizerBase") -> str:
    if name in BUILT_IN_TEMPLATES:
        # A base model whose tokenizer puts BOS before plain text expects one before a chat too.
        return ("{{ bos_token }}" if adds_bos(tokenizer) else "") + BUILT_IN_TEMPLATES[name]
    path = Path(name)
    if not path.is_file():
        raise ConfigError(
            f"data.chat_template: {name!r} is neither built in nor a file; "
            f"allowed are {allowed_templates()}"
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"data.chat_template: {name!r} is not UTF-8 text: {error}") from None


def adds_bos(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether the tokenizer puts its BOS token before plain text."""
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("x").input_ids[:1] == [bos]


def allowed_templates() -> str:
    """What data.chat_template may be, in words."""
    return f"{', '.join(BUILT_IN_TEMPLATES)} or the path of a .jinja file"


def _with_fixed_date(source: str, today: date) -> str:
    """Shadow `strftime_now` by a macro that prints `today`.

    A function cannot be handed in: transformers gives templates plain data only.
    """
    if "strftime_now" not in source:
        return source
    day, month = str(today.day), str(today.month)
    codes = [*([code, today.strftime(code)] for code in _DATE_CODES)]
    codes += [["%-d", day], ["%-m", month], ["%e", f"{day:>2}"], ["%%", "%"]]
    return (
        "{%- macro strftime_now(format) -%}{%- set fixed = namespace(text=format) -%}"
        f"{{%- for code, text in {json.dumps(codes)} -%}}"
        "{%- set fixed.text = fixed.text.replace(code, text) -%}{%- endfor -%}"
        "{{- fixed.text -}}{%- endmacro %}\n"  # the newline is trimmed: it ends a block
    ) + source


def _turn_end_text(tokenizer: "PreTrainedTokenizerBase", template: ChatTemplate) -> str:
    """The special token that follows a plain answer, or several in a row; found by rendering."""
    mark = "\U000f0000"  # private use: in no text, and templates pass it on
    answer = {"role": "assistant", "content": f"b{mark}"}
    try:
        text = render_messages([{"role": "user", "content": "a"}, answer], tokenizer, template)
    except TemplateRefused:
        return ""
    if mark not in text:
        return ""
    end = template.special.search(text, text.index(mark))
    stop = end.end() if end else 0
    while end and (further := template.special.match(text, stop)):
        stop = further.end()
    return text[end.start() : stop] if end else ""


def _special_texts(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """The text of every token that stands for no text, longest first."""
    added = [str(t.content) for t in tokenizer.added_tokens_decoder.values() if t.special]
    return sorted({*added, *tokenizer.all_special_tokens}, key=lambda text: (-len(text), text))


def _any_of(texts: Sequence[str]) -> re.Pattern[str]:
    """A pattern that finds the first of `texts`; of two at one place, the earlier in the list."""
    return re.compile("|".join(re.escape(t) for t in texts if t) or "(?!)")  # (?!) matches nothing
