"""One person's judgement of one answer, and the strict check of the mapping it is read from.

In: a mapping of a feedback file (JSON or Parquet). Out: a `Feedback`, every default filled in.
Knows no file format, no tool, no model.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import orjson

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.utc import time_has_no_zone, utc_text

Message = dict[str, Any]  # {"role": ..., "content": ...} and whatever the chat template reads
Text = list[Message] | str  # a prompt or a completion

TEXT_KEYS = ("score", "id", "conversation", "source", "rater", "model", "comment")
JSON_KEYS = ("tools", "template_kwargs")  # JSON text; written only where some record has them
JSON_KINDS = {"tools": (list, "list"), "template_kwargs": (dict, "object")}
ABSENT_JSON = "null"
NO_WIDTH = dict.fromkeys([0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF])  # signs that nobody sees
LONGEST_BLANK = 64  # signs


@dataclass(frozen=True, slots=True)
class Feedback:
    """A completion for a prompt, and whether it was desirable.

    prompt, completion: both lists of messages, or both plain strings; the completion's first
        message is the assistant's. The content of a message is always text, "" beside tool calls.
    weight: multiplies the row's loss, >= 0.
    score: the raw rating as text, "" where there was none.
    id: default `content_id`. conversation: thread id, default the hash of the first user message.
    time: "" or UTC like 2026-01-01T00:00:00.000000+00:00.
    tools, template_kwargs: JSON text, "null" where absent.
    """

    prompt: Text
    completion: Text
    label: bool
    weight: float = 1.0
    score: str = ""
    id: str = ""
    conversation: str = ""
    source: str = ""
    rater: str = ""
    model: str = ""
    time: str = ""
    comment: str = ""
    tools: str = ABSENT_JSON
    template_kwargs: str = ABSENT_JSON


KEYS = tuple(field.name for field in fields(Feedback))
KNOWN_KEYS = frozenset(KEYS)


def parse_record(
    entry: Mapping[str, Any],
    place: str,
    *,
    advice: str = "",
    notes: Counter[str] | None = None,
) -> Feedback:
    """The record a mapping holds, its defaults filled in.

    Args:
        entry: prompt, completion and label, and any other key of `Feedback`. Further keys are left
            out and counted.
        place: where the mapping stands (file:line), the first words of every error.
        advice: what to do about a missing or malformed prompt, completion or label.
        notes: counts what was left out or assumed, by name.

    Raises:
        FeedbackError: a key is missing, of the wrong type or out of range; the answer is empty.
    """
    notes = Counter() if notes is None else notes
    if not entry.keys() <= KNOWN_KEYS:
        notes.update(f"key {key!r} is not used" for key in entry if key not in KEYS)
    prompt, completion = (
        _parse_side(entry, key, place, advice) for key in ("prompt", "completion")
    )
    if isinstance(prompt, str) != isinstance(completion, str):
        kinds = " and ".join(
            f'"{key}" is {"text" if isinstance(side, str) else "a list of messages"}'
            for key, side in (("prompt", prompt), ("completion", completion))
        )
        raise _error(place, f"{kinds}. Both must be messages, or both text.", advice)
    if not isinstance(completion, str) and completion[0]["role"] != "assistant":
        found = f"but has the role {shown(completion[0]['role'])}"
        raise _error(place, f'the first message of "completion" must be the assistant\'s, {found}.')
    label = _parse_label(entry, place, advice)
    texts = {key: _parse_text(entry, key, place) for key in TEXT_KEYS}
    try:
        if not texts["id"]:
            texts["id"] = digest([prompt, completion, label, texts["rater"]])
        if not texts["conversation"]:
            texts["conversation"] = digest(_first_user_text(prompt))
        record = Feedback(
            prompt=prompt,
            completion=completion,
            label=label,
            weight=_parse_weight(entry, place),
            time=_parse_time(entry, place, notes),
            **texts,
            **{key: _parse_json(entry, key, place) for key in JSON_KEYS},
        )
        orjson.dumps(record)
    except orjson.JSONEncodeError as error:  # half a character, or nested without end
        raise _error(place, f"holds what a feedback file cannot: {error}.", advice) from None
    return record


def is_blank(side: object) -> bool:
    """Whether a prompt or completion, checked or not, holds no text and no tool call."""
    if isinstance(side, list):
        return not any(map(_says_something, side))
    return side is None or (isinstance(side, str) and _is_blank_text(side))


def _says_something(message: object) -> bool:
    if not isinstance(message, dict):
        return True  # no message at all: for the strict check to refuse
    content = message.get("content")
    return bool(message.get("tool_calls") or (content and not _is_blank_text(str(content))))


def _is_blank_text(text: str) -> bool:
    return not text.strip() or (len(text) < LONGEST_BLANK and not text.translate(NO_WIDTH).strip())


def with_defaults(record: Feedback) -> Feedback:
    """The record with its id and conversation filled in where they are ""."""
    if record.id and record.conversation:
        return record
    return replace(
        record,
        id=record.id or content_id(record),
        conversation=record.conversation or digest(_first_user_text(record.prompt)),
    )


def content_id(record: Feedback) -> str:
    """16 hex digits naming one judgement: a hash over prompt, completion, label and rater.

    The same vote met twice has one id; another rater, or the same rater's other label, another.
    """
    return digest([record.prompt, record.completion, record.label, record.rater])


def digest(value: object) -> str:
    """16 hex digits of the SHA-256 of a value's JSON, its keys sorted."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _first_user_text(prompt: Text) -> object:
    if isinstance(prompt, str):
        return prompt
    return next((message["content"] for message in prompt if message["role"] == "user"), prompt)


def _parse_side(entry: Mapping[str, Any], key: str, place: str, advice: str) -> Text:
    if key not in entry:
        raise _error(place, f'"{key}" is missing; the keys found: {keys_found(entry)}.', advice)
    found = entry[key]
    if not isinstance(found, str | list):
        finding = f'"{key}" must be text or a list of messages, but is {shown(found)}.'
        raise _error(place, finding, advice)
    side: Text = (
        found
        if isinstance(found, str)
        else [
            _parse_message(message, f'{place}: message {number} of "{key}"')
            for number, message in enumerate(found, start=1)
        ]
    )
    if is_blank(side):
        raise _error(place, f'"{key}" is empty.', advice)
    return side


def keys_found(entry: Mapping[str, Any]) -> str:
    """The first keys of an entry, in words."""
    names = [f"{key!r:.40}" for key in entry]
    rest = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return (", ".join(names[:12]) or "none") + rest


def _parse_message(message: object, place: str) -> Message:
    if not isinstance(message, dict):
        raise _error(place, f'must be {{"role": ..., "content": ...}}, but is {shown(message)}.')
    if not isinstance(message.get("role"), str) or not message["role"]:
        raise _error(
            place, f'"role" must be a name like user, but is {shown(message.get("role"))}.'
        )
    content = message.get("content")
    if content is None and message.get("tool_calls"):
        content = ""
    if not isinstance(content, str):
        raise _error(place, f'"content" must be text, but is {shown(content)}.')
    rest = {key: value for key, value in message.items() if value is not None}
    return {**rest, "role": message["role"], "content": content}


def _parse_label(entry: Mapping[str, Any], place: str, advice: str) -> bool:
    if "label" not in entry:
        raise _error(place, '"label" is missing; it must be true or false.', advice)
    label = entry["label"]
    if not isinstance(label, bool):  # strict: 1, "true" and null are no labels
        finding = f'"label" must be true or false, but is {shown(label)}.'
        unjudged = "Write it without quotes; leave the row out if nobody judged it."
        raise _error(place, finding, unjudged)
    return label


def _parse_weight(entry: Mapping[str, Any], place: str) -> float:
    weight = entry.get("weight", 1.0)
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not is_number or not 0 <= weight <= sys.float_info.max:
        raise _error(place, f'"weight" must be a finite number >= 0, but is {shown(weight)}.')
    return float(weight)


def _parse_text(entry: Mapping[str, Any], key: str, place: str) -> str:
    value = entry.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _error(place, f'"{key}" must be text, but is {shown(value)}. Put it in quotes.')
    return value


def _parse_time(entry: Mapping[str, Any], place: str, notes: Counter[str]) -> str:
    text = _parse_text(entry, "time", place)
    try:
        notes["time without a zone, taken as UTC"] += time_has_no_zone(text)
        return utc_text(text)
    except ValueError:
        allowed = "2026-01-01T00:00:00+00:00"
        raise _error(
            place, f'"time" must be ISO 8601 like {allowed}, but is {shown(text)}.'
        ) from None


def _parse_json(entry: Mapping[str, Any], key: str, place: str) -> str:
    value = entry.get(key)
    if value is None or value == ABSENT_JSON:
        return ABSENT_JSON
    try:
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        held = orjson.loads(text or ABSENT_JSON)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
        raise _error(place, f'"{key}" must hold JSON, but is {shown(value)} ({error}).') from None
    kind, name = JSON_KINDS[key]
    if held is not None and not isinstance(held, kind):
        raise _error(place, f'"{key}" must hold a JSON {name} or null, but is {shown(value)}.')
    return text or ABSENT_JSON


def _error(place: str, finding: str, advice: str = "") -> FeedbackError:
    return FeedbackError(f"{place}: {finding} {advice}".rstrip())
