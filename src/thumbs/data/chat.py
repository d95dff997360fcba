"""One feedback record as text: what the model is given, what it must answer, what carries loss.

In: a `Feedback`, a tokenizer, a chat template. Out: `RenderedText`, whose completion ends with the
end of the assistant's last turn. Must not know: lengths, token ids, torch.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thumbs.data.templates import (
    ChatTemplate,
    TemplateRefused,
    allowed_templates,
    render_messages,
)
from thumbs.data.turns import Writer, common_length, find_places, find_turns
from thumbs.errors import ConfigError, FeedbackError
from thumbs.feedback.record import Feedback, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPT_NOT_PREFIX = "prompt_not_prefix"  # the template writes the prompt otherwise once answered


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
    return _render_messages(record.prompt, record.completion, _writer(record, tokenizer, template))


def _render_strings(
    prompt: str, completion: str, tokenizer: "PreTrainedTokenizerBase"
) -> RenderedText:
    eos = tokenizer.eos_token
    append_eos = not (isinstance(eos, str) and completion.endswith(eos))
    span = (len(prompt), len(prompt) + len(completion))
    return RenderedText(prompt, completion, (span,), append_eos, is_templated=False)


def _render_messages(
    prompt: Sequence[Message], completion: Sequence[Message], writer: Writer
) -> RenderedText:
    """Render a conversation, in the second form of its tool calls if the first is refused."""
    messages = [*prompt, *completion]
    objects = [_with_arguments(message, as_text=False) for message in messages]
    try:
        return _render_turns(objects, len(prompt), writer)
    except TemplateRefused as error:
        refusal = error
    texts = [_with_arguments(message, as_text=True) for message in messages]
    if texts != objects:  # some templates add the arguments to text
        try:
            return _render_turns(texts, len(prompt), writer)
        except TemplateRefused:
            pass
    if any(message["role"] == "system" for message in prompt):
        spoken = [message for message in objects if message["role"] != "system"]
        try:
            writer.text_of(spoken)
        except TemplateRefused:
            pass
        else:
            raise TemplateRefused(
                f"{refusal}: it takes no system message; put its text into the first user message, "
                "or name another template with data.chat_template"
            )
    raise refusal


def _with_arguments(message: Message, *, as_text: bool) -> Message:
    """The message with the arguments of its tool calls as objects, or all as JSON text.

    Logs of servers hold text; templates are written for objects, and a few for text. An empty list
    of calls is left out: for some templates its presence is a call.
    """
    calls = message.get("tool_calls")
    if not calls:
        return {key: value for key, value in message.items() if key != "tool_calls"}
    return {**message, "tool_calls": [_call_with_arguments(call, as_text) for call in calls]}


def _call_with_arguments(call: Any, as_text: bool) -> Any:
    if not isinstance(call, dict):
        return call
    if isinstance(call.get("function"), dict):
        return {**call, "function": _call_with_arguments(call["function"], as_text)}
    arguments = call.get("arguments")
    if as_text and isinstance(arguments, dict):
        return {**call, "arguments": json.dumps(arguments, ensure_ascii=False)}
    if as_text or not isinstance(arguments, str):
        return call
    try:
        parsed = json.loads(arguments)
    except json.JSONDecodeError:
        return call  # the model wrote no JSON, and that is what was rated
    return {**call, "arguments": parsed} if isinstance(parsed, dict) else call


def _render_turns(messages: Sequence[Message], num_prompt: int, writer: Writer) -> RenderedText:
    joint = writer.text_of(messages)
    places = find_places(messages, range(num_prompt, len(messages)), joint, writer)
    first = next((place.start for place in places if place.start is not None), 0)
    prompt_text, split = joint[:first], first
    notes: tuple[str, ...] = ()
    if num_prompt:
        prompt_text = writer.text_of(messages[:num_prompt], add_generation_prompt=True)
        split = len(prompt_text)
        if not joint.startswith(prompt_text):
            notes = (PROMPT_NOT_PREFIX,)
            asked = messages[:num_prompt]
            shared = _shared_tail(asked, messages, prompt_text, joint, writer)
            if shared is not None:
                split = shared
            else:
                split = _common_split(joint, prompt_text, places[0].start, writer.template)
                prompt_text = joint[:split]
    turns = find_turns(messages, num_prompt, joint, places, split, writer)
    shift = len(prompt_text) - split
    return RenderedText(
        prompt_text,
        joint[split : turns[-1].end],
        tuple((turn.start + shift, turn.end + shift) for turn in turns if turn.start < turn.end),
        turns[-1].append_eos,
        is_templated=True,
        notes=tuple(dict.fromkeys([*notes, *(note for turn in turns for note in turn.notes)])),
    )


def _shared_tail(
    prompt: Sequence[Message], messages: Sequence[Message], given: str, joint: str, writer: Writer
) -> int | None:
    """Where in `joint` the answer begins, if all behind the prompt's last message is as `given`.

    Some templates write the prompt otherwise once an answer follows (Mistral's leaves the system
    message out); then the model is given the prompt as it is when asked.
    """
    last = [len(prompt) - 1]
    [asked] = find_places(prompt, last, given, writer, add_generation_prompt=True)
    [answered] = find_places(messages, last, joint, writer)
    if (
        asked.end is None
        or answered.end is None
        or not joint.startswith(tail := given[asked.end :], answered.end)
    ):
        return None
    return answered.end + len(tail)


def _common_split(joint: str, given: str, answer_start: int | None, template: ChatTemplate) -> int:
    """Where both texts part, but before the answer: it may begin as the prompt goes on ("<")."""
    common = common_length(joint, given)
    if answer_start is not None:
        return min(common, answer_start)
    tokens = [token.end() for token in template.special.finditer(joint) if token.end() <= common]
    return max(joint.rfind("\n", 0, common) + 1, *tokens, 0)


def _writer(
    record: Feedback, tokenizer: "PreTrainedTokenizerBase", template: ChatTemplate
) -> Writer:
    tools = _json_field(record, "tools", list) or None  # an empty list is no tools
    options = _json_field(record, "template_kwargs", dict) or {}

    def text_of(messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        return render_messages(messages, tokenizer, template, tools, options, add_generation_prompt)

    return Writer(text_of, template)


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
