"""One feedback record as text: what the model is given, what it must answer, what carries loss.

In: a `Feedback`, a tokenizer, a chat template. Out: `RenderedText`, whose completion ends with the
end of the assistant's last turn. Must not know: lengths, token ids, torch.

A "place" is where the content of an answer lies in the rendered text. Templates trim, move and
wrap content, so it is found by rendering once more with invisible marks around the content.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thumbs.data.templates import (
    ChatTemplate,
    TemplateRefused,
    allowed_templates,
    render_messages,
)
from thumbs.errors import ConfigError, FeedbackError
from thumbs.feedback.record import Feedback, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPT_NOT_PREFIX = "prompt_not_prefix"  # split at the common prefix of prompt and joint text
TEMPLATE_TEXT_MASKED = "template_text_masked"  # the template wrote before the answer: no loss there
REASONING_STRIPPED = "reasoning_stripped"  # the template left out reasoning of the answer
TURN_END_APPENDED = "turn_end_appended"  # no special token ends the turn: eos is appended

_FIRST_MARK = 0xF0000  # private use, plane 15: no text has these, and templates pass them on
_MARKS = re.compile(r"[\U000F0000-\U000F0FFF]")
_EMPTY_REASONING = re.compile(r"\s*<think>\s*</think>\s*")


@dataclass(frozen=True, slots=True)
class RenderedText:
    """Prompt and completion as text; the completion ends where the assistant's last turn ends.

    loss_spans: (start, end) character ranges of prompt_text + completion_text that carry loss.
    append_eos: whether the eos token follows the text, with loss.
    is_templated: whether a template wrote the text, and with it the BOS token if there is any.
    notes: reasons to count.
    """

    prompt_text: str
    completion_text: str
    loss_spans: tuple[tuple[int, int], ...]
    append_eos: bool
    is_templated: bool
    notes: tuple[str, ...] = ()


def render(
    record: Feedback, tokenizer: "PreTrainedTokenizerBase", template: ChatTemplate | None
) -> RenderedText:
    """Write a record as the text the model is trained on.

    Strings are joined as they are and eos is appended. Messages go through the template; the loss
    is on the assistant's turns of the completion, each with the token that ends it.

    Raises:
        ConfigError: messages without a template.
        TemplateRefused: the template does not accept the conversation.
    """
    if isinstance(record.prompt, str) and isinstance(record.completion, str):
        return _render_strings(record.prompt, record.completion, tokenizer)
    if isinstance(record.prompt, str) or isinstance(record.completion, str):
        raise FeedbackError(
            f"record {record.id!r}: prompt and completion must both be strings or both be lists "
            "of messages; write the file with `thumbs import`"
        )
    if template is None:
        raise ConfigError(
            f"data.chat_template is not set and the tokenizer has no template, but record "
            f"{record.id!r} holds messages; allowed are {allowed_templates()}; "
            "try --set data.chat_template=chatml"
        )
    return _render_turns(record.prompt, record.completion, _writer(record, tokenizer, template))


@dataclass(frozen=True, slots=True)
class _Writer:
    """How one record's messages become text, and the template they go through."""

    text_of: Callable[..., str]
    template: ChatTemplate


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an answer's content lies in the joint text; None where the template changed it."""

    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class _Turn:
    """The part of the joint text that the assistant writes in one turn."""

    start: int
    end: int
    append_eos: bool
    notes: tuple[str, ...]


def _render_strings(
    prompt: str, completion: str, tokenizer: "PreTrainedTokenizerBase"
) -> RenderedText:
    eos = tokenizer.eos_token
    append_eos = not (isinstance(eos, str) and completion.endswith(eos))
    span = (len(prompt), len(prompt) + len(completion))
    return RenderedText(prompt, completion, (span,), append_eos, is_templated=False)


def _render_turns(
    prompt: list[Message], completion: list[Message], writer: _Writer
) -> RenderedText:
    messages = [*prompt, *completion]
    joint = writer.text_of(messages)
    places = _find_places(prompt, completion, joint, writer)
    answers = [i for i, message in enumerate(completion) if message.get("role") == "assistant"]
    if not answers:
        raise TemplateRefused("the completion has no message of the assistant")
    before = writer.text_of(prompt, add_generation_prompt=True) if prompt else ""
    notes: list[str] = []
    if prompt and not joint.startswith(before):
        notes.append(PROMPT_NOT_PREFIX)
    split = _common_length(joint, before) if prompt else places[answers[0]].start or 0

    turns: list[_Turn] = []
    for i in answers:
        if i > 0:
            before = writer.text_of(messages[: len(prompt) + i], add_generation_prompt=True)
        floor = turns[-1].end if turns else split
        start = _turn_start(joint, before, places[i], floor)
        following = (place.start for place in places[i + 1 :] if place.start is not None)
        limit = next(following, len(joint))
        is_last = i == answers[-1]
        turns.append(_turn(joint, start, limit, completion[i], places[i], writer, is_last=is_last))
        notes += turns[-1].notes
    return RenderedText(
        joint[:split],
        joint[split : turns[-1].end],
        tuple((turn.start, turn.end) for turn in turns if turn.start < turn.end),
        turns[-1].append_eos,
        is_templated=True,
        notes=tuple(dict.fromkeys(notes)),
    )


def _turn_start(joint: str, before: str, place: _Place, floor: int) -> int:
    """Where the assistant begins to write: after the generation prompt, if that is a prefix."""
    if before and joint.startswith(before):
        return len(before)
    if place.start is not None:
        return place.start
    return max(floor, _common_length(joint, before))


def _turn(
    joint: str,
    start: int,
    limit: int,
    message: Message,
    place: _Place,
    writer: _Writer,
    *,
    is_last: bool,
) -> _Turn:
    """Cut an assistant's turn out of the joint text: no inserted text, nothing after its end."""
    notes: list[str] = []
    reasoning = _reasoning(message)
    own_start = start
    if place.start is None and (empty := _EMPTY_REASONING.match(joint, start)):
        own_start = empty.end()
    elif place.start is not None:
        ahead = joint[start : place.start]
        if ahead.strip() and not (reasoning and reasoning in ahead):
            own_start = place.start
    if own_start > start:
        notes.append(TEMPLATE_TEXT_MASKED)
    # Tool calls follow the content and may hold special tokens: only an end of turn ends them.
    has_known_end = place.end is not None and not message.get("tool_calls")
    anchor = max(place.end or own_start, own_start)
    ends = writer.template.special if has_known_end else writer.template.turn_end
    end = ends.search(joint, anchor, limit)
    if reasoning and reasoning not in joint[start:limit]:
        notes.append(REASONING_STRIPPED)
    if end:
        return _Turn(own_start, end.end(), append_eos=False, notes=tuple(notes))
    if not is_last and place.end is not None:
        return _Turn(own_start, place.end, append_eos=False, notes=tuple(notes))
    last = anchor + len(joint[anchor:limit].rstrip())
    if is_last:
        notes.append(TURN_END_APPENDED)
    return _Turn(own_start, last, append_eos=is_last, notes=tuple(notes))


def _reasoning(message: Message) -> str:
    """The reasoning of an answer, in a field of its own or at the head of its content."""
    for key in ("reasoning_content", "thinking", "reasoning"):
        if isinstance(text := message.get(key), str) and text.strip():
            return text.strip()
    content = message.get("content")
    if not isinstance(content, str) or "</think>" not in content:
        return ""
    return content.partition("</think>")[0].rpartition("<think>")[2].strip()


def _find_places(
    prompt: list[Message], completion: list[Message], joint: str, writer: _Writer
) -> list[_Place]:
    """Find the content of each completion message in the joint text, by marks around it."""
    marked = writer.text_of([*prompt, *(_marked(m, i) for i, m in enumerate(completion))])
    positions: dict[str, int] = {}
    for count, mark in enumerate(_MARKS.finditer(marked)):
        positions[mark.group()] = mark.start() - count  # every mark is one character
    if _MARKS.sub("", marked) != joint:
        return [_Place() for _ in completion]
    pairs = [_mark_pair(i) for i in range(len(completion))]
    return [_Place(positions.get(first), positions.get(last)) for first, last in pairs]


def _marked(message: Message, index: int) -> Message:
    content = message.get("content")
    if not isinstance(content, str) or not (core := content.strip()):
        return message
    first, last = _mark_pair(index)
    lead, _, trail = content.partition(core)
    return {**message, "content": f"{lead}{first}{core}{last}{trail}"}


def _mark_pair(index: int) -> tuple[str, str]:
    return chr(_FIRST_MARK + 2 * index), chr(_FIRST_MARK + 2 * index + 1)


def _common_length(one: str, other: str) -> int:
    """The length of the longest common prefix of two texts."""
    if one.startswith(other):
        return len(other)
    for i, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return i
    return min(len(one), len(other))


def _writer(
    record: Feedback, tokenizer: "PreTrainedTokenizerBase", template: ChatTemplate
) -> _Writer:
    tools = _json_field(record, "tools", list)
    options = _json_field(record, "template_kwargs", dict) or {}

    def text_of(messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        return render_messages(messages, tokenizer, template, tools, options, add_generation_prompt)

    return _Writer(text_of, template)


def _json_field(record: Feedback, name: str, kind: type) -> Any:
    """A field that holds JSON text: a value of `kind`, or None for null."""
    text = str(getattr(record, name))
    try:
        value = json.loads(text or "null")
    except json.JSONDecodeError as error:
        raise FeedbackError(f"record {record.id!r}: {name} must be JSON: {error}") from None
    if value is not None and not isinstance(value, kind):
        raise FeedbackError(
            f"record {record.id!r}: {name} must be a JSON {kind.__name__} or null, but is {text!r}"
        )
    return value
